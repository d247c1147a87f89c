/**
 * Messages that were decrypted and that the claw has not accepted.
 *
 * A message can be decrypted once: that moves the keys on. So what it said is kept in the transaction that moves them, and
 * WhatsApp is told of it after that. It stays until the claw has accepted it. A copy that WhatsApp sends again because it was
 * not told in time is read from here. The next second removes what was accepted; what a process that dies does not come to remove is offered
 * once more, under the same id.
 */
import type { BinaryNode } from "@whiskeysockets/baileys"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import type { ChannelError } from "../../services/Channel.ts"
import type { Store } from "./whatsappStore.ts"

/** A message, of one part or more. A group's first of a sender has two: the sender's key, and what is said under it. */
const Kept = Schema.fromJsonString(
  Schema.Struct({
    /** Of its envelope. */
    attrs: Schema.Record(Schema.String, Schema.String),
    /** The digests of its parts as they came. */
    parts: Schema.Array(Schema.String),
    /** What they say, by digest: base64. */
    opened: Schema.Record(Schema.String, Schema.String)
  })
)

const decode = Schema.decodeOption(Kept)

/** A message that has come. */
export interface Received {
  readonly number: number
  readonly attrs: Readonly<Record<string, string>>
  readonly parts: ReadonlyArray<string>
  readonly opened: Map<string, Uint8Array>
  offered: boolean
}

const digest = (sealed: Uint8Array) => createHash("sha256").update(sealed).digest("hex")

/** How many that were accepted are known still, should WhatsApp send them again because it was not told in time. */
const remembered = 256

/** WhatsApp keeps what it has not delivered for thirty days; a message with a part missing for longer will not be whole. */
const patienceMillis = 30 * 24 * 60 * 60 * 1000

const rangeKey = "inbox"
const keyOf = (number: number) => `inbox:${number}`

const write = ({ attrs, opened, parts }: Received, also: readonly [string, Uint8Array]): string =>
  JSON.stringify({
    attrs,
    parts,
    opened: Object.fromEntries([...opened, also].map(([part, plain]) => [part, Buffer.from(plain).toString("base64")]))
  })

export interface Inbox {
  /** A message comes: its parts are decrypted next. */
  readonly expect: (message: BinaryNode) => void
  /** What a part said, if it is kept. */
  readonly find: (sealed: Uint8Array) => Uint8Array | undefined
  /** The texts to keep together with the keys that opened a part. */
  readonly keep: (sealed: Uint8Array, plain: Uint8Array) => ReadonlyMap<string, string>
  /** They are kept. A message that is whole with it is offered. */
  readonly settle: (sealed: Uint8Array, plain: Uint8Array) => void
  /** The claw has it, or wants none of it. */
  readonly accept: (message: Received) => Effect.Effect<void>
}

/** The inbox, with what an earlier run left in it: that is offered first. */
export const load = Effect.fnUntraced(function* (
  store: Store,
  offer: (message: Received) => void
): Effect.fn.Return<Inbox, ChannelError> {
  const messages = new Map<number, Received>()
  /** By the digest of each of its parts. */
  const byPart = new Map<string, Received>()
  const accepted: Array<Received> = []
  const arriving = new WeakMap<Uint8Array, Pick<Received, "attrs" | "parts">>()
  const range = (yield* store.get([rangeKey])).get(rangeKey)?.split("-").map(Number) ?? []
  const [first = 1, last = 0] = range
  let latest = last

  const add = (message: Received) => {
    messages.set(message.number, message)
    for (const part of message.parts) byPart.set(part, message)
    return message
  }
  const offerWhole = (message: Received) => {
    if (message.offered || message.parts.some((part) => !message.opened.has(part))) return
    message.offered = true
    offer(message)
  }
  const accept = Effect.fnUntraced(function* (message: Received) {
    yield* store.setLater(new Map([[keyOf(message.number), undefined]]))
    messages.delete(message.number)
    accepted.push(message)
    for (const oldest of accepted.splice(0, accepted.length - remembered)) {
      for (const part of oldest.parts) byPart.delete(part)
    }
  })
  const messageOf = (sealed: Uint8Array): Received => {
    const known = byPart.get(digest(sealed))
    if (known !== undefined) return known
    const { attrs, parts } = arriving.get(sealed) ?? { attrs: {}, parts: [digest(sealed)] }
    return add({ number: ++latest, attrs, parts, opened: new Map(), offered: false })
  }

  const kept = yield* store.get(Array.from({ length: last - first + 1 }, (_, index) => keyOf(first + index)))
  const now = yield* Clock.currentTimeMillis
  for (let number = first; number <= last; number++) {
    const text = kept.get(keyOf(number))
    if (text === undefined) continue
    const row = decode(text)
    if (Option.isNone(row)) continue
    const { attrs, opened, parts } = row.value
    const plain = Object.entries(opened).map(([part, base64]) => [part, Buffer.from(base64, "base64")] as const)
    const message = add({ number, attrs, parts, opened: new Map(plain), offered: false })
    if (plain.length < parts.length && now - Number(attrs["t"]) * 1000 > patienceMillis) yield* accept(message)
    else offerWhole(message)
  }

  return {
    expect: ({ attrs, content }) => {
      const sealed = (Array.isArray(content) ? content : []).flatMap(({ content, tag }) =>
        tag === "enc" && content instanceof Uint8Array ? [content] : []
      )
      const parts = sealed.map(digest)
      for (const part of sealed) arriving.set(part, { attrs, parts })
    },
    find: (sealed) => {
      const part = digest(sealed)
      return byPart.get(part)?.opened.get(part)
    },
    keep: (sealed, plain) => {
      const message = messageOf(sealed)
      const [oldest = message.number] = messages.keys()
      return new Map([
        [keyOf(message.number), write(message, [digest(sealed), plain])],
        // Those before the oldest may be on their way out.
        [rangeKey, `${Math.max(1, oldest - remembered)}-${latest}`]
      ])
    },
    settle: (sealed, plain) => {
      const message = messageOf(sealed)
      message.opened.set(digest(sealed), plain)
      offerWhole(message)
    },
    accept
  }
})
