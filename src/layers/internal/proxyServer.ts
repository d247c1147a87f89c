/**
 * The HTTP of the egress proxy: requests for plain hosts, tunnels, and tunnels whose TLS ends here.
 *
 * Messages are taken apart and written anew, so that nothing that two servers could read in two ways is passed on; what is
 * of one connection ends with it. Whoever asks is told in the answer why something is refused.
 */
import * as http from "node:http"
import type { Socket } from "node:net"
import { Duplex } from "node:stream"
import { pipeline } from "node:stream/promises"
import { type SecureContext, TLSSocket } from "node:tls"
import { admits, hostname, isRead, type Rule, type Target } from "../../services/Egress.ts"
import type { Leaks } from "../../services/Leaks.ts"
import * as Bodies from "./bodies.ts"
import type { Credential, Header } from "./credentials.ts"

/** A request that is not granted, or cannot be carried out: a status and a reason for who asked. */
export class Refused extends Error {
  readonly status: number
  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

/** Bytes of bodies, or of a tunnel. */
export interface Count {
  sent: number
  received: number
}

/** Whose requests are served, and with what. */
export interface Session {
  readonly rules: ReadonlyArray<Rule>
  readonly credentialOf: (rule: Rule) => Credential | undefined
  /** What looks for secrets that a rule's host is not to have. */
  readonly leaksOf: (rule: Rule) => Leaks
  /** Does what takes memory or time after what it was given before. */
  readonly inTurn: (work: () => Promise<void>) => Promise<void>
  /** A connection to a host that was judged; with TLS, when it is secure. */
  readonly dial: (host: string, port: number, secure: boolean, signal?: AbortSignal) => Promise<Socket>
  /** What is needed to speak for a host. */
  readonly contextFor: (host: string) => Promise<SecureContext>
  /** The most bytes of a body, or of a tunnel, in each direction. */
  readonly limits: Readonly<Count>
  /** Runs what was asked for, in its time, and records it. */
  readonly attend: (
    asked: { readonly method: string; readonly target: string },
    work: (count: Count, signal: AbortSignal) => Promise<void>,
    refuse: (refused: Refused) => void
  ) => void
}

/** Headers that are of a connection and not of a message. */
const hopByHop = new Set(
  (
    "connection expect host keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer " +
    "transfer-encoding upgrade"
  ).split(" ")
)

/** Headers by which some servers take another method or path than the request's own. */
const overriding = new Set(
  "x-http-method x-http-method-override x-method-override x-original-url x-rewrite-url".split(" ")
)

const headersOf = ({ headers, rawHeaders }: http.IncomingMessage): ReadonlyArray<Header> => {
  const named = new Set((headers.connection ?? "").toLowerCase().split(/\s*,\s*/))
  return rawHeaders.flatMap((name, index): ReadonlyArray<Header> => {
    const lower = name.toLowerCase()
    return index % 2 === 1 || hopByHop.has(lower) || named.has(lower) ? [] : [[name, rawHeaders[index + 1] ?? ""]]
  })
}

const without = (headers: ReadonlyArray<Header>, ...names: ReadonlyArray<string>) =>
  headers.filter(([name]) => !names.includes(name.toLowerCase()))

/** What a body is encoded in: by who wrote it, or for the way, which a parser leaves to whoever reads. */
const encodingOf = ({ headers }: http.IncomingMessage): string | undefined => {
  const transfer = headers["transfer-encoding"]?.toLowerCase().replace(/,?\s*chunked\s*$/, "") ?? ""
  if (transfer !== "") return `${transfer}, of its transfer`
  const encoding = headers["content-encoding"]?.trim().toLowerCase()
  return encoding === "identity" || encoding === "" ? undefined : encoding
}

/** The most of an encoded body that is looked through, in bytes, encoded or not. */
const encodedAtMost = 16 * 1024 * 1024

const tooMuch = (most: number, what: string) => () => new Refused(413, `${what} has more than ${most} bytes`)

/** What passes a request's body on: counted, and looked through for secrets. */
const outgoing = (
  request: http.IncomingMessage,
  leaks: Leaks,
  { inTurn, limits: { sent: most } }: Pick<Session, "inTurn" | "limits">,
  count: Count
) => {
  const counter = Bodies.counted(most, (bytes) => (count.sent += bytes), tooMuch(most, "the request"))
  const inspect = (text: string) => {
    if (leaks.isIn(text)) throw new Refused(403, "the request's body has a secret in it")
    return text
  }
  const encoding = encodingOf(request)
  if (encoding === undefined) return [counter, Bodies.inspected(leaks.span, inspect)] as const
  const decode = Bodies.decoderOf(encoding)
  if (decode === undefined) throw new Refused(415, `a body in the encoding ${encoding} cannot be looked through`)
  const tooLarge = tooMuch(encodedAtMost, "the encoded body")
  const look = (body: Buffer) =>
    inTurn(async () => {
      const plain = await decode(body, encodedAtMost)
      // What stands behind the end of an encoded body is no part of what it decodes to.
      await Bodies.lookThrough(plain, leaks.span, inspect)
      await Bodies.lookThrough(body, leaks.span, inspect)
    })
  return [counter, Bodies.inspectedWhole(look, encodedAtMost, tooLarge)] as const
}

const answer = (response: http.ServerResponse) => (refused: Refused) => {
  if (response.headersSent) return void response.destroy()
  const text = `effect-claw: ${refused.message}\n`
  // What is left of the request is not read, so its connection cannot be used again.
  response.writeHead(refused.status, {
    "content-type": "text/plain; charset=utf-8",
    "content-length": Buffer.byteLength(text),
    connection: "close"
  })
  response.end(text)
}

const answerRaw = (socket: Duplex) => (refused: Refused) => {
  // A socket that Node hands over has nobody who hears its errors, and whoever asked may have left.
  socket.on("error", () => socket.destroy())
  if (!socket.writable) return
  const text = `effect-claw: ${refused.message}\n`
  const status = `${refused.status} ${http.STATUS_CODES[refused.status] ?? "Refused"}`
  socket.end(
    `HTTP/1.1 ${status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: ${Buffer.byteLength(text)}\r\n` +
      `connection: close\r\n\r\n${text}`
  )
}

/** A server for one session. It listens to nothing yet. */
export const make = (session: Session): http.Server => {
  const { attend, limits, rules } = session
  const poolOf = (secure: boolean) => {
    const pool = new http.Agent({ keepAlive: true, maxFreeSockets: 8, timeout: 60_000 })
    pool.createConnection = ({ host, port }, done) => {
      session.dial(host ?? "", Number(port), secure).then(
        (socket) => done?.(null, socket),
        (cause: Error) => done?.(cause, new Duplex())
      )
      return undefined
    }
    return pool
  }
  const pools = { "http:": poolOf(false), "https:": poolOf(true) }

  const judge = (target: Target, url: URL): Rule => {
    if (url.username !== "" || url.password !== "") throw new Refused(403, "an address with a user in it is not asked")
    const rule = admits(rules, target)
    if (rule !== undefined) return rule
    throw new Refused(
      403,
      `no rule of this agent admits ${target.method ?? "a tunnel to"} ${target.method === undefined ? url.host : url.origin + url.pathname}`
    )
  }

  /** Asks a host in who asked's place. */
  const exchange = async (
    url: URL,
    request: http.IncomingMessage,
    response: http.ServerResponse,
    count: Count,
    signal: AbortSignal
  ) => {
    const { method = "GET" } = request
    const host = hostname(url.hostname) ?? ""
    const port = Number(url.port === "" ? (url.protocol === "https:" ? 443 : 80) : url.port)
    const rule = judge({ host, port, method, path: url.pathname }, url)
    const leaks = session.leaksOf(rule)
    const isHeld = rule.methods !== undefined || rule.paths !== undefined
    const asked = without(headersOf(request), "content-length", ...(isHeld ? overriding : []))
    const path = url.pathname + url.search
    if (leaks.isIn([request.url, url.host, path, ...asked.flat()].join("\n")))
      throw new Refused(403, "the request has a secret in it")
    const credential = session.credentialOf(rule)
    if (credential !== undefined && url.protocol === "http:" && rule.insecure !== true)
      throw new Refused(403, `the rule for ${rule.host} has a secret, which goes over HTTPS only`)
    // Where a body ends is said by the proxy, also when a header that said so was called one of the connection.
    const length = request.headers["content-length"]
    const framing: ReadonlyArray<Header> =
      request.headers["transfer-encoding"] !== undefined
        ? [["transfer-encoding", "chunked"]]
        : length === undefined
          ? []
          : [["content-length", length]]
    const body = outgoing(request, leaks, session, count)
    const headers =
      credential === undefined
        ? asked
        : // What comes in an encoding, or in parts, cannot be looked through.
          [
            ...without(credential.inHeaders(asked), "accept-encoding", "range", "if-range"),
            ["accept-encoding", "identity"] as const
          ]
    const upstream = http.request({
      agent: pools[url.protocol === "https:" ? "https:" : "http:"],
      host,
      port,
      method,
      path: credential?.inPath(path) ?? path,
      headers: [["host", url.host], ...headers, ...framing].flat(),
      setHost: false,
      signal
    })
    // Whoever asked may leave before there is an answer: then there is nobody to ask for.
    response.once("close", () => {
      if (!response.writableFinished) upstream.destroy()
    })
    const sending = pipeline([request, ...body, upstream], { signal })
    const receiving = new Promise<void>((resolve, reject) => {
      upstream.once("error", reject)
      upstream.once("upgrade", (_received, socket) => {
        socket.destroy()
        reject(new Refused(502, `${host} answers in another protocol than HTTP`))
      })
      upstream.once("response", (received) => {
        if (credential !== undefined && encodingOf(received) !== undefined) {
          received.destroy()
          return reject(new Refused(502, `${host} answers in an encoding that cannot be looked through`))
        }
        const hide = credential?.outOf ?? ((text: string) => text)
        const shown = headersOf(received).map(([name, value]): Header => [hide(name), hide(value)])
        const head = credential === undefined ? shown : without(shown, "content-length")
        response.writeHead(received.statusCode ?? 502, head.flat())
        const counter = Bodies.counted(
          limits.received,
          (bytes) => (count.received += bytes),
          tooMuch(limits.received, "the response")
        )
        const filters = credential === undefined ? [counter] : [counter, Bodies.inspected(credential.span, hide)]
        pipeline([received, ...filters, response], { signal }).then(resolve, reject)
      })
    })
    // A host may answer before it has read all; then what it did not read is no failure.
    await Promise.race([receiving, sending.then(() => receiving)])
  }

  const refuseUpgrade = (_request: http.IncomingMessage, socket: Duplex) =>
    answerRaw(socket)(new Refused(501, "the proxy knows no other protocols than HTTP"))

  /** Where the TLS of a connection was asked to lead. */
  const tunnels = new WeakMap<object, { readonly host: string; readonly port: number }>()

  const inner = http.createServer((request, response) => {
    const tunnel = tunnels.get(request.socket)
    const { method = "GET", url: path = "" } = request
    const host = tunnel === undefined ? "" : `${bracketed(tunnel.host)}${tunnel.port === 443 ? "" : `:${tunnel.port}`}`
    attend(
      { method, target: `https://${host}${withoutQuery(path)}` },
      async (count, signal) => {
        const url = path.startsWith("/") ? URL.parse(`https://${host}${path}`) : null
        const named = URL.parse(`https://${request.headers.host ?? ""}/`)
        if (url === null || named?.host !== url.host)
          throw new Refused(421, `the tunnel leads to ${host}, and the request does not`)
        await exchange(url, request, response, count, signal)
      },
      answer(response)
    )
  })
  // All that fit into a message's head: one that is not seen may be the one that says where the body ends.
  inner.maxHeadersCount = 0
  inner.on("upgrade", refuseUpgrade)

  const server = http.createServer((request, response) => {
    const { method = "GET", url: asked = "" } = request
    attend(
      { method, target: withoutQuery(asked) },
      async (count, signal) => {
        const url = URL.parse(asked)
        if (url?.protocol !== "http:") {
          throw new Refused(400, "this is a proxy: a request to it has a whole address that begins with http://")
        }
        await exchange(url, request, response, count, signal)
      },
      answer(response)
    )
  })
  server.maxHeadersCount = 0
  server.on("upgrade", refuseUpgrade)

  server.on("connect", (request, socket: Socket, head: Buffer) => {
    const refuse = answerRaw(socket)
    socket.on("error", () => socket.destroy())
    const asked = request.url ?? ""
    const url = /^(\[[\da-fA-F:.]+\]|[^\s:/?#@]+):\d{1,5}$/.test(asked) ? URL.parse(`tunnel://${asked}`) : null
    attend(
      { method: "CONNECT", target: `https://${asked}` },
      async (count, signal) => {
        const host = url === null ? undefined : hostname(url.hostname)
        if (url === null || host === undefined) throw new Refused(400, "a tunnel leads to a host and a port")
        const port = Number(url.port)
        const rule = judge({ host, port }, url)
        if (session.leaksOf(rule).isIn(`${asked}\n${host}`))
          throw new Refused(403, "the host's name has a secret in it")
        if (rules.some((rule) => isRead(rule) && admits([rule], { host, port }) !== undefined)) {
          const secureContext = await session.contextFor(host)
          socket.write("HTTP/1.1 200 Connection Established\r\n\r\n")
          if (head.length > 0) socket.unshift(head)
          const secure = new TLSSocket(socket, { isServer: true, secureContext, ALPNProtocols: ["http/1.1"] })
          secure.on("error", () => socket.destroy())
          tunnels.set(secure, { host, port })
          inner.emit("connection", secure)
          return
        }
        const upstream = await session.dial(host, port, false, signal)
        socket.write("HTTP/1.1 200 Connection Established\r\n\r\n")
        if (head.length > 0) socket.unshift(head)
        const carry = (from: Duplex, to: Duplex, way: keyof Count) => {
          const counter = Bodies.counted(
            limits[way],
            (bytes) => (count[way] += bytes),
            tooMuch(limits[way], "the tunnel")
          )
          return pipeline([from, counter, to], { signal }).catch((cause: unknown) => {
            // Either side may hang up at any time.
            if (cause instanceof Refused || signal.aborted) throw cause
          })
        }
        await Promise.all([carry(socket, upstream, "sent"), carry(upstream, socket, "received")]).finally(() => {
          upstream.destroy()
          socket.destroy()
        })
      },
      (refused) => (socket.bytesWritten === 0 ? refuse(refused) : socket.destroy())
    )
  })
  server.on("clientError", (_error, socket) =>
    answerRaw(socket)(new Refused(400, "this is no HTTP that a proxy understands"))
  )
  inner.on("clientError", (_error, socket) =>
    answerRaw(socket)(new Refused(400, "this is no HTTP that a proxy understands"))
  )
  server.on("close", () => Object.values(pools).forEach((pool) => pool.destroy()))
  return server
}

const bracketed = (host: string) => (host.includes(":") ? `[${host}]` : host)

const withoutQuery = (address: string) => address.replace(/[?#].*$/s, "")
