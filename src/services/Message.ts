/**
 * What people and agents say to each other, and the names they are known by.
 *
 * A conversation is one chat on one channel. Everything that enters or leaves a claw is addressed by the branded ids
 * defined here, so that a chat id cannot be passed where a sender is meant.
 */
import * as Prompt from "effect/ai/Prompt"
import * as Schema from "effect/Schema"

/** A channel's name, unique in a claw: `telegram`, or `telegram.work` for a second account. */
export const ChannelName = Schema.String.check(Schema.isPattern(/^[a-z][a-z0-9-]*(\.[a-z0-9-]+)?$/)).pipe(
  Schema.brand("ChannelName")
)
export type ChannelName = typeof ChannelName.Type

/** The platform's id of a chat, unique on its channel. */
export const ChatId = Schema.NonEmptyString.pipe(Schema.brand("ChatId"))
export type ChatId = typeof ChatId.Type

/** The platform's immutable id of a person. A display name is never an identity. */
export const SenderId = Schema.NonEmptyString.pipe(Schema.brand("SenderId"))
export type SenderId = typeof SenderId.Type

/** A person on a channel, `"<channel>:<sender id>"`: two platforms may use the same id for two people. */
export const Sender = Schema.String.check(Schema.isPattern(/^[a-z][a-z0-9.-]*:.+$/s)).pipe(Schema.brand("Sender"))
export type Sender = typeof Sender.Type

/** The person that an id stands for on a channel. */
export const sender = (channel: ChannelName, id: SenderId): Sender => Sender.make(`${channel}:${id}`)

/** The platform's id of a message, unique in its chat: what duplicates are recognised by. */
export const MessageId = Schema.NonEmptyString.pipe(Schema.brand("MessageId"))
export type MessageId = typeof MessageId.Type

/** An agent's name: it is a folder's name and an address in a swarm, hence the narrow alphabet. */
export const AgentName = Schema.String.check(Schema.isPattern(/^[A-Za-z][A-Za-z0-9_-]{0,63}$/)).pipe(
  Schema.brand("AgentName")
)
export type AgentName = typeof AgentName.Type

/** `"<channel>:<chat>"`. The conversations of a swarm's children are on the channel `swarm`. */
export const ConversationId = Schema.String.check(Schema.isPattern(/^[a-z][a-z0-9.-]*:.+$/s)).pipe(
  Schema.brand("ConversationId")
)
export type ConversationId = typeof ConversationId.Type

/** The conversation that a chat on a channel is. */
export const conversationId = (channel: ChannelName, chat: ChatId): ConversationId =>
  ConversationId.make(`${channel}:${chat}`)

/** The channel a conversation is on. */
export const channelOf = (conversation: ConversationId): ChannelName =>
  ChannelName.make(conversation.slice(0, conversation.indexOf(":")))

/** The chat a conversation is. */
export const chatOf = (conversation: ConversationId): ChatId =>
  ChatId.make(conversation.slice(conversation.indexOf(":") + 1))

/** Whether a conversation is an agent's, working for another; its parent reads the answer, no chat does. */
export const isChild = (conversation: ConversationId): boolean => conversation.startsWith("swarm:")

/** The SHA-256 of a file that the claw keeps, in hexadecimal digits. */
export const FileId = Schema.String.check(Schema.isPattern(/^[0-9a-f]{64}$/)).pipe(Schema.brand("FileId"))
export type FileId = typeof FileId.Type

/** Text and files, as `effect/ai` has them: what a person sends and a model is shown. */
export const Content = Schema.Array(Prompt.UserMessagePart)
export type Content = typeof Content.Type

/** A content of one text. Lone surrogates, which no wire format carries, become U+FFFD. */
export const text = (value: string): Content => [Prompt.textPart({ text: value.toWellFormed() })]

/** The texts of a content, files left out. */
export const textOf = (content: Content): string =>
  content.flatMap((part) => (part.type === "text" ? [part.text] : [])).join("\n")

/** A message as a channel hands it over. */
export interface InboundMessage {
  readonly channel: ChannelName
  readonly chat: ChatId
  readonly id: MessageId
  readonly sender: SenderId
  /** What the platform shows as the sender's name. For people to read; decides nothing. */
  readonly senderName?: string
  readonly content: Content
  /** A chat with one person, as opposed to a group. */
  readonly direct: boolean
  /** The platform says that this message mentions the agent's account. */
  readonly mentionsAgent?: boolean
  /** Sent by the agent's own account. */
  readonly fromSelf?: boolean
  /** Something done to an earlier message, which `content` tells. It is shown to the agent, and wakes nobody. */
  readonly kind?: "reaction" | "edit" | "deletion"
  /** The message that this one answers. */
  readonly quoted?: { readonly text: string; readonly fromAgent: boolean }
  /** When it was written, by the platform's clock: epoch milliseconds. */
  readonly at: number
}

/** The id of one output: stable over retries and restarts, so that a channel can recognise a resend. */
export const OutputId = Schema.NonEmptyString.pipe(Schema.brand("OutputId"))
export type OutputId = typeof OutputId.Type

/** What an output is beside its text. */
export const Extra = Schema.Struct({
  /** The message that it answers: shown above it where the platform can. */
  replyTo: Schema.optionalKey(MessageId),
  /** Instead of a message: the mark that the text, one emoji, sets on this one. */
  reactTo: Schema.optionalKey(MessageId),
  /** A file in `Files`, whose caption the text is. */
  file: Schema.optionalKey(Schema.Struct({ id: FileId, name: Schema.String, mediaType: Schema.String })),
  /** Answers to choose from, each with what choosing it says. Where the platform has no buttons, the text lists them. */
  choices: Schema.optionalKey(Schema.Array(Schema.Struct({ label: Schema.String, says: Schema.String })))
})
export type Extra = typeof Extra.Type

/** A file on its way to a chat. */
export interface OutboundFile {
  readonly name: string
  readonly mediaType: string
  readonly content: Uint8Array
}

/** A piece of a reply, small enough for its channel to carry in one message. */
export interface OutboundPart extends Omit<Extra, "file"> {
  readonly id: OutputId
  readonly text: string
  readonly file?: OutboundFile
}
