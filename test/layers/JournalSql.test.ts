import { assert, describe, it } from "@effect/vitest"
import * as DatabaseSqlite from "effect-claw/layers/DatabaseSqlite"
import * as JournalSql from "effect-claw/layers/JournalSql"
import { Journal } from "effect-claw/services/Journal"
import { OutputId } from "effect-claw/services/Message"
import * as Prompt from "effect/ai/Prompt"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { andy, answer, chat, delivery, journalContract, output, turn } from "../contracts/JournalContract.ts"
import { database, folder } from "../contracts/store.ts"

const layer = Layer.provideMerge(JournalSql.layer, database)

describe("JournalSql", () => {
  journalContract(Layer.provide(JournalSql.layer, database))

  it.effect("what is in it outlives the process that wrote it", () =>
    Effect.gen(function* () {
      const directory = yield* folder
      const opened = <A, E>(effect: Effect.Effect<A, E, Journal>) =>
        Effect.provide(effect, Layer.fresh(JournalSql.layer.pipe(Layer.provide(DatabaseSqlite.layer({ directory })))))
      const before = yield* opened(
        Effect.gen(function* () {
          const journal = yield* Journal
          yield* turn("1", "hello")
          yield* journal.accept(delivery("2"))
          const id = yield* journal.request(chat, andy, 1)
          yield* journal.record({ conversation: chat, events: [answer(1, "bye")], outputs: [output("a"), output("b")] })
          yield* journal.settle(OutputId.make("a"), "sent")
          return { id, entries: yield* journal.entries(chat, 0) }
        })
      )
      yield* opened(
        Effect.gen(function* () {
          const journal = yield* Journal
          assert.deepStrictEqual(yield* journal.entries(chat, 0), before.entries)
          assert.deepStrictEqual(yield* journal.unfinished, [chat])
          assert.deepStrictEqual(
            (yield* journal.outbox(chat)).map(({ id }) => id),
            [OutputId.make("b")]
          )
          assert.isFalse(yield* journal.accept(delivery("1")))
          assert.strictEqual(yield* journal.request(chat, andy, 2), before.id)
        })
      )
    })
  )

  it.effect("an entry that is none of ours is named, and harms no other conversation", () =>
    Effect.gen(function* () {
      const journal = yield* Journal
      const sql = yield* SqlClient.SqlClient
      yield* journal.accept(delivery("1"))
      yield* journal.accept(delivery("2"))
      const [, second] = yield* journal.entries(chat, 0)
      for (const event of ["{", `{"_tag":"Unheard"}`, `{"_tag":"TurnEnded"}`]) {
        yield* sql`UPDATE entries SET event = ${event} WHERE position = ${second?.position ?? 0}`
        const error = yield* Effect.flip(journal.entries(chat, 0))
        assert.strictEqual(error.reason._tag, "EntryInvalid")
        assert.include(error.message, `entry ${second?.position}`)
      }
    }).pipe(Effect.provide(layer))
  )

  describe("a very long conversation", () => {
    const call = (id: string) => Prompt.toolCallPart({ id, name: "bash", params: {}, providerExecuted: false })

    it.effect("is read whole, until a compaction says what is needed of it", () =>
      Effect.gen(function* () {
        const journal = yield* Journal
        yield* journal.atomically(
          Effect.forEach(
            Array.from({ length: 700 }, (_, index) => `${index}`),
            (key) => turn(key, `said ${key}`)
          )
        )
        const all = yield* journal.entries(chat, 0)
        assert.lengthOf(all, 2800)
        const reads = all[2395]?.position ?? 0
        const event = { _tag: "Compacted", before: reads + 1, trimmed: reads + 1, reads, summary: "much" } as const
        yield* journal.record({ conversation: chat, events: [event] })
        const entries = yield* journal.entries(chat, 0)
        assert.lengthOf(entries, 405)
        assert.strictEqual(entries[0]?.event._tag, "InputAccepted")
      }).pipe(Effect.provide(layer))
    )

    it.effect("a turn that goes on and on is read from its beginning", () =>
      Effect.gen(function* () {
        const journal = yield* Journal
        yield* turn("0", "hello")
        yield* journal.accept(delivery("1"))
        yield* journal.atomically(
          Effect.forEach(
            Array.from({ length: 1500 }, (_, index) => index + 1),
            (step) =>
              Effect.andThen(
                journal.request(chat, andy, step),
                journal.record({ conversation: chat, events: [answer(step, call(`${step}`))] })
              )
          )
        )
        const entries = yield* journal.entries(chat, 0)
        assert.deepStrictEqual(
          entries.slice(-3001, -2999).map(({ event }) => event._tag),
          ["InputAccepted", "ModelRequested"]
        )
        const after = entries[5]?.position ?? 0
        assert.strictEqual((yield* journal.entries(chat, after)).length, entries.length - 6)
      }).pipe(Effect.provide(layer))
    )
  })

  it.effect("a disk that is full loses nothing: what was not stored is refused, and taken when there is room", () =>
    Effect.gen(function* () {
      const journal = yield* Journal
      const sql = yield* SqlClient.SqlClient
      yield* journal.accept(delivery("1"))
      const pages = (count: number) => sql.unsafe(`PRAGMA max_page_count = ${count}`)
      yield* pages(1)
      const big = {
        ...delivery("2"),
        input: { ...delivery("2").input, content: delivery("x".repeat(100_000)).input.content }
      }
      const error = yield* Effect.flip(journal.accept(big))
      assert.strictEqual(error.reason._tag, "StoreFailed")
      assert.include(error.message, "make room on the disk")
      assert.strictEqual((yield* journal.entries(chat, 0)).length, 1)
      yield* pages(1_000_000)
      assert.isTrue(yield* journal.accept(big))
      assert.strictEqual((yield* journal.entries(chat, 0)).length, 2)
    }).pipe(Effect.provide(layer))
  )
})
