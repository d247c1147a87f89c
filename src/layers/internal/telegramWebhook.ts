/**
 * The door that Telegram brings updates to, where it is not asked for them.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { Update } from "grammy/types"
import { createHash, timingSafeEqual } from "node:crypto"
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"

/** Where Telegram brings updates. */
export interface Webhook {
  /** The port to listen on; 0: any. */
  readonly port: number
  /** The address to listen on. Default `127.0.0.1`, for a proxy that speaks TLS stands before it. */
  readonly host?: string
  /** Default `/`. */
  readonly path?: string
  /** The address by which Telegram gets there, `https://…`. */
  readonly url: string
  /** What Telegram proves itself with: 1 to 256 of the characters `A-Z a-z 0-9 _ -`. */
  readonly secret: Redacted.Redacted
}

/** An update, and who is told when it is stored. */
export interface Brought {
  readonly update: Update
  readonly stored: Deferred.Deferred<void>
}

/** Bytes of a request at most: an update has less than a hundred thousand. */
const bodyLimit = 1024 * 1024

const isUpdate = (body: unknown): body is Update =>
  Predicate.hasProperty(body, "update_id") && typeof body.update_id === "number"

const digest = (text: string) => createHash("sha256").update(text).digest()

/**
 * Listens until the scope ends. A request is answered when what it brought is stored; Telegram brings again what is not
 * answered with 200.
 */
export const listen = Effect.fnUntraced(function* (
  webhook: Webhook
): Effect.fn.Return<Queue.Dequeue<Brought>, { readonly detail: string }, Scope.Scope> {
  const secret = digest(Redacted.value(webhook.secret))
  const brought = yield* Queue.bounded<Brought>(1)
  const services = yield* Effect.context()

  const bodyOf = async (request: IncomingMessage): Promise<unknown> => {
    const chunks: Array<Uint8Array> = []
    let size = 0
    for await (const chunk of request as AsyncIterable<Uint8Array>) {
      size += chunk.length
      if (size > bodyLimit) return undefined
      chunks.push(chunk)
    }
    return JSON.parse(Buffer.concat(chunks).toString("utf8"))
  }

  const take = async (request: IncomingMessage, response: ServerResponse): Promise<number> => {
    if (request.url !== (webhook.path ?? "/") || request.method !== "POST") return 404
    const given = request.headers["x-telegram-bot-api-secret-token"]
    if (typeof given !== "string" || !timingSafeEqual(digest(given), secret)) return 401
    const update = await bodyOf(request)
    if (update === undefined) return 413
    if (!isUpdate(update)) return 400
    const stored = Deferred.makeUnsafe<void>()
    const aborted = new AbortController()
    response.on("close", () => aborted.abort())
    await Effect.runPromiseWith(services)(
      Effect.andThen(Queue.offer(brought, { update, stored }), Deferred.await(stored)),
      { signal: aborted.signal }
    )
    return 200
  }

  yield* Effect.acquireRelease(
    Effect.callback<Server, { readonly detail: string }>((resume) => {
      const server = createServer((request, response) => {
        take(request, response).then(
          (status) => response.writeHead(status, { connection: status === 413 ? "close" : "keep-alive" }).end(),
          // No JSON, or the claw ends: it is brought again.
          () => (response.headersSent || response.destroyed ? undefined : response.writeHead(400).end())
        )
      })
      server.on("error", (error) => resume(Effect.fail({ detail: error.message })))
      server.listen(webhook.port, webhook.host ?? "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        server.closeAllConnections()
      })
  )
  return brought
})
