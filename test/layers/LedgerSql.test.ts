import { assert, describe, it } from "@effect/vitest"
import * as LedgerSql from "effect-claw/layers/LedgerSql"
import { Ledger } from "effect-claw/services/Ledger"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { ledgerContract } from "../contracts/LedgerContract.ts"
import { database } from "../contracts/store.ts"

describe("LedgerSql", () => {
  ledgerContract(Layer.provide(LedgerSql.layer, database))

  it.effect("books that cannot be kept are no refusal of the budget", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`DROP TABLE calls`
      const error = yield* Effect.flip(Ledger.use((ledger) => ledger.spent({})))
      assert.strictEqual(error.reason._tag, "StoreFailed")
      assert.match(error.message, /^ledger: /)
    }).pipe(Effect.provide(Layer.provideMerge(LedgerSql.layer, database)))
  )
})
