/**
 * Telegram as a channel: a bot, by the Bot API and grammy.
 *
 * A direct chat, a group and a topic of a forum are a conversation each. Messages are asked for by one poller, and those
 * that are stored are confirmed by the next question: what came before a claw died comes again. Or Telegram brings them to a
 * webhook, which is answered when they are stored. Replies are written as they grow, at the rate that Telegram takes, and
 * their Markdown is shown; what it refuses to format is sent as it was written.
 */
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type { Update } from "grammy/types"
import {
  type Channel,
  ChannelError,
  Channels,
  type InboundDelivery,
  Misconfigured,
  Unreachable
} from "../services/Channel.ts"
import { ChannelState, type ChannelStateError } from "../services/ChannelState.ts"
import * as Gate from "../services/Gate.ts"
import { ChannelName, ChatId, MessageId, SenderId } from "../services/Message.ts"
import * as Telegram from "./internal/telegramApi.ts"
import * as Live from "./internal/telegramLive.ts"
import * as Sending from "./internal/telegramSending.ts"
import * as Updates from "./internal/telegramUpdates.ts"
import * as Webhook from "./internal/telegramWebhook.ts"

/** A bot. */
export interface Options {
  /** Default `telegram`. */
  readonly name?: string
  /** The bot's, from @BotFather. */
  readonly token: Redacted.Redacted
  /** Where the Bot API is. Default `https://api.telegram.org`. */
  readonly apiRoot?: string
  /** The numeric id of the person whose claw this is; admitted without a list. */
  readonly owner?: string
  /** Has Telegram bring messages, instead of asking for them. */
  readonly webhook?: Webhook.Webhook
}
export type { Webhook } from "./internal/telegramWebhook.ts"

/** Seconds that Telegram holds a question which it has no answer to. */
const pollSeconds = 30

/** From a second, doubling to a minute, jittered; longer when Telegram says. */
const patience = Schedule.min([Schedule.exponential("1 second"), Schedule.spaced("1 minute")]).pipe(
  Schedule.jittered,
  Schedule.setInputType<Telegram.Failure>(),
  Schedule.modifyDelay(({ duration, input }) => Effect.succeed(Duration.max(duration, input.retryAfter ?? duration))),
  Schedule.while(({ input }) => input.reason._tag !== "Misconfigured")
)

/** The key under which the groups that have become supergroups are kept: from the old id to the new. */
const migrations = "migrations"
const Migrations = Schema.fromJsonString(Schema.Array(Schema.Tuple([Schema.Int, Schema.Int])))

const make = Effect.fnUntraced(function* (options: Options) {
  const channels = yield* Channels
  const state = yield* ChannelState
  const name = ChannelName.make(options.name ?? "telegram")
  const failed = (reason: ChannelError["reason"]) => new ChannelError({ channel: name, reason })
  const misconfigured = (detail: string) => failed(new Misconfigured({ detail }))
  const notStored = ({ message }: ChannelStateError) => new Telegram.Failure({ code: 0, description: message })
  const root = (options.apiRoot ?? "https://api.telegram.org").replace(/\/+$/, "")
  if (!/^\d+:[\w-]+$/.test(Redacted.value(options.token))) {
    return yield* misconfigured("this is no token of a bot: it looks like 4711:AA…, and @BotFather has it")
  }
  if (!URL.canParse(root)) return yield* misconfigured("the address of the Bot API is no URL")
  if (options.owner !== undefined && !/^\d+$/.test(options.owner)) {
    return yield* misconfigured(
      "the owner is given by the numeric id of a person, which @userinfobot tells, not by a name"
    )
  }
  const { call, download } = Telegram.make(options.token, root)

  // A conversation keeps the id it began with: the group's, after it has become a supergroup.
  const supergroups = new Map<number, number>()
  const kept = yield* state.get(name, [migrations]).pipe(
    Effect.flatMap((texts) => Schema.decodeEffect(Migrations)(texts.get(migrations) ?? "[]")),
    Effect.mapError(({ message }) => failed(new Unreachable({ detail: message })))
  )
  for (const [from, to] of kept) supergroups.set(from, to)
  const migrate = Effect.fnUntraced(function* (from: number, to: number) {
    if (supergroups.get(from) === to) return
    yield* state.set(name, new Map([[migrations, JSON.stringify([...supergroups, [from, to]])]]))
    supergroups.set(from, to)
    yield* Effect.logInfo(`${name}: group ${from} has become supergroup ${to}, and stays the same conversation`)
  }, Effect.mapError(notStored))
  const firstId = (chat: number) => [...supergroups].find(([, to]) => to === chat)?.[0] ?? chat

  // --- What comes in ---

  const command = Object.entries(Gate.commands).map(([name, what]) => ({ command: name, description: what }))

  /** Says who the bot is, and how updates are to come. */
  const connect = Effect.gen(function* () {
    const me = yield* call((api, signal) => api.getMe(signal))
    const { webhook } = options
    yield* webhook === undefined
      ? call((api, signal) => api.deleteWebhook({}, signal))
      : call((api, signal) =>
          api.setWebhook(
            {
              url: webhook.url,
              secret_token: Redacted.value(webhook.secret),
              allowed_updates: Updates.kinds,
              // One after the other, or their order is lost.
              max_connections: 1
            },
            signal
          )
        )
    yield* Effect.ignore(call((api, signal) => api.setMyCommands({ commands: command }, signal)))
    return me
  })

  /** Until it succeeds; told once, and when it goes on. */
  const persist = <A>(effect: Effect.Effect<A, Telegram.Failure>): Effect.Effect<A, ChannelError> =>
    Effect.suspend(() => {
      let failures = 0
      return effect.pipe(
        Effect.tapError(({ reason }) =>
          failures++ === 0 ? Effect.logWarning(`${failed(reason).message}; it is tried again`) : Effect.void
        ),
        Effect.retry(patience),
        Effect.tap(() => (failures > 0 ? Effect.logInfo(`channel ${name}: goes on`) : Effect.void)),
        Effect.mapError(({ reason }) => failed(reason))
      )
    })

  const deliver = Effect.fnUntraced(function* (
    update: Update,
    me: Updates.Me,
    ack: Effect.Effect<void>
  ): Effect.fn.Return<ReadonlyArray<InboundDelivery>, Telegram.Failure> {
    const happened = Updates.understand(update, me, yield* Clock.currentTimeMillis)
    if (happened?._tag !== "Said") {
      if (happened?._tag === "Migrated") yield* migrate(happened.from, happened.to)
      if (happened?._tag === "Membership" && !happened.isMember) {
        yield* Effect.logWarning(`${name}: the bot was blocked, or put out of the group: chat ${happened.chat}`)
      }
      yield* ack
      return []
    }
    const { chat, files, message, pressed, thread } = happened
    const first = firstId(chat)
    const delivery: InboundDelivery = {
      message: {
        ...message,
        // A supergroup counts its messages anew.
        id: first === chat ? message.id : MessageId.make(`${chat}/${message.id}`),
        channel: name,
        chat: ChatId.make(thread === undefined ? `${first}` : `${first}/${thread}`)
      },
      attachments: files.map((file) => ({
        ...(file.name === undefined ? {} : { name: file.name }),
        ...(file.mediaType === undefined ? {} : { mediaType: file.mediaType }),
        ...(file.size === undefined ? {} : { size: file.size }),
        content: Stream.mapError(download(file), ({ reason }) => failed(reason))
      })),
      ack:
        pressed === undefined
          ? ack
          : Effect.andThen(
              ack,
              // One that is answered too late is not waited for any more.
              Effect.ignore(call((api, signal) => api.answerCallbackQuery({ callback_query_id: pressed }, signal)))
            )
    }
    return [delivery]
  })

  /** Asks for updates, and again when all that came are stored. */
  const polled = (me: Updates.Me) => {
    const stored = Latch.makeUnsafe(true)
    let offset = 0
    let missing = 0
    /** Whether Telegram has answered last time. Until it has, it is asked for what is there, and answers at once. */
    let isUp = false
    const ask = Effect.suspend(() =>
      call(
        (api, signal) =>
          api.getUpdates({ offset, timeout: isUp ? pollSeconds : 0, allowed_updates: Updates.kinds }, signal),
        Duration.seconds(pollSeconds + 15)
      )
    ).pipe(Effect.onExit((exit) => Effect.sync(() => void (isUp = Exit.isSuccess(exit)))))
    return Stream.fromEffectRepeat(Effect.andThen(stored.await, persist(ask))).pipe(
      Stream.tap((updates) =>
        Effect.sync(() => {
          const last = updates.at(-1)
          if (last === undefined) return
          offset = last.update_id + 1
          missing = updates.length
          stored.closeUnsafe()
        })
      ),
      Stream.flattenIterable,
      Stream.mapEffect((update) => {
        let isStored = false
        const ack = Effect.sync(() => {
          if (isStored) return
          isStored = true
          if (--missing === 0) stored.openUnsafe()
        })
        return persist(deliver(update, me, ack))
      })
    )
  }

  const brought = (me: Updates.Me, updates: Queue.Dequeue<Webhook.Brought>) =>
    Stream.mapEffect(Stream.fromQueue(updates), ({ stored, update }) =>
      persist(deliver(update, me, Effect.asVoid(Deferred.succeed(stored, undefined))))
    )

  const door =
    options.webhook === undefined
      ? undefined
      : yield* Effect.mapError(Webhook.listen(options.webhook), ({ detail }) => misconfigured(detail))

  // Who has no token learns it at the start; who has no network waits for it.
  yield* call((api, signal) => api.getMe(signal), "10 seconds").pipe(
    Effect.catch(({ reason }) => (reason._tag === "Misconfigured" ? Effect.fail(failed(reason)) : Effect.void))
  )
  const inbound = Stream.unwrap(
    Effect.map(persist(connect), (me) => (door === undefined ? polled(me) : brought(me, door)))
  ).pipe(Stream.flattenIterable)

  // --- What goes out ---

  /** Does something in a chat, wherever it is by now. */
  const inChat = <A>(
    to: ChatId,
    act: (place: Live.Place) => Effect.Effect<A, Telegram.Failure>
  ): Effect.Effect<A, Telegram.Failure> => {
    const [chat = "", thread] = to.split("/")
    const first = Number(chat)
    const topic = thread === undefined ? {} : { message_thread_id: Number(thread) }
    return act({ chat_id: supergroups.get(first) ?? first, ...topic }).pipe(
      Effect.catchIf(
        ({ migratedTo }) => migratedTo !== undefined,
        (failure) => {
          const { migratedTo = first } = failure
          return Effect.andThen(migrate(first, migratedTo), act({ chat_id: migratedTo, ...topic }))
        }
      )
    )
  }

  const live = yield* Live.make({ name, call, inChat, state })

  const send = Sending.make({ call, inChat, live })

  const channel: Channel = {
    name,
    capabilities: {
      textLimit: Telegram.textLimit,
      deduplicates: false,
      fileLimit: Sending.fileLimit,
      reactions: true,
      choices: true
    },
    ...(options.owner === undefined ? {} : { owner: SenderId.make(options.owner) }),
    inbound,
    send: (to, part) =>
      send(to, part).pipe(
        Effect.asVoid,
        // Whoever has the token puts it right, and then it goes on: nothing is given up for it.
        Effect.mapError(({ code, description, reason }) =>
          failed(
            code === 401 ? new Unreachable({ detail: `Telegram does not take the token (${description})` }) : reason
          )
        )
      ),
    // It is shown for five seconds.
    typing: (to) =>
      inChat(to, (place) => call((api, signal) => api.sendChatAction({ ...place, action: "typing" }, signal))).pipe(
        Effect.catchIf(
          ({ reason }) => reason._tag !== "Refused",
          () => Effect.void
        ),
        Effect.repeat(Schedule.spaced("4 seconds")),
        Effect.ignore,
        Effect.forkScoped,
        Effect.asVoid
      ),
    follow: live.follow
  }
  yield* channels.register(channel)
})

/**
 * A bot.
 *
 * Provides no service; requires the `Channels` hub, and `ChannelState` for groups that have become supergroups and for
 * replies that were being written. Fails when the token is none, or Telegram does not know it. On release the question that
 * waits is given up, and what is not stored is left with Telegram.
 */
export const layer = (options: Options): Layer.Layer<never, ChannelError, Channels | ChannelState> =>
  Layer.effectDiscard(make(options))

/** The bot that `TELEGRAM_BOT_TOKEN`, `TELEGRAM_API_ROOT` and `TELEGRAM_OWNER_ID` name; what is given here comes first. */
export const layerConfig = (
  options: Partial<Options> = {}
): Layer.Layer<never, ChannelError | Config.ConfigError, Channels | ChannelState> =>
  Layer.unwrap(
    Effect.gen(function* () {
      const token = options.token ?? (yield* Config.Redacted("TELEGRAM_BOT_TOKEN"))
      const apiRoot = yield* Config.option(Config.String("TELEGRAM_API_ROOT"))
      const owner = yield* Config.option(Config.String("TELEGRAM_OWNER_ID"))
      return layer({
        ...(Option.isNone(apiRoot) ? {} : { apiRoot: apiRoot.value }),
        ...(Option.isNone(owner) ? {} : { owner: owner.value }),
        ...options,
        token
      })
    })
  )
