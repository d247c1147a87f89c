import { assert, describe, it } from "@effect/vitest"
import * as DatabaseSqlite from "effect-claw/layers/DatabaseSqlite"
import * as JournalSql from "effect-claw/layers/JournalSql"
import { Journal } from "effect-claw/services/Journal"
import { ConversationId } from "effect-claw/services/Message"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { chat, delivery, other } from "../contracts/JournalContract.ts"
import { database, folder } from "../contracts/store.ts"

/** A journal's writes share their commits: seen from outside, none of them can tell. */
const layer = Layer.provideMerge(JournalSql.layer, database)

const chats = Array.from({ length: 200 }, (_, index) => ConversationId.make(`memory:${index}`))
const isThere = (conversation: ConversationId) =>
  Journal.use((journal) => Effect.map(journal.entries(conversation, 0), ({ length }) => length > 0))

/** Writes all at once, and holds every writer to its word: what it was told is what is there. */
const everyWriterIsTold = Effect.fnUntraced(function* <E, R>(
  write: (conversation: ConversationId, index: number) => Effect.Effect<unknown, E, R>
) {
  const exits = yield* Effect.forEach(chats, (conversation, index) => Effect.exit(write(conversation, index)), {
    concurrency: "unbounded"
  })
  for (const [index, conversation] of chats.entries()) {
    assert.strictEqual(yield* isThere(conversation), Exit.isSuccess(exits[index] ?? assert.fail()), conversation)
  }
  return exits
})

describe("writes that share a commit", () => {
  it.effect("each is durable before it returns: another connection sees it", () =>
    Effect.gen(function* () {
      const directory = yield* folder
      yield* Effect.gen(function* () {
        const journal = yield* Journal
        const outside = new DatabaseSync(join(directory, "claw.db"), { readOnly: true })
        const find = outside.prepare("SELECT 1 FROM entries WHERE conversation = ?")
        yield* Effect.forEach(
          chats,
          (conversation) =>
            Effect.andThen(
              journal.accept(delivery("1", conversation)),
              Effect.sync(() => assert.isDefined(find.get(conversation)))
            ),
          { concurrency: "unbounded" }
        )
        outside.close()
      }).pipe(Effect.provide(JournalSql.layer.pipe(Layer.provide(DatabaseSqlite.layer({ directory })))))
    })
  )

  it.effect("one that fails undoes itself and no other", () =>
    Effect.gen(function* () {
      const journal = yield* Journal
      const exits = yield* everyWriterIsTold((conversation, index) =>
        journal.atomically(
          Effect.andThen(
            journal.accept(delivery("1", conversation)),
            index % 3 === 0 ? Effect.fail(`no ${index}`) : Effect.void
          )
        )
      )
      assert.deepStrictEqual(
        exits.map(Exit.isSuccess),
        chats.map((_, index) => index % 3 !== 0)
      )
      assert.deepStrictEqual(exits[3], Exit.fail("no 3"))
    }).pipe(Effect.provide(layer))
  )

  it.effect("one that is defect gets its defect; whoever was undone with it is told, and can write again", () =>
    Effect.gen(function* () {
      const journal = yield* Journal
      const exits = yield* everyWriterIsTold((conversation, index) =>
        index === 100
          ? journal.atomically(
              Effect.andThen(journal.accept(delivery("1", conversation)), Effect.die(new Error("a bug")))
            )
          : journal.accept(delivery("1", conversation))
      )
      assert.isTrue(Exit.hasDies(exits[100] ?? assert.fail()))
      const undone = chats.filter((_, index) => index !== 100 && Exit.isFailure(exits[index] ?? assert.fail()))
      for (const exit of exits.filter(Exit.isFailure)) {
        if (!Exit.hasDies(exit)) {
          const error = yield* Effect.flip(exit)
          assert.strictEqual(error.reason._tag, "StoreFailed")
        }
      }
      yield* Effect.forEach(undone, (conversation) => journal.accept(delivery("1", conversation)), {
        concurrency: "unbounded"
      })
      assert.strictEqual((yield* journal.unfinished).length, chats.length - 1)
    }).pipe(Effect.provide(layer))
  )

  it.effect("a disk that fills up in the middle of it tells each what became of it", () =>
    Effect.gen(function* () {
      const journal = yield* Journal
      const sql = yield* SqlClient.SqlClient
      const [pages] = yield* sql<{ page_count: number }>`PRAGMA page_count`
      yield* sql.unsafe(`PRAGMA max_page_count = ${(pages?.page_count ?? 0) + 100}`)
      const write = (conversation: ConversationId) => journal.accept(delivery("x".repeat(3000), conversation))
      const exits = yield* everyWriterIsTold(write)
      const failed = chats.filter((_, index) => Exit.isFailure(exits[index] ?? assert.fail()))
      assert.isAbove(failed.length, 0)
      yield* sql.unsafe("PRAGMA max_page_count = 1000000")
      yield* Effect.forEach(failed, write, { concurrency: "unbounded" })
      assert.strictEqual((yield* journal.unfinished).length, chats.length)
    }).pipe(Effect.provide(layer))
  )

  it.effect("one that is interrupted while it waits is not written, and holds up nobody", () =>
    Effect.gen(function* () {
      const journal = yield* Journal
      const sql = yield* SqlClient.SqlClient
      const gate = yield* Deferred.make<void>()
      const holding = yield* Effect.forkChild(sql.withTransaction(Deferred.await(gate)), { startImmediately: true })
      const first = yield* Effect.forkChild(journal.accept(delivery("1")), { startImmediately: true })
      const second = yield* Effect.forkChild(journal.accept(delivery("1", other)), { startImmediately: true })
      yield* Effect.repeat(Effect.yieldNow, { times: 20 })
      yield* Fiber.interrupt(first)
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(holding)
      assert.isTrue(yield* Fiber.join(second))
      assert.isFalse(yield* isThere(chat))
    }).pipe(Effect.provide(layer))
  )

  it.effect("those of one conversation stay in the order they were asked for", () =>
    Effect.gen(function* () {
      const journal = yield* Journal
      yield* Effect.forEach(
        Array.from({ length: 300 }, (_, index) => `${index}`),
        (key) => journal.accept(delivery(key)),
        { concurrency: "unbounded" }
      )
      const texts = (yield* journal.entries(chat, 0)).flatMap(({ event }) =>
        event._tag === "InputAccepted"
          ? event.input.content.map((part) => (part.type === "text" ? Number(part.text) : Number.NaN))
          : []
      )
      assert.deepStrictEqual(
        texts,
        Array.from({ length: 300 }, (_, index) => index)
      )
    }).pipe(Effect.provide(layer))
  )
})
