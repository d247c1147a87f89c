/**
 * A server on loopback that speaks Anthropic's Messages API, for the real SDK to talk to.
 *
 * It answers from a script and streams as the API does: every event, in fragments. It judges each request as the API does (`messagesRules.ts`), and keeps a prompt cache with the API's rules, so that what
 * it reports as read from the cache was in truth the same as before. A request that the API would have refused is
 * refused with 400, and is a defect when the server is released: no test passes over it.
 */
import { unwrapResult } from "effect-claw/services/PromptBorder"
import type Anthropic from "@anthropic-ai/sdk"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
  type ServerResponse
} from "node:http"
import * as Rules from "./messagesRules.ts"

/** A block of an answer. `json` is a tool's input as the model writes it, valid or not. */
export type Block =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "thinking"; readonly thinking: string }
  | { readonly type: "redacted_thinking"; readonly data: string }
  | { readonly type: "tool_use"; readonly name: string; readonly json: string }

/** What happens in the middle of an answer's last block. */
export type Halfway =
  /** The connection is closed. */
  | "cut"
  /** Nothing more comes. */
  | "stall"
  /** Only pings come, this many, before it goes on. */
  | { readonly pings: number; readonly every: Duration.Input }
  | { readonly error: string }
  /** It goes on when this is done, or is cut then. */
  | Effect.Effect<void | "cut">

export interface AnswerOptions {
  /** Default: `tool_use` if there is a call, else `end_turn`. */
  readonly stop?: Anthropic.StopReason
  readonly halfway?: Halfway
  readonly outputTokens?: number
}

/** What a request is answered with. */
export type Reply =
  | ({ readonly _tag: "Answer"; readonly blocks: ReadonlyArray<Block> } & AnswerOptions)
  | {
      readonly _tag: "Refusal"
      readonly status: number
      readonly type: string
      readonly message: string
      readonly headers: Readonly<Record<string, string>>
    }
  /** The request is taken, and nothing comes. */
  | { readonly _tag: "Silence" }

/** A step of a script. */
export type Step = Reply | ((request: Received) => Reply)

export const text = (value: string): Block => ({ type: "text", text: value })
/** A thought; by default its text is omitted, as the API does by default. */
export const thinking = (value = ""): Block => ({ type: "thinking", thinking: value })
export const redacted = (data: string): Block => ({ type: "redacted_thinking", data })
export const use = (name: string, input: unknown): Block => ({
  type: "tool_use",
  name,
  json: typeof input === "string" ? input : JSON.stringify(input)
})

/** An answer of some blocks; a string is a text. */
export const answer = (blocks: string | ReadonlyArray<Block>, options: AnswerOptions = {}): Reply => ({
  _tag: "Answer",
  blocks: typeof blocks === "string" ? [text(blocks)] : blocks,
  ...options
})

/** An answer that calls tools. */
export const call = (name: string, input: unknown): Reply => answer([use(name, input)])

const errorTypes: Readonly<Record<number, string>> = {
  400: "invalid_request_error",
  401: "authentication_error",
  402: "billing_error",
  403: "permission_error",
  404: "not_found_error",
  413: "request_too_large",
  429: "rate_limit_error",
  504: "timeout_error",
  529: "overloaded_error"
}

/** An HTTP error, with the API's error type for the status. */
export const refuse = (
  status: number,
  options: { message?: string; retryAfter?: string; type?: string } = {}
): Reply => ({
  _tag: "Refusal",
  status,
  type: options.type ?? errorTypes[status] ?? "api_error",
  message: options.message ?? "scripted",
  headers: options.retryAfter === undefined ? {} : { "retry-after": options.retryAfter }
})

export const silence: Reply = { _tag: "Silence" }

/** How a connection came to its end. */
export type Ended = "answered" | "closed by client" | "cut by server"

/** A request, as it came. */
export interface Received {
  readonly headers: IncomingHttpHeaders
  readonly body: Anthropic.MessageCreateParamsStreaming
  /** Epoch milliseconds. */
  readonly at: number
  /** Why it was refused as invalid. */
  readonly fault: string | undefined
  /** What the answer reports as read. */
  readonly usage: Rules.InputUsage
  /** Waits until the connection has no more to say: all was answered, or the client has closed it. */
  readonly ended: Effect.Effect<Ended>
}

/** The text of everything a person or a tool said last, for a script that decides by it. */
export const lastText = ({ body }: Received): string => {
  const content = body.messages.at(-1)?.content ?? ""
  return typeof content === "string"
    ? content
    : content
        .map((block) => (block.type === "text" ? block.text : block.type === "tool_result" ? resultText(block) : ""))
        .join("\n")
}

/** The results of tools in a request's last message. */
export const lastResults = ({
  body
}: Received): ReadonlyArray<{ readonly text: string; readonly isError: boolean }> => {
  const content = body.messages.at(-1)?.content ?? ""
  return typeof content === "string"
    ? []
    : content.flatMap((block) =>
        block.type === "tool_result" ? [{ text: resultText(block), isError: block.is_error === true }] : []
      )
}

const resultText = ({ content = "" }: Anthropic.ToolResultBlockParam): string =>
  typeof content === "string"
    ? unwrapResult(content)
    : content.map((part) => (part.type === "text" ? unwrapResult(part.text) : "")).join("")

export class MessagesServer extends Context.Service<
  MessagesServer,
  {
    readonly url: string
    /** Every request so far, oldest first. */
    readonly requests: ReadonlyArray<Received>
    /** Waits for the request of this number, counted from 1. */
    readonly request: (number: number) => Effect.Effect<Received>
    /** Adds to the script. */
    readonly script: (...steps: ReadonlyArray<Step>) => Effect.Effect<void>
  }
>()("effect-claw/test/support/MessagesServer") {}

export interface Options {
  /** The keys it knows. Default `sk-ant-test`. */
  readonly keys?: ReadonlyArray<string>
  /** The models it knows. Default `claude-sonnet-5-5`. */
  readonly models?: ReadonlyArray<string>
}

/**
 * The server.
 *
 * Provides `MessagesServer`, requires nothing. One function as a script answers all requests. On release all connections
 * are closed.
 */
export const layer = (
  script: ReadonlyArray<Step> | ((request: Received) => Reply) = [],
  { keys = ["sk-ant-test"], models = ["claude-sonnet-5-5"] }: Options = {}
): Layer.Layer<MessagesServer> =>
  Layer.effect(
    MessagesServer,
    Effect.gen(function* () {
      const steps = typeof script === "function" ? [] : [...script]
      const requests: Array<Received> = []
      const arrived = yield* SubscriptionRef.make(0)
      const faults: Array<string> = []
      const cache = Rules.makeCache()

      /** A fault is the client's, and never meant. */
      const invalid = (message: string): Reply => {
        if (!message.includes(Rules.boundElsewhere)) faults.push(message)
        return refuse(400, { message })
      }
      const stranger = (authorization = ""): Reply | undefined =>
        keys.some((key) => authorization === `Bearer ${key}`)
          ? undefined
          : refuse(401, { message: "invalid bearer token" })
      const next = (received: Received): Reply => {
        const step = typeof script === "function" ? script : steps.shift()
        if (step === undefined) return invalid("the script has ended, and another request came")
        return typeof step === "function" ? step(received) : step
      }

      const serve = Effect.fnUntraced(function* (message: IncomingMessage, response: ServerResponse) {
        const bytes = Buffer.concat(yield* Effect.promise(() => message.toArray()))
        if (message.method !== "POST" || message.url?.split("?")[0] !== "/v1/messages") {
          return yield* reply(response, invalid(`there is no ${message.method} ${message.url}`))
        }
        if (bytes.length > Rules.largest) return yield* reply(response, refuse(413))
        const body: Anthropic.MessageCreateParamsStreaming = JSON.parse(bytes.toString("utf8"))
        const { headers } = message
        const fault = Rules.fault(headers, body)

        const ended = yield* Deferred.make<Ended>()
        let cut = false
        response.on("close", () =>
          Deferred.doneUnsafe(
            ended,
            Effect.succeed(response.writableFinished ? "answered" : cut ? "cut by server" : "closed by client")
          )
        )
        const received: Received = {
          headers,
          body,
          fault,
          at: yield* Clock.currentTimeMillis,
          usage: fault === undefined ? cache(body) : { input: 0, cacheRead: 0, cacheWrite: 0 },
          ended: Deferred.await(ended)
        }
        requests.push(received)
        yield* SubscriptionRef.set(arrived, requests.length)
        cut = yield* reply(
          response,
          stranger(headers.authorization) ??
            (fault === undefined ? undefined : invalid(fault)) ??
            (models.includes(body.model) ? next(received) : refuse(404, { message: `model: ${body.model}` })),
          received
        )
        // What was written still arrives.
        if (cut) response.socket?.end()
      })

      const fork = yield* FiberSet.makeRuntime<never, void, never>()
      const server = yield* Effect.acquireRelease(
        Effect.callback<Server>((resume) => {
          const made = createServer((message, response) => void fork(serve(message, response)))
          made.listen(0, "127.0.0.1", () => resume(Effect.succeed(made)))
        }),
        (open) =>
          Effect.callback<void>((resume) => {
            open.close(() => resume(Effect.void))
            open.closeAllConnections()
          })
      )
      yield* Effect.addFinalizer(() =>
        faults.length === 0 ? Effect.void : Effect.die(new Error(`the API would have refused: ${faults.join("; ")}`))
      )
      const address = server.address()
      if (address === null || typeof address === "string") return yield* Effect.die(new Error("no port"))

      return MessagesServer.of({
        url: `http://127.0.0.1:${address.port}`,
        requests,
        request: (number) =>
          SubscriptionRef.changes(arrived).pipe(
            Stream.filter((count) => count >= number),
            Stream.runHead,
            Effect.andThen(Effect.suspend(() => Effect.fromNullishOr(requests[number - 1]))),
            Effect.orDie
          ),
        script: (...more) => Effect.sync(() => void steps.push(...more))
      })
    })
  )

let ids = 0
const identifier = (prefix: string) => `${prefix}_01${(++ids).toString(36).padStart(22, "0")}`

const fragments = (value: string, length: number): ReadonlyArray<string> => {
  const letters = Array.from(value)
  return Array.from({ length: Math.ceil(letters.length / length) }, (_, index) =>
    letters.slice(index * length, (index + 1) * length).join("")
  )
}

/** A block as it will be, and what of it comes after its start. */
const pieces = (
  block: Block,
  sign: (thinking: string) => string
): { readonly whole: Anthropic.ContentBlockParam; readonly start: object; readonly deltas: ReadonlyArray<object> } => {
  switch (block.type) {
    case "text":
      return {
        whole: block,
        start: { type: "text", text: "", citations: null },
        deltas: fragments(block.text, 6).map((part) => ({ type: "text_delta", text: part }))
      }
    case "thinking": {
      const signature = sign(block.thinking)
      return {
        whole: { ...block, signature },
        start: { type: "thinking", thinking: "", signature: "" },
        deltas: [
          ...fragments(block.thinking, 6).map((part) => ({ type: "thinking_delta", thinking: part })),
          { type: "signature_delta", signature }
        ]
      }
    }
    case "redacted_thinking":
      return { whole: block, start: block, deltas: [] }
    case "tool_use": {
      const { json, ...rest } = block
      const call = { ...rest, id: identifier("toolu"), caller: { type: "direct" as const } }
      return {
        whole: { ...rest, id: call.id, input: parsed(json) },
        start: { ...call, input: {} },
        deltas: ["", ...fragments(json, 7)].map((part) => ({ type: "input_json_delta", partial_json: part }))
      }
    }
  }
}

const parsed = (json: string): unknown => {
  try {
    return JSON.parse(json)
  } catch {
    return json
  }
}

/** Answers a request; says whether the connection is to be cut now. */
const reply = Effect.fnUntraced(function* (
  response: ServerResponse,
  given: Reply,
  received?: Received
): Effect.fn.Return<boolean> {
  if (given._tag === "Answer") return received !== undefined && (yield* stream(response, given, received))
  if (given._tag === "Refusal") {
    const id = identifier("req")
    const error = { type: given.type, message: given.message }
    response.writeHead(given.status, { "content-type": "application/json", "request-id": id, ...given.headers })
    response.end(JSON.stringify({ type: "error", error, request_id: id }))
  }
  return false
})

const stream = Effect.fnUntraced(function* (
  response: ServerResponse,
  { blocks, halfway, outputTokens = 12, stop }: Extract<Reply, { _tag: "Answer" }>,
  { body, usage }: Received
): Effect.fn.Return<boolean> {
  const send = (type: string, event: object = {}) =>
    Effect.callback<void>((resume) => {
      if (response.destroyed) return resume(Effect.void)
      response.write(`event: ${type}\ndata: ${JSON.stringify({ type, ...event })}\n\n`, () => resume(Effect.void))
    })
  response.writeHead(200, {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "request-id": identifier("req")
  })
  const read = {
    input_tokens: usage.input,
    cache_read_input_tokens: usage.cacheRead,
    cache_creation_input_tokens: usage.cacheWrite
  }
  const { said, sign } = Rules.signer(body)
  yield* send("message_start", {
    message: {
      id: identifier("msg"),
      type: "message",
      role: "assistant",
      model: body.model,
      content: [],
      stop_reason: null,
      stop_sequence: null,
      stop_details: null,
      container: null,
      usage: { ...read, output_tokens: 1, service_tier: "standard" }
    }
  })
  yield* send("ping")
  // The API may add kinds of events at any time.
  yield* send("of_a_later_time", { index: 0 })
  for (const [index, block] of blocks.entries()) {
    const { deltas, start, whole } = pieces(block, sign)
    said("assistant", whole)
    const middle = index === blocks.length - 1 ? Math.floor(deltas.length / 2) : -1
    yield* send("content_block_start", { index, content_block: start })
    for (const ordinal of Array.from({ length: deltas.length + 1 }, (_, each) => each)) {
      if (ordinal === middle && halfway !== undefined) {
        if (halfway === "cut") return true
        if (halfway === "stall") return yield* Effect.never
        if (Effect.isEffect(halfway)) {
          if ((yield* halfway) === "cut") return true
        } else if ("pings" in halfway) {
          yield* Effect.repeat(Effect.delay(send("ping"), halfway.every), { times: halfway.pings - 1 })
        } else {
          yield* send("error", { error: { type: halfway.error, message: "scripted" } })
          response.end()
          return false
        }
      }
      if (ordinal < deltas.length) yield* send("content_block_delta", { index, delta: deltas[ordinal] })
    }
    yield* send("content_block_stop", { index })
  }
  const reason = stop ?? (blocks.some(({ type }) => type === "tool_use") ? "tool_use" : "end_turn")
  yield* send("message_delta", {
    delta: { stop_reason: reason, stop_sequence: null, stop_details: null, container: null },
    usage: { ...read, output_tokens: outputTokens }
  })
  yield* send("message_stop")
  response.end()
  return false
})
