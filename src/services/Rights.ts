/**
 * What an agent may do, as data.
 *
 * Rights only ever shrink on their way down a swarm: a child's are computed as the intersection of its parent's and its
 * own (`intersect`), so a wider child cannot be written.
 */
import * as Schema from "effect/Schema"

/** The names of the tools an agent may call or pass on. */
export class Rights extends Schema.Class<Rights>("effect-claw/services/Rights")({
  tools: Schema.Array(Schema.String)
}) {}

/** No rights at all. */
export const none = new Rights({ tools: [] })

/** What both grant. */
export const intersect = (self: Rights, that: Rights): Rights => {
  const other = new Set(that.tools)
  return new Rights({ tools: self.tools.filter((tool) => other.has(tool)) })
}

/** Whether a tool may be called. */
export const allows = (self: Rights, tool: string): boolean => self.tools.includes(tool)
