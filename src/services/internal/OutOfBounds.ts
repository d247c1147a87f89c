/**
 * The bounds of a turn: how it ends where it reaches one, and what the chat is told.
 */
import { JournalError } from "../Journal.ts"
import type { LedgerError } from "../Ledger.ts"
import { StoreFailed } from "../StoreFailed.ts"
import type { Ending } from "../Turn.ts"

type Bound = Extract<Ending, { _tag: "Exhausted" }>["bound"]

/** A bound is reached: how the turn ends, and what the chat is told. */
export interface OutOfBounds {
  readonly _tag: "OutOfBounds"
  readonly ending: Ending
  readonly text: string
}

const outOfBounds = (bound: Bound, text: string): OutOfBounds => ({
  _tag: "OutOfBounds",
  ending: { _tag: "Exhausted", bound },
  text
})

/** A bound of the turn's own: so much of it, or going in circles. */
export const exhausted = (bound: Bound, most?: string): OutOfBounds => {
  const why =
    most === undefined
      ? ", because I was going in circles: the same call with the same result again and again"
      : ` after ${most}${bound === "time" ? "" : ` ${bound}`} without coming to an end`
  return outOfBounds(bound, `I stopped${why}. Write "go on" and I will.`)
}

/** Books that cannot be kept are a failing store. */
export const booksFailed = ({ message, reason }: LedgerError) =>
  new JournalError({
    operation: "book",
    reason: reason._tag === "StoreFailed" ? reason : new StoreFailed({ detail: message, cause: reason })
  })

/** A budget that has no room, as a bound. */
export const boundOf = (error: LedgerError): OutOfBounds | JournalError => {
  const { reason } = error
  if (reason._tag === "StoreFailed") return booksFailed(error)
  const bound = reason.period === "day" ? "budget" : reason.budget.endsWith("tokens") ? "tokens" : "money"
  return outOfBounds(bound, `I stopped: ${error.message}.`)
}
