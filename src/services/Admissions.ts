/**
 * Admissions: who may speak beside those that the code names, and in which groups an agent answers.
 *
 * The owner of a channel is the one that its layer names, or whoever claimed it with a code from the log. A stranger may be
 * given a code, which the owner admits it with; the owner binds groups by a word in them. All of it is kept with the channel.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import type { Channel } from "./Channel.ts"
import { ChannelState, ChannelStateError } from "./ChannelState.ts"
import { makeCode } from "./internal/Code.ts"
import { type ChannelName, ChatId, type InboundMessage, SenderId } from "./Message.ts"
import { StoreFailed } from "./StoreFailed.ts"

/** Strangers that wait for the owner's word on one channel, at most: what they write costs nothing. */
const pendingMost = 3
/** How long a code is good for. */
const codeLife = Duration.hours(1)
/** Characters of a code. */
const codeLength = 8

/** A stranger with a code. `at`: when it was made, in epoch milliseconds. */
const Pending = Schema.Struct({
  code: Schema.String,
  sender: SenderId,
  chat: ChatId,
  name: Schema.optionalKey(Schema.String),
  at: Schema.Int
})
/** What is known of a channel's people. */
const Known = Schema.Struct({
  /** Who claimed the channel. */
  owner: Schema.optionalKey(SenderId),
  /** Where the owner last wrote alone with the claw. */
  ownerChat: Schema.optionalKey(ChatId),
  admitted: Schema.Array(SenderId),
  /** Groups that are bound; `everyone`: their members need no admission. */
  groups: Schema.Array(Schema.Struct({ chat: ChatId, everyone: Schema.Boolean })),
  pending: Schema.Array(Pending)
})
export type Known = typeof Known.Type

const isCurrent = ({ at }: { readonly at: number }, now: number) => now - at < Duration.toMillis(codeLife)

const nobody: Known = { admitted: [], groups: [], pending: [] }
const Written = Schema.fromJsonString(Known)
const key = "admissions"

/** Who is admitted, beyond what the code says. On release codes for owners are void. */
export class Admissions extends Context.Service<Admissions>()("effect-claw/services/Admissions", {
  make: Effect.gen(function* () {
    const state = yield* ChannelState
    const known = new Map<ChannelName, Known>()
    const offered = new Map<ChannelName, { readonly code: string; readonly at: number }>()
    const oneByOne = yield* Semaphore.make(1)
    const unreadable = (cause: Schema.SchemaError) =>
      new ChannelStateError({
        reason: new StoreFailed({ detail: `a channel's people cannot be read: ${cause.message}`, cause })
      })

    const of = Effect.fnUntraced(function* (channel: ChannelName) {
      const cached = known.get(channel)
      if (cached !== undefined) return cached
      const written = (yield* state.get(channel, [key])).get(key)
      const read =
        written === undefined ? nobody : yield* Effect.mapError(Schema.decodeEffect(Written)(written), unreadable)
      known.set(channel, read)
      return read
    })

    /** Changes what is known, and returns what `change` says of it. */
    const change = <A>(channel: ChannelName, how: (before: Known) => readonly [A, Known]) =>
      Effect.gen(function* () {
        const before = yield* of(channel)
        const [result, after] = how(before)
        if (after === before) return result
        const written = yield* Effect.mapError(Schema.encodeEffect(Written)(after), unreadable)
        yield* state.set(channel, new Map([[key, written]]))
        known.set(channel, after)
        return result
      }).pipe(oneByOne.withPermits(1), Effect.uninterruptible)

    return {
      of,

      /** Whether a sender owns the channel. */
      isOwner: (channel: Channel, sender: SenderId) =>
        Effect.map(of(channel.name), ({ owner }) => (channel.owner ?? owner) === sender),

      /** A code for a stranger, an hour long the same; none while three others have one. */
      request: Effect.fn("Admissions.request")(function* ({ channel, chat, sender, senderName }: InboundMessage) {
        const at = yield* Clock.currentTimeMillis
        const code = yield* makeCode(codeLength)
        return yield* change(channel, (before): readonly [string | undefined, Known] => {
          const pending = before.pending.filter((one) => isCurrent(one, at))
          const own = pending.find((one) => one.sender === sender)
          if (own !== undefined) return [own.code, before]
          if (pending.length >= pendingMost) return [undefined, before]
          const name = senderName === undefined ? {} : { name: senderName.slice(0, 100) }
          return [code, { ...before, pending: [...pending, { code, sender, chat, at, ...name }] }]
        })
      }),

      /** Admits whoever has this code; `undefined`: nobody has. */
      admit: Effect.fn("Admissions.admit")(function* (channel: ChannelName, code: string) {
        const now = yield* Clock.currentTimeMillis
        return yield* change(channel, (before) => {
          const found = before.pending.find((one) => one.code === code && isCurrent(one, now))
          if (found === undefined) return [undefined, before]
          const pending = before.pending.filter((one) => one !== found)
          return [found, { ...before, pending, admitted: [...before.admitted, found.sender] }]
        })
      }),

      /** A code that makes whoever sends it the owner of a channel without one, within the hour and as long as this runs. */
      offer: Effect.fn("Admissions.offer")(function* (channel: Channel) {
        // Whom a channel names, it may not know before it is logged in.
        if ("owner" in channel || (yield* of(channel.name)).owner !== undefined) return undefined
        const code = yield* makeCode(codeLength)
        offered.set(channel.name, { code, at: yield* Clock.currentTimeMillis })
        return code
      }),

      /** Makes a sender the owner if the code is right. */
      claim: Effect.fn("Admissions.claim")(function* ({ channel, chat, direct, sender }: InboundMessage, code: string) {
        const one = offered.get(channel)
        const now = yield* Clock.currentTimeMillis
        if (!direct || one === undefined || one.code !== code || !isCurrent(one, now)) return false
        offered.delete(channel)
        return yield* change(channel, (before) =>
          before.owner === undefined ? [true, { ...before, owner: sender, ownerChat: chat }] : [false, before]
        )
      }),

      /** The owner wrote in a chat of its own. */
      met: ({ channel, chat }: InboundMessage) =>
        change(channel, (before) => [undefined, before.ownerChat === chat ? before : { ...before, ownerChat: chat }]),

      /** Binds a group, or unbinds it. */
      bind: (channel: ChannelName, chat: ChatId, whom: "admitted" | "everyone" | "nobody") =>
        change(channel, (before) => {
          const others = before.groups.filter((group) => group.chat !== chat)
          const groups = whom === "nobody" ? others : [...others, { chat, everyone: whom === "everyone" }]
          return [undefined, { ...before, groups }]
        })
    }
  })
}) {}

/** Admissions, kept in `ChannelState`. Provides `Admissions`, requires `ChannelState`. */
export const layer: Layer.Layer<Admissions, never, ChannelState> = Layer.effect(Admissions, Admissions.make)
