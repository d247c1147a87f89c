/**
 * One call of a language model: streamed, collected, asked again where that helps.
 */
import * as AiError from "effect/ai/AiError"
import * as LanguageModel from "effect/ai/LanguageModel"
import * as Prompt from "effect/ai/Prompt"
import * as Response from "effect/ai/Response"
import type * as Tool from "effect/ai/Tool"
import * as Toolkit from "effect/ai/Toolkit"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as Struct from "effect/Struct"
import { unmark } from "../PromptBorder.ts"

/** What a model answered. */
export interface Answer {
  readonly content: ReadonlyArray<Prompt.AssistantMessagePart>
  readonly usage: Response.Usage
  readonly finish: Response.FinishReason
}

/** What it wrote, without the marks of what it had read: a file that it copies is to be the file as it was. */
const unmarked = (part: Prompt.AssistantMessagePart): Prompt.AssistantMessagePart => {
  if (part.type === "text") return Struct.assign(part, { text: unmark(part.text) })
  if (part.type !== "tool-call" || part.providerExecuted) return part
  const undo = (_key: string, value: unknown): unknown => (typeof value === "string" ? unmark(value) : value)
  const params: unknown = JSON.parse(JSON.stringify(part.params) ?? "null", undo)
  return Struct.assign(part, { params })
}

/** Nothing that is known of. */
export const unknownUsage = new Response.Usage({ inputTokens: {}, outputTokens: {} })

/** The answer of a model that was not asked. */
export const noAnswer: Answer = { content: [], usage: unknownUsage, finish: "unknown" }

/** What an answer says. */
export const textOf = (content: Answer["content"]): string =>
  content.flatMap((part) => (part.type === "text" ? [part.text] : [])).join("")

/** What of an answer is for the chat. */
export const replyOf = (content: Answer["content"], finish: Answer["finish"]): string => {
  const text = textOf(content)
  if (finish === "content-filter" && text.trim() === "") return "The model declined to answer this."
  return finish === "length" ? `${text}\n\n[The answer was cut at the model's limit.]` : text
}

/** A wait longer than this is not waited for: the chat is told instead. */
const longestWait = Duration.minutes(2)

/** Four attempts, the delays doubling from a second, jittered; longer when the provider says so. */
const attempts = Schedule.exponential("1 second").pipe(
  Schedule.jittered,
  Schedule.setInputType<unknown>(),
  Schedule.modifyDelay(({ duration, input }) => Effect.succeed(Duration.max(duration, waitOf(input)))),
  Schedule.upTo({ times: 3 }),
  Schedule.while(
    ({ input }) =>
      AiError.isAiError(input) && input.isRetryable && Duration.isLessThanOrEqualTo(waitOf(input), longestWait)
  )
)

const waitOf = (error: unknown): Duration.Duration =>
  (AiError.isAiError(error) ? error.retryAfter : undefined) ?? Duration.zero

/**
 * Asks the model. `onText` sees text as it comes; `onFailure` is told that what it saw is void, and whether nothing has to be
 * paid, because the answer had not begun. `again` is done before every attempt but the first.
 */
export const ask = <E>(options: {
  readonly prompt: Prompt.Prompt
  readonly tools: ReadonlyArray<Tool.Any>
  readonly onText: (delta: string) => Effect.Effect<void>
  readonly onFailure: (isUnspent: boolean) => Effect.Effect<void, E>
  readonly again: Effect.Effect<void, E>
}): Effect.Effect<Answer, AiError.AiError | E, LanguageModel.LanguageModel> => {
  // Tool calls are taken as they come, whatever name and arguments they have: the tool guard judges them.
  const toolkit: Toolkit.Toolkit<{}> = Toolkit.make(...options.tools)
  let hasBegun = false
  const attempt = Effect.suspend(() => {
    hasBegun = false
    const parts: Array<Response.AnyPart> = []
    let usage = unknownUsage
    let finish: Response.FinishReason = "unknown"
    return LanguageModel.streamText({
      prompt: options.prompt,
      toolkit,
      disableToolCallResolution: true,
      toolCallValidation: "deferred"
    }).pipe(
      Stream.runForEachArray((chunk) => {
        let text = ""
        hasBegun = true
        for (const part of chunk) {
          parts.push(part)
          if (part.type === "text-delta") text += part.delta
          else if (part.type === "finish") {
            usage = part.usage
            finish = part.reason
          }
        }
        return text === "" ? Effect.void : options.onText(text)
      }),
      Effect.map((): Answer => {
        const message = Prompt.fromResponseParts(parts).content.find(({ role }) => role === "assistant")
        return { content: message?.role === "assistant" ? message.content.map(unmarked) : [], usage, finish }
      })
    )
  }).pipe(
    Effect.catchDefect((cause) =>
      Effect.fail(
        AiError.make({
          module: "LanguageModel",
          method: "streamText",
          reason: new AiError.UnknownError({ description: `it is defect: ${String(cause)}` })
        })
      )
    ),
    Effect.tapError((error) =>
      Effect.andThen(
        options.onFailure(!hasBegun),
        Effect.logWarning(`the model failed: ${error.message.split("\n", 1)[0]}`)
      )
    )
  )
  let isFirst = true
  return Effect.suspend(() => {
    const before = isFirst ? Effect.void : options.again
    isFirst = false
    return Effect.andThen(before, attempt)
  }).pipe(Effect.retry(attempts))
}

/** Whether it is this very prompt that the model gives no answer to, and another one may do. */
export const isPromptsFault = ({ reason }: AiError.AiError): boolean =>
  ["ContentPolicyError", "InvalidRequestError", "InvalidOutputError"].includes(reason._tag)

/** Whether the prompt may be too long. */
export const isTooLong = ({ reason }: AiError.AiError): boolean =>
  reason._tag === "InvalidRequestError" && reason.parameter === undefined

/** What a chat is told when the model cannot be asked: short, honest, and nothing of what the provider wrote. */
export const apology = (error: AiError.AiError, model: string): string => {
  switch (error.reason._tag) {
    case "RateLimitError":
    case "InternalProviderError":
      return "The model is overloaded right now. I kept your message; write again in a while and I will go on."
    case "NetworkError":
      return "I cannot reach the model right now. I kept your message; write again in a while and I will go on."
    case "AuthenticationError":
      return "The model's provider refused the API key. Whoever runs me has to check ANTHROPIC_API_KEY."
    case "QuotaExhaustedError":
      return "The account with the model's provider has no credit left. Whoever runs me has to top it up."
    case "ContentPolicyError":
      return "The model declined to answer this."
    case "InvalidRequestError":
      return error.reason.parameter === "model"
        ? `The provider knows no model named "${model}". Whoever runs me has to check CLAW_MODEL.`
        : "The model did not take this request. The details are in my log."
    default:
      return "The model gave no usable answer. I kept your message; write again and I will go on."
  }
}
