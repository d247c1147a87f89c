/**
 * Linking a device, as the phone does it: by the QR code that the device shows, or by the code that is typed on the phone.
 */
import {
  aesDecryptCTR,
  aesDecryptGCM,
  aesEncryptCTR,
  type BinaryNode,
  Curve,
  derivePairingCodeKey,
  hkdf,
  hmacSign,
  type KeyPair,
  proto
} from "@whiskeysockets/baileys"
import { randomBytes } from "node:crypto"
import { type Account, type Device, lidJid, phoneJid } from "./accounts.ts"
import { bytesOf, node, now, platform } from "./nodes.ts"

/** What the phone must know of a device to link it. */
export interface Candidate {
  readonly noiseKey: Buffer
  readonly identityKey: Buffer
  /** The secret that only the device and the phone share. */
  readonly secret: Buffer
}

/** What stands in a QR code: where the device waits, and what it is. */
export const readQr = (qr: string): Candidate & { readonly reference: string } => {
  const [reference = "", ...keys] = (qr.split("#").at(-1) ?? "").split(",")
  const [noiseKey, identityKey, secret] = keys.map((key) => Buffer.from(key, "base64"))
  if (noiseKey === undefined || identityKey === undefined || secret === undefined) throw new Error(`no QR code: ${qr}`)
  return { reference, noiseKey, identityKey, secret }
}

/** References for a device to wait under, each shown in a QR code of its own. */
export const offerPairing = (): { readonly references: ReadonlyArray<string>; readonly offer: BinaryNode } => {
  const references = Array.from({ length: 6 }, () => `2@${randomBytes(16).toString("base64")}`)
  const children = references.map((reference) => node("ref", {}, Buffer.from(reference)))
  const offer = node("iq", { from: platform, type: "set", id: `pair-${now()}`, xmlns: "md" }, [
    node("pair-device", {}, children)
  ])
  return { references, offer }
}

/** The account signs for its new device. */
export const acceptPairing = (
  { account, id }: Device,
  { identityKey, secret }: Pick<Candidate, "identityKey" | "secret">
) => {
  const details = proto.ADVDeviceIdentity.encode({
    rawId: 1,
    timestamp: Number(now()),
    keyIndex: id,
    accountType: proto.ADVEncryptionType.E2EE,
    deviceType: proto.ADVEncryptionType.E2EE
  }).finish()
  const signed = proto.ADVSignedDeviceIdentity.encode({
    details,
    accountSignatureKey: account.identity.public,
    accountSignature: Curve.sign(account.identity.private, Buffer.concat([Buffer.from([6, 0]), details, identityKey]))
  }).finish()
  const identity = proto.ADVSignedDeviceIdentityHMAC.encode({
    details: signed,
    hmac: hmacSign(signed, secret)
  }).finish()
  return node("iq", { from: platform, type: "set", id: `paired-${id}`, xmlns: "md" }, [
    node("pair-success", { t: now() }, [
      node("device-identity", {}, identity),
      node("biz", { name: account.name }),
      node("device", { jid: phoneJid(account, id), lid: lidJid(account, id) }),
      node("platform", { name: "android" })
    ])
  ])
}

/** A device that waits for its code to be typed. */
export interface CodeRequest {
  readonly phone: string
  /** The device's ephemeral key, under the code. */
  readonly wrapped: Buffer
}

/** The code is typed on the phone: its half of the exchange, and the message that says it. */
export const typeCode = async (account: Account, { wrapped }: CodeRequest, code: string) => {
  const deviceKey = aesDecryptCTR(
    wrapped.subarray(48, 80),
    await derivePairingCodeKey(code, wrapped.subarray(0, 32)),
    wrapped.subarray(32, 48)
  )
  const ephemeral = Curve.generateKeyPair()
  const salt = randomBytes(32)
  const iv = randomBytes(16)
  const sealed = aesEncryptCTR(ephemeral.public, await derivePairingCodeKey(code, salt), iv)
  const hello = node(
    "notification",
    { from: platform, type: "link_code_companion_reg", id: `code-${now()}`, t: now() },
    [
      node("link_code_companion_reg", { stage: "primary_hello" }, [
        node("link_code_pairing_wrapped_primary_ephemeral_pub", {}, Buffer.concat([salt, iv, sealed])),
        node("primary_identity_pub", {}, account.identity.public),
        node("link_code_pairing_ref", {}, Buffer.from("reference"))
      ])
    ]
  )
  return { hello, ephemeral, deviceKey }
}

/** The device has proved that it knows the code: what it is, and the secret that both have now. */
export const finishCode = (
  account: Account,
  { deviceKey, ephemeral }: { readonly deviceKey: Buffer; readonly ephemeral: KeyPair },
  finish: BinaryNode
): Pick<Candidate, "identityKey" | "secret"> => {
  const bundle = bytesOf(finish, "link_code_pairing_wrapped_key_bundle")
  const shared = Curve.sharedKey(ephemeral.private, deviceKey)
  const bundleKey = hkdf(shared, 32, {
    salt: bundle.subarray(0, 32),
    info: "link_code_pairing_key_bundle_encryption_key"
  })
  const plain = aesDecryptGCM(bundle.subarray(44), bundleKey, bundle.subarray(32, 44), Buffer.alloc(0))
  const identityKey = plain.subarray(0, 32)
  const secrets = Buffer.concat([shared, Curve.sharedKey(account.identity.private, identityKey), plain.subarray(64)])
  return { identityKey, secret: Buffer.from(hkdf(secrets, 32, { info: "adv_secret" })) }
}
