/**
 * WhatsApp, as a linked device of a person's or a number's own account, by Baileys.
 *
 * **Received once, and not lost.** WhatsApp forgets a message when the device says that it has it, and Baileys says so by
 * itself, before the claw has accepted the message. So the message is kept in `ChannelState` first, in the very transaction
 * that moves the session's keys on; what the claw has not accepted is offered again at the next start. A copy that comes twice
 * has the same id. The sender sees the blue ticks when the claw has accepted it.
 *
 * **Sent once.** An output's id makes the message's id: of a resend WhatsApp's clients show one. `send` returns when WhatsApp
 * has acknowledged the message.
 *
 * **One sender, one id.** WhatsApp knows a person by a number that stands for them, the LID, and where it shows it by their
 * phone number. Ids of senders and of direct chats are LIDs, `4711@lid`, for they never change hands; only one who has none
 * is known as `<phone number>@s.whatsapp.net`. Groups are `<number>@g.us`.
 *
 * Status messages, broadcasts and newsletters are not received. TLS and its checks are never off: the certificate of the
 * handshake beneath is not verified by Baileys, so they are all there is.
 */
import {
  isLidUser,
  isPnUser,
  jidNormalizedUser,
  proto,
  type WAMessageKey,
  type WASocket
} from "@whiskeysockets/baileys"
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import {
  type Channel,
  ChannelError,
  Channels,
  type InboundDelivery,
  Misconfigured,
  Refused,
  Unreachable
} from "../services/Channel.ts"
import { ChannelState } from "../services/ChannelState.ts"
import { ChannelName, ChatId, type InboundMessage, SenderId, text } from "../services/Message.ts"
import { quiet } from "./internal/whatsappConsole.ts"
import * as Inbox from "./internal/whatsappInbox.ts"
import * as Login from "./internal/whatsappLogin.ts"
import { download } from "./internal/whatsappMedia.ts"
import * as Read from "./internal/whatsappRead.ts"
import { type Ended, keepConnected, loggedOut } from "./internal/whatsappReconnect.ts"
import * as Socket from "./internal/whatsappSocket.ts"
import * as Store from "./internal/whatsappStore.ts"
import { contentOf, idOf, keyOf, messageId, quotation } from "./internal/whatsappWrite.ts"

/** What a login asks of its owner, or tells. */
export type LoginEvent =
  /** To be scanned under Linked devices on the phone; another follows when it has expired. */
  | { readonly _tag: "Qr"; readonly text: string }
  /** To be typed there, under Link with phone number. */
  | { readonly _tag: "Code"; readonly code: string }
  /** It is done: the account's phone number. */
  | { readonly _tag: "LoggedIn"; readonly phone: string }

/** Which account, and how. */
export interface Options {
  /** Default `whatsapp`. A second account is a second channel, such as `whatsapp.work`. */
  readonly name?: string
  /** How to link the device, when it is not linked yet: by a QR code, or by a code for the phone of this number. */
  readonly login: "qr" | { readonly phone: string }
  /** Shows the login to its owner. Default: in the terminal, on stderr; takes the package `uqr`. */
  readonly onLogin?: (event: LoginEvent) => Effect.Effect<void>
  /** Default: WhatsApp's. */
  readonly websocketUrl?: string
  /** The owner's phone number, with the country's code. Admitted without a list. */
  readonly owner?: string
  /** The chat that the account has with itself is the owner's with the claw. Default: it is ignored. */
  readonly selfChat?: boolean
}

/** The most that WhatsApp's clients take: 65,536 characters, and documents of 2 GB; a file is in memory here. */
const textLimit = 65_536
const fileLimit = 100 * 1024 * 1024
/** Messages that are kept for devices that could not read them, and texts that are kept to be quoted. */
const sentPlaces = 1000
const heardPlaces = 1000
const quotedLength = 300
/** How long a send waits for a connection that is just not there. */
const connectPatience = "10 seconds"
/** WhatsApp's clients show a sign of typing for so long, and somewhat more. */
const typingPeriod = "10 seconds"

/** Whose account is whose is told between the channels of a claw under this name. */
const shared = ChannelName.make("whatsapp")

const digitsOf = (phone: string) => phone.replace(/[\s()+.-]/g, "")

const showLogin = (event: LoginEvent) =>
  Effect.gen(function* () {
    const say = (words: string) => Effect.sync(() => void process.stderr.write(`${words}\n`))
    switch (event._tag) {
      case "Qr": {
        const drawn = yield* Effect.option(
          Effect.tryPromise(async () => (await import("uqr")).renderUnicodeCompact(event.text))
        )
        return yield* say(
          Option.isSome(drawn)
            ? `${drawn.value}\nScan it on the phone: WhatsApp, Linked devices.`
            : "WhatsApp waits for a login. To see its QR code here: npm install uqr, and start again."
        )
      }
      case "Code":
        return yield* say(`On the phone: WhatsApp, Linked devices, Link with phone number: ${event.code}`)
      case "LoggedIn":
        return yield* say(`WhatsApp: logged in as +${event.phone}`)
    }
  })

const make = Effect.fnUntraced(function* (options: Options) {
  const { onLogin = showLogin, selfChat = false, websocketUrl } = options
  const name = ChannelName.make(options.name ?? shared)
  const channels = yield* Channels
  const state = yield* ChannelState
  const store = yield* Store.make(state, name)
  const run = Effect.runPromiseWith(yield* Effect.context())
  const failed = (reason: ChannelError["reason"]) => new ChannelError({ channel: name, reason })
  const unreachable = (detail: string) => failed(new Unreachable({ detail }))
  const phones = [options.owner, options.login === "qr" ? undefined : options.login.phone]
  if (phones.some((phone) => phone !== undefined && !/^\d{7,15}$/.test(digitsOf(phone)))) {
    return yield* failed(
      new Misconfigured({
        detail: "this is no phone number: it has 7 to 15 digits, with the country's code, such as +47 400 00 000"
      })
    )
  }

  const arrivals = yield* Queue.unbounded<Inbox.Received, ChannelError | Cause.Done>()
  const current = yield* SubscriptionRef.make<Socket.Connection | undefined>(undefined)
  /** What there is to know before a message can be understood: who the account is, and who its owner. */
  const known = yield* Latch.make(false)
  const reads = yield* Queue.sliding<WAMessageKey>(256)
  const sent = yield* Store.makeShelf(store, "sent", sentPlaces, store.set)
  const heard = yield* Store.makeShelf(store, "heard", heardPlaces, store.setLater)
  const inbox = yield* Inbox.load(store, (message) => void Queue.offerUnsafe(arrivals, message))
  const login = yield* Login.load(store)
  let owner: SenderId | undefined
  let stopped: ChannelError | undefined

  /** The connection, once there is one. */
  const connected = SubscriptionRef.changes(current).pipe(
    Stream.filter((connection) => connection !== undefined),
    Stream.runHead,
    Effect.flatMap(Effect.fromOption),
    Effect.mapError(() => unreachable("there is no connection"))
  )
  /** Says something that nobody waits for, if there is a connection. */
  const signal = (use: (socket: WASocket) => Promise<unknown>) =>
    Effect.flatMap(SubscriptionRef.get(current), (connection) =>
      connection === undefined ? Effect.void : Effect.ignore(connection.ask(use))
    )
  const me = (): Read.Me => ({ id: login.auth.creds.me?.id ?? "", lid: login.auth.creds.me?.lid ?? "" })

  /** The one id of a user, of either of their addresses. */
  const identify = ({ jid, other }: Read.Address, by: Effect.Effect<Socket.Connection, ChannelError> = connected) => {
    const user = jidNormalizedUser(jid)
    if (isPnUser(user) !== true) return Effect.succeed(user)
    if (isLidUser(other) === true) return Effect.succeed(jidNormalizedUser(other))
    return by.pipe(
      Effect.flatMap(({ ask }) => ask(({ signalRepository }) => signalRepository.lidMapping.getLIDForPN(user))),
      Effect.map((lid) => (lid === null ? user : jidNormalizedUser(lid)))
    )
  }

  /** What was said in a message of the claw's own. */
  const ownText = (id: string) =>
    Effect.map(sent.get(id), (kept) =>
      kept === undefined ? undefined : (Read.textOf(proto.Message.decode(Buffer.from(kept, "base64"))) ?? "")
    )

  const understand = Effect.fnUntraced(function* (
    received: Inbox.Received
  ): Effect.fn.Return<ReadonlyArray<InboundDelivery>, ChannelError> {
    const { attrs, opened, parts } = received
    const ignore = Effect.as(inbox.accept(received), [])
    const said = yield* Effect.option(
      Effect.try(() => Read.read(Read.decode(parts.flatMap((part) => opened.get(part) ?? []))))
    )
    const reading = Option.getOrUndefined(said)
    const id = attrs["id"]
    const addresses = Read.addressesOf(attrs)
    const chat = yield* identify(addresses.chat)
    const sender = yield* identify(addresses.sender)
    if (reading === undefined || id === undefined || chat === "" || sender === "") return yield* ignore
    const own = Read.isMe(sender, me())
    const withItself = own && Read.isMe(chat, me())
    if (withItself && !selfChat) return yield* ignore

    const { about, kind, media, mentions } = reading
    const answered = about === undefined ? undefined : yield* ownText(about.id)
    const quoted: InboundMessage["quoted"] | undefined =
      about === undefined
        ? undefined
        : {
            // A quotation has whatever text its writer gave it; the claw's own is known.
            text: answered ?? about.text ?? (yield* heard.get(about.id)) ?? "",
            fromAgent: answered !== undefined
          }
    const message = messageId(id, sender)
    const seconds = Number(attrs["t"])
    return [
      {
        message: {
          channel: name,
          chat: ChatId.make(chat),
          id: message,
          sender: withItself && owner !== undefined ? owner : SenderId.make(sender),
          ...(attrs["notify"] === undefined ? {} : { senderName: attrs["notify"] }),
          content: text(reading.text),
          direct: !chat.endsWith("@g.us"),
          ...(mentions.some((jid) => Read.isMe(jid, me())) ? { mentionsAgent: true } : {}),
          ...(own && !withItself ? { fromSelf: true } : {}),
          ...(kind === undefined ? {} : { kind }),
          ...(quoted === undefined ? {} : { quoted }),
          at: Number.isFinite(seconds) ? seconds * 1000 : 0
        },
        attachments: media.map((file) => ({
          ...(file.name === undefined ? {} : { name: file.name }),
          ...(file.mediaType === undefined ? {} : { mediaType: file.mediaType }),
          ...(file.size === undefined ? {} : { size: file.size }),
          content: download(file, mediaHost, failed)
        })),
        ack: Effect.gen(function* () {
          yield* inbox.accept(received)
          yield* heard.put(id, reading.text.slice(0, quotedLength))
          if (!own) yield* Queue.offer(reads, keyOf(message, ChatId.make(chat), me()))
        })
      }
    ]
  })

  const mediaHost = Effect.flatMap(connected, ({ ask }) =>
    ask(async (socket) => (await socket.refreshMediaConn(false)).hosts[0]?.hostname ?? socket.getMediaHost())
  )

  const send: Channel["send"] = Effect.fnUntraced(function* (chat, part) {
    if (stopped !== undefined) return yield* unreachable(`it waits for a new start: ${stopped.message}`)
    const connection = yield* Effect.timeoutOrElse(connected, {
      duration: connectPatience,
      orElse: () => Effect.fail(unreachable("there is no connection"))
    })
    const id = idOf(me(), chat, part.id)
    const answers = part.replyTo === undefined ? undefined : keyOf(part.replyTo, chat, me())
    const quoted = answers === undefined ? {} : { quoted: quotation(answers, (yield* heard.get(answers.id)) ?? "") }
    const message = yield* connection.send(chat, contentOf(part, chat, me()), { messageId: id, ...quoted })
    const kept = proto.Message.encode(message.message ?? {}).finish()
    yield* sent.put(id, Buffer.from(kept).toString("base64"))
  })

  const typing: NonNullable<Channel["typing"]> = (chat) => {
    const show = (sign: "composing" | "paused") => signal((socket) => socket.sendPresenceUpdate(sign, chat))
    return Effect.andThen(
      Effect.addFinalizer(() => show("paused")),
      Effect.asVoid(Effect.forkScoped(Effect.repeat(show("composing"), Schedule.spaced(typingPeriod))))
    )
  }

  /** One account has one channel: another that is open in this claw keeps it. */
  const claim = Effect.fnUntraced(
    function* (lid: string) {
      const key = `account:${lid}`
      const told = yield* state.get(shared, [key])
      const holder = told.get(key)
      if (holder !== undefined && holder !== name && (yield* channels.names).includes(ChannelName.make(holder))) {
        return yield* failed(new Misconfigured({ detail: `its account is ${holder}'s already; leave one of them out` }))
      }
      yield* state.set(shared, new Map([[key, name]]))
    },
    Effect.catchTag("ChannelStateError", ({ message }) => unreachable(message))
  )

  const onOpen = Effect.fnUntraced(function* (connection: Socket.Connection) {
    const { id, lid } = me()
    yield* claim(jidNormalizedUser(lid))
    if (options.owner !== undefined) {
      const jid = `${digitsOf(options.owner)}@s.whatsapp.net`
      owner = SenderId.make(yield* identify({ jid, other: undefined }, Effect.succeed(connection)))
    } else if (selfChat) owner = SenderId.make(jidNormalizedUser(lid))
    yield* SubscriptionRef.set(current, connection)
    yield* known.open
    yield* onLogin({ _tag: "LoggedIn", phone: jidNormalizedUser(id).split("@")[0] ?? "" })
  })

  const onQr = (connection: Socket.Connection, shown: string, again: boolean) => {
    const by = options.login
    if (by === "qr") return onLogin({ _tag: "Qr", text: shown })
    if (again) return Effect.void
    return Effect.flatMap(
      connection.ask((socket) => socket.requestPairingCode(digitsOf(by.phone))),
      (code) => onLogin({ _tag: "Code", code })
    )
  }

  /** From connecting to the end. */
  const connection: Effect.Effect<Ended, ChannelError> = Effect.scoped(
    Effect.gen(function* () {
      const opened = yield* Socket.open({
        channel: name,
        websocketUrl,
        login,
        inbox,
        sent: (id) =>
          run(
            Effect.map(sent.get(id), (kept) =>
              kept === undefined ? undefined : proto.Message.decode(Buffer.from(kept, "base64"))
            )
          )
      })
      let openSince: number | undefined
      let asked = false
      while (true) {
        const event = yield* Queue.take(opened.events)
        switch (event._tag) {
          case "Changed":
            yield* login.save
            break
          case "Qr":
            yield* onQr(opened, event.text, asked)
            asked = true
            break
          case "Open":
            openSince = yield* Clock.currentTimeMillis
            yield* onOpen(opened)
            break
          case "Closed":
            yield* SubscriptionRef.set(current, undefined)
            return { code: event.code, openSince }
        }
      }
    }).pipe(
      Effect.ensuring(SubscriptionRef.set(current, undefined)),
      // The store failed, or the connection in the middle of something.
      Effect.catchIf(
        ({ isRetryable }) => isRetryable,
        ({ message }) => Effect.as(Effect.logWarning(message), { code: 500, openSince: undefined })
      )
    )
  )

  const connect = Effect.gen(function* () {
    const { code, detail } = yield* keepConnected(connection)
    if (code === loggedOut) yield* store.clear(Login.prefix)
    return yield* failed(new Refused({ detail }))
  }).pipe(
    Effect.tapError((error) => Effect.sync(() => (stopped = error))),
    Effect.onError((cause) => Queue.failCause(arrivals, cause)),
    Effect.ignore
  )

  yield* quiet
  yield* Effect.forkScoped(connect)
  yield* Effect.forkScoped(
    Effect.forever(Effect.flatMap(Queue.take(reads), (key) => signal((socket) => socket.readMessages([key]))))
  )
  const channel: Channel = {
    name,
    capabilities: { textLimit, deduplicates: true, fileLimit, reactions: true },
    inbound: Stream.fromQueue(arrivals).pipe(
      // An id that would be another tomorrow is worse than a wait, and a store that fails may come back.
      Stream.mapEffect((received) =>
        known.await.pipe(Effect.andThen(understand(received)), Effect.retry(Schedule.spaced("1 second")))
      ),
      Stream.flatMap(Stream.fromIterable)
    ),
    send,
    typing
  }
  if (options.owner !== undefined || selfChat) {
    // Known when the account is: no message is handed over before.
    Object.defineProperty(channel, "owner", { get: () => owner, enumerable: true })
  }
  yield* channels.register(channel)
})

/**
 * The channel.
 *
 * Provides nothing but the channel, which it registers; requires the `Channels` hub and `ChannelState`. It is there at once,
 * and hears when it is logged in. When WhatsApp logs it out, bans the account or has another take its place, its `inbound` fails
 * with `Refused` and what to do; all that it keeps stays, and after a logout the next start logs in anew. On release the
 * connection is closed, the device stays linked.
 */
export const layer = (options: Options): Layer.Layer<never, ChannelError, Channels | ChannelState> =>
  Layer.effectDiscard(make(options))
