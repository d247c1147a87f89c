/**
 * Replies that are shown while they are written: a message that is edited as the text grows, and becomes the reply.
 *
 * Which message that is, is kept: after a crash the reply still takes its place, or it is taken away.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberMap from "effect/FiberMap"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type { ChannelState } from "../../services/ChannelState.ts"
import type { ChannelName, ChatId, OutputId } from "../../services/Message.ts"
import * as Reply from "../../services/Reply.ts"
import type { TurnEvent } from "../../services/Turn.ts"
import { Failure, type TelegramApi, textLimit, withoutPreview } from "./telegramApi.ts"

/** Where in Telegram a chat is. */
export interface Place {
  readonly chat_id: number
  readonly message_thread_id?: number
}

/** Does something in a chat, wherever it is by now. */
export type InChat = <A>(to: ChatId, act: (place: Place) => Effect.Effect<A, Failure>) => Effect.Effect<A, Failure>

/** Shows replies as they grow. */
export interface Live {
  readonly follow: (chat: ChatId, event: TurnEvent) => Effect.Effect<void>
  /** Ends the showing of a reply. Returns the message that it was shown in. */
  readonly take: (chat: ChatId, output: OutputId) => Effect.Effect<number | undefined, Failure>
  /** Says that the message now has the reply. */
  readonly settle: (chat: ChatId, output: OutputId, message: number) => Effect.Effect<void, Failure>
}

/**
 * How long a text grows before it is shown again: Telegram takes about a message a second in a chat, and 20 a minute in a
 * group. https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this
 */
const pauseIn = (chat: ChatId): Duration.Duration => Duration.seconds(chat.startsWith("-") ? 4 : 1)

/** The message of a chat in which a reply was last shown as it grew. */
const Kept = Schema.fromJsonString(
  Schema.Struct({ output: Schema.String, message: Schema.Int, settled: Schema.Boolean })
)

interface Growing {
  readonly chat: ChatId
  readonly lock: Semaphore.Semaphore
  written: string
  shown: string
  message: number | undefined
}

export const make = Effect.fnUntraced(function* (options: {
  readonly name: ChannelName
  readonly call: TelegramApi["call"]
  readonly inChat: InChat
  readonly state: ChannelState["Service"]
}): Effect.fn.Return<Live, never, Scope.Scope> {
  const { inChat, name, state } = options
  /** What only shows is not waited for as what is said. */
  const call: TelegramApi["call"] = (method) => options.call(method, "10 seconds")
  const growing = new Map<OutputId, Growing>()
  const showing = yield* FiberMap.make<OutputId>()
  /** When something may be shown in a chat again, all its topics together, in epoch milliseconds. */
  const free = new Map<string, number>()

  const keyOf = (chat: ChatId) => `live ${chat}`
  const notStored = ({ message }: { readonly message: string }) => new Failure({ code: 0, description: message })
  /** What is kept, as far as it was asked for. */
  const known = new Map<ChatId, typeof Kept.Type | undefined>()
  const keep = (chat: ChatId, kept: typeof Kept.Type | undefined) =>
    state.set(name, new Map([[keyOf(chat), kept === undefined ? undefined : Schema.encodeSync(Kept)(kept)]])).pipe(
      Effect.tap(() => Effect.sync(() => known.set(chat, kept))),
      Effect.mapError(notStored)
    )
  const kept = (chat: ChatId) =>
    Effect.suspend(() =>
      known.has(chat)
        ? Effect.succeed(known.get(chat))
        : state.get(name, [keyOf(chat)]).pipe(
            Effect.mapError(notStored),
            Effect.map((texts) => Option.getOrUndefined(Schema.decodeOption(Kept)(texts.get(keyOf(chat)) ?? ""))),
            Effect.tap((found) => Effect.sync(() => known.set(chat, found)))
          )
    )

  const remove = (chat: ChatId, message: number) => {
    // From now on nothing takes its place.
    known.set(chat, undefined)
    return Effect.andThen(
      // It may be gone already.
      Effect.ignore(
        inChat(chat, ({ chat_id }) =>
          call((api, signal) => api.deleteMessage({ chat_id, message_id: message }, signal))
        )
      ),
      Effect.ignore(keep(chat, undefined))
    )
  }

  const show = Effect.fnUntraced(function* (output: OutputId, reply: Growing) {
    const [text = ""] = Reply.split(Reply.begun(reply.written), textLimit)
    if (growing.get(output) !== reply || text === "" || text === reply.shown) return
    const { chat, message } = reply
    const plain = { text, ...withoutPreview }
    if (message !== undefined) {
      yield* inChat(chat, ({ chat_id }) =>
        call((api, signal) => api.editMessageText({ chat_id, message_id: message, ...plain }, signal))
      )
    } else {
      const sent = yield* inChat(chat, (place) =>
        call((api, signal) => api.sendMessage({ ...place, ...plain }, signal))
      )
      reply.message = sent.message_id
      yield* keep(chat, { output, message: sent.message_id, settled: false })
    }
    reply.shown = text
  })

  /** Shows, after a while, what has been written by then. */
  const showSoon = Effect.fnUntraced(function* (output: OutputId, reply: Growing) {
    const [group = ""] = reply.chat.split("/")
    const pause = Duration.toMillis(pauseIn(reply.chat))
    let now = yield* Clock.currentTimeMillis
    for (let at = now + pause; at > now; at = free.get(group) ?? 0) {
      yield* Effect.sleep(Duration.millis(at - now))
      // A reply that is written by then takes no other's turn.
      if (growing.get(output) !== reply) return
      now = yield* Clock.currentTimeMillis
    }
    free.set(group, now + pause)
    yield* reply.lock.withPermit(show(output, reply)).pipe(
      // What cannot be shown now is shown with what comes after it, or with the whole.
      Effect.catch(({ code, message, retryAfter = Duration.zero }) =>
        Effect.gen(function* () {
          if (code === 429) free.set(group, (yield* Clock.currentTimeMillis) + Duration.toMillis(retryAfter))
          yield* Effect.logDebug(`${name}: a reply is not shown while it is written: ${message}`)
        })
      )
    )
  })

  const write = Effect.fnUntraced(function* (chat: ChatId, output: OutputId, delta: string) {
    const reply = growing.get(output) ?? {
      chat,
      lock: Semaphore.makeUnsafe(1),
      written: "",
      shown: "",
      message: undefined
    }
    growing.set(output, reply)
    reply.written += delta
    yield* FiberMap.run(showing, output, showSoon(output, reply), { onlyIfMissing: true })
  })

  return {
    follow: Effect.fnUntraced(function* (chat, event) {
      switch (event._tag) {
        case "TurnBegan":
        case "TurnContinued": {
          // A claw that died has left it: the text is written anew.
          const left = yield* Effect.orElseSucceed(kept(chat), () => undefined)
          if (left?.settled === false) yield* remove(chat, left.message)
          return
        }
        case "TextDelta":
          return yield* write(chat, event.output, event.delta)
        case "TextDiscarded": {
          const reply = growing.get(event.output)
          if (reply !== undefined) reply.written = ""
          return
        }
        case "TurnEnded":
          for (const [output, reply] of growing) {
            if (reply.chat !== chat || event.outputs.includes(output)) continue
            growing.delete(output)
            yield* reply.lock.withPermit(
              Effect.suspend(() => (reply.message === undefined ? Effect.void : remove(chat, reply.message)))
            )
          }
          return
        default:
          return
      }
    }),

    take: Effect.fnUntraced(function* (chat, output) {
      const reply = growing.get(output)
      growing.delete(output)
      if (reply !== undefined) {
        const message = yield* reply.lock.withPermit(Effect.sync(() => reply.message))
        if (message !== undefined) {
          known.set(chat, { output, message, settled: true })
          return message
        }
      }
      const left = yield* kept(chat)
      if (left?.output !== output) return undefined
      // From now on it is not taken away.
      known.set(chat, { ...left, settled: true })
      return left.message
    }),

    settle: (chat, output, message) => keep(chat, { output, message, settled: true })
  }
})
