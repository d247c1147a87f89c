/**
 * A language model from a function: what the scripted and the offline model have in common.
 */
import * as AiError from "effect/ai/AiError"
import * as LanguageModel from "effect/ai/LanguageModel"
import type * as Prompt from "effect/ai/Prompt"
import type * as Response from "effect/ai/Response"
import type * as Tool from "effect/ai/Tool"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Stream from "effect/Stream"
import { estimateTokens } from "../../services/PromptSize.ts"
import { toParts } from "./streamParts.ts"

/** A tool call of a reply. Ids are made when none is given. */
export interface ReplyCall {
  readonly name: string
  readonly params: unknown
  readonly id?: string
}

/** What a model answers: text, tool calls, or both. */
export interface Reply {
  readonly text?: string
  readonly calls?: ReadonlyArray<ReplyCall>
  readonly finish?: Response.FinishReason
  /** Default: estimated from their lengths. */
  readonly usage?: { readonly input: number; readonly output: number }
}

/** What a model is asked. */
export interface Request {
  readonly prompt: Prompt.Prompt
  readonly tools: ReadonlyArray<Tool.Any>
}

const parts = (reply: Reply, request: Request, ordinal: string): Array<Response.StreamPartEncoded> => {
  const { calls = [], text = "" } = reply
  const input = reply.usage?.input ?? estimateTokens(request.prompt)
  const output = reply.usage?.output ?? Math.ceil((text.length + JSON.stringify(calls).length) / 4)
  return [
    ...(text === ""
      ? []
      : [
          { type: "text-start" as const, id: "text" },
          ...(text.match(/\S*\s*/gu) ?? [])
            .filter((delta) => delta !== "")
            .map((delta) => ({ type: "text-delta" as const, id: "text", delta })),
          { type: "text-end" as const, id: "text" }
        ]),
    ...calls.map(({ id, name, params }, index) => ({
      type: "tool-call" as const,
      id: id ?? `call_${ordinal}_${index}`,
      name,
      params
    })),
    {
      type: "finish" as const,
      reason: reply.finish ?? (calls.length > 0 ? "tool-calls" : "stop"),
      usage: {
        inputTokens: { uncached: input, total: input, cacheRead: 0, cacheWrite: 0 },
        outputTokens: { total: output, text: output, reasoning: 0 }
      }
    }
  ]
}

/** A model that answers as `respond` does. It streams; what it is asked at once, it answers at once. */
export const makeModel = (
  respond: (request: Request) => Effect.Effect<Reply, AiError.AiError>
): Effect.Effect<LanguageModel.LanguageModel> => {
  const answer = (request: Request) =>
    Effect.zipWith(respond(request), Random.nextInt, (reply, ordinal) => parts(reply, request, ordinal.toString(36)))
  return LanguageModel.make({
    streamText: (request) => Stream.unwrap(Effect.map(answer(request), Stream.fromIterable)),
    generateText: (request) => Effect.map(answer(request), toParts)
  })
}

/** A failure of the model, for `reason`. */
export const modelError = (module: string, reason: AiError.AiErrorReason): AiError.AiError =>
  AiError.make({ module, method: "streamText", reason })
