/**
 * The ledger: nothing is spent unseen.
 *
 * Every model call is reserved against its agent's budget, and those of the agents that one works for, before it is made,
 * with the most it can cost, and booked with what it did cost. A call that was cut may have been paid for: its reservation stands, and the call made again has
 * one of its own.
 */
import type * as Response from "effect/ai/Response"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Budget, Purse } from "./Budget.ts"
import type { AgentName, ConversationId, Sender } from "./Message.ts"
import type { Price } from "./ModelInfo.ts"
import { StoreFailed } from "./StoreFailed.ts"
import type { TurnId } from "./Turn.ts"

/** The call does not fit the budget. */
export class BudgetExceeded extends Schema.TaggedError<BudgetExceeded>()("BudgetExceeded", {
  period: Schema.Literals(["day", "turn"]),
  /** Both for people to read. */
  budget: Schema.String,
  spent: Schema.String
}) {}

/** The ledger refuses, for `reason`. */
export class LedgerError extends Schema.TaggedError<LedgerError>()("LedgerError", {
  reason: Schema.Union([BudgetExceeded, StoreFailed])
}) {
  override get message(): string {
    return this.reason._tag === "BudgetExceeded"
      ? `the budget of ${this.reason.budget} per ${this.reason.period} is used up (${this.reason.spent})`
      : `ledger: ${this.reason.detail}`
  }
}

/** A model call about to be made. */
export interface Reservation {
  readonly turn: TurnId
  readonly step: number
  readonly conversation: ConversationId
  readonly agent: AgentName
  readonly sender: Sender | undefined
  readonly model: string
  /** The most this call can use. */
  readonly tokens: number
  readonly price: Price | undefined
  readonly budget: Budget
  /** The agents that it works for, and their turns: the call needs room in their budgets, too, and counts as theirs. */
  readonly above?: ReadonlyArray<Purse>
}

/** What was used. Reservations that were never booked count with what was reserved. */
export interface Spent {
  readonly calls: number
  readonly inputTokens: number
  readonly cacheReadTokens: number
  readonly cacheWriteTokens: number
  readonly outputTokens: number
  readonly microdollars: number
}

/** Whose spending is asked for, that of the agents working for it included; what is left out is not looked at. */
export interface SpentBy {
  readonly agent?: AgentName
  readonly conversation?: ConversationId
  readonly sender?: Sender
  /** Epoch milliseconds. */
  readonly since?: number
}

/** The books of what models cost. */
export class Ledger extends Context.Service<
  Ledger,
  {
    readonly reserve: (reservation: Reservation) => Effect.Effect<void, LedgerError>
    /** Books the latest reservation of a step. No usage: the provider refused, and nothing was used. */
    readonly book: (
      call: Pick<Reservation, "turn" | "step" | "price"> & { readonly usage: Response.Usage | undefined }
    ) => Effect.Effect<void, LedgerError>
    readonly spent: (by: SpentBy) => Effect.Effect<Spent, LedgerError>
  }
>()("effect-claw/services/Ledger") {}
