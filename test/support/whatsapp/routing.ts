/**
 * Carries messages, receipts and signs of typing from device to device. What a message says it cannot read.
 */
import { type BinaryNode, getBinaryNodeChild, getBinaryNodeChildren } from "@whiskeysockets/baileys"
import { type Accounts, type Device, lidJid, phoneJid } from "./accounts.ts"
import type { Groups } from "./groups.ts"
import { isGroup, isLid, node, now } from "./nodes.ts"

export interface Post {
  /** Kept until the device has acknowledged it. */
  readonly deliver: (device: Device, node: BinaryNode) => void
  /** For those who are there now. */
  readonly signal: (device: Device, node: BinaryNode) => void
}

/** Who a message is from, as its receiver is told. */
const addressed = ({ account, id }: Device, by: "lid" | "phone") =>
  by === "lid"
    ? { jid: lidJid(account, id), other: { sender_pn: phoneJid(account) } }
    : { jid: phoneJid(account, id), other: { sender_lid: lidJid(account) } }

export const makeRouting = (accounts: Accounts, groups: Groups, { deliver, signal }: Post) => {
  const devicesOf = (jid: string): ReadonlyArray<Device> => [...(accounts.find(jid)?.devices.values() ?? [])]

  const routeMessage = (from: Device, message: BinaryNode) => {
    const { id = "", participant, to = "", type = "text" } = message.attrs
    const group = isGroup(to)
    const identity = getBinaryNodeChild(message, "device-identity")
    const shared = getBinaryNodeChildren(message, "enc")
    const reached = new Set<Device>([from])

    const push = (device: Device | undefined, sealed: ReadonlyArray<BinaryNode>) => {
      if (device === undefined || reached.has(device) || sealed.length === 0) return
      reached.add(device)
      const { jid, other } = addressed(from, group || isLid(to) ? "lid" : "phone")
      const origin: BinaryNode["attrs"] = group
        ? { from: to, participant: jid, participant_pn: phoneJid(from.account), addressing_mode: "lid" }
        : {
            from: jid,
            ...other,
            ...(device.account === from.account ? { recipient: message.attrs["recipient"] ?? to } : {}),
            addressing_mode: isLid(to) ? "lid" : "pn"
          }
      deliver(
        device,
        node("message", { id, type, t: now(), notify: from.account.name, ...origin }, [
          ...sealed,
          ...(identity === undefined ? [] : [identity])
        ])
      )
    }

    for (const { attrs, ...recipient } of getBinaryNodeChildren(getBinaryNodeChild(message, "participants"), "to")) {
      const own = getBinaryNodeChildren({ attrs, ...recipient }, "enc")
      push(accounts.device(attrs["jid"] ?? ""), group ? [...own, ...shared] : own)
    }
    if (participant !== undefined) return push(accounts.device(participant), shared)
    if (!group) return push(accounts.device(to), shared)
    for (const member of groups.get(to)?.members ?? []) {
      for (const device of member.devices.values()) push(device, shared)
    }
  }

  const routeReceipt = (from: Device, { attrs, content }: BinaryNode) => {
    const { id = "", participant, to = "", type } = attrs
    const target = isGroup(to) ? participant : to
    if (target === undefined) return
    const origin: BinaryNode["attrs"] = isGroup(to)
      ? { from: to, participant: lidJid(from.account, from.id) }
      : { from: addressed(from, isLid(to) ? "lid" : "phone").jid }
    const receipt = node("receipt", { id, ...origin, t: now(), ...(type === undefined ? {} : { type }) }, content)
    for (const device of devicesOf(target)) if (device !== from) deliver(device, receipt)
  }

  const routeTyping = (from: Device, { attrs, content }: BinaryNode) => {
    const { to = "" } = attrs
    const accountsThere = isGroup(to) ? (groups.get(to)?.members ?? []) : [accounts.find(to)]
    const origin: BinaryNode["attrs"] = isGroup(to)
      ? { from: to, participant: lidJid(from.account) }
      : { from: isLid(to) ? lidJid(from.account) : phoneJid(from.account) }
    for (const account of accountsThere) {
      if (account === from.account) continue
      for (const device of account?.devices.values() ?? []) signal(device, node("chatstate", origin, content))
    }
  }

  return { routeMessage, routeReceipt, routeTyping }
}
