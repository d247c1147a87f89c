/**
 * Servers on loopback that stand for hosts of the internet, and a client that asks for them through a proxy's socket.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { once } from "node:events"
import * as http from "node:http"
import * as https from "node:https"
import type { Socket } from "node:net"
import { connect as connectTls } from "node:tls"
import type { makeAuthority } from "./certificates.ts"

/** A request as a server had it. */
export interface Seen {
  readonly method: string
  readonly url: string
  readonly host: string
  readonly headers: http.IncomingHttpHeaders
  readonly body: Buffer
}

/** A server, and all that it was asked. */
export interface Origin {
  readonly port: number
  readonly seen: Array<Seen>
}

/** Reads a message's body. */
export const bodyOf = async (message: http.IncomingMessage): Promise<Buffer> => {
  const chunks: Array<Buffer> = []
  message.on("data", (chunk: Buffer) => chunks.push(chunk))
  await once(message, "end")
  return Buffer.concat(chunks)
}

/** Starts a server. With an authority it speaks TLS, for the hosts that are named. */
export const origin = (
  answer: (seen: Seen, response: http.ServerResponse) => void,
  secure?: { readonly authority: Awaited<ReturnType<typeof makeAuthority>>; readonly hosts: ReadonlyArray<string> }
): Effect.Effect<Origin, never, Scope.Scope> =>
  Effect.gen(function* () {
    const seen: Array<Seen> = []
    const onRequest = async (request: http.IncomingMessage, response: http.ServerResponse) => {
      const { headers, method = "", url = "" } = request
      const one = {
        method,
        url,
        headers,
        host: headers.host ?? "",
        body: await bodyOf(request).catch(() => Buffer.alloc(0))
      }
      seen.push(one)
      answer(one, response)
    }
    const server =
      secure === undefined
        ? http.createServer((request, response) => void onRequest(request, response))
        : https.createServer(
            yield* Effect.promise(() => secure.authority.issue(...secure.hosts)),
            (request, response) => {
              void onRequest(request, response)
            }
          )
    yield* Effect.acquireRelease(
      Effect.promise(() => once(server.listen(0, "127.0.0.1"), "listening")),
      () => Effect.sync(() => (server.close(), server.closeAllConnections()))
    )
    const address = server.address()
    return { port: typeof address === "object" && address !== null ? address.port : 0, seen }
  })

/** An answer that came by a proxy. */
export interface Answer {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly text: string
}

const read = async (request: http.ClientRequest, body: string | Buffer): Promise<Answer> => {
  const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
    request.on("response", resolve).on("error", reject).end(body)
  })
  const text = (await bodyOf(response)).toString("utf8")
  return { status: response.statusCode ?? 0, headers: response.headers, text }
}

/** What is asked for beside the address. */
export interface Ask {
  readonly method?: string
  readonly headers?: http.OutgoingHttpHeaders
  readonly body?: string | Buffer
  /** The certificates that are trusted, for `https:`. */
  readonly ca?: string
  /** The path as it is written, when an address would be put straight. */
  readonly path?: string
}

/** Asks for an address through the proxy at a socket, as programs do: by its whole address, or through a tunnel. */
export const ask = async (socketPath: string, address: string, options: Ask = {}): Promise<Answer> => {
  const { body = "", ca, headers = {}, method = "GET", path } = options
  const url = new URL(address)
  if (url.protocol === "http:") {
    return read(
      http.request({ socketPath, path: path ?? address, method, headers: { host: url.host, ...headers } }),
      body
    )
  }
  const port = url.port === "" ? "443" : url.port
  const tunnel = http.request({ socketPath, method: "CONNECT", path: `${url.hostname}:${port}` })
  const [response, socket] = await new Promise<readonly [http.IncomingMessage, Socket]>((resolve, reject) => {
    tunnel
      .on("connect", (response, socket: Socket) => resolve([response, socket]))
      .on("error", reject)
      .end()
  })
  if (response.statusCode !== 200) {
    return {
      status: response.statusCode ?? 0,
      headers: response.headers,
      text: (await bodyOf(response)).toString("utf8")
    }
  }
  const secure = connectTls({ socket, servername: url.hostname, ...(ca === undefined ? {} : { ca }) })
  await once(secure, "secureConnect")
  try {
    return await read(
      http.request({
        createConnection: () => secure,
        path: path ?? url.pathname + url.search,
        method,
        headers: { host: url.host, ...headers }
      }),
      body
    )
  } finally {
    secure.destroy()
  }
}
