/**
 * The journal: the durable, append-only record of every conversation.
 *
 * The journal is the state. An input counts as received when its entry is committed; a step counts as done when its
 * entry, its usage and the outputs it made are committed, together. Whoever runs a conversation holds nothing that
 * cannot be read back from here.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { AgentName, ConversationId, Extra, OutputId } from "./Message.ts"
import { StoreFailed } from "./StoreFailed.ts"
import type { Ending, Entry, Event, Input, TurnId } from "./Turn.ts"

/** An entry is no JSON, or not one of ours: a tool's result cannot be written down, or other code wrote the database. */
export class EntryInvalid extends Schema.TaggedError<EntryInvalid>()("EntryInvalid", { detail: Schema.String }) {}

/** The journal could not be read or written, for `reason`. */
export class JournalError extends Schema.TaggedError<JournalError>()("JournalError", {
  operation: Schema.String,
  reason: Schema.Union([StoreFailed, EntryInvalid])
}) {
  override get message(): string {
    return `journal ${this.operation}: ${this.reason.detail}`
  }
}

/**
 * What an input does while a turn runs. `steer`: the next step sees it. `collect`: one turn after sees all of them.
 * `interrupt`: the turn is cancelled, and a new one begins. `context`: it is shown with what is seen next, and wakes nobody.
 */
export type Mode = "steer" | "collect" | "interrupt" | "context"

/** An input on its way into the journal. */
export interface Delivery {
  readonly conversation: ConversationId
  /** The agent that the conversation is bound to from now on. */
  readonly agent: AgentName
  /** What makes this input the same as an earlier one: the channel's message id, a task's due time. */
  readonly key: string
  readonly input: Input
  /** Default: `steer`. */
  readonly mode?: Mode
}

/** An output to be recorded, and then sent by the outbox. */
export interface Output {
  readonly id: OutputId
  readonly text: string
  readonly extra?: Extra
}

/** An output that its channel has not yet accepted. `attempts` counts the failed ones. */
export interface PendingOutput extends Output {
  readonly conversation: ConversationId
  readonly attempts: number
}

/** What is known of a conversation without reading its entries. */
export interface ConversationState {
  readonly agent: AgentName
  /** A turn is open, or inputs are unseen. */
  readonly unfinished: boolean
}

/** What came of an input. `answer` is all that the turn which saw it said. */
export interface Outcome {
  readonly ending: Ending
  readonly answer: string
}

/** One step's worth of record. */
export interface Record {
  readonly conversation: ConversationId
  readonly events: ReadonlyArray<Event>
  readonly outputs?: ReadonlyArray<Output>
  /**
   * Ends the open turn. `Done` is not taken while there are unseen inputs: the turn goes on with them. `Superseded` is not
   * taken when no turn is open.
   */
  readonly ending?: Ending | undefined
}

/** Delays for asking a store again that did not answer: growing to ten seconds. What can never be stored is given up. */
const patience = Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("10 seconds")]).pipe(
  Schedule.setInputType<{ readonly reason: { readonly _tag: string } }>(),
  Schedule.while(({ input }) => input.reason._tag === "StoreFailed")
)

/** Waits for a store that fails, telling each failure. */
export const patiently = <A, E extends { readonly message: string; readonly reason: { readonly _tag: string } }, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  effect.pipe(
    Effect.tapError((error) => Effect.logError(error.message)),
    Effect.retry(patience)
  )

/** The durable record of conversations. */
export class Journal extends Context.Service<
  Journal,
  {
    /** Whoever worked with this journal before did not end in order. */
    readonly wasCut: boolean
    /** Appends an input. `false`: it is already here, by its key; the journal is as it was. */
    readonly accept: (delivery: Delivery) => Effect.Effect<boolean, JournalError>
    /** Whether an input is here, by its key. */
    readonly isReceived: (conversation: ConversationId, key: string) => Effect.Effect<boolean, JournalError>
    /** Appends the request of a model step, opening a turn if none is open. Inputs up to here count as seen. */
    readonly request: (
      conversation: ConversationId,
      agent: AgentName,
      step: number
    ) => Effect.Effect<TurnId, JournalError>
    /** Appends events, outputs and, if asked, the turn's end, in one transaction. Returns whether the turn ended. */
    readonly record: (record: Record) => Effect.Effect<boolean, JournalError>
    /** A conversation's entries after a position, oldest first; from 0, all since its last reset that are still needed. */
    readonly entries: (conversation: ConversationId, after: number) => Effect.Effect<ReadonlyArray<Entry>, JournalError>
    /** What came of an input, by its key; none while its turn has not ended. */
    readonly outcome: (conversation: ConversationId, key: string) => Effect.Effect<Option.Option<Outcome>, JournalError>
    readonly state: (conversation: ConversationId) => Effect.Effect<Option.Option<ConversationState>, JournalError>
    /** Conversations with an open turn or unseen inputs. */
    readonly unfinished: Effect.Effect<ReadonlyArray<ConversationId>, JournalError>
    /** A conversation's outputs that are neither sent nor failed, in the order they were recorded. */
    readonly outbox: (conversation: ConversationId) => Effect.Effect<ReadonlyArray<PendingOutput>, JournalError>
    /** Whether an output has been recorded, sent or not. */
    readonly isRecorded: (output: OutputId) => Effect.Effect<boolean, JournalError>
    /** Conversations whose outbox is not empty. */
    readonly unsent: Effect.Effect<ReadonlyArray<ConversationId>, JournalError>
    /** Marks an output as accepted by its channel, as failed for good, or counts a failed attempt. */
    readonly settle: (output: OutputId, outcome: "sent" | "failed" | "retry") => Effect.Effect<void, JournalError>
    /**
     * Removes what is older than this from conversations at rest; their prompts begin after it. That a message was received
     * stays known. Returns the number of entries removed.
     */
    readonly retain: (age: Duration.Input) => Effect.Effect<number, JournalError>
    /** Runs an effect in one transaction, with all that it writes to this journal and to services on the same store. */
    readonly atomically: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | JournalError, R>
  }
>()("effect-claw/services/Journal") {}
