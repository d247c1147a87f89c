/**
 * Bindings: which agent answers where.
 */
import { AgentName, ChannelName, ConversationId } from "./Message.ts"

/** An agent and where it answers. */
export interface Binding {
  readonly agent: AgentName
  readonly scope:
    | { readonly _tag: "Everywhere" }
    | { readonly _tag: "Channel"; readonly channel: ChannelName }
    | { readonly _tag: "Conversation"; readonly conversation: ConversationId }
  /** What wakes the agent in a group: being addressed, or every message. A direct chat always does. */
  readonly engage: "addressed" | "always"
  /** The word that addresses the agent in a group: `@trigger` at the start of a message. */
  readonly trigger: string
  /** Whether a group is bound by its channel alone. One that the binding names always is. */
  readonly groups: boolean
  /** Who may speak in the group that the binding names: those who are admitted, or its members. */
  readonly admits: "admitted" | "everyone"
  /** What a message does that arrives while a turn runs; see `Journal.Mode`. */
  readonly whileBusy: WhileBusy
}

/** Seen by the next step, all by one turn after, or the turn is cancelled for it. */
export type WhileBusy = "steer" | "collect" | "interrupt"

/**
 * How an agent is engaged. `trigger` defaults to the agent's name, `engage` to `addressed`, `whileBusy` to `steer`, `groups` to
 * `false`, `admits` to `admitted`; these two are for bindings without and with a conversation.
 */
export interface Options {
  readonly engage?: "addressed" | "always"
  readonly trigger?: string
  readonly groups?: boolean
  readonly admits?: "admitted" | "everyone"
  readonly whileBusy?: WhileBusy
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
