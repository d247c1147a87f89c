/**
 * Answers what clients ask: keys, devices, groups, where media goes, and what a client wants to know at its start.
 */
import {
  type BinaryNode,
  getAllBinaryNodeChildren,
  getBinaryNodeChild,
  getBinaryNodeChildren
} from "@whiskeysockets/baileys"
import { type Accounts, bundleOf, type Device, lidJid, storeKeys } from "./accounts.ts"
import type { Groups } from "./groups.ts"
import type { Media } from "./media.ts"
import { addressOf, bytesOf, node, server } from "./nodes.ts"

export const makeQueries = (
  accounts: Accounts,
  groups: Groups,
  media: Media,
  /** A device's one-time keys run low. */
  onLow: (device: Device) => void
) => {
  const answerKeys = (device: Device, query: BinaryNode): ReadonlyArray<BinaryNode> => {
    if (getBinaryNodeChild(query, "count") !== undefined) {
      return [node("count", { value: String(device.preKeys.length) })]
    }
    if (getBinaryNodeChild(query, "digest") !== undefined) return [node("digest")]
    if (getBinaryNodeChild(query, "list") !== undefined) storeKeys(device, query)
    const wanted = getBinaryNodeChildren(getBinaryNodeChild(query, "key"), "user")
    if (wanted.length === 0) return []
    const bundles = wanted.flatMap(({ attrs }) => {
      const { jid = "" } = attrs
      const of = accounts.device(jid)
      const bundle = bundleOf(of, jid)
      if (of !== undefined && of.preKeys.length < 5) onLow(of)
      return bundle ?? []
    })
    return [node("list", {}, bundles)]
  }

  /** What is known of users: their devices, the number that stands for them, whether they are here at all. */
  const answerUsers = (query: BinaryNode): ReadonlyArray<BinaryNode> => {
    const asked = getBinaryNodeChild(query, "usync")
    const wanted = getBinaryNodeChild(asked, "query")
    const topics = wanted === undefined ? [] : getAllBinaryNodeChildren(wanted).map(({ tag }) => tag)
    const users = getBinaryNodeChildren(getBinaryNodeChild(asked, "list"), "user").map((user) => {
      const jid = user.attrs["jid"] ?? `${bytesOf(user, "contact").toString("utf8").replace("+", "")}@${server}`
      const account = accounts.find(jid)
      const about = (topic: string): BinaryNode => {
        switch (topic) {
          case "devices": {
            const devices = [...(account?.devices.keys() ?? [])].map((id) =>
              node("device", { id: String(id), "key-index": String(id) })
            )
            return node("devices", {}, [node("device-list", {}, devices)])
          }
          case "lid":
            return node("lid", account === undefined ? {} : { val: lidJid(account) })
          case "contact":
            return node("contact", { type: account === undefined ? "out" : "in" })
          default:
            return node(topic)
        }
      }
      return node("user", { jid }, topics.map(about))
    })
    return [node("usync", { ...asked?.attrs }, [node("result"), node("list", {}, users)])]
  }

  return (device: Device, query: BinaryNode): ReadonlyArray<BinaryNode> => {
    switch (query.attrs["xmlns"]) {
      case "encrypt":
        return answerKeys(device, query)
      case "usync":
        return answerUsers(query)
      case "w:g2":
        return groups.answer(device.account, query)
      case "w:m":
        return [
          node("media_conn", { auth: "auth", ttl: "300", auth_ttl: "21600", max_buckets: "12" }, [
            node("host", { hostname: media.host, maxContentLengthBytes: String(100 * 1024 * 1024) })
          ])
        ]
      case "privacy":
        return [node("privacy", {}, [node("category", { name: "readreceipts", value: "all" })])]
      case "blocklist":
        return [node("list", {}, [])]
      case "abt":
        return [node("props", { hash: "none" }, [])]
      default:
        return []
    }
  }
}

/** The device that a logout names. */
export const loggedOut = (query: BinaryNode): number | undefined => {
  const jid = getBinaryNodeChild(query, "remove-companion-device")?.attrs["jid"]
  return jid === undefined ? undefined : addressOf(jid).device
}
