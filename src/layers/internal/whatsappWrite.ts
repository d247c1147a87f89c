/**
 * What the claw says, as WhatsApp is sent it.
 */
import { type AnyMessageContent, jidNormalizedUser, type proto, type WAMessageKey } from "@whiskeysockets/baileys"
import { createHash } from "node:crypto"
import { type ChatId, MessageId, type OutboundPart, type OutputId } from "../../services/Message.ts"
import { format } from "./whatsappFormat.ts"
import { isMe, type Me } from "./whatsappRead.ts"

/**
 * The id that an output is sent under, the same however often. It looks as a client's own do.
 */
export const idOf = (me: Me, chat: ChatId, output: OutputId): string =>
  `3EB0${createHash("sha256")
    .update(`${jidNormalizedUser(me.lid)}\n${chat}\n${output}`)
    .digest("hex")
    .slice(0, 18)
    .toUpperCase()}`

/** The claw's id of a message: WhatsApp's is its sender's to choose, so it is told apart by the sender. */
export const messageId = (id: string, sender: string): MessageId => MessageId.make(`${id}/${sender}`)

/** WhatsApp's key of a message. */
export const keyOf = (message: MessageId, chat: ChatId, me: Me): WAMessageKey & { readonly id: string } => {
  const cut = message.lastIndexOf("/")
  const [id, sender] = cut < 0 ? [message, ""] : [message.slice(0, cut), message.slice(cut + 1)]
  const fromMe = isMe(sender, me)
  return { id, remoteJid: chat, fromMe, ...(chat.endsWith("@g.us") && !fromMe ? { participant: sender } : {}) }
}

/** A message as it is quoted: its text is what its quotation shows. */
export const quotation = (key: WAMessageKey, text: string): { key: WAMessageKey; message: proto.IMessage } => ({
  key,
  message: { conversation: text }
})

/** What WhatsApp's clients show as a picture; any other is a document. */
const pictures = new Set(["image/jpeg", "image/png", "image/webp"])

/** A part as Baileys takes it. Addresses in a text are not looked up: whoever wrote them would learn of the claw. */
export const contentOf = ({ file, reactTo, text }: OutboundPart, chat: ChatId, me: Me): AnyMessageContent => {
  if (reactTo !== undefined) return { react: { text, key: keyOf(reactTo, chat, me) } }
  const formatted = format(text)
  if (file === undefined) return { text: formatted, linkPreview: null }
  const { content, mediaType: mimetype, name: fileName } = file
  const bytes = Buffer.from(content.buffer, content.byteOffset, content.byteLength)
  const caption = formatted === "" ? {} : { caption: formatted }
  if (pictures.has(mimetype)) return { image: bytes, mimetype, ...caption }
  if (mimetype === "video/mp4") return { video: bytes, mimetype, ...caption }
  if (mimetype.startsWith("audio/") && formatted === "") return { audio: bytes, mimetype }
  return { document: bytes, mimetype, fileName, ...caption }
}
