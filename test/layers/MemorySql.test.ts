import { assert, describe, it } from "@effect/vitest"
import * as DatabaseSqlite from "effect-claw/layers/DatabaseSqlite"
import * as MemorySql from "effect-claw/layers/MemorySql"
import { Memory, type MemoryError } from "effect-claw/services/Memory"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { memoryContract } from "../contracts/MemoryContract.ts"
import { database, folder } from "../contracts/store.ts"

describe("MemorySql", () => {
  memoryContract(Layer.provide(MemorySql.layer, database))

  it.effect("memories outlive the process that kept them", () =>
    Effect.gen(function* () {
      const directory = yield* folder
      const opened = <A, E>(effect: Effect.Effect<A, E, Memory>) =>
        Effect.provide(effect, Layer.fresh(MemorySql.layer.pipe(Layer.provide(DatabaseSqlite.layer({ directory })))))
      const kept = yield* opened(Memory.use((memory) => memory.remember({ _tag: "Claw" }, "Ada likes tea")))
      assert.deepStrictEqual(yield* opened(Memory.use((memory) => memory.recall([{ _tag: "Claw" }], "tea"))), [kept])
    })
  )

  it.effect("a store that does not answer is said to be why", () =>
    Effect.gen(function* () {
      const memory = yield* Memory
      yield* Effect.flatMap(SqlClient.SqlClient, (sql) => sql`DROP TABLE memories`)
      const attempts: ReadonlyArray<Effect.Effect<unknown, MemoryError>> = [
        memory.remember({ _tag: "Claw" }, "tea"),
        memory.recall([{ _tag: "Claw" }], "tea"),
        memory.list([{ _tag: "Claw" }]),
        memory.forget([{ _tag: "Claw" }], 1)
      ]
      for (const attempt of attempts) {
        assert.strictEqual((yield* Effect.flip(attempt)).reason._tag, "StoreFailed")
      }
    }).pipe(Effect.provide(Layer.provideMerge(MemorySql.layer, database)))
  )
})
