/**
 * Pairing: how a claw gets its owner, meets strangers, and reaches its owner on whichever channel that is.
 *
 * All that is said here has an id that follows from what it is about, so that it is said once, whatever is cut and comes again.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { Admissions } from "./Admissions.ts"
import { Audit } from "./Audit.ts"
import { type ChannelError, Channels } from "./Channel.ts"
import type { ChannelStateError } from "./ChannelState.ts"
import type { JournalError } from "./Journal.ts"
import {
  type ChannelName,
  conversationId,
  type ConversationId,
  type InboundMessage,
  OutputId,
  sender,
  textOf
} from "./Message.ts"

/** How strangers are met. */
export interface Options {
  /** The owner is told of a stranger who writes. Default `true`. */
  readonly tellOwner?: boolean
  /** So is the stranger that it may be let in. Default `false`: on a person's own account it would tell everybody of the claw. */
  readonly tellStranger?: boolean
}

type Failure = ChannelStateError | JournalError

/** Says something in a conversation; the same id once. */
type Say = (conversation: ConversationId, id: OutputId, text: string) => Effect.Effect<void, JournalError>

/** What meets those who are not admitted. Without options they are ignored. */
export const make = Effect.fnUntraced(function* (options: Options | undefined, say: Say) {
  const admissions = yield* Admissions
  const audit = yield* Audit
  const channels = yield* Channels

  /** Tells an owner of this claw, on this channel or, if there is none, on another. */
  const tellOwner = Effect.fnUntraced(function* (id: OutputId, text: string, first: ChannelName, except?: ChannelName) {
    for (const name of [first, ...(yield* channels.names)]) {
      const { ownerChat } = yield* admissions.of(name)
      if (ownerChat !== undefined && name !== except) return yield* say(conversationId(name, ownerChat), id, text)
    }
    yield* Effect.logWarning(text)
  })

  return {
    /** Says in the log how a channel without an owner gets one. */
    offer: Effect.fnUntraced(function* (name: ChannelName): Effect.fn.Return<void, Failure | ChannelError> {
      if (options === undefined) return
      const code = yield* Effect.flatMap(channels.get(name), admissions.offer)
      if (code === undefined) return
      yield* Effect.logWarning(`${name} has no owner. To be it, send it within an hour: /claim ${code}`)
    }),

    /** Somebody who may not speak has written: nothing of what it wrote is kept. */
    meet: Effect.fn("Pairing.meet")(function* (
      message: InboundMessage,
      refusal: string
    ): Effect.fn.Return<void, Failure> {
      const { channel, sender: id, senderName } = message
      const conversation = conversationId(channel, message.chat)
      const who = sender(channel, id)
      yield* audit({ _tag: "Stranger", conversation, sender: who, refusal })
      if (options === undefined || !message.direct) return
      const [, claimed] = /^\s*\/claim\s+([a-z0-9]{8})\s*$/i.exec(textOf(message.content)) ?? []
      if (claimed !== undefined && (yield* admissions.claim(message, claimed.toLowerCase()))) {
        const said = OutputId.make(`${conversation} ${message.id}`)
        return yield* say(conversation, said, "You are my owner now. /help lists what I understand.")
      }
      const code = yield* admissions.request(message)
      if (code === undefined) return
      const about = `${conversation} pair ${code}`
      if (options.tellStranger === true) {
        const text = `I do not know you. My owner can let you in within an hour: /pair ${code}`
        yield* say(conversation, OutputId.make(about), text)
      }
      if (options.tellOwner === false) return
      const name = senderName === undefined ? "" : `, who goes by ${JSON.stringify(senderName.slice(0, 100))},`
      const text = `${who}${name} wrote to me, and I said nothing. To let them in, answer within an hour: /pair ${code}`
      yield* tellOwner(OutputId.make(`${about} owner`), text, channel)
    }),

    /** A channel has failed for good: its owner is told on another. */
    mourn: Effect.fnUntraced(function* ({ channel, message }: ChannelError): Effect.fn.Return<void, Failure> {
      const id = OutputId.make(`${channel} failed ${yield* Clock.currentTimeMillis}`)
      yield* tellOwner(id, `I receive no more messages on ${message}`, channel, channel)
    })
  }
})
