/**
 * A Bot API server on loopback, for the real grammy to talk to, and the people who write to its bot.
 *
 * It keeps to the documented rules: an update waits until an offset confirms it, one poller at a time, formatting that is
 * wrong is refused, and so is what is too long. https://core.telegram.org/bots/api
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Chat, MessageEntity, User } from "grammy/types"
import { createHash, randomUUID } from "node:crypto"
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from "node:http"
import { setTimeout as sleep } from "node:timers/promises"
import { Field, multipart } from "./multipart.ts"
import * as Markdown from "./telegramMarkdown.ts"

/** A file in a chat. */
export interface Shared {
  readonly kind: "photo" | "document" | "voice" | "audio" | "video" | "video_note" | "animation" | "sticker"
  readonly content: Uint8Array
  readonly name?: string
  readonly mediaType?: string
  /** What the server says of the size, where it is not the content's. */
  readonly size?: number
}

/** What somebody says, beside or instead of a text. */
export interface Saying {
  readonly text?: string
  readonly file?: Shared
  /** The id of the message that is answered. */
  readonly replyTo?: number
  readonly thread?: number
  readonly entities?: ReadonlyArray<MessageEntity>
  /** Other fields of the message, such as `location` or `sender_chat`. */
  readonly fields?: object
}

/** A message as its chat shows it. */
export interface Shown {
  readonly id: number
  readonly from: User
  text: string
  entities: ReadonlyArray<Markdown.Entity>
  readonly thread?: number
  readonly replyTo?: number
  readonly file?: Shared
  buttons: ReadonlyArray<{ readonly label: string; readonly data: string }>
  /** How often it was edited. */
  edits: number
  /** Marks on it, by who set them. */
  readonly reactions: Map<number, string>
}

/** An update as it goes over the wire. */
export type Update = { readonly update_id: number } & Readonly<Record<string, unknown>>

/** A call of the bot, and what it was answered. */
export interface Call {
  readonly method: string
  readonly parameters: Readonly<Record<string, unknown>>
  status: number
}

/** An answer that is not what the method would give. */
export interface Fault {
  /** `cut before`: the connection is closed and nothing done; `cut after`: it is done, and the answer lost. */
  readonly cut?: "before" | "after"
  /** It is taken, and nothing comes. */
  readonly stall?: true
  readonly status?: number
  readonly description?: string
  readonly parameters?: { readonly retry_after?: number }
}

class Refusal extends Error {
  readonly status: number
  readonly parameters: object | undefined
  constructor(status: number, description: string, parameters?: object) {
    super(description)
    this.status = status
    this.parameters = parameters
  }
}

const bad = (description: string, parameters?: object) => new Refusal(400, `Bad Request: ${description}`, parameters)

interface Room {
  readonly chat: Chat
  readonly shown: Array<Shown>
  lastId: number
  /** The bot may not write here. */
  closed: string | undefined
  migratedTo: number | undefined
  /** Until when it shows that the bot is typing, in epoch milliseconds. */
  typingUntil: number
}

export class TelegramServer extends Context.Service<
  TelegramServer,
  {
    readonly apiRoot: string
    readonly token: string
    readonly bot: User & { readonly username: string }
    /** Every call but `getUpdates`, oldest first. */
    readonly calls: ReadonlyArray<Call>
    /** How often `getUpdates` was called. */
    readonly polls: () => number
    /** Whether a question waits for updates now. */
    readonly isPolled: () => boolean
    /** How often a question found another one waiting. */
    readonly conflicts: () => number
    /** Updates that are not confirmed. */
    readonly pending: () => ReadonlyArray<Update>
    /** A person, with a direct chat of the same id. */
    readonly person: (name: string) => User
    readonly group: (title: string, options?: { readonly forum?: boolean }) => Chat
    /** Says something in a chat; by default in the person's own with the bot. Returns the message's id. */
    readonly say: (from: User, saying: string | Saying, chat?: number) => number
    readonly edit: (from: User, id: number, text: string, chat?: number) => void
    readonly react: (from: User, id: number, emoji: string | undefined, chat?: number) => void
    /** Presses a button, by its label. */
    readonly press: (from: User, label: string, chat?: number) => void
    readonly block: (person: User, blocked: boolean) => void
    /** Makes a supergroup of a group. */
    readonly migrate: (chat: number) => number
    /** What a chat shows, oldest first. */
    readonly shown: (chat: number) => ReadonlyArray<Shown>
    /** Whether a chat shows that the bot is typing: for five seconds, or until it writes. */
    readonly isTyping: (chat: number) => boolean
    /** What the bot's messages in a chat say, as one text. */
    readonly read: (chat: number) => string
    /** The next calls of a method are answered so. */
    readonly fail: (method: string, fault: Fault, times?: number) => void
    /** Closes every connection, and takes none, until it is `online` again. */
    readonly online: (online: boolean) => void
    /** Takes the token back. */
    readonly revoke: () => void
  }
>()("effect-claw/test/support/TelegramServer") {}

const token = "4711:AAtest-token-of-the-local-server-0000"
const textLimit = 4096
const captionLimit = 1024
const defaults = [
  "message",
  "edited_message",
  "channel_post",
  "edited_channel_post",
  "callback_query",
  "my_chat_member"
]

/** Milliseconds between two attempts to bring an update to a webhook. */
const webhookPause = 20

const now = () => Math.floor(Date.now() / 1000)

const make = () => {
  const bot = {
    id: 4711,
    is_bot: true,
    first_name: "Andy",
    username: "andy_claw_bot",
    can_join_groups: true,
    can_read_all_group_messages: false,
    supports_inline_queries: false
  } as const
  const rooms = new Map<number, Room>()
  const files = new Map<string, Shared>()
  const calls: Array<Call> = []
  const faults = new Map<string, Array<Fault>>()
  let updates: Array<Update> = []
  let lastUpdate = 900_000
  let lastPerson = 5000
  let polls = 0
  let conflicts = 0
  let allowed: ReadonlyArray<string> = defaults
  let poller: { readonly answer: () => void; readonly conflict: () => void } | undefined
  let webhook: { readonly url: string; readonly secret: string | undefined } | undefined
  let posting = false
  let isOnline = true
  let isRevoked = false

  const roomOf = (id: unknown): Room => {
    const room = rooms.get(Number(id))
    if (room === undefined) throw bad("chat not found")
    return room
  }
  const open = (chat: Chat): Room => {
    const room: Room = { chat, shown: [], lastId: 0, closed: undefined, migratedTo: undefined, typingUntil: 0 }
    rooms.set(chat.id, room)
    return room
  }

  const push = (kind: string, what: object) => {
    if (!allowed.includes(kind)) return
    updates.push({ update_id: ++lastUpdate, [kind]: what })
    poller?.answer()
    void post()
  }

  /** Brings the first update to the webhook. Returns whether it was taken. */
  const bring = ({ secret, url }: { readonly url: string; readonly secret: string | undefined }, update: Update) =>
    new Promise<boolean>((resolve) => {
      const body = JSON.stringify(update)
      const sent = request(url, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          "content-length": Buffer.byteLength(body),
          ...(secret === undefined ? {} : { "x-telegram-bot-api-secret-token": secret })
        }
      })
      sent.on("response", (response) => {
        response.resume()
        resolve(response.statusCode === 200)
      })
      sent.on("error", () => resolve(false))
      sent.end(body)
    })

  /** Brings updates to the webhook, one after the other, each until it is taken. */
  const post = async (): Promise<void> => {
    const [update] = updates
    if (posting || webhook === undefined || update === undefined || !isOnline) return
    posting = true
    const isTaken = await bring(webhook, update)
    if (isTaken) updates.shift()
    else await sleep(webhookPause)
    posting = false
    return post()
  }

  const messageOf = (room: Room, shown: Shown, fields: object = {}): object => {
    const quoted = room.shown.find(({ id }) => id === shown.replyTo)
    const entities = shown.entities.map((entity) => ({ ...entity }))
    const text = shown.text === "" ? {} : { text: shown.text, ...(entities.length > 0 ? { entities } : {}) }
    const caption =
      shown.text === "" ? {} : { caption: shown.text, ...(entities.length > 0 ? { caption_entities: entities } : {}) }
    return {
      message_id: shown.id,
      date: now(),
      chat: room.chat,
      from: shown.from,
      ...(shown.file === undefined ? text : { ...caption, ...mediaOf(shown.file) }),
      ...(shown.thread === undefined ? {} : { message_thread_id: shown.thread, is_topic_message: true }),
      ...(quoted === undefined ? {} : { reply_to_message: messageOf(room, { ...quoted, replyTo: -1 }) }),
      ...(shown.buttons.length === 0
        ? {}
        : {
            reply_markup: {
              inline_keyboard: shown.buttons.map(({ data, label }) => [{ text: label, callback_data: data }])
            }
          }),
      ...fields
    }
  }

  const mediaOf = (file: Shared): object => {
    const id = createHash("sha1")
      .update(file.content)
      .update(file.name ?? "")
      .digest("hex")
    files.set(id, file)
    const common = { file_id: id, file_unique_id: id.slice(0, 12), file_size: file.size ?? file.content.length }
    const typed = {
      ...common,
      ...(file.mediaType === undefined ? {} : { mime_type: file.mediaType }),
      ...(file.name === undefined ? {} : { file_name: file.name })
    }
    switch (file.kind) {
      case "photo": {
        // Smallest first, as the API has them.
        const small = { ...common, file_id: `${id}-small`, file_size: 1, width: 90, height: 90 }
        return { photo: [small, { ...common, width: 1280, height: 1280 }] }
      }
      case "sticker":
        return { sticker: { ...common, type: "regular", width: 512, height: 512, emoji: "👍", is_animated: false } }
      case "video_note":
        return { video_note: { ...common, length: 240, duration: 3 } }
      default:
        return { [file.kind]: { ...typed, duration: 3 } }
    }
  }

  const add = (room: Room, shown: Omit<Shown, "id" | "edits" | "reactions">): Shown => {
    const added = { ...shown, id: ++room.lastId, edits: 0, reactions: new Map<number, string>() }
    room.shown.push(added)
    return added
  }

  const shownIn = (room: Room, id: unknown): Shown => {
    const found = room.shown.find((one) => one.id === Number(id))
    if (found === undefined) throw bad("message not found")
    return found
  }

  /** A text as the bot wrote it, read as the parse mode says. */
  const formatted = (text: unknown, mode: unknown, limit: number, what: string): Markdown.Formatted => {
    const source = typeof text === "string" ? text : ""
    const read = ((): Markdown.Formatted => {
      if (mode === undefined) return { text: source, entities: [] }
      if (mode !== "MarkdownV2") throw bad("unsupported parse_mode")
      try {
        return Markdown.parse(source)
      } catch (error) {
        throw error instanceof Markdown.CannotParse ? bad(error.message) : error
      }
    })()
    if (what === "message" && read.text.trim() === "") throw bad("message text is empty")
    if (read.text.length > limit) throw bad(`${what} is too long`)
    return read
  }

  /** The chat that a call writes to. */
  const target = (parameters: Readonly<Record<string, unknown>>): Room => {
    const room = roomOf(parameters["chat_id"])
    if (room.migratedTo !== undefined) {
      throw bad("group chat was upgraded to a supergroup chat", { migrate_to_chat_id: room.migratedTo })
    }
    if (room.closed !== undefined) throw new Refusal(403, `Forbidden: ${room.closed}`)
    return room
  }

  const json = (value: unknown): Readonly<Record<string, unknown>> => {
    const read: unknown = typeof value === "string" ? JSON.parse(value) : value
    return typeof read === "object" && read !== null ? { ...read } : {}
  }

  const buttonsOf = (markup: unknown): Shown["buttons"] => {
    const { inline_keyboard: rows } = json(markup)
    if (!Array.isArray(rows)) return []
    return rows.flat().map((button: unknown) => {
      const { callback_data: data, text: label } = json(button)
      if (typeof label !== "string" || label === "")
        throw bad("can't parse inline keyboard button: Text can't be empty")
      if (typeof data !== "string" || data === "" || Buffer.byteLength(data) > 64) throw bad("BUTTON_DATA_INVALID")
      return { label, data }
    })
  }

  const send = (
    parameters: Readonly<Record<string, unknown>>,
    what: "message" | "message caption",
    file?: Shared
  ): object => {
    const room = target(parameters)
    const { entities, text } = formatted(
      parameters[file === undefined ? "text" : "caption"],
      parameters["parse_mode"],
      file === undefined ? textLimit : captionLimit,
      what
    )
    const reply = json(parameters["reply_parameters"])
    const answered = room.shown.find(({ id }) => id === Number(reply["message_id"]))
    if (reply["message_id"] !== undefined && answered === undefined && reply["allow_sending_without_reply"] !== true) {
      throw bad("message to be replied not found")
    }
    const thread = parameters["message_thread_id"]
    if (thread !== undefined && !("is_forum" in room.chat)) throw bad("message thread not found")
    room.typingUntil = 0
    const shown = add(room, {
      from: bot,
      text,
      entities,
      buttons: buttonsOf(parameters["reply_markup"]),
      ...(thread === undefined ? {} : { thread: Number(thread) }),
      ...(answered === undefined ? {} : { replyTo: answered.id }),
      ...(file === undefined ? {} : { file })
    })
    return messageOf(room, shown)
  }

  const isImage = (content: Uint8Array) =>
    content[0] === 0xff || (content[0] === 0x89 && content[1] === 0x50) || content[0] === 0x52

  const upload = (parameters: Readonly<Record<string, unknown>>, field: "photo" | "document"): Shared => {
    const given = parameters[field]
    const part = typeof given === "string" ? parameters[given.replace(/^attach:\/\//, "")] : undefined
    if (!(part instanceof Field)) throw bad("there is no file in the request")
    const { content, name } = part
    if (content.length === 0) throw bad("file must be non-empty")
    if (content.length > (field === "photo" ? 10 : 50) * 1024 * 1024) throw new Refusal(413, "Request Entity Too Large")
    if (field === "photo" && !isImage(content)) throw bad("IMAGE_PROCESS_FAILED")
    return { kind: field, content, ...(name === undefined ? {} : { name }) }
  }

  const edit = (parameters: Readonly<Record<string, unknown>>): object => {
    const room = target(parameters)
    const shown = room.shown.find(({ id }) => id === Number(parameters["message_id"]))
    if (shown === undefined) throw bad("message to edit not found")
    if (shown.from.id !== bot.id) throw bad("message can't be edited")
    const { entities, text } = formatted(parameters["text"], parameters["parse_mode"], textLimit, "message")
    const buttons = buttonsOf(parameters["reply_markup"])
    const same = (one: unknown, other: unknown) => JSON.stringify(one) === JSON.stringify(other)
    if (text === shown.text && same(entities, shown.entities) && same(buttons, shown.buttons)) {
      throw bad(
        "message is not modified: specified new message content and reply markup are exactly the same as a current content and reply markup of the message"
      )
    }
    shown.text = text
    shown.entities = entities
    shown.buttons = buttons
    shown.edits++
    return messageOf(room, shown)
  }

  const methods: Readonly<Record<string, (parameters: Readonly<Record<string, unknown>>) => unknown>> = {
    getme: () => bot,
    deletewebhook: () => {
      webhook = undefined
      return true
    },
    setwebhook: ({ allowed_updates: kinds, secret_token: secret, url }) => {
      if (Array.isArray(kinds)) allowed = kinds.length === 0 ? defaults : kinds.map(String)
      webhook = { url: String(url), secret: typeof secret === "string" ? secret : undefined }
      void post()
      return true
    },
    getwebhookinfo: () => ({
      url: webhook?.url ?? "",
      has_custom_certificate: false,
      pending_update_count: updates.length
    }),
    sendmessage: (parameters) => send(parameters, "message"),
    senddocument: (parameters) => send(parameters, "message caption", upload(parameters, "document")),
    sendphoto: (parameters) => send(parameters, "message caption", upload(parameters, "photo")),
    editmessagetext: edit,
    deletemessage: (parameters) => {
      const room = target(parameters)
      const shown = room.shown.find(({ id }) => id === Number(parameters["message_id"]))
      if (shown === undefined) throw bad("message to delete not found")
      room.shown.splice(room.shown.indexOf(shown), 1)
      return true
    },
    getfile: ({ file_id: id }) => {
      const file = files.get(String(id))
      if (file === undefined) throw bad("wrong file_id or the file is temporarily unavailable")
      const size = file.size ?? file.content.length
      if (size > 20 * 1024 * 1024) throw bad("file is too big")
      return {
        file_id: id,
        file_unique_id: String(id).slice(0, 12),
        file_size: size,
        file_path: `documents/${String(id)}`
      }
    },
    setmessagereaction: (parameters) => {
      const shown = shownIn(target(parameters), parameters["message_id"])
      const marks = parameters["reaction"]
      const [mark] = Array.isArray(marks) ? marks : []
      const { emoji } = json(mark)
      if (mark !== undefined && !["👍", "👎", "❤", "🔥", "🎉", "👀", "🙏"].includes(String(emoji))) {
        throw bad("REACTION_INVALID")
      }
      if (mark === undefined) shown.reactions.delete(bot.id)
      else shown.reactions.set(bot.id, String(emoji))
      return true
    },
    sendchataction: (parameters) => {
      target(parameters).typingUntil = Date.now() + 5000
      return true
    },
    answercallbackquery: () => true,
    setmycommands: () => true
  }

  const answer = (response: ServerResponse, status: number, body: object) => {
    if (response.destroyed) return
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body))
  }
  const refuse = (response: ServerResponse, status: number, description: string, parameters?: object) =>
    answer(response, status, {
      ok: false,
      error_code: status,
      description,
      ...(parameters === undefined ? {} : { parameters })
    })

  const getUpdates = (response: ServerResponse, parameters: Readonly<Record<string, unknown>>) => {
    if (webhook !== undefined) {
      return refuse(
        response,
        409,
        "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
      )
    }
    if (poller !== undefined) conflicts++
    poller?.conflict()
    const { allowed_updates: kinds, limit = 100, offset = 0, timeout = 0 } = parameters
    if (Array.isArray(kinds)) allowed = kinds.length === 0 ? defaults : kinds.map(String)
    // An offset confirms all that are lower; a negative one, all but the last.
    if (Number(offset) < 0) updates = updates.slice(Number(offset))
    else updates = updates.filter(({ update_id: id }) => id >= Number(offset))
    const give = () => {
      end()
      answer(response, 200, { ok: true, result: updates.slice(0, Number(limit)) })
    }
    const waiting = setTimeout(give, Number(timeout) * 1000)
    const mine = {
      answer: give,
      conflict: () => {
        end()
        refuse(
          response,
          409,
          "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
        )
      }
    }
    const end = () => {
      clearTimeout(waiting)
      if (poller === mine) poller = undefined
    }
    poller = mine
    response.on("close", end)
    if (updates.length > 0) give()
  }

  const bodyOf = async (message: IncomingMessage, url: URL): Promise<Readonly<Record<string, unknown>>> => {
    const bytes = Buffer.concat(await message.toArray())
    const type = message.headers["content-type"] ?? ""
    const inUrl = Object.fromEntries(url.searchParams)
    if (type.startsWith("application/json")) return { ...inUrl, ...json(bytes.toString("utf8") || "{}") }
    if (type.startsWith("multipart/form-data")) return { ...inUrl, ...multipart(bytes, type) }
    return { ...inUrl, ...Object.fromEntries(new URLSearchParams(bytes.toString("utf8"))) }
  }

  const serve = async (message: IncomingMessage, response: ServerResponse) => {
    if (!isOnline) return void message.socket.destroy()
    const url = new URL(message.url ?? "/", "http://localhost")
    const [, file, key = "", path = ""] = /^\/(file\/)?bot([^/]+)\/(.+)$/.exec(url.pathname) ?? []
    if (!/^\d+:[\w-]+$/.test(key)) return refuse(response, 404, "Not Found")
    if (key !== token || isRevoked) return refuse(response, 401, "Unauthorized")
    if (file !== undefined) {
      const shared = files.get(path.replace("documents/", ""))
      return shared === undefined ? refuse(response, 404, "Not Found") : void response.end(shared.content)
    }
    const parameters = await bodyOf(message, url)
    const method = path.toLowerCase()
    const fault = faults.get(method)?.shift()
    if (method === "getupdates") polls++
    if (fault?.stall === true) return
    if (fault?.cut === "before") return void message.socket.destroy()
    const call: Call = { method: path, parameters, status: fault?.status ?? 200 }
    if (method !== "getupdates") calls.push(call)
    if (fault?.status !== undefined) {
      return refuse(response, fault.status, fault.description ?? "scripted", fault.parameters)
    }
    if (method === "getupdates") return getUpdates(response, parameters)
    const does = methods[method]
    if (does === undefined) return refuse(response, 404, "Not Found: method not found")
    try {
      const result = does(parameters)
      if (fault?.cut === "after") return void message.socket.destroy()
      answer(response, 200, { ok: true, result })
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      call.status = error.status
      refuse(response, error.status, error.message, error.parameters)
    }
  }

  const roomFor = (from: User, chat = from.id): Room => roomOf(chat)

  const people = {
    token,
    bot,
    calls,
    polls: () => polls,
    conflicts: () => conflicts,
    isPolled: () => poller !== undefined,
    pending: () => updates,
    person: (name: string): User => {
      const user = { id: ++lastPerson, is_bot: false, first_name: name }
      open({ id: user.id, type: "private", first_name: name })
      return user
    },
    group: (title: string, { forum = false }: { readonly forum?: boolean } = {}): Chat => {
      const id = ++lastPerson
      const chat: Chat = forum
        ? { id: -1_000_000_000_000 - id, type: "supergroup", title, is_forum: true }
        : { id: -id, type: "group", title }
      return open(chat).chat
    },
    say: (from: User, saying: string | Saying, chat?: number): number => {
      const {
        entities,
        fields,
        file,
        replyTo,
        text = "",
        thread
      } = typeof saying === "string" ? { text: saying } : saying
      const room = roomFor(from, chat)
      const shown = add(room, {
        from,
        text,
        entities: [],
        buttons: [],
        ...(thread === undefined ? {} : { thread }),
        ...(replyTo === undefined ? {} : { replyTo }),
        ...(file === undefined ? {} : { file })
      })
      const marks = file === undefined ? "entities" : "caption_entities"
      const message = messageOf(room, shown, {
        ...fields,
        ...(entities === undefined ? {} : { [marks]: [...entities] })
      })
      push(room.chat.type === "channel" ? "channel_post" : "message", message)
      return shown.id
    },
    edit: (from: User, id: number, text: string, chat?: number) => {
      const room = roomFor(from, chat)
      const shown = shownIn(room, id)
      shown.text = text
      shown.edits++
      push("edited_message", { ...messageOf(room, shown), edit_date: now() })
    },
    react: (from: User, id: number, emoji: string | undefined, chat?: number) => {
      const room = roomFor(from, chat)
      const { reactions } = shownIn(room, id)
      const before = reactions.get(from.id)
      if (emoji === undefined) reactions.delete(from.id)
      else reactions.set(from.id, emoji)
      const marks = (mark: string | undefined) => (mark === undefined ? [] : [{ type: "emoji", emoji: mark }])
      push("message_reaction", {
        chat: room.chat,
        message_id: id,
        user: from,
        date: now(),
        old_reaction: marks(before),
        new_reaction: marks(emoji)
      })
    },
    press: (from: User, label: string, chat?: number) => {
      const room = roomFor(from, chat)
      for (const shown of room.shown.toReversed()) {
        const button = shown.buttons.find((one) => one.label === label)
        if (button === undefined) continue
        return push("callback_query", {
          id: randomUUID(),
          from,
          message: messageOf(room, shown),
          chat_instance: String(room.chat.id),
          data: button.data
        })
      }
      throw new Error(`no message has a button ${label}`)
    },
    block: (person: User, blocked: boolean) => {
      const room = roomOf(person.id)
      room.closed = blocked ? "bot was blocked by the user" : undefined
      const member = (status: string) => ({ user: bot, status, until_date: 0 })
      push("my_chat_member", {
        chat: room.chat,
        from: person,
        date: now(),
        old_chat_member: member(blocked ? "member" : "kicked"),
        new_chat_member: member(blocked ? "kicked" : "member")
      })
    },
    migrate: (chat: number): number => {
      const room = roomOf(chat)
      const title = "title" in room.chat ? (room.chat.title ?? "") : ""
      const next = open({ id: -1_000_000_000_000 + chat, type: "supergroup", title })
      room.migratedTo = next.chat.id
      const service = { date: now(), from: bot }
      push("message", { ...service, message_id: ++room.lastId, chat: room.chat, migrate_to_chat_id: next.chat.id })
      push("message", { ...service, message_id: ++next.lastId, chat: next.chat, migrate_from_chat_id: chat })
      return next.chat.id
    },
    shown: (chat: number) => roomOf(chat).shown,
    isTyping: (chat: number) => roomOf(chat).typingUntil > Date.now(),
    read: (chat: number) =>
      roomOf(chat)
        .shown.filter(({ from }) => from.id === bot.id)
        .map(({ text }) => text)
        .join("\n"),
    fail: (method: string, fault: Fault, times = 1) => {
      const key = method.toLowerCase()
      faults.set(key, [...(faults.get(key) ?? []), ...Array.from({ length: times }, () => fault)])
    },
    revoke: () => {
      isRevoked = true
      poller?.conflict()
    }
  }

  return {
    people,
    serve,
    online: (server: Server) => (online: boolean) => {
      isOnline = online
      if (!online) server.closeAllConnections()
      else void post()
    },
    close: () => {
      webhook = undefined
    }
  }
}

/**
 * The server.
 *
 * Provides `TelegramServer`, requires nothing. On release all connections are closed.
 */
export const layer: Layer.Layer<TelegramServer> = Layer.effect(
  TelegramServer,
  Effect.gen(function* () {
    const { close, online, people, serve } = make()
    const server = yield* Effect.acquireRelease(
      Effect.callback<Server>((resume) => {
        const made = createServer((message, response) => {
          serve(message, response).catch((error: unknown) => {
            process.stderr.write(`the Bot API server failed: ${String(error)}\n`)
            response.writeHead(500).end()
          })
        })
        made.listen(0, "127.0.0.1", () => resume(Effect.succeed(made)))
      }),
      (open) =>
        Effect.callback<void>((resume) => {
          close()
          open.close(() => resume(Effect.void))
          open.closeAllConnections()
        })
    )
    const address = server.address()
    if (address === null || typeof address === "string") return yield* Effect.die(new Error("no port"))
    return TelegramServer.of({ ...people, apiRoot: `http://127.0.0.1:${address.port}`, online: online(server) })
  })
)

/** Waits until something is so, by the machine's clock. */
export const until = (what: () => boolean): Effect.Effect<void> =>
  Effect.promise(async (signal) => {
    // oxlint-disable-next-line no-await-in-loop
    while (!signal.aborted && !what()) await sleep(2)
  })
