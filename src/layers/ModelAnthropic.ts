/**
 * Claude, by Anthropic's Messages API and its own SDK.
 *
 * Answers are streamed. Instructions, tools and the conversation so far are marked for the provider's prompt cache.
 * Thoughts go back as they came, as long as they hold. The SDK's own retries are off: whoever calls retries, and is told
 * what for and how long to wait.
 */
import type AnthropicClient from "@anthropic-ai/sdk"
import * as AiError from "effect/ai/AiError"
import * as LanguageModel from "effect/ai/LanguageModel"
import type * as Response from "effect/ai/Response"
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { ModelInfo, type Price } from "../services/ModelInfo.ts"
import * as Messages from "./internal/anthropicMessages.ts"
import { toParts } from "./internal/streamParts.ts"

/** The model that is used unless another is named. */
export const defaultModel = "claude-sonnet-5-5"

/** How to call Claude. */
export interface Options {
  readonly apiKey: Redacted.Redacted
  /** Default `claude-sonnet-5-5`. */
  readonly model?: string
  /** Default: Anthropic's. */
  readonly baseUrl?: string
  /** The most tokens of an answer, thoughts included. Default 32,000. */
  readonly maxTokens?: number
  /** The most tokens of a request. Default 200,000. */
  readonly contextTokens?: number
  /** Default: the model's own. */
  readonly thinking?: AnthropicClient.ThinkingConfigParam
  /** What the model costs. Default: its list price, for models whose price this package knows. */
  readonly price?: Price
  /** How long the stream may be silent before the call counts as failed. Default 90 seconds. */
  readonly idleTimeout?: Duration.Input
}

/** List prices in US dollars per million tokens, as published in October 2026; a cache write costs 1.25 of the input. */
const listPrices: ReadonlyArray<readonly [model: RegExp, input: number, output: number, cacheRead: number]> = [
  [/^claude-fable-5-1\b/, 10, 50, 0.25],
  [/^claude-opus-5-5\b/, 4, 20, 0.2],
  [/^claude-opus-(5|4-[5-8])\b/, 5, 25, 0.5],
  [/^claude-sonnet-5-5\b/, 2, 10, 0.1],
  [/^claude-sonnet-5\b/, 2, 10, 0.2],
  [/^claude-sonnet-4-[56]\b/, 3, 15, 0.3],
  [/^claude-haiku-4-5\b/, 1, 5, 0.1]
]

const listPrice = (model: string): Price | undefined => {
  const found = listPrices.find(([pattern]) => pattern.test(model))
  if (found === undefined) return undefined
  const [, input, output, cacheRead] = found
  return { input, output, cacheRead, cacheWrite: input * 1.25 }
}

const headersOf = (cause: object): Headers | undefined =>
  "headers" in cause && cause.headers instanceof Headers ? cause.headers : undefined

const retryAfterOf = (headers: Headers | undefined): Duration.Duration | undefined => {
  const millis = Number(headers?.get("retry-after-ms") ?? Number.NaN)
  if (Number.isFinite(millis)) return Duration.millis(Math.max(0, millis))
  const seconds = Number(headers?.get("retry-after") ?? Number.NaN)
  return Number.isFinite(seconds) ? Duration.seconds(Math.max(0, seconds)) : undefined
}

const field = (cause: unknown, name: string): unknown => (Predicate.hasProperty(cause, name) ? cause[name] : undefined)

/** What went wrong, by the API's status and error type. Names of the SDK's classes are not relied on. */
const reasonOf = (cause: unknown, key: string): AiError.AiErrorReason => {
  const description = (cause instanceof Error ? cause.message : String(cause)).replaceAll(key, "[the key]")
  const status = field(cause, "status")
  const type = field(cause, "type")
  const retryAfter = Predicate.isObject(cause) ? retryAfterOf(headersOf(cause)) : undefined
  if ((status === undefined && type === undefined) || (type === null && status === undefined)) {
    return cause instanceof SyntaxError ? new AiError.InvalidOutputError({ description }) : networkError(description)
  }
  if (status === 402 || type === "billing_error" || /credit balance/i.test(description)) {
    return new AiError.QuotaExhaustedError({})
  }
  if (status === 401 || type === "authentication_error") {
    return new AiError.AuthenticationError({ kind: "InvalidKey", description })
  }
  if (status === 403 || type === "permission_error") {
    return new AiError.AuthenticationError({ kind: "InsufficientPermissions", description })
  }
  if (status === 404 || type === "not_found_error") {
    return new AiError.InvalidRequestError({ parameter: "model", description })
  }
  // Only a rate limit carries a time to wait, so whoever says how long is one.
  if (status === 429 || type === "rate_limit_error" || retryAfter !== undefined) {
    return new AiError.RateLimitError(retryAfter === undefined ? {} : { retryAfter })
  }
  if (
    status === 408 ||
    status === 409 ||
    (typeof status === "number" && status >= 500) ||
    (typeof status !== "number" && type !== "invalid_request_error")
  ) {
    return new AiError.InternalProviderError({ description })
  }
  return new AiError.InvalidRequestError({ description })
}

const networkError = (description: string) =>
  new AiError.NetworkError({ reason: "TransportError", method: "POST", url: "/v1/messages", description })

const isThoughtRefused = ({ reason }: AiError.AiError): boolean =>
  reason._tag === "InvalidRequestError" && /thinking` block/.test(reason.description ?? "")

const fail = (reason: AiError.AiErrorReason): AiError.AiError =>
  AiError.make({ module: "ModelAnthropic", method: "streamText", reason })

const make = Effect.fnUntraced(function* (options: Options) {
  const settings = {
    model: options.model ?? defaultModel,
    maxTokens: options.maxTokens ?? 32_000,
    ...(options.thinking === undefined ? {} : { thinking: options.thinking })
  }
  const idleTimeout = options.idleTimeout ?? "90 seconds"
  const key = Redacted.value(options.apiKey).trim()
  const refusal = !/^[!-~]+$/.test(key)
    ? new AiError.AuthenticationError({
        kind: "InvalidKey",
        description: "the key is empty, or has a letter no key has"
      })
    : options.baseUrl !== undefined && !URL.canParse(options.baseUrl)
      ? new AiError.InvalidRequestError({ description: `"${options.baseUrl}" is no URL` })
      : undefined

  // The SDK takes a while to load. It is not waited for until the first call.
  const client = yield* Effect.cached(
    Effect.promise(async () => {
      const [{ default: Anthropic }, { Stream: Sse }] = await Promise.all([
        import("@anthropic-ai/sdk"),
        import("@anthropic-ai/sdk/streaming")
      ])
      const messages = new Anthropic({
        apiKey: key,
        baseURL: options.baseUrl ?? null,
        maxRetries: 0,
        logLevel: "off",
        openTelemetry: false
      }).messages
      return { messages, APIError: Anthropic.APIError, Sse }
    })
  )
  yield* Effect.forkScoped(client)

  const streamText = (
    request: LanguageModel.ProviderOptions
  ): Stream.Stream<Response.StreamPartEncoded, AiError.AiError> =>
    Stream.unwrap(
      Effect.gen(function* () {
        if (refusal !== undefined) return yield* fail(refusal)
        const sdk = yield* client
        const controller = yield* Effect.acquireRelease(
          Effect.sync(() => new AbortController()),
          (opened) => Effect.sync(() => opened.abort())
        )
        const send = (withThoughts: boolean) =>
          Effect.tryPromise({
            try: () =>
              sdk.messages
                .create(Messages.request(request, settings, withThoughts), { signal: controller.signal })
                .asResponse(),
            catch: (cause) => fail(reasonOf(cause, key))
          })
        const response = yield* send(true).pipe(
          // A thought holds only for what it was thought about: if instructions or tools have changed since, it is void.
          Effect.catchIf(isThoughtRefused, () => send(false)),
          Effect.timeoutOrElse({
            duration: idleTimeout,
            orElse: () => Effect.fail(fail(networkError("the provider did not answer in time")))
          })
        )
        const progress = Messages.begin()
        // Events as they are on the wire, for a ping is a sign of life: a model may think for minutes without a word.
        return Stream.fromAsyncIterable(sdk.Sse.rawEvents(response, controller), (cause) =>
          fail(reasonOf(cause, key))
        ).pipe(
          Stream.timeoutOrElse({
            duration: idleTimeout,
            orElse: () => Stream.fail(fail(networkError("the stream was silent for too long")))
          }),
          Stream.mapEffect(({ data, event }) =>
            Effect.try({
              try: () => {
                if (event === null || event === "ping") return []
                if (event !== "error") return Messages.parts(progress, JSON.parse(data))
                throw new sdk.APIError(undefined, JSON.parse(data), undefined, response.headers)
              },
              catch: (cause) => fail(reasonOf(cause, key))
            })
          ),
          Stream.flattenIterable,
          Stream.concat(
            Stream.suspend(() =>
              progress.finished ? Stream.empty : Stream.fail(fail(networkError("the stream was cut off")))
            )
          )
        )
      })
    )

  return yield* LanguageModel.make({
    streamText,
    generateText: (request) => Effect.map(Stream.runCollect(streamText(request)), toParts)
  })
})

/**
 * Claude.
 *
 * Provides `LanguageModel`, and its name, sizes and price as `ModelInfo`; requires nothing. A call that is interrupted
 * closes its request.
 */
export const layer = (options: Options): Layer.Layer<LanguageModel.LanguageModel> => {
  const name = options.model ?? defaultModel
  return Layer.merge(
    Layer.effect(LanguageModel.LanguageModel, make(options)),
    Layer.succeed(ModelInfo, {
      name,
      contextTokens: options.contextTokens ?? 200_000,
      outputTokens: options.maxTokens ?? 32_000,
      price: options.price ?? listPrice(name)
    })
  )
}

/**
 * Claude as the environment says: `ANTHROPIC_API_KEY`, and, where they are set, `ANTHROPIC_BASE_URL` and `CLAW_MODEL`.
 *
 * Provides what `layer` does; fails when there is no key. A model given here goes before `CLAW_MODEL`.
 */
export const layerConfig = (
  model?: string,
  options?: Omit<Options, "apiKey" | "baseUrl" | "model">
): Layer.Layer<LanguageModel.LanguageModel, Config.ConfigError> =>
  Layer.unwrap(
    Effect.gen(function* () {
      const apiKey = yield* Config.Redacted("ANTHROPIC_API_KEY")
      const baseUrl = yield* Config.option(Config.String("ANTHROPIC_BASE_URL"))
      const named = yield* Config.String("CLAW_MODEL").pipe(Config.withDefault(defaultModel))
      return layer({
        ...options,
        apiKey,
        model: model ?? named,
        ...(Option.isSome(baseUrl) ? { baseUrl: baseUrl.value } : {})
      })
    })
  )
