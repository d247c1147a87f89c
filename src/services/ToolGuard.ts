/**
 * The tool guard: every tool call of every agent passes it, and there is no other way to a tool.
 *
 * In this order: is the tool in the turn's rights; has a person approved these very arguments, if the tool needs that;
 * journal the start; run, with a deadline; cap the result; journal it. A tool that fails, throws or takes too long fails the
 * call, and never the turn.
 */
import * as Prompt from "effect/ai/Prompt"
import * as Tool from "effect/ai/Tool"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import * as Struct from "effect/Struct"
import type { Ready } from "./Agent.ts"
import * as Approval from "./Approval.ts"
import { CurrentTurn } from "./CurrentTurn.ts"
import { makeCode } from "./internal/Code.ts"
import { Journal, type JournalError, type Output, patiently } from "./Journal.ts"
import { OutputId } from "./Message.ts"
import * as Leaks from "./Leaks.ts"
import * as Rights from "./Rights.ts"
import { failedResult, interrupted } from "./Transcript.ts"
import type * as Turn from "./Turn.ts"
import { Vault } from "./Vault.ts"

/** How long a call may take: annotate a tool with it. Default 10 minutes. */
export const Deadline = Context.Reference<Duration.Input>("effect-claw/services/ToolGuard/Deadline", {
  defaultValue: () => "10 minutes"
})

/** The most of a result that reaches the model, in characters of its JSON. */
export const resultLimit = 64_000

/** A call to be made. */
export interface GuardedCall {
  readonly call: Prompt.ToolCallPart
  readonly agent: Ready
  readonly turn: Omit<CurrentTurn["Service"], "call" | "send">
  /** What the ids of the call's outputs begin with. */
  readonly output: OutputId
  /** The call had been started when the claw died. */
  readonly interrupted: boolean
  /** What a person was asked about the call, and answered. */
  readonly approval: Turn.Approval | undefined
  /** The most that one message of the chat carries, in UTF-16 code units. */
  readonly textLimit: number
}

/** What came of a call. */
export interface Guarded {
  readonly result?: Prompt.ToolResultPart
  readonly outputs: ReadonlyArray<OutputId>
}

/**
 * The way to every tool.
 *
 * Interrupting a call interrupts its tool; nothing is journalled then, and the call counts as interrupted when the turn is resumed.
 */
export class ToolGuard extends Context.Service<ToolGuard>()("effect-claw/services/ToolGuard", {
  make: Effect.gen(function* () {
    const journal = yield* Journal
    const { hide, mask } = Leaks.make(yield* Vault)

    /** Nothing, once the call is approved; what it ends with, if it is not; or the question. */
    const approve = Effect.fnUntraced(function* ({ approval, call, textLimit, turn }: GuardedCall) {
      const digest = yield* Approval.digest(call.name, call.params)
      if (approval?.answer?.yes === false) return failure(call, approval.answer.why)
      if (approval?.answer?.yes === true) {
        return approval.digest === digest ? undefined : failure(call, "What was approved is not this call.")
      }
      // An agent that works for another has no chat to ask in.
      if (turn.depth > 0) {
        return failure(call, `${call.name} needs a person's approval, and you talk to none. Report what is to be done.`)
      }
      const code = yield* makeCode(4)
      // All but the vault's own secrets: who approves is to see what runs.
      const text = hide(Approval.question(call.name, call.params, code))
      const most = Math.min(Approval.questionLimit, textLimit)
      if (text.length > most) {
        const why = `A person has to approve this call, and it is too long to be shown: ${text.length} characters of ${most}.`
        return failure(call, why)
      }
      const { conversation, sender, step, turn: id } = turn
      const output = OutputId.make(`${id}.${step}.${code}`)
      const by = sender === undefined ? {} : { sender }
      const asked = { _tag: "ApprovalAsked" as const, call: call.id, tool: call.name, digest, code, ...by }
      const choices = [
        { label: "Approve", says: `/approve ${code}` },
        { label: "Deny", says: `/deny ${code}` }
      ]
      yield* journal.record({ conversation, events: [asked], outputs: [{ id: output, text, extra: { choices } }] })
      return output
    })

    const execute = Effect.fnUntraced(function* (guarded: GuardedCall, send: CurrentTurn["Service"]["send"]) {
      const { agent, call, turn } = guarded
      const tool = Object.hasOwn(agent.tools, call.name) ? agent.tools[call.name] : undefined
      if (tool === undefined || !Rights.allows(turn.rights, call.name)) {
        const own = Object.keys(agent.tools).filter((name) => Rights.allows(turn.rights, name))
        return failure(
          call,
          `You have no right to call ${call.name}. ${own.length > 0 ? `You may call: ${own.join(", ")}.` : "You have no tools."}`
        )
      }
      const mayRepeat = Context.get(tool.annotations, Tool.Idempotent) || Context.get(tool.annotations, Tool.Readonly)
      if (guarded.interrupted && !mayRepeat) return failure(call, interrupted)
      // What a person was asked about is theirs to answer, whatever the tool says now.
      const isAsked = guarded.approval !== undefined || (yield* agent.needsApproval(call))
      const refused = isAsked ? yield* approve(guarded) : undefined
      if (refused !== undefined) return refused
      yield* journal.record({
        conversation: turn.conversation,
        events: [{ _tag: "ToolStarted", call: call.id, tool: call.name }]
      })
      const deadline = Context.get(tool.annotations, Deadline)
      const late = `${call.name} took longer than ${Duration.format(Duration.fromInputUnsafe(deadline))} and was stopped.`
      return yield* agent.handle(call.name, call.params, call.id).pipe(
        Effect.map((result) =>
          Prompt.toolResultPart({
            id: call.id,
            name: call.name,
            isFailure: result.isFailure,
            result: cap(result.isFailure ? messageOf(result.result) : result.encodedResult),
            ...(result.modelOutput === undefined ? {} : { modelOutput: result.modelOutput }),
            providerExecuted: false
          })
        ),
        Effect.catch((error) => Effect.succeed(failure(call, messageOf(error)))),
        Effect.timeoutOrElse({ duration: deadline, orElse: () => Effect.succeed(failure(call, late)) }),
        // An interruption of this call passes by; one that the tool made itself is its fault.
        Effect.catchCause((cause) =>
          Effect.as(
            Effect.logError(`tool ${call.name} is defect`, cause),
            failure(call, `${call.name} failed unexpectedly. This is a fault of the tool, not of your call.`)
          )
        ),
        Effect.provideService(CurrentTurn, { ...turn, call: call.id, send })
      )
    })

    return {
      /**
       * Makes a call and journals its start, and its result with what it says in the chat; or journals a question to a person,
       * and returns no result. Fails only when the journal does.
       */
      call: Effect.fn("ToolGuard.call")(function* (guarded: GuardedCall): Effect.fn.Return<Guarded, JournalError> {
        yield* Effect.annotateCurrentSpan({ tool: guarded.call.name })
        const { output, turn } = guarded
        const said: Array<Output> = []
        const send: CurrentTurn["Service"]["send"] = (text, extra) =>
          Effect.sync(() => {
            const id = OutputId.make(`${output}.${said.length}`)
            said.push({ id, text: mask(text), ...(extra === undefined ? {} : { extra }) })
          })
        const done = yield* execute(guarded, send)
        if (typeof done === "string") return { outputs: [done] }
        const result = scanned(done, hide)
        const events = [{ _tag: "ToolEnded" as const, result }]
        const outputs = result.isFailure || turn.depth > 0 ? [] : said
        // It has run: a store that fails is waited for, so that its result is not taken for unknown.
        yield* patiently(journal.record({ conversation: turn.conversation, events, outputs }))
        return { result, outputs: outputs.map(({ id }) => id) }
      })
    }
  })
}) {}

/** The guard. Provides `ToolGuard`, requires `Journal`. */
export const layer: Layer.Layer<ToolGuard, never, Journal> = Layer.effect(ToolGuard, ToolGuard.make)

/** A result without the vault's secrets: no model is told one, however a tool came by it. */
const scanned = (part: Prompt.ToolResultPart, hide: (text: string) => string): Prompt.ToolResultPart => {
  const written = JSON.stringify(part.result)
  const shown = hide(written)
  const result: unknown = JSON.parse(shown)
  return shown === written ? part : Struct.assign(part, { result })
}

const failure = (call: Prompt.ToolCallPart, result: string) => failedResult(call, cap(result))

const messageOf = (error: unknown): string => {
  if (typeof error === "string") return error
  return Predicate.hasProperty(error, "message") && typeof error.message === "string"
    ? error.message
    : JSON.stringify(error)
}

/** Results are JSON, in valid Unicode. One that is too long becomes the beginning of its text, and says so. */
const cap = (result: unknown): unknown => {
  const written = typeof result === "string" ? result : (JSON.stringify(result) ?? "null")
  if (written.length > resultLimit) {
    const cut = (written.length - resultLimit).toLocaleString("en-US")
    return `${written.slice(0, resultLimit).toWellFormed()}\n[cut: ${cut} more characters]`
  }
  return typeof result === "string" ? written.toWellFormed() : (result ?? null)
}
