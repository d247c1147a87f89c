/**
 * What an update of Telegram's Bot API says. Pure.
 *
 * https://core.telegram.org/bots/api#update
 */
import type { Chat, Message, MessageEntity, ReactionType, Update, User, UserFromGetMe } from "grammy/types"
import { type InboundMessage, MessageId, SenderId, text } from "../../services/Message.ts"

/** The account that the bot is. */
export type Me = Pick<UserFromGetMe, "id" | "username">

/** A file that lies on Telegram's servers. */
export interface RemoteFile {
  readonly id: string
  readonly name?: string
  readonly mediaType?: string
  /** Bytes. */
  readonly size?: number
}

/** What was done, as far as it concerns a claw. */
export type Happened =
  | {
      readonly _tag: "Said"
      readonly chat: number
      /** The forum topic that it was said in. */
      readonly thread: number | undefined
      readonly message: Omit<InboundMessage, "channel" | "chat">
      readonly files: ReadonlyArray<RemoteFile>
      /** The press of a button, which waits to be answered. */
      readonly pressed?: string
    }
  /** A group has become a supergroup, with another id. */
  | { readonly _tag: "Migrated"; readonly from: number; readonly to: number }
  /** A person has blocked the bot, or a group has put it out; or taken it back. */
  | { readonly _tag: "Membership"; readonly chat: number; readonly isMember: boolean }
  | undefined

/** The kinds of updates that are understood. Reactions are sent to those only who ask for them. */
export const kinds = [
  "message",
  "edited_message",
  "channel_post",
  "edited_channel_post",
  "message_reaction",
  "callback_query",
  "my_chat_member"
] as const

/**
 * Who a message is from. What is written in the name of a chat, by an anonymous administrator or a channel, is no person's: its
 * sender is `chat:` and that chat's id, which no person has.
 */
const senderOf = (from: User | undefined, inNameOf: Chat | undefined) =>
  inNameOf !== undefined || from === undefined
    ? { sender: SenderId.make(`chat:${inNameOf?.id ?? "unknown"}`), ...named(inNameOf?.title) }
    : {
        sender: SenderId.make(String(from.id)),
        ...named([from.first_name, from.last_name].filter((part) => part !== undefined).join(" "))
      }

const named = (name: string | undefined) => (name === undefined || name === "" ? {} : { senderName: name })

const entitiesOf = ({ caption_entities, entities }: Message) => entities ?? caption_entities ?? []

const textOf = (message: Message): string => {
  const { contact, dice, location, poll, sticker, venue } = message
  if (venue !== undefined) return `Place: ${venue.title}, ${venue.address} (${at(venue.location)})`
  if (location !== undefined) return `Location: ${at(location)}`
  if (contact !== undefined) {
    return `Contact: ${[contact.first_name, contact.last_name].filter((part) => part !== undefined).join(" ")}, ${contact.phone_number}`
  }
  if (poll !== undefined)
    return [`Poll: ${poll.question}`, ...poll.options.map((option) => `- ${option.text}`)].join("\n")
  if (dice !== undefined) return `${dice.emoji} ${dice.value}`
  return message.text ?? message.caption ?? sticker?.emoji ?? ""
}

const at = ({ latitude, longitude }: { readonly latitude: number; readonly longitude: number }) =>
  `${latitude}, ${longitude}`

/** What is said of a file, where it is said. */
const file = (
  of: {
    readonly file_id: string
    readonly file_size?: number
    readonly file_name?: string
    readonly mime_type?: string
  },
  mediaType: string | undefined = of.mime_type
): RemoteFile => ({
  id: of.file_id,
  ...(of.file_name === undefined ? {} : { name: of.file_name }),
  ...(mediaType === undefined ? {} : { mediaType }),
  ...(of.file_size === undefined ? {} : { size: of.file_size })
})

const filesOf = ({
  animation,
  audio,
  document,
  photo,
  sticker,
  video,
  video_note: note,
  voice
}: Message): ReadonlyArray<RemoteFile> => {
  // The largest comes last.
  const largest = photo?.at(-1)
  if (largest !== undefined) return [file(largest, "image/jpeg")]
  if (sticker !== undefined) {
    const type = sticker.is_video ? "video/webm" : sticker.is_animated ? "application/x-tgsticker" : "image/webp"
    return [file(sticker, type)]
  }
  // An animation is a document, too, for programs that do not know it.
  const found = animation ?? document ?? audio ?? video ?? voice
  if (found !== undefined) return [file(found)]
  return note === undefined ? [] : [file(note, "video/mp4")]
}

/** Whether a part of a text speaks to the bot. Names are compared as Telegram does, whatever the case. */
const isForMe = (written: string, entity: MessageEntity, me: Me): boolean => {
  if (entity.type === "text_mention") return entity.user.id === me.id
  const part = written.slice(entity.offset, entity.offset + entity.length).toLowerCase()
  const name = `@${me.username.toLowerCase()}`
  return entity.type === "mention" ? part === name : entity.type === "bot_command" && part.endsWith(name)
}

/** A command without the name of the bot that it is for. */
const withoutName = (written: string, message: Message, me: Me): string => {
  const command = entitiesOf(message).find(({ offset, type }) => type === "bot_command" && offset === 0)
  if (command === undefined || !isForMe(written, command, me)) return written
  return written.slice(0, written.indexOf("@")) + written.slice(command.length)
}

const quotedOf = ({ quote, reply_to_message: answered }: Message, me: Me) =>
  // In a topic, what answers nothing answers the message that opened it.
  answered === undefined || answered.forum_topic_created !== undefined
    ? {}
    : { quoted: { text: quote?.text ?? textOf(answered), fromAgent: answered.from?.id === me.id } }

const threadOf = (message: Pick<Message, "is_topic_message" | "message_thread_id">) =>
  message.is_topic_message === true ? message.message_thread_id : undefined

const said = (message: Message, me: Me, edited: number | undefined): Happened => {
  const files = filesOf(message)
  const written = textOf(message)
  // Somebody joined, the title was changed, and so on.
  if (files.length === 0 && written === "") return undefined
  const mentionsAgent = entitiesOf(message).some((entity) => isForMe(written, entity, me))
  return {
    _tag: "Said",
    chat: message.chat.id,
    thread: threadOf(message),
    files,
    message: {
      id: MessageId.make(edited === undefined ? `${message.message_id}` : `${message.message_id}.${edited}`),
      ...senderOf(message.from, message.sender_chat),
      content: text(withoutName(written, message, me)),
      direct: message.chat.type === "private",
      ...(mentionsAgent ? { mentionsAgent } : {}),
      ...(message.from?.id === me.id ? { fromSelf: true } : {}),
      ...(edited === undefined ? {} : { kind: "edit" as const }),
      ...quotedOf(message, me),
      at: (message.edit_date ?? message.date) * 1000
    }
  }
}

const markOf = (mark: ReactionType): string =>
  mark.type === "emoji" ? mark.emoji : mark.type === "paid" ? "⭐" : "a custom emoji"

const reacted = (update: Update): Happened => {
  const { message_reaction: reaction } = update
  if (reaction === undefined) return undefined
  const before = reaction.old_reaction.map(markOf)
  const now = reaction.new_reaction.map(markOf)
  const set = now.filter((mark) => !before.includes(mark))
  const gone = before.filter((mark) => !now.includes(mark))
  const done = [
    ...(set.length === 0 ? [] : [`reacted with ${set.join(" ")} to message ${reaction.message_id}`]),
    ...(gone.length === 0 ? [] : [`took ${gone.join(" ")} from message ${reaction.message_id}`])
  ]
  return {
    _tag: "Said",
    chat: reaction.chat.id,
    // Telegram does not say which topic the message is in.
    thread: undefined,
    files: [],
    message: {
      id: MessageId.make(`${reaction.message_id}.${update.update_id}`),
      ...senderOf(reaction.user, reaction.actor_chat),
      content: text(done.join(", ")),
      direct: reaction.chat.type === "private",
      kind: "reaction",
      at: reaction.date * 1000
    }
  }
}

/** `now`: epoch milliseconds, for the press of a button has no time. */
export const understand = (update: Update, me: Me, now: number): Happened => {
  const { callback_query: pressed, my_chat_member: member } = update
  const message = update.message ?? update.channel_post
  if (message?.migrate_to_chat_id !== undefined) {
    return { _tag: "Migrated", from: message.chat.id, to: message.migrate_to_chat_id }
  }
  if (message?.migrate_from_chat_id !== undefined) {
    return { _tag: "Migrated", from: message.migrate_from_chat_id, to: message.chat.id }
  }
  if (message !== undefined) return said(message, me, undefined)
  const edited = update.edited_message ?? update.edited_channel_post
  if (edited !== undefined) return said(edited, me, update.update_id)
  if (update.message_reaction !== undefined) return reacted(update)
  if (member !== undefined) {
    const isMember = !["kicked", "left"].includes(member.new_chat_member.status)
    return { _tag: "Membership", chat: member.chat.id, isMember }
  }
  if (pressed?.message === undefined || pressed.data === undefined) return undefined
  const { chat, message_id: id } = pressed.message
  return {
    _tag: "Said",
    chat: chat.id,
    thread: "is_topic_message" in pressed.message ? threadOf(pressed.message) : undefined,
    files: [],
    pressed: pressed.id,
    message: {
      id: MessageId.make(`${id}.${update.update_id}`),
      ...senderOf(pressed.from, undefined),
      content: text(pressed.data),
      direct: chat.type === "private",
      mentionsAgent: true,
      at: now
    }
  }
}
