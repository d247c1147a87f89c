/**
 * A language model that answers from a script and keeps what it was asked: for tests.
 */
import * as AiError from "effect/ai/AiError"
import type * as LanguageModel from "effect/ai/LanguageModel"
import { LanguageModel as Model } from "effect/ai/LanguageModel"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { makeModel, modelError, type Reply, type Request } from "./internal/replies.ts"

export type { Reply, ReplyCall, Request } from "./internal/replies.ts"

/** A step of a script: a reply, a failure, or what decides by looking at the request. */
export type Step =
  | Reply
  | AiError.AiErrorReason
  | ((request: Request) => Reply | Effect.Effect<Reply, AiError.AiErrorReason>)

/** What the model was asked. */
export class ModelScripted extends Context.Service<
  ModelScripted,
  {
    /** Every request so far, oldest first. */
    readonly requests: ReadonlyArray<Request>
  }
>()("effect-claw/layers/ModelScripted") {}

const isReply = (answer: Reply | Effect.Effect<Reply, AiError.AiErrorReason>): answer is Reply =>
  !Effect.isEffect(answer)

/** A reply of text. */
export const text = (value: string): Reply => ({ text: value })

/** A reply that calls a tool. */
export const call = (name: string, params: unknown): Reply => ({ calls: [{ name, params }] })

/**
 * A model that takes a step of the script for each request; one function instead of a script answers all of them.
 *
 * Provides `LanguageModel` and `ModelScripted`, requires nothing. When the script has ended, it fails.
 */
export const layer = (
  script: ReadonlyArray<Step> | ((request: Request) => Reply | Effect.Effect<Reply, AiError.AiErrorReason>)
): Layer.Layer<LanguageModel.LanguageModel | ModelScripted> =>
  Layer.effectContext(
    Effect.suspend(() => {
      const requests: Array<Request> = []
      const steps = Array.isArray(script) ? [...script] : undefined
      const ended = new AiError.InvalidUserInputError({ description: "the script of the model has ended" })
      const respond = (request: Request): Effect.Effect<Reply, AiError.AiErrorReason> => {
        const step = typeof script === "function" ? script : (steps?.shift() ?? ended)
        if (typeof step === "function") {
          const reply = step(request)
          return isReply(reply) ? Effect.succeed(reply) : reply
        }
        return AiError.isAiErrorReason(step) ? Effect.fail(step) : Effect.succeed(step)
      }
      return makeModel((request) =>
        Effect.suspend(() => {
          requests.push(request)
          return Effect.mapError(respond(request), (reason) => modelError("ModelScripted", reason))
        })
      ).pipe(Effect.map((model) => Context.make(Model, model).pipe(Context.add(ModelScripted, { requests }))))
    })
  )
