/**
 * Nodes, the elements that clients and the server exchange, and the addresses in them.
 */
import { type BinaryNode, getBinaryNodeChild, jidDecode } from "@whiskeysockets/baileys"

/** Where users are, by their phone numbers. */
export const server = "s.whatsapp.net"
/** Whom the platform's own words are from. */
export const platform = `@${server}`

export const node = (tag: string, attrs: BinaryNode["attrs"] = {}, content?: BinaryNode["content"]): BinaryNode =>
  content === undefined ? { tag, attrs } : { tag, attrs, content }

/** The bytes in a child. */
export const bytesOf = (parent: BinaryNode | undefined, tag: string): Buffer => {
  const content = getBinaryNodeChild(parent, tag)?.content
  // Short ones of digits come packed, and unpack to a string.
  if (typeof content === "string") return Buffer.from(content)
  if (!(content instanceof Uint8Array)) throw new Error(`${parent?.tag} has no bytes in ${tag}`)
  return Buffer.from(content)
}

/** A user's number, of whichever kind, and the device's. */
export const addressOf = (jid: string): { readonly user: string; readonly device: number } => {
  const { device = 0, user = "" } = jidDecode(jid) ?? {}
  return { user, device }
}

export const isGroup = (jid: string): boolean => jid.endsWith("@g.us")
export const isLid = (jid: string): boolean => jid.endsWith("@lid")

/** Seconds, as all times of the protocol are. */
export const now = (): string => String(Math.floor(Date.now() / 1000))
