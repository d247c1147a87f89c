/**
 * Accounts, their linked devices, and the public keys that other devices begin a session with.
 */
import {
  type BinaryNode,
  Curve,
  getBinaryNodeChild,
  getBinaryNodeChildren,
  type KeyPair
} from "@whiskeysockets/baileys"
import { addressOf, isLid, node, server } from "./nodes.ts"

/** A linked device. The phone itself, device 0, is played by the server and has no keys. */
export interface Device {
  readonly account: Account
  readonly id: number
  readonly noiseKey: Buffer
  /** What it has uploaded: none before its first login. */
  keys: { readonly registration: BinaryNode; readonly identity: BinaryNode; signed: BinaryNode } | undefined
  preKeys: Array<BinaryNode>
}

export interface Account {
  /** The phone number, digits only. */
  readonly phone: string
  /** The number that stands for the account where the phone number is not shown. */
  readonly lid: string
  name: string
  readonly identity: KeyPair
  readonly devices: Map<number, Device>
  devicesMade: number
}

export const phoneJid = ({ phone }: Account, device?: number) =>
  `${phone}${device === undefined ? "" : `:${device}`}@${server}`
export const lidJid = ({ lid }: Account, device?: number) => `${lid}${device === undefined ? "" : `:${device}`}@lid`

export const makeAccounts = () => {
  const accounts = new Map<string, Account>()

  const find = (jid: string): Account | undefined => {
    const { user } = addressOf(jid)
    return isLid(jid) ? [...accounts.values()].find(({ lid }) => lid === user) : accounts.get(user)
  }

  return {
    /** The account of a phone number, made when it is first asked for. */
    ofPhone: (phone: string, name = phone): Account => {
      const known = accounts.get(phone)
      if (known !== undefined) return known
      const lid = `9${phone.split("").toReversed().join("")}`
      const made = { phone, lid, name, identity: Curve.generateKeyPair(), devices: new Map(), devicesMade: 0 }
      accounts.set(phone, made)
      return made
    },
    find,
    others: (account: Account) => [...accounts.values()].filter((other) => other !== account),
    /** The device that an address means. */
    device: (jid: string): Device | undefined => find(jid)?.devices.get(addressOf(jid).device),
    link: (account: Account, noiseKey: Buffer): Device => {
      const device: Device = { account, id: ++account.devicesMade, noiseKey, keys: undefined, preKeys: [] }
      account.devices.set(device.id, device)
      return device
    }
  }
}
export type Accounts = ReturnType<typeof makeAccounts>

/** Takes a device's keys. */
export const storeKeys = (device: Device, upload: BinaryNode): void => {
  const [registration, identity, signed] = (["registration", "identity", "skey"] as const).map((tag) => {
    const found = getBinaryNodeChild(upload, tag)
    if (found === undefined) throw new Error(`an upload of keys without ${tag}`)
    return found
  })
  if (registration === undefined || identity === undefined || signed === undefined) return
  device.keys = { registration, identity, signed }
  device.preKeys.push(...getBinaryNodeChildren(getBinaryNodeChild(upload, "list"), "key"))
}

/** What another device begins a session with: each one-time key is given away once. */
export const bundleOf = (device: Device | undefined, jid: string): BinaryNode | undefined => {
  if (device?.keys === undefined) return undefined
  const { identity, registration, signed } = device.keys
  const once = device.preKeys.shift()
  return node("user", { jid }, [
    registration,
    node("type", {}, Buffer.from([5])),
    identity,
    signed,
    ...(once === undefined ? [] : [once])
  ])
}
