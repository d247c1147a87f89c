/**
 * The transcript: a journal's entries as a prompt.
 *
 * Pure. The prompt's beginning is the same from call to call, so that providers can cache it: instructions first, then
 * what happened, in order. A tool call is never shown without a result.
 */
import * as Prompt from "effect/ai/Prompt"
import * as DateTime from "effect/DateTime"
import { type Content } from "./Message.ts"
import { wrap } from "./PromptBorder.ts"
import { type Entry, type Input, makeRepeats, toolCalls } from "./Turn.ts"

/** The most of one input's text that is shown, in characters; the journal has all of it. */
export const inputLimit = 100_000

/** From which repetition on a model is told that it repeats itself. */
const repeatsTold = 3

/** What a call that was cut short is said to have returned. */
export const interruptedResult = (
  call: Prompt.ToolCallPart,
  result = "The call was interrupted and its outcome is unknown. Check before you repeat it."
): Prompt.ToolResultPart =>
  Prompt.toolResultPart({ id: call.id, name: call.name, isFailure: true, result, providerExecuted: false })

/** What a call of a turn that a person stopped is said to have returned. */
export const stopped = "The call was stopped, by the person you talk to, before it had ended."

const clip = (text: string): string =>
  text.length <= inputLimit
    ? text
    : `${text.slice(0, inputLimit)}\n[${(text.length - inputLimit).toLocaleString("en-US")} characters more were cut]`

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
      ? Prompt.textPart({ text: wrap(tag, { ...attributes, time: clock(at) }, clip(part.text)) })
      : part
  )
  return Prompt.userMessage({ content: parts })
}

const refusal = (said: string, detail: string): Prompt.UserMessage => {
  const notice = `What you said was refused by the chat and has not been seen: ${said}\nThe reason: ${detail}`
  return Prompt.userMessage({ content: [Prompt.textPart({ text: wrap("notice", {}, notice) })] })
}

/** A result that came often is shown with what that means. */
const repeated = (ended: Prompt.ToolResultPart, times: number): Prompt.ToolResultPart => {
  if (times < repeatsTold) return ended
  const note = `[This very call has had this very result ${times} times. Do something else, or say what is in the way.]`
  const { id, isFailure, name, result } = ended
  return Prompt.toolResultPart({
    id,
    name,
    isFailure,
    result: typeof result === "string" ? `${result}\n${note}` : { result, note },
    providerExecuted: false
  })
}

/** The prompt of a model step over all entries given. */
export const prompt = (options: {
  readonly system: string
  readonly entries: ReadonlyArray<Entry>
  /** Shows a time; see `clockIn`. */
  readonly clock: (at: number) => string
}): Prompt.Prompt => {
  const messages: Array<Prompt.Message> = [Prompt.systemMessage({ content: options.system })]
  let calls: ReadonlyArray<Prompt.ToolCallPart> = []
  let results = new Map<string, Prompt.ToolResultPart>()
  let held: Array<Prompt.Message> = []
  let repeats = makeRepeats()

  // Results stand right after the calls; what people said meanwhile follows.
  const flush = (cut?: string) => {
    if (calls.length > 0) {
      messages.push(
        Prompt.toolMessage({ content: calls.map((call) => results.get(call.id) ?? interruptedResult(call, cut)) })
      )
    }
    messages.push(...held)
    calls = []
    results = new Map()
    held = []
  }

  for (const { event } of options.entries) {
    switch (event._tag) {
      case "InputAccepted":
        held.push(userMessage(event.input, options.clock))
        break
      case "ModelAnswered":
        // What was said while it answered stands after the answer: the model has not seen it yet.
        if (event.content.length > 0) messages.push(Prompt.assistantMessage({ content: event.content }))
        calls = toolCalls(event.content)
        repeats.asked(event.content)
        break
      case "ToolEnded":
        results.set(event.result.id, repeated(event.result, repeats.ended(event.result)))
        break
      case "TurnEnded":
        repeats = makeRepeats()
        flush(event.ending._tag === "Stopped" ? stopped : undefined)
        break
      case "ModelRequested":
        flush()
        break
      case "OutputRefused":
        held.push(refusal(event.text, event.detail))
        break
      case "ToolStarted":
      case "TurnResumed":
      case "ConversationReset":
        break
    }
  }
  flush()
  return Prompt.fromMessages(messages)
}

/** A rough count of a prompt's tokens, erring upwards: one for three characters, 1,600 for a file. */
export const estimateTokens = (self: Prompt.Prompt): number => {
  let characters = 0
  let files = 0
  for (const message of self.content) {
    if (typeof message.content === "string") characters += message.content.length
    else {
      for (const part of message.content) {
        if (part.type === "file") files++
        else characters += "text" in part ? part.text.length : JSON.stringify(part).length
      }
    }
  }
  return Math.ceil(characters / 3) + files * 1600
}
