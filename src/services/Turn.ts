/**
 * A turn: one run of an agent over the inputs it has not yet seen, until it has no more tool calls.
 *
 * This module is pure. It says what a journal's entries mean: what they come to (`fold`), which step a conversation is at (`next`), and what a
 * running turn lets others see (`TurnEvent`). Resuming after a crash is nothing but reading the entries and asking
 * `next` again.
 */
import * as Prompt from "effect/ai/Prompt"
import * as Response from "effect/ai/Response"
import * as Schema from "effect/Schema"
import { AgentName, Content, ConversationId, MessageId, type OutputId, Sender } from "./Message.ts"
import { Rights } from "./Rights.ts"

/** The journal position of the entry that began the turn. */
export const TurnId = Schema.Int.pipe(Schema.brand("TurnId"))
export type TurnId = typeof TurnId.Type

/** Where an input comes from. Whatever it is, it takes the same road. */
export const Origin = Schema.TaggedUnion({
  /** `group`: others listen. */
  Person: {
    sender: Sender,
    name: Schema.optionalKey(Schema.String),
    message: Schema.optionalKey(MessageId),
    group: Schema.optionalKey(Schema.Literal(true))
  },
  /** `sender`: who had it scheduled, as far as that is a person. */
  Task: { task: Schema.String, sender: Schema.optionalKey(Sender) },
  /** A brief from the agent that delegates, for `sender`; `rights` are the most that the turn may use. */
  Parent: {
    conversation: ConversationId,
    agent: AgentName,
    sender: Schema.optionalKey(Sender),
    rights: Rights,
    depth: Schema.Int
  }
})
export type Origin = typeof Origin.Type

/** Something for an agent to act upon. `at` is in epoch milliseconds. */
export const Input = Schema.Struct({ origin: Origin, content: Content, at: Schema.Int })
export type Input = typeof Input.Type

/** How a turn ended. `Failed` and `Exhausted` are told to the chat. */
export const Ending = Schema.TaggedUnion({
  Done: {},
  Stopped: {},
  /** A newer message took its place, and is answered by the next turn. */
  Superseded: {},
  /** The model could not be asked; `message` is fit for the chat. */
  Failed: { message: Schema.String },
  /** `money` and `tokens` are the turn's own, `budget` is the day's. */
  Exhausted: { bound: Schema.Literals(["steps", "time", "tokens", "money", "budget", "repeats"]) }
})
export type Ending = typeof Ending.Type

/** What happened. Entries are only ever appended. */
export const Event = Schema.TaggedUnion({
  /** `collect`: while a turn is open, it waits for the next. `context`: it is shown, and wakes nobody. */
  InputAccepted: { input: Input, mode: Schema.optionalKey(Schema.Literals(["collect", "context"])) },
  ModelRequested: { step: Schema.Int, agent: AgentName },
  ModelAnswered: { step: Schema.Int, content: Schema.Array(Prompt.AssistantMessagePart), usage: Response.Usage },
  ToolStarted: { call: Schema.String, tool: Schema.String },
  ToolEnded: { result: Prompt.ToolResultPart },
  /** A call waits for a person: for `sender`, if the turn acts for one. `digest` is that of the tool and its arguments. */
  ApprovalAsked: {
    call: Schema.String,
    tool: Schema.String,
    digest: Schema.String,
    code: Schema.String,
    sender: Schema.optionalKey(Sender)
  },
  ApprovalAnswered: { code: Schema.String, digest: Schema.String, yes: Schema.Boolean, by: Sender },
  TurnEnded: { ending: Ending },
  /** A claw began and found the turn open, because the one before it had died. */
  TurnResumed: {},
  /** A channel refused for good what was said. */
  OutputRefused: { text: Schema.String, detail: Schema.String },
  /** `/new`: what came before is not shown to the model any more. */
  ConversationReset: {},
  /** `/compact`: the next turn begins with a compaction. */
  CompactionAsked: {},
  /**
   * What stood before the entry at `before` is shown as this summary from now on; of what stood before `trimmed`, files
   * and long texts of tools are left out; entries up to `reads` are needed for nothing any more. `usage` is what it cost to
   * write the summary.
   */
  Compacted: {
    before: Schema.Int,
    trimmed: Schema.Int,
    reads: Schema.Int,
    summary: Schema.String,
    usage: Schema.optionalKey(Response.Usage)
  }
})
export type Event = typeof Event.Type

/** An event at its place in the journal. Positions grow over the whole claw; `at` is in epoch milliseconds. */
export interface Entry {
  readonly position: number
  readonly at: number
  readonly event: Event
}

/** What a conversation does next. */
export type Next =
  | { readonly _tag: "Rest" }
  | { readonly _tag: "AskModel"; readonly step: number }
  | {
      readonly _tag: "CallTools"
      readonly step: number
      readonly calls: ReadonlyArray<Prompt.ToolCallPart>
      /** Calls that had been started when the claw died: their outcome is unknown. */
      readonly interrupted: ReadonlySet<string>
    }
  /** Calls wait for a person, and there is nothing else to do. */
  | { readonly _tag: "Park" }

/** A call of the open step that a person was asked about. */
export interface Approval extends Omit<Extract<Event, { _tag: "ApprovalAsked" }>, "_tag"> {
  /** Epoch milliseconds. */
  readonly at: number
  /** None while it is waited for. `why`: what the model is told when it is no. */
  readonly answer: { readonly yes: true } | { readonly yes: false; readonly why: string } | undefined
}

/** How long an answer is waited for, in milliseconds: a day. */
const approvalLife = 86_400_000
const expired: Approval["answer"] = { yes: false, why: "Nobody approved this call within a day." }
const isExpired = ({ at }: Approval, now: number) => now - at >= approvalLife

/** The tool calls of an answer that are ours to run. */
export const toolCalls = (content: ReadonlyArray<Prompt.AssistantMessagePart>): ReadonlyArray<Prompt.ToolCallPart> =>
  content.filter((part): part is Prompt.ToolCallPart => part.type === "tool-call" && !part.providerExecuted)

const isCancelling = (event: Event): boolean =>
  event._tag === "ConversationReset" || (event._tag === "TurnEnded" && event.ending._tag === "Stopped")

/**
 * Entries in the order in which they are to be understood: an input that a turn did not see stands behind its end. A
 * `collect` input that came during a turn is not there before that.
 */
export const inOrder = (entries: ReadonlyArray<Entry>): ReadonlyArray<Entry> => {
  const ordered: Array<Entry> = []
  let waiting: Array<Entry> = []
  let open = false
  // Behind which index inputs were not seen, and not answered.
  let requested = 0
  let answered = 0
  for (const entry of entries) {
    const { event } = entry
    if (event._tag === "ModelRequested") {
      open = true
      requested = ordered.length
    }
    if (event._tag === "ModelAnswered") answered = requested
    if (event._tag === "InputAccepted" && event.mode === "collect" && open) waiting.push(entry)
    else if (event._tag === "TurnEnded" || event._tag === "ConversationReset") {
      if (isCancelling(event)) ordered.push(...waiting, entry)
      else {
        // A new turn answers again what one that was superseded had not answered.
        const since = event._tag === "TurnEnded" && event.ending._tag === "Superseded" ? answered : requested
        const isInput = ({ event }: Entry) => event._tag === "InputAccepted"
        const latest = ordered.splice(since)
        ordered.push(...latest.filter((one) => !isInput(one)), entry, ...latest.filter(isInput), ...waiting)
      }
      waiting = []
      open = false
      requested = answered = ordered.length
    } else ordered.push(entry)
  }
  return ordered
}

/** How often the same call came to the same result in one turn. */
export const makeRepeats = () => {
  const calls = new Map<string, string>()
  const counts = new Map<string, number>()
  return {
    asked: (content: ReadonlyArray<Prompt.AssistantMessagePart>): void => {
      for (const { id, name, params } of toolCalls(content)) calls.set(id, JSON.stringify([name, params]))
    },
    ended: ({ id, result }: Prompt.ToolResultPart): number => {
      const key = `${calls.get(id)} ${JSON.stringify(result)}`
      const count = (counts.get(key) ?? 0) + 1
      counts.set(key, count)
      return count
    }
  }
}

const tokensOf = ({ inputTokens, outputTokens }: Response.Usage): number =>
  (inputTokens.total ?? 0) + (outputTokens.total ?? 0)

/** What the open turn, or the next one, acts for. */
export interface Mandate {
  /** None while no turn is open. */
  readonly turn: TurnId | undefined
  /** The person it acts for: who wrote last, or had the task or the brief made. */
  readonly sender: Sender | undefined
  /** What that person wrote last; `group`: where others listen. */
  readonly message: { readonly id: MessageId; readonly group: boolean } | undefined
  /** The agent that delegated, if one did. */
  readonly parent: Extract<Origin, { _tag: "Parent" }> | undefined
  /** Tokens the open turn has used. */
  readonly tokens: number
  /** How often the open turn has had the same result of the same call, at most. */
  readonly repeats: number
  /** How often the open turn was cut by a death, with nothing coming of it since. */
  readonly resumed: number
}

/** What entries, in order, come to: whom the open turn acts for, at which step it is, and what people were asked of that. */
export const fold = (entries: ReadonlyArray<Entry>) => {
  const fresh = { turn: undefined, tokens: 0, repeats: 0, resumed: 0 }
  const nobody: Mandate = { ...fresh, sender: undefined, message: undefined, parent: undefined }
  let mandate = nobody
  let repeats = makeRepeats()
  let isOver = true
  let step = 0
  let isAnswered = true
  let isUnseen = false
  let calls: ReadonlyArray<Prompt.ToolCallPart> = []
  const started = new Set<string>()
  const ended = new Set<string>()
  const approvals = new Map<string, Approval>()
  const answer = (given: Approval["answer"], which: (approval: Approval) => boolean) => {
    for (const [call, one] of approvals)
      if (one.answer === undefined && which(one)) approvals.set(call, { ...one, answer: given })
  }

  for (const { at, event, position } of entries) {
    answer(expired, (one) => isExpired(one, at))
    switch (event._tag) {
      case "InputAccepted": {
        if (event.mode === "context") break
        const { origin } = event.input
        isUnseen = true
        mandate = isOver ? nobody : { ...mandate, resumed: 0 }
        isOver = false
        if (origin.sender !== undefined) mandate = { ...mandate, sender: origin.sender }
        if (origin._tag === "Parent") mandate = { ...mandate, parent: origin }
        if (origin._tag !== "Person") break
        if (origin.message !== undefined)
          mandate = { ...mandate, message: { id: origin.message, group: origin.group === true } }
        if (event.mode === undefined)
          answer({ yes: false, why: "This call was not approved: the person wrote something else." }, () => true)
        break
      }
      case "ModelRequested":
        step = event.step
        isUnseen = false
        isAnswered = false
        calls = []
        isOver = false
        if (mandate.turn === undefined) mandate = { ...mandate, turn: TurnId.make(position) }
        break
      case "ModelAnswered":
        isAnswered = true
        calls = toolCalls(event.content)
        started.clear()
        ended.clear()
        approvals.clear()
        repeats.asked(event.content)
        mandate = { ...mandate, resumed: 0, tokens: mandate.tokens + tokensOf(event.usage) }
        break
      case "Compacted":
        if (event.usage !== undefined) mandate = { ...mandate, tokens: mandate.tokens + tokensOf(event.usage) }
        break
      case "ToolStarted":
        started.add(event.call)
        break
      case "ToolEnded":
        ended.add(event.result.id)
        mandate = { ...mandate, resumed: 0, repeats: Math.max(mandate.repeats, repeats.ended(event.result)) }
        break
      case "ApprovalAsked":
        approvals.set(event.call, { ...event, at, answer: undefined })
        break
      case "ApprovalAnswered":
        answer(
          event.yes ? { yes: true } : { yes: false, why: "The person denied this call." },
          ({ code, digest }) => code === event.code && digest === event.digest
        )
        break
      case "TurnResumed":
        mandate = { ...mandate, resumed: mandate.resumed + 1 }
        break
      case "TurnEnded":
      case "ConversationReset":
        step = 0
        isAnswered = true
        calls = []
        approvals.clear()
        if (isCancelling(event)) isUnseen = false
        else if (event._tag === "TurnEnded" && event.ending._tag === "Superseded") isUnseen = true
        repeats = makeRepeats()
        mandate = { ...mandate, ...fresh }
        isOver = true
        break
    }
  }
  return { mandate, step, isAnswered, isUnseen, calls, started, ended, approvals }
}

/** What entries come to. */
export type State = ReturnType<typeof fold>

/**
 * What people were asked of the open step, by the id of the call. What is answered later than a day after, or not at all until
 * `now`, in epoch milliseconds, is answered with no; and so is what a person meets with another message.
 */
export const approvals = (state: State, now: number): ReadonlyMap<string, Approval> =>
  new Map(
    [...state.approvals].map(([call, one]) => [
      call,
      one.answer === undefined && isExpired(one, now) ? { ...one, answer: expired } : one
    ])
  )

/** The step a conversation is at, at `now`, in epoch milliseconds. */
export const next = (state: State, now: number): Next => {
  const { calls, ended, isAnswered, isUnseen, started, step } = state
  const asked = approvals(state, now)
  if (!isAnswered) return { _tag: "AskModel", step }
  // A call with the id of another is not made: what is answered for the one is not for the other.
  const open = calls.filter(({ id }, at) => !ended.has(id) && calls.findIndex((call) => call.id === id) === at)
  if (open.length === 0) {
    return calls.length > 0 || isUnseen ? { _tag: "AskModel", step: step + 1 } : { _tag: "Rest" }
  }
  const callable = open.filter(({ id }) => asked.get(id)?.answer !== undefined || !asked.has(id))
  if (callable.length === 0) return { _tag: "Park" }
  const interrupted = new Set(callable.flatMap(({ id }) => (started.has(id) ? [id] : [])))
  return { _tag: "CallTools", step, calls: callable, interrupted }
}

/** What a running turn lets a channel see, live. Nothing here is durable: the journal is. */
export type TurnEvent =
  | { readonly _tag: "TurnBegan"; readonly turn: TurnId }
  /** The turn is at work again: a person has answered, or a claw that starts has found it open. */
  | { readonly _tag: "TurnContinued"; readonly turn: TurnId }
  | { readonly _tag: "TextDelta"; readonly output: OutputId; readonly delta: string }
  /** The model is asked again: what was streamed of this output is void. */
  | { readonly _tag: "TextDiscarded"; readonly output: OutputId }
  | { readonly _tag: "ToolCalled"; readonly call: string; readonly tool: string; readonly params: unknown }
  | { readonly _tag: "ToolReturned"; readonly call: string; readonly isFailure: boolean }
  /** The turn waits for a person, who is asked in `outputs`. */
  | { readonly _tag: "TurnParked"; readonly turn: TurnId; readonly outputs: ReadonlyArray<OutputId> }
  /** The turn is over; `outputs` are recorded and will be sent. */
  | {
      readonly _tag: "TurnEnded"
      readonly turn: TurnId
      readonly ending: Ending
      readonly outputs: ReadonlyArray<OutputId>
    }
