/**
 * The gate: who may speak, and what wakes an agent.
 *
 * Deny by default. A sender is admitted by the platform's immutable id, never by a name. A direct chat with an admitted
 * sender engages its agent; in a group that is bound it takes the agent's trigger, a mention, or an answer to what it said.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as RegExp from "effect/RegExp"
import * as Struct from "effect/Struct"
import { Admissions } from "./Admissions.ts"
import type { Binding, WhileBusy } from "./Bind.ts"
import type { Channel } from "./Channel.ts"
import type { ChannelStateError } from "./ChannelState.ts"
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
  pair: "for my owner: lets in whoever has the code behind this word",
  bind: "for my owner: in a group, makes me answer there; `/bind everyone` to all its members, `/bind nobody` to none",
  help: "this list"
} as const
export type CommandName = keyof typeof commands
const commandNames = Struct.keys(commands)
const takesWord = new Set<CommandName>(["approve", "deny", "pair", "bind"])

/** A chat command, with the word behind it. */
export interface Command {
  readonly command: CommandName
  readonly word?: string
}

/** What becomes of a message. */
export type Verdict =
  | { readonly _tag: "Engage"; readonly agent: AgentName; readonly mode: WhileBusy }
  /** Not said to the agent, and shown to it with what is. `isTooMuch`: it would have been said, and is the first too many. */
  | { readonly _tag: "Context"; readonly agent: AgentName; readonly isTooMuch?: boolean }
  /** `isAdmitted`: by itself, and not as one of a group's members. */
  | ({
      readonly _tag: "Command"
      readonly agent: AgentName
      readonly isOwner: boolean
      readonly isAdmitted: boolean
    } & Command)
  | { readonly _tag: "Stranger"; readonly reason: string }
  | { readonly _tag: "Ignore"; readonly reason: string }

/** Whether a text begins with `@trigger` as a whole word, whatever the case. */
export const isTriggered = (text: string, trigger: string): boolean =>
  new globalThis.RegExp(`^\\s*@${RegExp.escape(trigger)}(?![\\p{L}\\p{N}_])`, "iu").test(text)

const commandOf = (text: string): Command | undefined => {
  const [, name, word] = /^\/([a-z]+)(?:\s+([a-z0-9]+))?$/.exec(text.trim().toLowerCase()) ?? []
  const command = commandNames.find((one) => one === name)
  if (command === undefined || word === undefined) return command === undefined ? undefined : { command }
  return takesWord.has(command) ? { command, word } : undefined
}

/** Messages a minute that engage, at most; what is more is kept as context. The owner has no bound. */
export interface Rates {
  /** Of one sender. Default 20. */
  readonly sender?: number
  /** In one conversation. Default 60. */
  readonly conversation?: number
}

/** Counts what happens within a minute. */
const makeRate = (most: number) => {
  const times = new Map<string, ReadonlyArray<number>>()
  return {
    /** How many more there may be; the first too many is 0, all after it less. */
    count: (name: string, now: number): number => {
      if (times.size > 1000) for (const [one, at] of times) if ((at.at(-1) ?? 0) <= now - 60_000) times.delete(one)
      const recent = (times.get(name) ?? []).filter((at) => at > now - 60_000)
      // No more than is needed to know that it is too many, and that this was said.
      times.set(name, [...recent, now].slice(-most - 2))
      return most - recent.length
    }
  }
}

/** What a gate goes by. */
export interface Options {
  /** Which agent answers where. Read in order, the first that fits decides. */
  readonly bindings: ReadonlyArray<Binding>
  /** Who may speak, beside the owner that a channel names. Default: nobody. */
  readonly admitted?: ReadonlyArray<Admitted>
  /** How many messages a minute may engage an agent. */
  readonly rates?: Rates
}

/** Judges every message before it is received: by lists, and by what `Admissions` adds to them. Rates begin anew with it. */
export class Gate extends Context.Service<Gate>()("effect-claw/services/Gate", {
  make: (options: Options) =>
    Effect.map(Admissions, (admissions) => {
      const admitted = new Set(options.admitted?.map(({ channel, sender }) => `${channel} ${sender}`))
      const bySender = makeRate(options.rates?.sender ?? 20)
      const byConversation = makeRate(options.rates?.conversation ?? 60)

      return {
        judge: Effect.fn("Gate.judge")(function* (
          message: InboundMessage,
          channel: Channel
        ): Effect.fn.Return<Verdict, ChannelStateError> {
          if (message.fromSelf === true) return { _tag: "Ignore", reason: "the agent's own message" }
          const { chat, direct, sender } = message
          const conversation = conversationId(message.channel, chat)
          const who = `${message.channel} ${sender}`
          const known = yield* admissions.of(message.channel)
          const isOwner = yield* admissions.isOwner(channel, sender)
          const binding = options.bindings.find(
            ({ scope }) =>
              scope._tag === "Everywhere" ||
              (scope._tag === "Channel"
                ? scope.channel === channelOf(conversation)
                : scope.conversation === conversation)
          )
          const group = direct ? undefined : known.groups.find((one) => one.chat === chat)
          const isMember = !direct && (binding?.admits === "everyone" || group?.everyone === true)
          const isAdmitted = isOwner || admitted.has(who) || known.admitted.includes(sender)
          if (!isAdmitted && !isMember) {
            return { _tag: "Stranger", reason: "the sender is not admitted" }
          }
          if (binding === undefined) return { _tag: "Ignore", reason: "no agent is bound to this conversation" }
          const { agent } = binding
          const text = textOf(message.content)
          const command = message.kind === undefined ? commandOf(text) : undefined
          if (!direct && !binding.groups && group === undefined && !(isOwner && command?.command === "bind")) {
            return { _tag: "Ignore", reason: "the group is not bound" }
          }
          if (command !== undefined) return { _tag: "Command", agent, isOwner, isAdmitted, ...command }
          const engaged =
            message.kind === undefined &&
            (direct ||
              message.mentionsAgent === true ||
              message.quoted?.fromAgent === true ||
              binding.engage === "always" ||
              isTriggered(text, binding.trigger))
          if (!engaged) return { _tag: "Context", agent }
          if (isOwner) return { _tag: "Engage", agent, mode: binding.whileBusy }
          const now = yield* Clock.currentTimeMillis
          const left = Math.min(bySender.count(who, now), byConversation.count(conversation, now))
          return left > 0
            ? { _tag: "Engage", agent, mode: binding.whileBusy }
            : { _tag: "Context", agent, isTooMuch: left === 0 }
        })
      }
    })
}) {}

/** The gate. Provides `Gate`, requires `Admissions`. */
export const layer = (options: Options): Layer.Layer<Gate, never, Admissions> => Layer.effect(Gate, Gate.make(options))
