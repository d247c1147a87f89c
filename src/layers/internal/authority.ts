/**
 * The claw's own certificate authority, for hosts whose requests the egress proxy has to read.
 *
 * It is made when it is first needed, kept beside the claw's state, and trusted inside that claw's sandboxes and nowhere
 * else. Its key never leaves the folder; the keys of the certificates that it signs never leave the process.
 */
import "reflect-metadata"
import * as x509 from "@peculiar/x509"
import { randomBytes, webcrypto } from "node:crypto"
import { mkdir, readFile, rename, writeFile } from "node:fs/promises"
import { isIP } from "node:net"
import { join } from "node:path"
import { createSecureContext, type SecureContext } from "node:tls"

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" }
const day = 24 * 60 * 60 * 1000

x509.cryptoProvider.set(webcrypto)

/** An authority. */
export interface Authority {
  /** Its certificate, as PEM. */
  readonly certificate: string
  /** What a server needs to speak for a host. */
  readonly contextFor: (host: string) => Promise<SecureContext>
}

const newKeys = () => webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"])

const pemOf = async (key: webcrypto.CryptoKey) =>
  x509.PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", key), "PRIVATE KEY")

/** A file that is only ever there whole. */
const write = async (path: string, content: string) => {
  const draft = `${path}.${randomBytes(4).toString("hex")}`
  await writeFile(draft, content, { mode: 0o600, flush: true })
  await rename(draft, path)
}

const create = async (file: string, now: number) => {
  const keys = await newKeys()
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: randomBytes(16).toString("hex"),
    name: "CN=effect-claw egress proxy",
    notBefore: new Date(now - day),
    notAfter: new Date(now + 3650 * day),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey)
    ]
  })
  await write(file, `${certificate.toString("pem")}\n${await pemOf(keys.privateKey)}\n`)
}

/** The authority of a folder, made at the first time. `now` is in epoch milliseconds. */
export const open = async (folder: string, now: number): Promise<Authority> => {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const file = join(folder, "authority.pem")
  const read = () => readFile(file, "utf8")
  const isMissing = (cause: unknown) => cause instanceof Error && "code" in cause && cause.code === "ENOENT"
  const pem = await read().catch(async (cause: unknown) => {
    if (!isMissing(cause)) throw cause
    await create(file, now)
    return read()
  })
  const [certificate = "", key = ""] = pem.match(/-----BEGIN ([A-Z ]+)-----[^]+?-----END \1-----/g) ?? []
  const issuer = new x509.X509Certificate(certificate)
  const signingKey = await webcrypto.subtle.importKey("pkcs8", x509.PemConverter.decodeFirst(key), algorithm, false, [
    "sign"
  ])
  const leafKeys = await newKeys()
  const leafKey = await pemOf(leafKeys.privateKey)

  const sign = async (host: string) => {
    const leaf = await x509.X509CertificateGenerator.create({
      serialNumber: randomBytes(16).toString("hex"),
      subject: "",
      issuer: issuer.subject,
      notBefore: new Date(now - day),
      notAfter: new Date(now + 397 * day),
      signingAlgorithm: algorithm,
      publicKey: leafKeys.publicKey,
      signingKey,
      extensions: [
        new x509.SubjectAlternativeNameExtension([{ type: isIP(host) === 0 ? "dns" : "ip", value: host }], true),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        await x509.AuthorityKeyIdentifierExtension.create(issuer)
      ]
    })
    return createSecureContext({ key: leafKey, cert: leaf.toString("pem") })
  }
  const contexts = new Map<string, Promise<SecureContext>>()
  return {
    certificate,
    contextFor: (host) => {
      const known = contexts.get(host) ?? sign(host)
      // A rule for all that is below a name admits names without end.
      if (contexts.size > 1000) contexts.clear()
      contexts.set(host, known)
      return known
    }
  }
}
