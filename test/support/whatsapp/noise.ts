/**
 * The server's half of WhatsApp's transport: frames of a length and a payload, a Noise XX handshake over the first of them,
 * and AES-GCM with counters over the rest.
 */
import {
  aesDecryptGCM,
  aesEncryptGCM,
  type BinaryNode,
  Curve,
  decodeBinaryNode,
  encodeBinaryNode,
  hkdf,
  type KeyPair,
  NOISE_MODE,
  NOISE_WA_HEADER,
  proto,
  sha256
} from "@whiskeysockets/baileys"

const empty = Buffer.alloc(0)

/** A counter as the nonce that it is sent under. */
const nonce = (counter: number) => {
  const bytes = Buffer.alloc(12)
  bytes.writeUInt32BE(counter, 8)
  return bytes
}

const split = (secret: Uint8Array, salt: Uint8Array): readonly [Buffer, Buffer] => {
  const keys = Buffer.from(hkdf(Buffer.from(secret), 64, { salt: Buffer.from(salt), info: "" }))
  return [keys.subarray(0, 32), keys.subarray(32)]
}

/** Who the server is: its static key, and the chain of certificates that says so. */
export interface Identity {
  readonly key: KeyPair
  readonly chain: Uint8Array
}

export const makeIdentity = (): Identity => {
  const root = Curve.generateKeyPair()
  const intermediate = Curve.generateKeyPair()
  const key = Curve.generateKeyPair()
  const certificate = (serial: number, issuerSerial: number, subject: Uint8Array, issuer: Uint8Array) => {
    const details = proto.CertChain.NoiseCertificate.Details.encode({
      serial,
      issuerSerial,
      key: subject,
      notBefore: 0,
      notAfter: 4_000_000_000
    }).finish()
    return { details, signature: Curve.sign(issuer, details) }
  }
  return {
    key,
    chain: proto.CertChain.encode({
      leaf: certificate(2, 1, key.public, intermediate.private),
      intermediate: certificate(1, 0, intermediate.public, root.private)
    }).finish()
  }
}

/** What a connection does with what it reads. */
export interface Reader {
  /** The handshake is over: the client's static key, and what it says of itself. */
  readonly onHello: (clientKey: Uint8Array, payload: proto.ClientPayload) => void
  readonly onNode: (node: BinaryNode) => void
}

/** One connection's transport: what it reads is given to the reader in order, what it writes goes to `write`. */
export const makeTransport = ({ chain, key }: Identity, write: (bytes: Uint8Array) => void, reader: Reader) => {
  const ephemeral = Curve.generateKeyPair()
  let buffered: Buffer = empty
  let begun = false
  let hash: Buffer = Buffer.from(NOISE_MODE)
  let salt = hash
  let cipher = hash
  let counter = 0
  let clientEphemeral: Uint8Array | undefined
  let keys: { readonly read: Buffer; readonly write: Buffer; received: number; sent: number } | undefined

  const mixHash = (bytes: Uint8Array) => {
    hash = Buffer.from(sha256(Buffer.concat([hash, bytes])))
  }
  const mixKey = (secret: Uint8Array) => {
    ;[salt, cipher] = split(secret, salt)
    counter = 0
  }
  const seal = (plain: Uint8Array) => {
    const sealed = aesEncryptGCM(plain, cipher, nonce(counter++), hash)
    mixHash(sealed)
    return sealed
  }
  const open = (sealed: Uint8Array) => {
    const plain = aesDecryptGCM(sealed, cipher, nonce(counter++), hash)
    mixHash(sealed)
    return plain
  }
  const frame = (payload: Uint8Array) => {
    const length = Buffer.alloc(3)
    length.writeUIntBE(payload.length, 0, 3)
    write(Buffer.concat([length, payload]))
  }

  const onClientHello = (payload: Buffer) => {
    const { clientHello } = proto.HandshakeMessage.decode(payload)
    clientEphemeral = clientHello?.ephemeral ?? empty
    mixHash(clientEphemeral)
    mixHash(ephemeral.public)
    mixKey(Curve.sharedKey(ephemeral.private, clientEphemeral))
    const sealedKey = seal(key.public)
    mixKey(Curve.sharedKey(key.private, clientEphemeral))
    const serverHello = { ephemeral: ephemeral.public, static: sealedKey, payload: seal(chain) }
    frame(proto.HandshakeMessage.encode({ serverHello }).finish())
  }

  const onClientFinish = (payload: Buffer) => {
    const { clientFinish } = proto.HandshakeMessage.decode(payload)
    const clientKey = open(clientFinish?.static ?? empty)
    mixKey(Curve.sharedKey(ephemeral.private, clientKey))
    const hello = proto.ClientPayload.decode(open(clientFinish?.payload ?? empty))
    const [read, written] = split(empty, salt)
    keys = { read, write: written, received: 0, sent: 0 }
    reader.onHello(clientKey, hello)
  }

  const onFrame = async (payload: Buffer) => {
    if (keys !== undefined) {
      const plain = aesDecryptGCM(payload, keys.read, nonce(keys.received++), empty)
      return reader.onNode(await decodeBinaryNode(plain))
    }
    return clientEphemeral === undefined ? onClientHello(payload) : onClientFinish(payload)
  }

  /** A client that was told a route says it first, before the header. */
  const skipIntroduction = () => {
    const route = buffered.subarray(0, 2).toString() === "ED" ? 7 + buffered.readUIntBE(4, 3) : 0
    if (!buffered.subarray(route, route + 4).equals(NOISE_WA_HEADER)) throw new Error("not a client of WhatsApp")
    buffered = buffered.subarray(route + 4)
    mixHash(NOISE_WA_HEADER)
    begun = true
  }

  return {
    receive: async (bytes: Buffer) => {
      buffered = Buffer.concat([buffered, bytes])
      if (!begun) skipIntroduction()
      let read = Promise.resolve()
      while (buffered.length >= 3) {
        const end = 3 + buffered.readUIntBE(0, 3)
        if (buffered.length < end) break
        const payload = buffered.subarray(3, end)
        buffered = buffered.subarray(end)
        read = read.then(() => onFrame(payload))
      }
      await read
    },
    send: (node: BinaryNode) => {
      if (keys === undefined) throw new Error("the handshake is not over")
      frame(aesEncryptGCM(encodeBinaryNode(node), keys.write, nonce(keys.sent++), empty))
    }
  }
}
