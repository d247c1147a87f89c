/**
 * Journals as a claw writes them, at random: inputs that come at any time and in any mode, steps with calls that end in any
 * order, turns that end in every way, and claws that died in between. Beside each entry stands what is to be done after it.
 */
import { assert } from "@effect/vitest"
import { AgentName, ConversationId, Sender, text } from "effect-claw/services/Message"
import { Rights } from "effect-claw/services/Rights"
import type { Entry, Event, Next, Origin } from "effect-claw/services/Turn"
import * as Prompt from "effect/ai/Prompt"
import * as Response from "effect/ai/Response"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"

export interface Written extends Entry {
  /** What is to be done when this is the last entry. */
  readonly next: Next
}

const agent = AgentName.make("andy")
export const usage = new Response.Usage({ inputTokens: { total: 7 }, outputTokens: { total: 3 } })

export const callOf = (id: string) =>
  Prompt.toolCallPart({ id, name: "bash", params: { command: id }, providerExecuted: false })
export const resultOf = (id: string, more: Partial<Prompt.ToolResultPart> = {}) =>
  Prompt.toolResultPart({ id, name: "bash", isFailure: false, result: `did ${id}`, providerExecuted: false, ...more })

const origins: ReadonlyArray<Origin> = [
  { _tag: "Person", sender: Sender.make("memory:ada"), name: "Ada" },
  { _tag: "Person", sender: Sender.make("memory:bob") },
  { _tag: "Task", task: "t1" },
  {
    _tag: "Parent",
    conversation: ConversationId.make("memory:chat"),
    agent,
    sender: Sender.make("memory:ada"),
    rights: new Rights({ tools: ["bash"] }),
    depth: 1
  }
]

/** A call is never without its result, nor a result without its call. */
export const assertPaired = (messages: ReadonlyArray<Prompt.Message>): void => {
  for (const [index, message] of messages.entries()) {
    const calls =
      message.role === "assistant"
        ? message.content.flatMap((part) => (part.type === "tool-call" ? [part.id] : []))
        : []
    const after = messages[index + 1]
    const results = after?.role === "tool" ? after.content.flatMap((part) => ("id" in part ? [part.id] : [])) : []
    assert.deepStrictEqual(results, calls)
    if (message.role === "tool") assert.strictEqual(messages[index - 1]?.role, "assistant")
  }
}

type Phase = "idle" | "asked" | "calling" | "between" | "ending"

/** Plays a conversation: every choice is one entry. */
const play = (choices: ReadonlyArray<number>): ReadonlyArray<Written> => {
  const entries: Array<Written> = []
  let phase: Phase = "idle"
  let step = 0
  let unseen = false
  let waiting = false
  let calls: ReadonlyArray<Prompt.ToolCallPart> = []
  const started = new Set<string>()
  const ended = new Set<string>()

  const open = () => calls.filter(({ id }) => !ended.has(id))
  const next = (): Next => {
    switch (phase) {
      case "idle":
        return unseen ? { _tag: "AskModel", step: 1 } : { _tag: "Rest" }
      case "asked":
        return { _tag: "AskModel", step }
      case "between":
        return { _tag: "AskModel", step: step + 1 }
      case "ending":
        return { _tag: "Rest" }
      case "calling": {
        const interrupted = open().flatMap(({ id }) => (started.has(id) ? [id] : []))
        return { _tag: "CallTools", step, calls: open(), interrupted: new Set(interrupted) }
      }
    }
  }

  const input = (choice: number): Event => {
    const mode = ([undefined, undefined, "collect", "context"] as const)[choice % 4]
    if (mode === "collect" && phase !== "idle") waiting = true
    else if (mode !== "context") unseen = true
    const origin = origins[choice % origins.length] ?? { _tag: "Task", task: "t2" }
    const said = { origin, content: text(`input ${entries.length}`), at: entries.length }
    return { _tag: "InputAccepted", input: said, ...(mode === undefined ? {} : { mode }) }
  }
  const ask = (): Event => {
    if (phase === "idle") step = 1
    else if (phase === "between") step++
    phase = "asked"
    unseen = false
    return { _tag: "ModelRequested", step, agent }
  }
  const answer = (choice: number): Event => {
    calls = Array.from({ length: choice % 4 }, (_, index) => callOf(`${entries.length}.${index}`))
    started.clear()
    ended.clear()
    phase = calls.length > 0 ? "calling" : unseen ? "between" : "ending"
    const says = choice % 3 === 0 ? [] : [Prompt.textPart({ text: `answer ${entries.length}` })]
    return { _tag: "ModelAnswered", step, content: [...says, ...calls], usage }
  }
  const call = (choice: number): Event => {
    const one = open()[choice % open().length] ?? callOf("none")
    if (choice % 2 === 0) {
      started.add(one.id)
      return { _tag: "ToolStarted", call: one.id, tool: one.name }
    }
    ended.add(one.id)
    if (open().length === 0) phase = "between"
    return { _tag: "ToolEnded", result: resultOf(one.id) }
  }
  const end = (choice: number): Event => {
    const ending =
      phase === "ending"
        ? ({ _tag: "Done" } as const)
        : choice % 3 === 0
          ? ({ _tag: "Stopped" } as const)
          : choice % 3 === 1
            ? ({ _tag: "Superseded" } as const)
            : ({ _tag: "Failed", message: "no model" } as const)
    unseen = ending._tag !== "Stopped" && (ending._tag === "Superseded" || unseen || waiting)
    waiting = false
    phase = "idle"
    calls = []
    return { _tag: "TurnEnded", ending }
  }

  const event = (choice: number): Event => {
    const rest = Math.floor(choice / 10)
    const kind = choice % 10
    switch (phase) {
      case "idle":
        return unseen && kind > 2 ? ask() : input(rest)
      case "asked":
        return kind === 0 ? end(rest) : kind === 1 ? ask() : kind === 2 ? input(rest) : answer(rest)
      case "calling":
        return kind === 0 && rest % 4 === 0 ? end(rest) : kind === 2 ? input(rest) : call(rest)
      case "between":
        return kind === 0 ? end(rest) : kind === 2 ? input(rest) : ask()
      case "ending":
        return end(rest)
    }
  }

  for (const choice of choices) {
    const written = event(choice)
    entries.push({ position: entries.length + 1, at: entries.length, event: written, next: next() })
  }
  return entries
}

/** Journals of 40 entries; what is shorter is the beginning of one. */
export const journal: Arbitrary.Arbitrary<ReadonlyArray<Written>> = Arbitrary.map(
  Arbitrary.array(Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 9999 }))), {
    minLength: 40,
    maxLength: 40
  }),
  play
)
