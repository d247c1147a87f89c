/**
 * Conversations: who is at work.
 *
 * One actor per conversation does its turns, in order, one at a time; a bounded number of turns run at once. This is the
 * one seam where distribution lives: in one process, or sharded over machines. An actor holds nothing: what is to be
 * done is read from the journal.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Delivery, JournalError } from "./Journal.ts"
import type { ConversationId } from "./Message.ts"

/** The actors of a claw. */
export class Conversations extends Context.Service<
  Conversations,
  {
    /**
     * Says what an actor does: `run` does a conversation's work until there is none. Everything that is unfinished in the
     * journal starts at once. Interrupting `run` leaves the turn open, to be resumed.
     */
    readonly serve: (
      run: (conversation: ConversationId) => Effect.Effect<void, JournalError>
    ) => Effect.Effect<void, JournalError, Scope.Scope>
    /** Puts an input into the journal and wakes the conversation. `false`: it was there already. */
    readonly deliver: (delivery: Delivery) => Effect.Effect<boolean, JournalError>
    /** Looks at the conversation's journal, if it is not at work already. */
    readonly wake: (conversation: ConversationId) => Effect.Effect<void>
    /** Cancels the running turn, what it started, and inputs not yet seen. `false`: nothing was running. */
    readonly stop: (conversation: ConversationId) => Effect.Effect<boolean, JournalError>
    readonly status: (conversation: ConversationId) => Effect.Effect<"idle" | "waiting" | "running">
    /** Waits until a conversation, or every one, has nothing to do. */
    readonly settled: (conversation?: ConversationId) => Effect.Effect<void>
  }
>()("effect-claw/services/Conversations") {}
