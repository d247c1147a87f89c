/**
 * One connection to WhatsApp: a Baileys socket, for as long as a scope is open. What it tells comes as events, in order.
 */
import {
  type AnyMessageContent,
  type BinaryNode,
  DEFAULT_CONNECTION_CONFIG,
  DisconnectReason,
  type GroupMetadata,
  isJidBroadcast,
  isJidNewsletter,
  makeWASocket,
  type MiscMessageGenerationOptions,
  type proto,
  type WAMessage,
  type WASocket
} from "@whiskeysockets/baileys"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import { ChannelError, Refused, Unreachable } from "../../services/Channel.ts"
import type { Inbox } from "./whatsappInbox.ts"
import type { Login } from "./whatsappLogin.ts"

/** What a connection tells. The last is that it has closed, and why. */
export type Event =
  | { readonly _tag: "Qr"; readonly text: string }
  | { readonly _tag: "Changed" }
  | { readonly _tag: "Open" }
  | { readonly _tag: "Closed"; readonly code: number }

export interface Connection {
  readonly events: Queue.Dequeue<Event>
  /** Does something with the socket; fails when the connection ends before it has. */
  readonly ask: <A>(use: (socket: WASocket) => Promise<A>) => Effect.Effect<A, ChannelError>
  /** Sends a message; returns when WhatsApp has acknowledged it. */
  readonly send: (
    jid: string,
    content: AnyMessageContent,
    options: MiscMessageGenerationOptions & { readonly messageId: string }
  ) => Effect.Effect<WAMessage, ChannelError>
}

export interface Options {
  readonly channel: ChannelError["channel"]
  readonly websocketUrl: string | undefined
  readonly login: Login
  readonly inbox: Inbox
  /** A message that was sent, for a device that could not read it. */
  readonly sent: (id: string) => Promise<proto.IMessage | undefined>
}

const quiet = () => {}
const silent: (typeof DEFAULT_CONNECTION_CONFIG)["logger"] = {
  level: "silent",
  child: () => silent,
  trace: quiet,
  debug: quiet,
  info: quiet,
  warn: quiet,
  error: quiet
}

/** Baileys' errors have an HTTP status, of its own or of WhatsApp's choice. */
const statusOf = (cause: unknown): number | undefined => {
  const output = Predicate.hasProperty(cause, "output") ? cause.output : undefined
  const status = Predicate.hasProperty(output, "statusCode") ? output.statusCode : undefined
  return typeof status === "number" ? status : undefined
}

/** What WhatsApp answers to what it will not do later either: not allowed, not found, not acceptable. */
const isFinal = (code: unknown) => code === 403 || code === 404 || code === 406

/** Keeps what was decrypted in the transaction of the keys that did it. */
const withInbox =
  ({ login }: Options, inbox: Inbox): (typeof DEFAULT_CONNECTION_CONFIG)["makeSignalRepository"] =>
  (auth, ...rest) => {
    const repository = DEFAULT_CONNECTION_CONFIG.makeSignalRepository(auth, ...rest)
    const { keys } = auth
    const once = async (sealed: Uint8Array, lock: string, open: () => Promise<Uint8Array>) => {
      const texts = new Map<string, string>()
      const decrypt = async () => {
        const plain = await open()
        for (const [key, text] of inbox.keep(sealed, plain)) texts.set(key, text)
        return plain
      }
      const plain =
        inbox.find(sealed) ??
        (await login.within(texts, () => ("transaction" in keys ? keys.transaction(decrypt, lock) : decrypt())))
      inbox.settle(sealed, plain)
      return plain
    }
    return {
      ...repository,
      decryptMessage: (options) => once(options.ciphertext, options.jid, () => repository.decryptMessage(options)),
      decryptGroupMessage: (options) => once(options.msg, options.group, () => repository.decryptGroupMessage(options))
    }
  }

/** How long WhatsApp may take to acknowledge a message. */
const patience = "30 seconds"

/** Connects. On release the connection is closed. */
export const open = Effect.fnUntraced(function* (options: Options): Effect.fn.Return<Connection, never, Scope.Scope> {
  const { channel, inbox, login, websocketUrl } = options
  yield* login.begin
  const events = yield* Queue.unbounded<Event>()
  const closed = yield* Deferred.make<never, ChannelError>()
  const acknowledgements = new Map<string, (error: string | undefined) => void>()
  const groups = new Map<string, GroupMetadata>()
  const tell = (event: Event) => void Queue.offerUnsafe(events, event)
  const failed = (reason: ChannelError["reason"]) => new ChannelError({ channel, reason })
  const unreachable = (detail: string) => failed(new Unreachable({ detail }))

  const { creds, keys } = login.auth
  const auth: Login["auth"] = {
    creds,
    keys: {
      get: (type, ids) => keys.get(type, ids),
      // What could not be kept must not be acknowledged: without a connection it is not.
      set: async (data) => {
        try {
          await keys.set(data)
        } catch (error) {
          void socket.end(error instanceof Error ? error : undefined)
          throw error
        }
      }
    }
  }

  const groupOf = async (jid: string): Promise<GroupMetadata> => {
    const known = groups.get(jid) ?? (await socket.groupMetadata(jid))
    groups.set(jid, known)
    return known
  }

  // Opened and closed by one owner, so that there are never two.
  const socket: WASocket = yield* Effect.acquireRelease(
    Effect.sync((): WASocket =>
      makeWASocket({
        auth,
        logger: silent,
        ...(websocketUrl === undefined ? {} : { waWebSocketUrl: websocketUrl }),
        // A store that fails is waited for by the one who connects.
        transactionOpts: { maxCommitRetries: 1, delayBetweenTriesMs: 0 },
        makeSignalRepository: withInbox(options, inbox),
        emitOwnEvents: false,
        // The phone goes on to notify its owner.
        markOnlineOnConnect: false,
        syncFullHistory: false,
        shouldSyncHistoryMessage: () => false,
        shouldIgnoreJid: (jid) => isJidBroadcast(jid) === true || isJidNewsletter(jid) === true,
        cachedGroupMetadata: groupOf,
        getMessage: ({ id }) => options.sent(id ?? "")
      })
    ),
    (socket) =>
      Effect.ignore(
        Effect.timeout(
          Effect.promise(async () => socket.end(undefined)),
          "5 seconds"
        )
      )
  )

  socket.ws.prependListener("CB:message", (message: BinaryNode) => {
    // Baileys takes what waited at the server in order, and what comes live beside it: all of it is put in the one line.
    message.attrs["offline"] ??= "0"
    inbox.expect(message)
  })
  socket.ws.on("CB:ack,class:message", ({ attrs }: BinaryNode) =>
    acknowledgements.get(attrs["id"] ?? "")?.(attrs["error"])
  )
  socket.ws.on("CB:notification,type:w:gp2", ({ attrs }: BinaryNode) => groups.delete(attrs["from"] ?? ""))
  socket.ev.on("creds.update", () => tell({ _tag: "Changed" }))
  socket.ev.on("connection.update", ({ connection, lastDisconnect, qr }) => {
    if (qr !== undefined) tell({ _tag: "Qr", text: qr })
    if (connection === "open") tell({ _tag: "Open" })
    if (connection !== "close") return
    const code = statusOf(lastDisconnect?.error) ?? DisconnectReason.connectionClosed
    Deferred.doneUnsafe(closed, Effect.fail(unreachable(`the connection ended with code ${code}`)))
    tell({ _tag: "Closed", code })
  })

  // What Baileys waits for when the connection ends, it may wait for in vain.
  const ask: Connection["ask"] = (use) =>
    Effect.raceFirst(
      Effect.tryPromise({
        try: () => use(socket),
        catch: (cause) =>
          isFinal(Predicate.hasProperty(cause, "data") ? cause.data : undefined)
            ? failed(new Refused({ detail: String(cause) }))
            : unreachable(String(cause))
      }),
      Deferred.await(closed)
    )

  const send: Connection["send"] = Effect.fnUntraced(function* (jid, content, sending) {
    const id = sending.messageId
    const acknowledged = Effect.callback<string | undefined>((resume) => {
      acknowledgements.set(id, (error) => resume(Effect.succeed(error)))
    })
    const sent = Effect.raceFirst(acknowledged, Deferred.await(closed))
    const [message, error] = yield* Effect.all([ask((socket) => socket.sendMessage(jid, content, sending)), sent], {
      concurrency: "unbounded"
    }).pipe(
      Effect.timeoutOrElse({
        duration: patience,
        orElse: () => Effect.fail(unreachable("WhatsApp did not acknowledge the message"))
      }),
      Effect.ensuring(Effect.sync(() => acknowledgements.delete(id)))
    )
    if (error !== undefined) return yield* failed(new Refused({ detail: `WhatsApp refuses it with error ${error}` }))
    return message ?? (yield* unreachable("there was nothing to send"))
  })

  return { events, ask, send }
})
