/**
 * The transcript: a journal's entries as a prompt.
 *
 * Pure. The prompt's beginning is the same from call to call, so that providers can cache it: instructions first, then
 * what happened, in order. A tool call is never shown without a result.
 */
import * as Prompt from "effect/ai/Prompt"
import * as DateTime from "effect/DateTime"
import * as Struct from "effect/Struct"
import { type Content } from "./Message.ts"
import { fromClaw, wrap, wrapResult } from "./PromptBorder.ts"
import { clip, fit, left, tokensOf, trim } from "./PromptSize.ts"
import { type Entry, type Input, makeRepeats, toolCalls } from "./Turn.ts"

/** The most of one input's text that is shown, in characters; the journal has all of it. */
export const inputLimit = 100_000

/** From which repetition on a model is told that it repeats itself. */
const repeatsTold = 3

/** The result of a call that failed. */
export const failedResult = ({ id, name }: Prompt.ToolCallPart, result: unknown): Prompt.ToolResultPart =>
  Prompt.toolResultPart({ id, name, isFailure: true, result, providerExecuted: false })

/** What a call that was cut short is said to have returned. */
export const interrupted = "The call was interrupted and its outcome is unknown. Check before you repeat it."

/** What a call of a turn that a person stopped is said to have returned. */
export const stopped = "The call was stopped, by the person you talk to, before it had ended."

/** How times are shown in a zone: `Tue, Nov 24, 2026, 6:11 PM`. */
export const clockIn = (zone: DateTime.TimeZone): ((at: number) => string) => {
  const format = new Intl.DateTimeFormat("en-US", {
    weekday: "short",
    year: "numeric",
    month: "short",
    day: "numeric",
    hour: "numeric",
    minute: "2-digit",
    timeZone: DateTime.zoneToString(zone)
  })
  return (at) => format.format(at).replaceAll("\u202f", " ")
}

const userMessage = ({ at, content, origin }: Input, clock: (at: number) => string): Prompt.UserMessage => {
  const [tag, attributes] =
    origin._tag === "Person"
      ? ["message", { from: origin.name ?? origin.sender }]
      : origin._tag === "Task"
        ? ["task", { id: origin.task }]
        : ["brief", { from: origin.agent }]
  const parts: Content = content.map((part) =>
    part.type === "text"
      ? Struct.assign(part, { text: wrap(tag, { ...attributes, time: clock(at) }, clip(part.text, inputLimit)) })
      : part
  )
  return Prompt.userMessage({ content: parts })
}

const refusal = (said: string, detail: string): string =>
  `What you said was refused by the chat and has not been seen: ${said}\nThe reason: ${detail}`

/** A result in its wrapper; one that came often is shown with what that means. */
const toolResult = (ended: Prompt.ToolResultPart, times: number): Prompt.ToolResultPart => {
  const { modelOutput, name, result } = ended
  const note =
    times < repeatsTold
      ? ""
      : `\n[This very call has had this very result ${times} times. Do something else, or say what is in the way.]`
  const shown = Struct.assign(ended, { result: wrapResult(name, result) + note })
  if (modelOutput === undefined) return shown
  const outputs = modelOutput.map((part) =>
    part.type === "text" ? Struct.assign(part, { text: wrapResult(name, part.text) }) : part
  )
  return { ...shown, modelOutput: note === "" ? outputs : [...outputs, Prompt.textPart({ text: note.trim() })] }
}

/** Something that a prompt shows whole or not at all: what one said, or calls and their results together. */
export interface Piece {
  /** Where the entry stands that it begins with. */
  readonly index: number
  readonly messages: ReadonlyArray<Prompt.Message>
}

/** What entries look like to a model, from the entry at an index on. */
export const pieces = (
  entries: ReadonlyArray<Entry>,
  from: number,
  clock: (at: number) => string
): ReadonlyArray<Piece> => {
  const made: Array<Piece> = []
  let answer: Piece | undefined
  let calls: ReadonlyArray<Prompt.ToolCallPart> = []
  let results = new Map<string, Prompt.ToolResultPart>()
  let held: Array<Piece> = []
  let repeats = makeRepeats()

  // Results stand right after the calls; what people said meanwhile follows.
  const flush = (cut = interrupted) => {
    if (answer !== undefined) {
      const content = calls.map((call) => results.get(call.id) ?? failedResult(call, cut))
      const messages = content.length > 0 ? [...answer.messages, Prompt.toolMessage({ content })] : answer.messages
      if (messages.length > 0) made.push({ ...answer, messages })
    }
    made.push(...held)
    answer = undefined
    calls = []
    results = new Map()
    held = []
  }

  for (const [index, { event }] of entries.entries()) {
    if (index < from) continue
    switch (event._tag) {
      case "InputAccepted":
        held.push({ index, messages: [userMessage(event.input, clock)] })
        break
      case "ModelAnswered":
        // What was said while it answered stands after the answer: the model has not seen it yet.
        answer = {
          index,
          messages: event.content.length > 0 ? [Prompt.assistantMessage({ content: event.content })] : []
        }
        calls = toolCalls(event.content)
        repeats.asked(event.content)
        break
      case "ToolEnded":
        results.set(event.result.id, toolResult(event.result, repeats.ended(event.result)))
        break
      case "TurnEnded":
        repeats = makeRepeats()
        flush(event.ending._tag === "Stopped" || event.ending._tag === "Superseded" ? stopped : undefined)
        break
      case "ModelRequested":
        flush()
        break
      case "OutputRefused":
        held.push({ index, messages: [fromClaw("notice", refusal(event.text, event.detail))] })
        break
      case "ToolStarted":
      case "ApprovalAsked":
      case "ApprovalAnswered":
      case "TurnResumed":
      case "ConversationReset":
      case "CompactionAsked":
      case "Compacted":
        break
    }
  }
  flush()
  return made
}

/** What the latest compaction left: what is shown from which index on, trimmed before which, under which summary. */
export const compacted = (entries: ReadonlyArray<Entry>) => {
  const event = entries.findLast(({ event }) => event._tag === "Compacted")?.event
  // What a cut stands before is always there.
  const indexOf = (position: number) =>
    Math.max(
      0,
      entries.findIndex((entry) => entry.position === position)
    )
  return event?._tag === "Compacted"
    ? { from: indexOf(event.before), trimmed: indexOf(event.trimmed), summary: event.summary }
    : { from: 0, trimmed: 0, summary: "" }
}

/** What stands before all pieces. */
export const opening = (system: string, summary: string): ReadonlyArray<Prompt.Message> => [
  Prompt.systemMessage({ content: system }),
  ...(summary === "" ? [] : [fromClaw("summary", summary)])
]

/** What a prompt is made of. */
export interface Options {
  readonly system: string
  /** In order; see `Turn.inOrder`. */
  readonly entries: ReadonlyArray<Entry>
  /** Shows a time; see `clockIn`. */
  readonly clock: (at: number) => string
  /** The most tokens, as `PromptSize.estimateTokens` counts them. Default: no bound. */
  readonly budget?: number
}

/** The prompt of a model step. Whatever the entries are, it fits the budget, as far as the system's text does. */
export const prompt = ({ budget = Infinity, clock, entries, system }: Options): Prompt.Prompt => {
  const { from, summary, trimmed } = compacted(entries)
  const head = opening(system, summary)
  const body = pieces(entries, from, clock).map(({ index, messages }) =>
    index < trimmed ? messages.map(trim()) : messages
  )
  // Providers want a person's word first, and what was said before may be gone.
  const isBeheaded = head.length === 1 && body[0]?.[0] !== undefined && body[0][0].role !== "user"
  const first = isBeheaded ? [...head, left] : head
  return Prompt.fromMessages([...first, ...fit(body, budget - tokensOf(first))])
}
