/**
 * Chat commands: what a person says to the claw and not to an agent. Each is obeyed once, however often it comes.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Admissions } from "./Admissions.ts"
import type { Ready } from "./Agent.ts"
import * as Approval from "./Approval.ts"
import * as Budget from "./Budget.ts"
import { Channels } from "./Channel.ts"
import type { ChannelStateError } from "./ChannelState.ts"
import { Conversations } from "./Conversations.ts"
import * as Gate from "./Gate.ts"
import { make as makeHomeZone } from "./HomeZone.ts"
import { Journal, type JournalError } from "./Journal.ts"
import { Ledger, type LedgerError } from "./Ledger.ts"
import {
  type AgentName,
  conversationId,
  type ConversationId,
  type InboundMessage,
  OutputId,
  sender
} from "./Message.ts"
import { ModelInfo } from "./ModelInfo.ts"
import { Outbox } from "./Outbox.ts"
import { Sandbox } from "./Sandbox.ts"
import * as Turn from "./Turn.ts"

type Given = Extract<Gate.Verdict, { readonly _tag: "Command" }>
type Failure = JournalError | LedgerError | ChannelStateError

/** What obeys commands, for these agents. */
export const make = Effect.fnUntraced(function* (agents: ReadonlyMap<AgentName, Ready>) {
  const admissions = yield* Admissions
  const channels = yield* Channels
  const conversations = yield* Conversations
  const journal = yield* Journal
  const ledger = yield* Ledger
  const outbox = yield* Outbox
  const sandbox = yield* Effect.serviceOption(Sandbox)
  const zone = yield* makeHomeZone

  const say = Effect.fnUntraced(function* (conversation: ConversationId, id: OutputId, text: string) {
    yield* journal.record({ conversation, events: [], outputs: [{ id, text }] })
    yield* outbox.flush(conversation)
  })

  const usage = Effect.fnUntraced(function* (conversation: ConversationId) {
    const since = DateTime.toEpochMillis(DateTime.startOf(DateTime.setZone(yield* DateTime.now, zone), "day"))
    const show = (name: string, by: { readonly conversation?: ConversationId }) =>
      Effect.map(ledger.spent({ ...by, since }), (spent) => {
        const tokens = spent.inputTokens + spent.cacheReadTokens + spent.cacheWriteTokens + spent.outputTokens
        const money = Budget.format({ unit: "microdollars", value: spent.microdollars })
        return `${name}: ${spent.calls} model calls, ${tokens.toLocaleString("en-US")} tokens, ${money}`
      })
    return [yield* show("This chat today", { conversation }), yield* show("All chats today", {})].join("\n")
  })

  /** Takes a person's yes or no, once: the answer and what it is answered with are recorded together. */
  const answer = Effect.fnUntraced(function* (
    conversation: ConversationId,
    id: OutputId,
    { command, word: code }: Gate.Command,
    by: Approval.By
  ) {
    const turn = Turn.fold(Turn.inOrder(yield* journal.entries(conversation, 0)))
    const asked = Turn.approvals(turn, yield* Clock.currentTimeMillis)
    const meant = Approval.meant(asked.values(), code, by)
    if (typeof meant === "string") return yield* say(conversation, id, meant)
    const yes = command === "approve"
    yield* journal.record({
      conversation,
      events: [{ _tag: "ApprovalAnswered", code: meant.code, digest: meant.digest, yes, by: by.sender }],
      outputs: [{ id, text: `${yes ? "Approved" : "Denied"}: ${Approval.show(meant.tool)}.` }]
    })
    // A turn that was parked sends it when it goes on, so that a channel knows that there is more to come.
    const isParked = (yield* conversations.status(conversation)) === "idle"
    yield* conversations.wake(conversation)
    if (!isParked) yield* outbox.flush(conversation)
  })

  /** Lets in whoever has a code, on whichever channel it asked. */
  const admit = Effect.fnUntraced(function* (code: string, id: OutputId) {
    for (const name of yield* channels.names) {
      const found = yield* admissions.admit(name, code)
      if (found === undefined) continue
      yield* say(conversationId(name, found.chat), OutputId.make(`${id} admitted`), "You can write to me now.")
      return `${sender(name, found.sender)} can write to me now.`
    }
    return "Nobody waits by that code; it was good for an hour."
  })

  const reply = Effect.fnUntraced(function* (
    { channel, chat, direct }: InboundMessage,
    id: OutputId,
    { agent, command, isOwner, word = "" }: Given & { readonly command: Exclude<Gate.CommandName, "approve" | "deny"> }
  ): Effect.fn.Return<string, Failure> {
    const conversation = conversationId(channel, chat)
    switch (command) {
      case "stop":
        return (yield* conversations.stop(conversation)) ? "Stopped." : "There is nothing to stop."
      case "new":
        yield* conversations.stop(conversation)
        yield* journal.record({ conversation, events: [{ _tag: "ConversationReset" }] })
        return "We start afresh. What I remember, I keep."
      case "compact":
        yield* journal.record({ conversation, events: [{ _tag: "CompactionAsked" }] })
        return "I will sum up what we said before I answer next."
      case "status": {
        const ready = agents.get(agent)
        const model = ready === undefined ? "" : ` on ${Context.get(ready.model, ModelInfo).name}`
        const commands = Option.isNone(sandbox) ? "" : `, commands in: ${yield* sandbox.value.description}`
        return `I am ${agent}${model}${commands}. This chat is ${yield* conversations.status(conversation)}.`
      }
      case "usage":
        return yield* usage(conversation)
      case "pair":
        return isOwner && direct ? yield* admit(word, id) : "That is for my owner, alone with me."
      case "bind": {
        if (!isOwner) return "That is for my owner."
        const whom = word === "everyone" || word === "nobody" ? word : word === "" ? "admitted" : undefined
        if (direct || whom === undefined) return "Write it in a group: /bind, /bind everyone or /bind nobody."
        yield* admissions.bind(channel, chat, whom)
        if (whom === "nobody") return "I do not answer in this group any more."
        return `I answer in this group, ${whom === "everyone" ? "to everyone" : "to those I know"}, when I am addressed.`
      }
      case "help":
        return Object.entries(Gate.commands)
          .map(([name, what]) => `/${name}: ${what}`)
          .join("\n")
    }
  })

  return {
    /** Says something by itself. The same id is said once. */
    say,
    obey: Effect.fn("Commands.obey")(function* (
      message: InboundMessage,
      given: Given
    ): Effect.fn.Return<void, Failure> {
      const conversation = conversationId(message.channel, message.chat)
      const id = OutputId.make(`${conversation} ${message.id}`)
      if (yield* journal.isRecorded(id)) return
      const { command, isAdmitted, isOwner } = given
      if (command === "approve" || command === "deny") {
        const by = { sender: sender(message.channel, message.sender), isOwner, isAdmitted, at: message.at }
        return yield* answer(conversation, id, given, by)
      }
      yield* say(conversation, id, yield* reply(message, id, { ...given, command }))
    })
  }
})
