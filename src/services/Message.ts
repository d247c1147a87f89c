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
  /** When it was written, by the platform's clock: epoch milliseconds. */
  readonly at: number
}

/** The id of one output: stable over retries and restarts, so that a channel can recognise a resend. */
export const OutputId = Schema.NonEmptyString.pipe(Schema.brand("OutputId"))
export type OutputId = typeof OutputId.Type

/** A piece of a reply, small enough for its channel to carry in one message. */
export interface OutboundPart {
  readonly id: OutputId
  readonly text: string
}
