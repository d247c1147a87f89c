/**
 * What a WhatsApp message says, as the claw reads it: text, files, what it answers and whom it mentions.
 *
 * Everything in here was written by the sender's device, and may be anything.
 */
import {
  jidNormalizedUser,
  type MediaType,
  normalizeMessageContent,
  proto,
  unpadRandomMax16
} from "@whiskeysockets/baileys"
import type { InboundMessage } from "../../services/Message.ts"

/** A file that is fetched from WhatsApp's media servers. */
export interface Media {
  readonly kind: MediaType
  readonly name?: string
  readonly mediaType?: string
  readonly size?: number
  readonly key: Uint8Array
  readonly path: string
  /** The SHA-256 of what it is when it is decrypted. */
  readonly sha256: Uint8Array
}

/** A message as it is read. */
export interface Reading {
  readonly kind?: NonNullable<InboundMessage["kind"]>
  readonly text: string
  readonly media: ReadonlyArray<Media>
  readonly mentions: ReadonlyArray<string>
  /** The message that this one answers, or does something to. */
  readonly about?: { readonly id: string; readonly author: string | undefined; readonly text: string | undefined }
}

const present = (value: string | null | undefined): value is string =>
  value !== null && value !== undefined && value !== ""

/** Decodes the parts of a message into one. What another device of the account sent is unwrapped. */
export const decode = (parts: Iterable<Uint8Array>): proto.IMessage => {
  const whole: proto.IMessage = {}
  for (const part of parts) {
    const said = proto.Message.decode(unpadRandomMax16(part))
    Object.assign(whole, said.deviceSentMessage?.message ?? said)
  }
  return normalizeMessageContent(whole) ?? {}
}

type File = Pick<proto.Message.IDocumentMessage, "mediaKey" | "directPath" | "fileSha256" | "fileLength" | "mimetype">

const media = (kind: MediaType, file: File | null | undefined, name?: string | null): ReadonlyArray<Media> => {
  if (!present(file?.directPath) || !file?.mediaKey || !file.fileSha256) return []
  const size = Number(file.fileLength ?? Number.NaN)
  return [
    {
      kind,
      key: file.mediaKey,
      path: file.directPath,
      sha256: file.fileSha256,
      ...(present(name) ? { name } : {}),
      ...(present(file.mimetype) ? { mediaType: file.mimetype.split(";")[0] ?? file.mimetype } : {}),
      ...(Number.isSafeInteger(size) ? { size } : {})
    }
  ]
}

const mediaOf = (message: proto.IMessage): ReadonlyArray<Media> => [
  ...media("image", message.imageMessage),
  ...media("video", message.videoMessage ?? message.ptvMessage),
  ...media("audio", message.audioMessage),
  ...media("document", message.documentMessage, message.documentMessage?.fileName),
  ...media("sticker", message.stickerMessage)
]

const place = (location: proto.Message.ILocationMessage) =>
  [
    `location: ${location.degreesLatitude}, ${location.degreesLongitude}`,
    ...[location.name, location.address].filter(present)
  ].join("\n")

/** A card's name and numbers. */
const contact = ({ displayName, vcard }: proto.Message.IContactMessage) =>
  [
    `contact: ${displayName ?? ""}`,
    ...[...(vcard ?? "").matchAll(/^(?:item\d+\.)?(?:TEL|EMAIL)[^:\n]*:(.+)$/gim)].map(([, value = ""]) => value.trim())
  ].join("\n")

/** What a message says in words; `undefined` when it says nothing that is for people. */
export const textOf = (message: proto.IMessage): string | undefined => {
  const { contactMessage, contactsArrayMessage, liveLocationMessage, locationMessage } = message
  const poll = message.pollCreationMessage ?? message.pollCreationMessageV2 ?? message.pollCreationMessageV3
  const words =
    message.conversation ??
    message.extendedTextMessage?.text ??
    message.imageMessage?.caption ??
    message.videoMessage?.caption ??
    message.documentMessage?.caption
  if (present(words)) return words
  if (locationMessage) return place(locationMessage)
  if (liveLocationMessage) return place(liveLocationMessage)
  if (contactMessage) return contact(contactMessage)
  if (contactsArrayMessage) return (contactsArrayMessage.contacts ?? []).map(contact).join("\n")
  if (poll)
    return [`poll: ${poll.name ?? ""}`, ...(poll.options ?? []).map(({ optionName }) => `- ${optionName}`)].join("\n")
  return undefined
}

/** What the sender's client says around a message: what it answers, whom it mentions. */
const contextOf = (message: proto.IMessage): proto.IContextInfo | null | undefined =>
  [
    message.extendedTextMessage,
    message.imageMessage,
    message.videoMessage,
    message.ptvMessage,
    message.audioMessage,
    message.documentMessage,
    message.stickerMessage,
    message.locationMessage,
    message.contactMessage
  ].find((part) => part?.contextInfo)?.contextInfo

const target = (key: proto.IMessageKey | null | undefined): Pick<Reading, "about"> =>
  present(key?.id) ? { about: { id: key.id, author: key.participant ?? undefined, text: undefined } } : {}

/** Reads a message; `undefined` when it is the clients' own business. */
export const read = (message: proto.IMessage): Reading | undefined => {
  const { protocolMessage, reactionMessage } = message
  if (reactionMessage) {
    const mark = reactionMessage.text
    const text = present(mark) ? `reacted with ${mark}` : "took a reaction back"
    return { kind: "reaction", text, media: [], mentions: [], ...target(reactionMessage.key) }
  }
  if (protocolMessage) {
    const { editedMessage, key, type } = protocolMessage
    if (type === proto.Message.ProtocolMessage.Type.REVOKE) {
      return { kind: "deletion", text: "deleted a message", media: [], mentions: [], ...target(key) }
    }
    const text = textOf(normalizeMessageContent(editedMessage ?? undefined) ?? {})
    return text === undefined ? undefined : { kind: "edit", text, media: [], mentions: [], ...target(key) }
  }
  const files = mediaOf(message)
  const text = textOf(message)
  if (text === undefined && files.length === 0) return undefined
  const context = contextOf(message)
  const quoted = normalizeMessageContent(context?.quotedMessage ?? undefined)
  return {
    text: text ?? "",
    media: files,
    mentions: context?.mentionedJid ?? [],
    ...(present(context?.stanzaId)
      ? {
          about: {
            id: context.stanzaId,
            author: context.participant ?? undefined,
            text: quoted === undefined ? undefined : textOf(quoted)
          }
        }
      : {})
  }
}

/** Who the account is: by its phone number and by the number that stands for it. */
export interface Me {
  readonly id: string
  readonly lid: string
}
export const isMe = (jid: string, { id, lid }: Me): boolean => {
  const user = jidNormalizedUser(jid)
  return user !== "" && (user === jidNormalizedUser(id) || user === jidNormalizedUser(lid))
}

/** An address, and the other one of the same user where the envelope has it. */
export interface Address {
  readonly jid: string
  readonly other: string | undefined
}

/** Whom a message is from, and in which chat it stands, by its envelope. */
export const addressesOf = (
  attrs: Readonly<Record<string, string>>
): { readonly chat: Address; readonly sender: Address } => {
  const { from = "", participant, recipient } = attrs
  const other = attrs["participant_lid"] ?? attrs["participant_pn"] ?? attrs["sender_lid"] ?? attrs["sender_pn"]
  const sender = { jid: participant ?? from, other }
  if (participant !== undefined) return { sender, chat: { jid: from, other: undefined } }
  if (recipient === undefined) return { sender, chat: sender }
  return { sender, chat: { jid: recipient, other: attrs["recipient_lid"] ?? attrs["recipient_pn"] } }
}
