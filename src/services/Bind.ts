/**
 * Bindings: which agent answers where.
 */
import { AgentName, ChannelName, ConversationId } from "./Message.ts"

/** Seen by the next step, all by one turn after, or the turn is cancelled for it. */
export type WhileBusy = "steer" | "collect" | "interrupt"

/** How an agent is engaged. */
export interface Options {
  /** What wakes the agent in a group: being addressed (default), or every message. A direct chat always does. */
  readonly engage?: "addressed" | "always"
  /** The word that addresses the agent in a group: `@trigger` at the start of a message. Default: the agent's name. */
  readonly trigger?: string
  /** Whether a group is bound by its channel alone. Default `false`; one that the binding names always is. */
  readonly groups?: boolean
  /** Who may speak in the group that the binding names: those who are admitted (default), or its members. */
  readonly admits?: "admitted" | "everyone"
  /** What a message does that arrives while a turn runs; see `Journal.Mode`. Default `steer`. */
  readonly whileBusy?: WhileBusy
}

/** An agent and where it answers. */
export interface Binding extends Required<Options> {
  readonly agent: AgentName
  readonly scope:
    | { readonly _tag: "Everywhere" }
    | { readonly _tag: "Channel"; readonly channel: ChannelName }
    | { readonly _tag: "Conversation"; readonly conversation: ConversationId }
}

/** Something with a name: an `Agent`. */
interface Named {
  readonly name: string
}

const make = (agent: Named, scope: Binding["scope"], options: Options = {}): Binding => ({
  agent: AgentName.make(agent.name),
  scope,
  engage: options.engage ?? "addressed",
  trigger: options.trigger ?? agent.name,
  groups: options.groups === true || scope._tag === "Conversation",
  admits: scope._tag === "Conversation" ? (options.admits ?? "admitted") : "admitted",
  whileBusy: options.whileBusy ?? "steer"
})

/** In every conversation. */
export const everywhere = (agent: Named, options?: Options): Binding => make(agent, { _tag: "Everywhere" }, options)

/** In every conversation of one channel. */
export const channel = (name: string, agent: Named, options?: Options): Binding =>
  make(agent, { _tag: "Channel", channel: ChannelName.make(name) }, options)

/** In one conversation, `"<channel>:<chat>"`. */
export const conversation = (id: string, agent: Named, options?: Options): Binding =>
  make(agent, { _tag: "Conversation", conversation: ConversationId.make(id) }, options)
