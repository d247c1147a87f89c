/**
 * The gate: who may speak, and what wakes an agent.
 *
 * Deny by default. A sender is admitted by the platform's immutable id, never by a name. A direct chat with an admitted
 * sender engages its agent; in a group it takes the agent's trigger, or a mention.
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import * as RegExp from "effect/RegExp"
import * as Struct from "effect/Struct"
import type { Binding, WhileBusy } from "./Bind.ts"
import type { Channel } from "./Channel.ts"
import { type AgentName, channelOf, conversationId, type InboundMessage, textOf } from "./Message.ts"

/** A sender who may speak on a channel. */
export interface Admitted {
  readonly channel: string
  readonly sender: string
}

/** The chat commands. They are for the claw, not for an agent. */
export const commands = {
  stop: "stop what I am doing",
  new: "start afresh: I forget this conversation, not my memories",
  approve: "yes to the call that I asked about; where there are several, to the one with the code behind this word",
  deny: "no to it",
  compact: "sum up what we said before I answer next",
  status: "what I am doing",
  usage: "what I have used today",
  help: "this list"
} as const
export type CommandName = keyof typeof commands
const commandNames = Struct.keys(commands)

/** What becomes of a message. */
export type Verdict =
  | { readonly _tag: "Engage"; readonly agent: AgentName; readonly mode: WhileBusy }
  /** Not said to the agent, and shown to it with what is. */
  | { readonly _tag: "Context"; readonly agent: AgentName }
  | {
      readonly _tag: "Command"
      readonly agent: AgentName
      readonly command: CommandName
      /** The call that is approved or denied. */
      readonly code?: string
    }
  | { readonly _tag: "Ignore"; readonly reason: string }

/** Judges every message before it is received. */
export class Gate extends Context.Service<
  Gate,
  { readonly judge: (message: InboundMessage, channel: Channel) => Verdict }
>()("effect-claw/services/Gate") {}

/** Whether a text begins with `@trigger` as a whole word, whatever the case. */
export const isTriggered = (text: string, trigger: string): boolean =>
  new globalThis.RegExp(`^\\s*@${RegExp.escape(trigger)}(?![\\p{L}\\p{N}_])`, "iu").test(text)

const commandOf = (text: string): { readonly command: CommandName; readonly code?: string } | undefined => {
  const [, name, code] = /^\/([a-z]+)(?:\s+([a-z0-9]+))?$/.exec(text.trim().toLowerCase()) ?? []
  const command = commandNames.find((one) => one === name)
  if (command === undefined || code === undefined) return command === undefined ? undefined : { command }
  return command === "approve" || command === "deny" ? { command, code } : undefined
}

/**
 * A gate over fixed lists.
 *
 * Provides `Gate`, requires nothing. `bindings` are read in order, the first that fits decides.
 */
export const layer = (options: {
  readonly bindings: ReadonlyArray<Binding>
  readonly admitted: ReadonlyArray<Admitted>
}): Layer.Layer<Gate> => {
  const admitted = new Set(options.admitted.map(({ channel, sender }) => `${channel} ${sender}`))
  return Layer.succeed(Gate, {
    judge: (message, channel) => {
      if (message.fromSelf === true) return { _tag: "Ignore", reason: "the agent's own message" }
      if (message.sender !== channel.owner && !admitted.has(`${message.channel} ${message.sender}`)) {
        return { _tag: "Ignore", reason: "the sender is not admitted" }
      }
      const conversation = conversationId(message.channel, message.chat)
      const binding = options.bindings.find(
        ({ scope }) =>
          scope._tag === "Everywhere" ||
          (scope._tag === "Channel" ? scope.channel === channelOf(conversation) : scope.conversation === conversation)
      )
      if (binding === undefined) return { _tag: "Ignore", reason: "no agent is bound to this conversation" }
      const text = textOf(message.content)
      const command = commandOf(text)
      if (command !== undefined) return { _tag: "Command", agent: binding.agent, ...command }
      const engaged =
        message.direct ||
        message.mentionsAgent === true ||
        binding.engage === "always" ||
        isTriggered(text, binding.trigger)
      return engaged
        ? { _tag: "Engage", agent: binding.agent, mode: binding.whileBusy }
        : { _tag: "Context", agent: binding.agent }
    }
  })
}
