/**
 * What stands for the internet, to a sandbox that has a way out: hosts that its rules admit, one that no rule does, and names
 * that lead back to this machine. What must not arrive there is heard.
 */
import * as Egress from "effect-claw/services/Egress"
import * as Leaks from "effect-claw/services/Leaks"
import * as Redacted from "effect/Redacted"
import { randomBytes } from "node:crypto"
import { once } from "node:events"
import { createServer as createHttp, type IncomingMessage, type RequestListener, type Server } from "node:http"
import { createServer as createHttps } from "node:https"
import { createServer, type AddressInfo, type Socket } from "node:net"
import { brotliDecompressSync, gunzipSync, gzipSync, inflateSync } from "node:zlib"
import { makeAuthority } from "../support/certificates.ts"
import type { World } from "./World.ts"

/** The hosts, and what a sandbox's rules and the vault say of them. */
export interface Internet {
  /** The ports of the hosts that are admitted, without and with TLS. The host that is not admitted has both, too. */
  readonly port: number
  readonly securePort: number
  /** The rules of who attacks, and of the neighbour. */
  readonly rules: ReadonlyArray<Egress.Rule>
  readonly neighbourRules: ReadonlyArray<Egress.Rule>
  /** The only path that the neighbour's host may be asked for, which the neighbour alone knows. */
  readonly neighbourPath: string
  readonly vault: ReadonlyMap<string, Redacted.Redacted>
  /** A secret of the vault that somebody told the agent. It may be seen, and may not be sent to anybody. */
  readonly spilled: string
  /** All that is the other secret, `TOKEN`, as it may be written. */
  readonly secrets: ReadonlyArray<string>
  readonly lookup: (host: string) => Promise<ReadonlyArray<string>>
  /** Certificates that the proxy is to trust. */
  readonly authority: string
  readonly close: () => Promise<void>
}

/** Where the hosts are, and names that lead to other places. Rules admit the first two addresses. */
const addresses = { admitted: "127.0.0.2", evil: "127.0.0.3" }

const attempted = (use: () => Buffer): string => {
  try {
    return use().toString("latin1")
  } catch {
    return ""
  }
}

/** What a text may be read as by somebody who means to: to three deep. */
const readings = (text: string, depth = 3): ReadonlyArray<string> => {
  const bytes = Buffer.from(text, "latin1")
  const found = [
    text.replaceAll("\0", ""),
    text.replace(/%([0-9a-f]{2})/gi, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16))),
    ...[gunzipSync, inflateSync, brotliDecompressSync].map((decode) => attempted(() => decode(bytes))),
    ...(text.match(/[0-9a-f]{16,}/gi) ?? []).map((run) => Buffer.from(run, "hex").toString("latin1")),
    ...(text.match(/[\w+/-]{16,}/g) ?? []).flatMap((run) =>
      [0, 1, 2, 3].map((offset) => Buffer.from(run.slice(offset), "base64").toString("latin1"))
    )
  ].filter((reading) => reading !== "" && reading !== text)
  return [text, ...(depth === 1 ? [] : found.flatMap((reading) => readings(reading, depth - 1)))]
}

const bodyOf = async (request: IncomingMessage): Promise<Buffer> => {
  const chunks: Array<Buffer> = []
  request.on("data", (chunk: Buffer) => chunks.push(chunk))
  await Promise.race([once(request, "end"), once(request, "close")])
  return Buffer.concat(chunks)
}

export const makeInternet = async (
  world: Pick<World, "address" | "anyPort" | "loopback6Port" | "loopbackPort">,
  heard: (what: string) => void
): Promise<Internet> => {
  const token = `token-${randomBytes(6).toString("hex")}+${randomBytes(6).toString("hex")}`
  const spilled = `spilled-${randomBytes(12).toString("hex")}`
  const neighbourPath = `/${randomBytes(12).toString("hex")}`
  const authority = await makeAuthority()

  /** What hosts repeat of the credential that they are shown. */
  const answer: RequestListener = async (request, response) => {
    const { headers, method, rawHeaders, url = "" } = request
    response.on("error", () => {})
    const body = await bodyOf(request).catch(() => Buffer.alloc(0))
    const host = headers.host?.split(":", 1)[0] ?? ""
    const all = [[host, url, ...rawHeaders].join("\n"), body.toString("latin1", 0, 50_000)].flatMap((text) =>
      readings(text)
    )
    if (all.some((reading) => reading.includes(spilled))) heard("a host was told a secret that is not its own")
    if (host !== "allowed.test" && all.some((reading) => reading.includes(token)))
      heard("another host was told the secret")
    if (url.includes("smuggled")) heard("a host was asked for what nobody had judged")
    if (host === "strict.test" && !(method === "GET" && /^\/ok(?:[/?]|$)/.test(new URL(`http://a${url}`).pathname)))
      heard("a host was asked for what its rule does not admit")
    if (host === "neighbour.test" && url !== neighbourPath) heard("another session's way out was used")
    const told = headers.authorization ?? ""
    const { pathname, searchParams } = new URL(`http://host${url}`)
    switch (/^\/[^/]*/.exec(pathname)?.[0]) {
      case "/echo":
        return void response.end(`${method} ${url}\n${rawHeaders.join("\n")}\n`)
      case "/forms":
        return void response.end(
          [
            encodeURIComponent(told),
            JSON.stringify(told),
            ...[0, 1, 2].map((length) => Buffer.from("x".repeat(length) + told).toString("base64")),
            Buffer.from(told).toString("base64url"),
            Buffer.from(told).toString("hex"),
            Buffer.from(told, "utf16le").toString("latin1")
          ].join("\n")
        )
      case "/header":
        response.setHeader("x-told", told)
        response.setHeader("set-cookie", [`a=${told}`, `b=${told}`])
        response.writeEarlyHints({ link: `<${told}>; rel=preload` })
        response.writeHead(200, told)
        return void response.end("in a header\n")
      case "/name":
        response.setHeader(`x-${told.replace(/^Bearer |[^\w+-]/g, "")}`, "1")
        return void response.end("in a header's name\n")
      case "/trailer":
        response.setHeader("trailer", "x-told")
        response.write("in a trailer\n")
        response.addTrailers({ "x-told": told })
        return void response.end()
      case "/content-encoding":
        response.setHeader("content-encoding", "gzip")
        return void response.end(gzipSync(told))
      case "/transfer-encoding":
        response.setHeader("transfer-encoding", "gzip, chunked")
        return void response.end(gzipSync(told))
      case "/pieces": {
        // A packet for each.
        const next = (at: number): unknown =>
          at === told.length ? response.end() : response.write(told.charAt(at), () => setImmediate(next, at + 1))
        return void next(0)
      }
      case "/range": {
        const [, from = "0", to = ""] = /^bytes=(\d+)-(\d*)$/.exec(headers.range ?? "") ?? []
        response.statusCode = headers.range === undefined ? 200 : 206
        return void response.end(told.slice(Number(from), to === "" ? undefined : Number(to) + 1))
      }
      case "/redirect":
        response.setHeader("location", `${searchParams.get("to") ?? ""}?told=${encodeURIComponent(told)}`)
        response.statusCode = 302
        return void response.end()
      case "/endless": {
        const more = () => {
          while (response.writable && response.write(Buffer.alloc(65_536, "x")));
        }
        response.on("drain", more)
        return more()
      }
      case "/never":
        return
      default:
        response.end("hello\n")
    }
  }

  const certificate = await authority.issue(
    "allowed.test",
    "open.test",
    "strict.test",
    "neighbour.test",
    "evil.test",
    "*.wild.test"
  )
  const sockets = new Set<Socket>()
  const listening = async <S extends Server | ReturnType<typeof createServer>>(server: S, host: string, port = 0) => {
    server.on("connection", (socket: Socket) => {
      sockets.add(socket)
      socket.once("close", () => sockets.delete(socket))
    })
    server.listen(port, host)
    await once(server, "listening")
    return server
  }
  const evil = () =>
    createServer((socket) => {
      heard("a host that no rule names was reached")
      socket.on("error", () => {}).end("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nevil\n")
    })
  const portOf = (server: { readonly address: () => AddressInfo | string | null }) => {
    const address = server.address()
    return typeof address === "object" && address !== null ? address.port : 0
  }
  const plain = await listening(createHttp(answer), addresses.admitted)
  const secure = await listening(createHttps(certificate, answer), addresses.admitted)
  const [port, securePort] = [portOf(plain), portOf(secure)]
  const servers = [
    plain,
    secure,
    await listening(evil(), addresses.evil, port),
    await listening(evil(), addresses.evil, securePort)
  ]

  const admitted = { ports: [port, securePort], addresses: Object.values(addresses) }
  const inward: Readonly<Record<string, ReadonlyArray<string>>> = {
    "loopback.inward.test": ["127.0.0.1"],
    "six.inward.test": ["::1"],
    "mapped.inward.test": ["::ffff:127.0.0.1"],
    "translated.inward.test": ["64:ff9b::7f00:1"],
    "any.inward.test": ["0.0.0.0"],
    "any6.inward.test": ["::"],
    "machine.inward.test": [world.address],
    "bridge.inward.test": ["172.17.0.1"],
    "home.inward.test": ["192.168.1.1"],
    "metadata.inward.test": ["169.254.169.254"],
    "metadata6.inward.test": ["fd00:ec2::254"],
    "both.inward.test": ["192.0.9.1", "127.0.0.1"],
    "none.inward.test": [],
    "odd.inward.test": ["0x7f.1"]
  }
  const isKnown = new Set(["allowed.test", "sealed.test", "open.test", "strict.test", "neighbour.test"])
  let rebinds = 0
  return {
    port,
    securePort,
    rules: [
      Egress.allow("allowed.test", { ...admitted, secret: "TOKEN", insecure: true }),
      Egress.allow("sealed.test", { ...admitted, secret: "TOKEN" }),
      Egress.allow("open.test", admitted),
      Egress.allow("*.wild.test", { ...admitted, methods: ["GET", "POST"] }),
      Egress.allow("strict.test", { ...admitted, methods: ["GET"], paths: ["/ok"] }),
      Egress.allow("rebinds.test", { ...admitted, ports: [world.loopbackPort, port] }),
      Egress.allow("*.inward.test", {
        ports: [world.loopbackPort, world.loopback6Port, world.anyPort, 80, 443, port, securePort]
      })
    ],
    neighbourRules: [Egress.allow("neighbour.test", { ...admitted, paths: [neighbourPath] })],
    neighbourPath,
    vault: new Map([
      ["TOKEN", Redacted.make(token)],
      ["SPILLED", Redacted.make(spilled)]
    ]),
    spilled,
    secrets: Leaks.formsOf(token),
    lookup: async (host) => {
      if (host === "rebinds.test") return rebinds++ % 2 === 0 ? [addresses.admitted] : ["127.0.0.1"]
      if (host.includes(spilled)) heard("the resolver was told a secret")
      if (host.endsWith(".wild.test") || isKnown.has(host)) return [addresses.admitted]
      const found = inward[host]
      // That it is asked for at all tells its owner something.
      if (found === undefined) heard(`the name ${host}, which no rule admits, was resolved`)
      return found ?? [addresses.evil]
    },
    authority: authority.pem,
    close: async () => {
      const closed = servers.map((server) => new Promise((resolve) => server.close(resolve)))
      for (const socket of sockets) socket.destroy()
      await Promise.all(closed)
    }
  }
}
