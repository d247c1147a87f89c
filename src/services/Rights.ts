/**
 * What an agent may do, as data.
 *
 * Rights only ever shrink on their way down a swarm: a child's are computed as the intersection of its parent's and its
 * own (`intersect`), so a wider child cannot be written.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { Purse } from "./Budget.ts"
import { AgentName, ConversationId } from "./Message.ts"
import type { Mount } from "./Mount.ts"

/** None, where an earlier version wrote nothing of it. */
const listed = <S extends Schema.Top>(item: S) =>
  Schema.Array(item).pipe(
    Schema.withDecodingDefaultKey(Effect.succeed([])),
    Schema.withConstructorDefault(Effect.succeed([]))
  )

/** What an agent may do, or pass on. What is left out is nothing. */
export class Rights extends Schema.Class<Rights>("effect-claw/services/Rights")({
  /** The names of tools it may call. */
  tools: Schema.Array(Schema.String),
  /** Host folders its sandbox may see, each as its definition writes it. */
  mounts: listed(Schema.Struct({ host: Schema.String, write: Schema.Boolean })),
  /** The names of rules by which its sandbox may reach the network. */
  egress: listed(Schema.String),
  /** What its model calls are paid from: every one of these budgets needs room. Without any, there is no bound. */
  budget: listed(Purse)
}) {}

const nobody = { agent: AgentName.make("nobody"), conversation: ConversationId.make("swarm:nobody"), turn: 0 }

/** No rights at all. */
export const none = new Rights({ tools: [], budget: [{ ...nobody, perDay: "0 tokens" }] })

/** What both grant, and paid from the budgets of both. */
export const intersect = (self: Rights, that: Rights): Rights =>
  new Rights({
    tools: self.tools.filter((tool) => allows(that, tool)),
    mounts: mountsWithin(that, self.mounts),
    egress: self.egress.filter((rule) => allowsEgress(that, rule)),
    budget: [...new Map([...self.budget, ...that.budget].map((purse) => [JSON.stringify(purse), purse])).values()]
  })

/** Whether a tool may be called. */
export const allows = (self: Rights, tool: string): boolean => self.tools.includes(tool)

/** Whether the network may be reached by a rule. */
export const allowsEgress = (self: Rights, rule: string): boolean => self.egress.includes(rule)

/** Of the mounts that are wanted, those that are granted, as far as they are. */
export const mountsWithin = <M extends Pick<Mount, "host" | "write">>(
  self: Rights,
  wanted: ReadonlyArray<M>
): ReadonlyArray<M> =>
  wanted.flatMap((mount) => {
    const granted = self.mounts.filter(({ host }) => host === mount.host)
    return granted.length === 0 ? [] : [{ ...mount, write: mount.write && granted.some(({ write }) => write) }]
  })
