/**
 * A person on the local WhatsApp: an unmodified Baileys client of their own, linked to their phone.
 */
import {
  type AnyMessageContent,
  type AuthenticationState,
  downloadMediaMessage,
  initAuthCreds,
  makeWASocket,
  type MiscMessageGenerationOptions,
  normalizeMessageContent,
  type proto,
  type SignalDataTypeMap,
  type SignalKeyStore,
  type WAMessage
} from "@whiskeysockets/baileys"
import { setInterval } from "node:timers/promises"
import type { WhatsAppServer } from "./WhatsAppServer.ts"

type Logger = NonNullable<Parameters<typeof makeWASocket>[0]["logger"]>
const quiet = () => {}
/** A logger that says nothing. */
export const silent: Logger = {
  level: "silent",
  child: () => silent,
  trace: quiet,
  debug: quiet,
  info: quiet,
  warn: quiet,
  error: quiet
}

/** Keys in memory. */
const makeKeys = () => {
  const kept = new Map<string, Map<string, unknown>>()
  const ofType = (type: string) => kept.get(type) ?? kept.set(type, new Map()).get(type) ?? new Map()
  const forget = (type: string) => void kept.delete(type)
  const keys: SignalKeyStore = {
    get: (type: keyof SignalDataTypeMap, ids: Array<string>) =>
      Object.fromEntries(ids.flatMap((id) => (ofType(type).has(id) ? [[id, ofType(type).get(id)]] : []))),
    set: (data) => {
      for (const [type, entries] of Object.entries(data)) {
        for (const [id, entry] of Object.entries(entries)) {
          if (entry === null) ofType(type).delete(id)
          else ofType(type).set(id, entry)
        }
      }
    }
  }
  return { keys, forget }
}

/** The text of a message, however it is wrapped. */
export const textOf = ({ message }: WAMessage): string =>
  message?.conversation ??
  message?.extendedTextMessage?.text ??
  message?.imageMessage?.caption ??
  message?.documentMessage?.caption ??
  message?.documentWithCaptionMessage?.message?.documentMessage?.caption ??
  message?.reactionMessage?.text ??
  ""

/** Links a device to the account of this phone number, and stays connected until it leaves. */
export const makePerson = async (
  server: WhatsAppServer,
  phone: string,
  name = phone,
  /** Where the login is kept. Default: in memory. */
  login?: { readonly state: AuthenticationState; readonly saveCreds: () => Promise<void> }
) => {
  server.account(phone, name).name = name
  const { forget, keys } = makeKeys()
  const auth = login?.state ?? { creds: initAuthCreds(), keys }
  const heard: Array<WAMessage> = []
  const updates: Array<unknown> = []
  const typing: Array<string> = []
  const receipts: Array<{ readonly id: string; readonly status: number }> = []
  const sent = new Map<string, proto.IMessage>()
  let left = false
  let open: ReturnType<typeof makeWASocket> | undefined
  let socket: ReturnType<typeof makeWASocket> | undefined

  const connect = () => {
    if (left) return
    const made = makeWASocket({
      auth,
      waWebSocketUrl: server.url,
      logger: silent,
      emitOwnEvents: false,
      shouldSyncHistoryMessage: () => false,
      getMessage: (key) => Promise.resolve(sent.get(key.id ?? ""))
    })
    socket = made
    made.ev.on("creds.update", () => void login?.saveCreds())
    made.ev.on("connection.update", ({ connection, lastDisconnect, qr }) => {
      if (qr !== undefined) server.scan(phone, qr)
      if (connection === "open") open = made
      if (connection !== "close" || socket !== made) return
      open = undefined
      if (lastDisconnect !== undefined) setTimeout(connect, 20).unref()
    })
    made.ev.on("messages.upsert", ({ messages }) => void heard.push(...messages))
    made.ev.on("messages.update", (changes) => {
      updates.push(...changes)
      for (const { key, update } of changes) {
        if (typeof update.status === "number") receipts.push({ id: key.id ?? "", status: update.status })
      }
    })
    made.ev.on("presence.update", ({ presences }) => {
      for (const { lastKnownPresence } of Object.values(presences)) typing.push(lastKnownPresence)
    })
  }
  connect()

  const online = async () => {
    for await (const _ of setInterval(5)) if (open !== undefined) return open
    throw new Error("never online")
  }
  await online()

  return {
    phone,
    /** Every message that has come, doubles among them. */
    heard: heard as ReadonlyArray<WAMessage>,
    updates: updates as ReadonlyArray<unknown>,
    /** Signs of typing, as they came. */
    typing: typing as ReadonlyArray<string>,
    receipts: receipts as ReadonlyArray<{ readonly id: string; readonly status: number }>,
    /** The client, when it is connected. */
    online,
    send: async (chat: string, content: AnyMessageContent, options?: MiscMessageGenerationOptions) => {
      const message = await (await online()).sendMessage(chat, content, options)
      if (message?.key.id == null || message.message == null) throw new Error("nothing was sent")
      sent.set(message.key.id, message.message)
      return message
    },
    /** Each text once, however often it came. */
    texts: () => [...new Map(heard.map((message) => [message.key.id, textOf(message)])).values()],
    /** The files that came, in order. */
    files: async () =>
      Promise.all(
        heard
          .flatMap((message) => {
            const { documentMessage, imageMessage } = normalizeMessageContent(message.message) ?? {}
            if (imageMessage) return [{ message, kind: "image", name: undefined }]
            return documentMessage ? [{ message, kind: "document", name: documentMessage.fileName }] : []
          })
          .map(async ({ kind, message, name }) => ({
            kind,
            name,
            content: await downloadMediaMessage(message, "buffer", {})
          }))
      ),
    /** Loses the keys of its sessions, as a device does that was restored. */
    forgetSessions: () => forget("session"),
    /** Connects again after it has left. */
    comeBack: () => {
      left = false
      connect()
    },
    leave: () => {
      left = true
      open = undefined
      void socket?.end(undefined)
    }
  }
}
export type Person = Awaited<ReturnType<typeof makePerson>>
