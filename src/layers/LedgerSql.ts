/**
 * The ledger on a SQL database: a row per model call, reserved first and booked after.
 */
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import type * as SqlError from "effect/sql/SqlError"
import type { Fragment } from "effect/sql/Statement"
import * as Budget from "../services/Budget.ts"
import { HomeZone } from "../services/HomeZone.ts"
import { BudgetExceeded, Ledger, LedgerError, type Reservation, type Spent } from "../services/Ledger.ts"
import * as ModelInfo from "../services/ModelInfo.ts"
import { storeFailed } from "./internal/storeFailed.ts"

const booksFailed = (cause: SqlError.SqlError) => new LedgerError({ reason: storeFailed(cause) })

/**
 * The ledger.
 *
 * Provides `Ledger`; requires a migrated `SqlClient`. Holds nothing to release. A day begins at midnight of `HomeZone`.
 */
export const layer: Layer.Layer<Ledger, never, SqlClient.SqlClient> = Layer.effect(
  Ledger,
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const zone = yield* HomeZone

    /** Calls that someone pays for. */
    const paidBy = (...conditions: ReadonlyArray<Fragment>) =>
      sql`(turn, step, attempt) IN (SELECT turn, step, attempt FROM payers WHERE ${sql.and(conditions)})`

    const check = Effect.fnUntraced(function* (
      call: Reservation,
      purse: Budget.Purse,
      period: "day" | "turn",
      written: Budget.AmountInput,
      microdollars: number
    ) {
      const budget = Budget.amount(written)
      const midnight = DateTime.toEpochMillis(DateTime.startOf(DateTime.setZone(yield* DateTime.now, zone), "day"))
      const column = sql.literal(
        budget.unit === "microdollars"
          ? "microdollars"
          : "input_tokens + cache_read_tokens + cache_write_tokens + output_tokens"
      )
      const paid =
        period === "day"
          ? paidBy(sql`agent = ${purse.agent}`, sql`at >= ${midnight}`)
          : paidBy(sql`of_turn = ${purse.turn}`)
      const [row] = yield* sql<{ spent: number }>`
        SELECT COALESCE(SUM(${column}), 0) AS spent FROM calls WHERE ${paid}`.pipe(Effect.mapError(booksFailed))
      const spent = row?.spent ?? 0
      const asked = budget.unit === "microdollars" ? microdollars : call.tokens
      if (spent + asked > budget.value) {
        const [used, more] = [spent, asked].map((value) => Budget.format({ ...budget, value }))
        const reason = new BudgetExceeded({
          period,
          budget: purse.turn === call.turn ? written : `${purse.agent}'s ${written}`,
          spent: `${used} spent or reserved, the next call may take ${more}`
        })
        return yield* new LedgerError({ reason })
      }
    })

    return Ledger.of({
      reserve: Effect.fn("Ledger.reserve")(function* (call) {
        // All of it at the dearest rate: what is reserved is never less than what is booked.
        const rate = call.price === undefined ? 0 : Math.max(...Object.values(call.price))
        const microdollars = Math.ceil(call.tokens * rate)
        const { above = [], agent, budget, conversation, step, turn } = call
        const purses: Arr.NonEmptyReadonlyArray<Budget.Purse> = [{ agent, conversation, turn, ...budget }, ...above]
        for (const purse of purses) {
          if (purse.perDay !== undefined) yield* check(call, purse, "day", purse.perDay, microdollars)
          if (purse.perTurn !== undefined) yield* check(call, purse, "turn", purse.perTurn, microdollars)
        }
        const at = yield* Clock.currentTimeMillis
        yield* Effect.gen(function* () {
          // A call that was cut may have been paid for: its reservation stands, and the next has a row of its own.
          const [made] = yield* sql<{ attempt: number }>`
            SELECT COALESCE(MAX(attempt), 0) + 1 AS attempt FROM calls WHERE turn = ${turn} AND step = ${step}`
          const of = { turn, step, attempt: made?.attempt ?? 1, at }
          const payers = Arr.map(purses, (purse) => {
            return { ...of, agent: purse.agent, of_turn: purse.turn, conversation: purse.conversation }
          })
          // Who pays for no call pays nothing, so they come first.
          yield* sql`INSERT INTO payers ${sql.insert(payers)} ON CONFLICT DO NOTHING`
          const { model, sender = null, tokens } = call
          const row = { ...of, conversation, agent, sender, model, input_tokens: tokens, microdollars }
          yield* sql`INSERT INTO calls ${sql.insert(row)}`
        }).pipe(Effect.mapError(booksFailed))
      }),

      book: Effect.fn("Ledger.book")(
        function* ({ price, step, turn, usage }) {
          const latest = sql`turn = ${turn} AND step = ${step} AND attempt =
          (SELECT MAX(attempt) FROM calls WHERE turn = ${turn} AND step = ${step})`
          if (usage === undefined) {
            yield* sql`DELETE FROM payers WHERE ${latest}`
            return yield* sql`DELETE FROM calls WHERE ${latest}`
          }
          const { cacheRead, cacheWrite, input, output } = ModelInfo.tokensOf(usage)
          yield* sql`UPDATE calls SET booked = 1, input_tokens = ${input}, cache_read_tokens = ${cacheRead},
          cache_write_tokens = ${cacheWrite}, output_tokens = ${output}, microdollars = ${ModelInfo.cost(price, usage)}
          WHERE ${latest}`
        },
        Effect.mapError(booksFailed),
        Effect.asVoid
      ),

      spent: Effect.fn("Ledger.spent")(function* (by) {
        const payer = [
          ...(by.agent === undefined ? [] : [sql`agent = ${by.agent}`]),
          ...(by.conversation === undefined ? [] : [sql`conversation = ${by.conversation}`])
        ]
        const conditions = [
          ...(payer.length === 0 ? [] : [paidBy(...payer)]),
          ...(by.sender === undefined ? [] : [sql`sender = ${by.sender}`]),
          sql`at >= ${by.since ?? 0}`
        ]
        const sum = (column: string) => sql.literal(`COALESCE(SUM(${column}), 0)`)
        const rows = yield* sql<Spent>`SELECT COUNT(*) AS calls, ${sum("input_tokens")} AS "inputTokens",
          ${sum("cache_read_tokens")} AS "cacheReadTokens", ${sum("cache_write_tokens")} AS "cacheWriteTokens",
          ${sum("output_tokens")} AS "outputTokens", ${sum("microdollars")} AS microdollars
          FROM calls WHERE ${sql.and(conditions)}`
        // A sum over no rows is a row.
        return yield* Effect.orDie(Effect.fromNullishOr(rows[0]))
      }, Effect.mapError(booksFailed))
    })
  })
)
