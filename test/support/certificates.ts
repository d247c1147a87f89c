/**
 * A certificate authority for servers on this machine's loopback.
 */
import "reflect-metadata"
import * as x509 from "@peculiar/x509"
import { randomBytes, webcrypto } from "node:crypto"

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" }
const day = 24 * 60 * 60 * 1000
const span = () => ({ notBefore: new Date(Date.now() - day), notAfter: new Date(Date.now() + day) })
const newKeys = () => webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"])
const serialNumber = () => randomBytes(16).toString("hex")

/** An authority that signs for hosts. */
export const makeAuthority = async () => {
  x509.cryptoProvider.set(webcrypto)
  const keys = await newKeys()
  const root = await x509.X509CertificateGenerator.createSelfSigned({
    ...span(),
    serialNumber: serialNumber(),
    name: "CN=test authority",
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey)
    ]
  })
  const issue = async (...hosts: ReadonlyArray<string>) => {
    const own = await newKeys()
    const certificate = await x509.X509CertificateGenerator.create({
      ...span(),
      serialNumber: serialNumber(),
      subject: `CN=${hosts[0]}`,
      issuer: root.subject,
      signingAlgorithm: algorithm,
      publicKey: own.publicKey,
      signingKey: keys.privateKey,
      extensions: [
        new x509.SubjectAlternativeNameExtension(hosts.map((value) => ({ type: "dns", value }))),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
        await x509.AuthorityKeyIdentifierExtension.create(root)
      ]
    })
    const key = x509.PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", own.privateKey), "PRIVATE KEY")
    return { key, cert: certificate.toString("pem") }
  }
  return { pem: root.toString("pem"), issue }
}
