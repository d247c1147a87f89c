/**
 * A model step: the prompt is made and reserved, the model asked, and its answer committed, or a summary in its place.
 */
import type * as Prompt from "effect/ai/Prompt"
import type * as Response from "effect/ai/Response"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { rightsIn, systemPrompt } from "../Agent.ts"
import { withImages } from "../Attachments.ts"
import * as Compaction from "../Compaction.ts"
import * as Leaks from "../Leaks.ts"
import * as PromptSize from "../PromptSize.ts"
import * as Rights from "../Rights.ts"
import * as Transcript from "../Transcript.ts"
import * as Turn from "../Turn.ts"
import * as ModelCall from "./ModelCall.ts"
import { booksFailed, boundOf, exhausted } from "./OutOfBounds.ts"
import type { Work } from "./Work.ts"

/** How often the same call may have the same result in a turn before the turn is stopped. The model is told before. */
const repeatsBorne = 8

/** A prompt that is shorter than this, in tokens, is not refused for its length. */
const worthHalving = 4000

/** What the model is about to be asked; for a summary, if there is a compaction. */
interface Asking {
  readonly turn: Turn.TurnId
  readonly step: number
  readonly prompt: Prompt.Prompt
  readonly compaction: Compaction.Compaction | undefined
}

const unasked = { ...ModelCall.noAnswer, booking: Effect.void }

const viewOf = ({ clock, ready, state }: Work): Transcript.Options => {
  return { system: systemPrompt(ready.agent), entries: state.entries, clock, budget: state.room }
}

/** The bound of its own that a turn has reached. */
const reached = ({ ready, state }: Work, step: number) => {
  const { steps, tokens } = ready.agent.limits
  if (step > steps) return exhausted("steps", steps.toLocaleString("en-US"))
  if (state.mandate.tokens > tokens) return exhausted("tokens", tokens.toLocaleString("en-US"))
  return state.mandate.repeats >= repeatsBorne ? exhausted("repeats") : undefined
}

/** Fails when the budget has no room for it. */
const reserve = ({ conversation, ledger, model, ready, state, toolTokens }: Work, { prompt, step, turn }: Asking) =>
  Effect.mapError(
    ledger.reserve({
      turn,
      step,
      conversation,
      agent: ready.agent.name,
      sender: state.mandate.sender,
      model: model.name,
      tokens: PromptSize.estimateTokens(prompt) + toolTokens + model.outputTokens,
      price: model.price,
      budget: ready.agent.budget,
      above: state.mandate.parent?.rights.budget ?? []
    }),
    boundOf
  )

/** Journals the request and reserves it, in one transaction: the one is not known without the other. */
const request = (work: Work, step: number) => {
  const { conversation, journal, read, ready } = work
  return journal.atomically(
    Effect.gen(function* () {
      const turn = yield* journal.request(conversation, ready.agent.name, step)
      yield* read
      const due = Compaction.due(viewOf(work))
      const compaction = due?.old.length === 0 ? undefined : due
      if (due !== undefined && compaction === undefined) {
        yield* journal.record({ conversation, events: [due.event] })
        yield* read
      }
      const view = viewOf(work)
      const prompt = compaction === undefined ? Transcript.prompt(view) : Compaction.request(compaction, view)
      const asking: Asking = { turn, step, prompt, compaction }
      // Out of bounds is no failure of the transaction.
      const bound = yield* reserve(work, asking).pipe(
        Effect.as(undefined),
        Effect.catchTag("OutOfBounds", (bound) => Effect.succeed(bound))
      )
      return { ...asking, bound }
    })
  )
}

/** Asks the model, each attempt reserved by itself; what is not taken is told, and ends the turn. */
const call = Effect.fnUntraced(function* (work: Work, asking: Asking) {
  const { conversation, files, giveUp, journal, leaks, ledger, model, observe, ready, state } = work
  const { compaction, prompt, step, turn } = asking
  const output = work.outputId(turn, step)
  const rights = rightsIn(ready, conversation, state.mandate)
  const tools = Object.values(ready.tools).filter(({ name }) => Rights.allows(rights, name))
  const book = (usage: Response.Usage | undefined) =>
    Effect.mapError(ledger.book({ turn, step, price: model.price, usage }), booksFailed)
  const live = Leaks.inPieces(leaks)
  const show = (delta: string) =>
    delta === "" || compaction !== undefined ? Effect.void : observe({ _tag: "TextDelta", output, delta })
  const asked = yield* ModelCall.ask({
    prompt: yield* withImages(files, prompt),
    tools: compaction === undefined ? tools : [],
    onText: (delta) => show(live.next(delta)),
    onFailure: (isUnspent) => {
      live.end()
      return Effect.andThen(observe({ _tag: "TextDiscarded", output }), isUnspent ? book(undefined) : Effect.void)
    },
    again: journal.atomically(reserve(work, asking))
  }).pipe(Effect.provideContext(ready.model), Effect.result)
  if (Result.isSuccess(asked)) {
    yield* show(live.end())
    const { usage } = asked.success
    // Where a provider says nothing, what was reserved stands.
    const isUnknown = usage.inputTokens.total === undefined && usage.outputTokens.total === undefined
    return { ...asked.success, booking: isUnknown ? Effect.void : book(usage) }
  }
  const error = asked.failure
  if (error._tag === "JournalError") return yield* error
  if (error._tag === "OutOfBounds") return yield* giveUp(turn, step, error.ending, error.text)
  // A digest stands in for a summary that the model does not give.
  if (compaction !== undefined && ModelCall.isPromptsFault(error)) return unasked
  // An estimate can be wrong: it is tried with half of the prompt, and with half of that.
  const size = PromptSize.estimateTokens(prompt)
  if (ModelCall.isTooLong(error) && size > worthHalving) {
    state.room = size / 2
    return false
  }
  const message = ModelCall.apology(error, model.name)
  return yield* giveUp(turn, step, { _tag: "Failed", message }, message)
})

/** Does a model step. Returns whether the turn is over. */
export const run = Effect.fnUntraced(function* (work: Work, step: number) {
  const { commit, giveUp, known, observe, outputId, state } = work
  const open = state.mandate.turn
  const end = reached(work, step)
  // What came meanwhile is not seen by this turn, and is the next one's.
  if (open !== undefined && end !== undefined) return yield* giveUp(open, step, end.ending, end.text)
  const asking = yield* request(work, step)
  const { bound, compaction, turn } = asking
  known.add(turn)
  if (open === undefined) yield* observe({ _tag: "TurnBegan", turn })
  if (bound !== undefined && compaction === undefined) return yield* giveUp(turn, step, bound.ending, bound.text)
  const answer = bound === undefined ? yield* call(work, asking) : unasked
  if (typeof answer === "boolean") return answer
  const { booking, content, finish, usage } = answer
  const output = outputId(turn, step)
  if (compaction !== undefined) {
    const summary = finish === "content-filter" ? "" : ModelCall.textOf(content)
    const event = { ...Compaction.entry(compaction, viewOf(work), summary), usage }
    return yield* commit({ turn, output, text: "", ending: undefined, events: [event], booking })
  }
  return yield* commit({
    turn,
    output,
    text: ModelCall.replyOf(content, finish),
    ending: Turn.toolCalls(content).length > 0 ? undefined : { _tag: "Done" },
    events: [{ _tag: "ModelAnswered", step, content, usage }],
    booking
  })
})
