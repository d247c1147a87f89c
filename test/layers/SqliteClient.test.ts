import { assert, describe, it } from "@effect/vitest"
import * as SqliteClient from "effect-claw/layers/SqliteClient"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import type * as SqlError from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { folder } from "../contracts/store.ts"

const memory = SqliteClient.layer({ filename: ":memory:" })

const test = (name: string, body: Effect.Effect<unknown, unknown, SqlClient.SqlClient>) =>
  it.effect(name, () => Effect.provide(Effect.asVoid(body), memory))

/** A table of one number and one text. */
const table = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.as(sql`CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE)`, sql)
)
const names = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.map(sql<{ name: string }>`SELECT name FROM t ORDER BY id`, (rows) => rows.map(({ name }) => name))
)
const insert = (name: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql`INSERT INTO t ${sql.insert({ name })}`)

const reasonOf = <A, R>(effect: Effect.Effect<A, SqlError.SqlError, R>) =>
  Effect.map(Effect.flip(effect), ({ reason }) => reason._tag)

describe("SqliteClient", () => {
  describe("durability", () => {
    const pragmas = Effect.fnUntraced(function* (config: Partial<SqliteClient.SqliteClientConfig>) {
      const directory = yield* folder
      return yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const [journal] = yield* sql<{ journal_mode: string }>`PRAGMA journal_mode`
        const [synchronous] = yield* sql<{ synchronous: number }>`PRAGMA synchronous`
        const [keys] = yield* sql<{ foreign_keys: number }>`PRAGMA foreign_keys`
        return [journal?.journal_mode, synchronous?.synchronous, keys?.foreign_keys]
      }).pipe(Effect.provide(SqliteClient.layer({ filename: join(directory, "a.db"), ...config })))
    })

    it.effect("by default every commit waits for the disk", () =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* pragmas({}), ["wal", 2, 1])
        assert.deepStrictEqual(yield* pragmas({ synchronous: "NORMAL" }), ["wal", 1, 1])
      })
    )

    it.effect("what is committed is there when the file is opened again, and nothing is left beside it", () =>
      Effect.gen(function* () {
        const filename = join(yield* folder, "a.db")
        yield* Effect.andThen(table, insert("a")).pipe(Effect.provide(SqliteClient.layer({ filename })))
        assert.isFalse(existsSync(`${filename}-wal`))
        const again = new DatabaseSync(filename)
        assert.strictEqual(again.prepare("SELECT name FROM t").get()?.["name"], "a")
        again.close()
      })
    )

    it.effect("a reader beside it sees what is committed, and only that", () =>
      Effect.gen(function* () {
        const filename = join(yield* folder, "a.db")
        yield* Effect.gen(function* () {
          const sql = yield* table
          const reader = new DatabaseSync(filename, { readOnly: true })
          const count = () => reader.prepare("SELECT COUNT(*) AS n FROM t").get()?.["n"]
          yield* sql.withTransaction(
            Effect.gen(function* () {
              yield* insert("a")
              assert.strictEqual(count(), 0)
            })
          )
          assert.strictEqual(count(), 1)
          reader.close()
        }).pipe(Effect.provide(SqliteClient.layer({ filename })))
      })
    )

    it.effect("a file that is no database is not opened, and left as it is", () =>
      Effect.gen(function* () {
        const filename = join(yield* folder, "a.db")
        const content = "this is no database, ".repeat(1000)
        writeFileSync(filename, content)
        const exit = yield* Effect.exit(Effect.asVoid(Layer.build(SqliteClient.layer({ filename }))))
        assert.isTrue(Exit.isFailure(exit))
        assert.strictEqual(readFileSync(filename, "utf8"), content)
      })
    )
  })

  describe("values", () => {
    test(
      "what is stored comes back as it was",
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const values = {
          text: "a'b\"c\n😀\0d",
          integer: -42,
          real: 0.1,
          large: 2 ** 53 - 1,
          bytes: new Uint8Array([0, 255]),
          absent: null
        }
        yield* sql`CREATE TABLE v (text, integer, real, large, bytes, absent)`
        yield* sql`INSERT INTO v ${sql.insert(values)}`
        const [row] = yield* sql<typeof values>`SELECT * FROM v`
        assert.deepStrictEqual({ ...row }, values)
      })
    )

    test(
      "booleans are 0 and 1, dates are text, what is undefined is null",
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const at = DateTime.toDate(DateTime.makeUnsafe(0))
        const [row] = yield* sql`SELECT ${true} AS yes, ${false} AS no, ${at} AS at, ${undefined} AS absent`
        assert.deepStrictEqual({ ...row }, { yes: 1, no: 0, at: "1970-01-01T00:00:00.000Z", absent: null })
      })
    )

    test(
      "integers that a number cannot hold are refused, or come as bigints where they are asked for",
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const large = 2n ** 60n
        const select = sql<{ n: unknown }>`SELECT ${large} AS n`
        assert.isTrue(Exit.isFailure(yield* Effect.exit(select)))
        const [row] = yield* Effect.provideService(select, SqlClient.SafeIntegers, true)
        assert.strictEqual(row?.n, large)
        const [small] = yield* sql<{ n: unknown }>`SELECT 7 AS n`
        assert.strictEqual(small?.n, 7)
      })
    )

    test(
      "what cannot be bound fails its statement and says so",
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const error = yield* Effect.flip(sql.unsafe("SELECT ?", [{ an: "object" }]))
        assert.include(String(error.reason.cause), "cannot bind a object")
      })
    )

    test(
      "a value is never read as SQL",
      Effect.gen(function* () {
        yield* table
        const hostile = "x'); DROP TABLE t; --"
        yield* insert(hostile)
        assert.deepStrictEqual(yield* names, [hostile])
      })
    )

    test(
      "rows come as arrays where they are asked for",
      Effect.gen(function* () {
        const sql = yield* table
        yield* insert("a")
        assert.deepStrictEqual(yield* sql`SELECT id, name FROM t`.values, [[1, "a"]])
        assert.deepStrictEqual(yield* names, ["a"])
      })
    )
  })

  describe("transactions", () => {
    test(
      "all of it, or nothing",
      Effect.gen(function* () {
        const sql = yield* table
        yield* sql.withTransaction(Effect.andThen(insert("a"), insert("b")))
        for (const end of [Effect.fail("no"), Effect.die("a bug"), Effect.interrupt]) {
          yield* Effect.exit(sql.withTransaction(Effect.andThen(insert("c"), end)))
          assert.deepStrictEqual(yield* names, ["a", "b"])
        }
      })
    )

    test(
      "one within another is undone by itself, and with it",
      Effect.gen(function* () {
        const sql = yield* table
        const inner = (name: string, end: Effect.Effect<unknown, string>) =>
          Effect.exit(sql.withTransaction(Effect.andThen(insert(name), end)))
        yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* insert("a")
            yield* inner("b", Effect.fail("no"))
            yield* inner("c", Effect.void)
          })
        )
        assert.deepStrictEqual(yield* names, ["a", "c"])
        yield* Effect.exit(sql.withTransaction(Effect.andThen(inner("d", Effect.void), Effect.fail("no"))))
        assert.deepStrictEqual(yield* names, ["a", "c"])
      })
    )

    test(
      "a statement that fails in it does not end it",
      Effect.gen(function* () {
        const sql = yield* table
        yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* insert("a")
            assert.strictEqual(yield* reasonOf(insert("a")), "UniqueViolation")
            yield* insert("b")
          })
        )
        assert.deepStrictEqual(yield* names, ["a", "b"])
      })
    )

    test(
      "two at once run one after the other, and statements outside wait for them",
      Effect.gen(function* () {
        const sql = yield* table
        const gate = yield* Deferred.make<void>()
        const log: Array<string> = []
        const transaction = (name: string) =>
          sql.withTransaction(
            Effect.gen(function* () {
              log.push(`begin ${name}`)
              yield* insert(name)
              yield* Deferred.await(gate)
              log.push(`end ${name}`)
            })
          )
        const all = yield* Effect.forEach([transaction("a"), transaction("b"), Effect.asVoid(insert("c"))], (effect) =>
          Effect.forkChild(effect, { startImmediately: true })
        )
        yield* Effect.repeat(Effect.yieldNow, { times: 20 })
        assert.deepStrictEqual(log, ["begin a"])
        yield* Deferred.succeed(gate, undefined)
        yield* Fiber.joinAll(all)
        assert.deepStrictEqual(log, ["begin a", "end a", "begin b", "end b"])
        assert.strictEqual((yield* names).length, 3)
      })
    )

    test(
      "one that is interrupted while it waits never begins, and holds up nobody",
      Effect.gen(function* () {
        const sql = yield* table
        const gate = yield* Deferred.make<void>()
        const holding = yield* Effect.forkChild(sql.withTransaction(Deferred.await(gate)), { startImmediately: true })
        const waiting = yield* Effect.forkChild(sql.withTransaction(insert("a")), { startImmediately: true })
        yield* Effect.yieldNow
        yield* Fiber.interrupt(waiting)
        yield* Deferred.succeed(gate, undefined)
        yield* Fiber.join(holding)
        yield* insert("b")
        assert.deepStrictEqual(yield* names, ["b"])
      })
    )

    test(
      "one that is interrupted at work is undone, and the next goes on",
      Effect.gen(function* () {
        const sql = yield* table
        const working = yield* Effect.forkChild(sql.withTransaction(Effect.andThen(insert("a"), Effect.never)), {
          startImmediately: true
        })
        yield* Effect.yieldNow
        yield* Fiber.interrupt(working)
        assert.deepStrictEqual(yield* names, [])
        yield* sql.withTransaction(insert("b"))
        assert.deepStrictEqual(yield* names, ["b"])
      })
    )
  })

  describe("errors", () => {
    const classified = Effect.fnUntraced(function* (statement: string) {
      const sql = yield* SqlClient.SqlClient
      yield* sql`CREATE TABLE p (id INTEGER PRIMARY KEY, n INTEGER NOT NULL UNIQUE CHECK (n > 0))`
      yield* sql`CREATE TABLE c (p INTEGER REFERENCES p (id))`
      yield* sql`INSERT INTO p VALUES (1, 1)`
      return yield* Effect.flip(sql.unsafe(statement))
    })

    for (const [statement, reason] of [
      ["INSERT INTO p VALUES (2, 1)", "UniqueViolation"],
      ["INSERT INTO p VALUES (1, 2)", "ConstraintError"],
      ["INSERT INTO p VALUES (2, NULL)", "ConstraintError"],
      ["INSERT INTO p VALUES (2, 0)", "ConstraintError"],
      ["INSERT INTO c VALUES (9)", "ConstraintError"],
      ["SELEC 1", "UnknownError"]
    ] as const) {
      test(
        `${statement}: ${reason}`,
        Effect.gen(function* () {
          const error = yield* classified(statement)
          assert.strictEqual(error.reason._tag, reason)
        })
      )
    }

    test(
      "they say what the database said",
      Effect.gen(function* () {
        assert.include(String((yield* classified("SELECT * FROM none")).reason.cause), "no such table: none")
      })
    )

    it.live("another program that holds the file is waited for, then said to be why", () =>
      Effect.gen(function* () {
        const filename = join(yield* folder, "a.db")
        yield* Effect.gen(function* () {
          yield* table
          const holder = new DatabaseSync(filename)
          holder.exec("BEGIN IMMEDIATE")
          assert.strictEqual(yield* reasonOf(insert("a")), "LockTimeoutError")
          holder.exec("ROLLBACK")
          holder.close()
          yield* insert("a")
        }).pipe(Effect.provide(SqliteClient.layer({ filename, busyTimeoutMillis: 50 })))
      })
    )
  })

  describe("streams", () => {
    test(
      "rows come as they are read",
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const numbers = sql<{ n: number }>`
          WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < ${100_000}) SELECT n FROM c`
        const sum = yield* Stream.runFold(
          numbers.stream,
          () => 0,
          (all, { n }) => all + n
        )
        assert.strictEqual(sum, 5_000_050_000)
        const first = yield* Stream.runCollect(Stream.take(numbers.stream, 3))
        assert.deepStrictEqual(
          first.map(({ n }) => n),
          [1, 2, 3]
        )
        yield* table
        yield* insert("a")
        assert.deepStrictEqual(yield* names, ["a"])
      })
    )

    test(
      "one that is interrupted lets go of the database",
      Effect.gen(function* () {
        const sql = yield* table
        yield* Effect.forEach(["a", "b", "c"], insert)
        const reading = yield* Effect.forkChild(
          Stream.runForEach(sql`SELECT * FROM t`.stream, () => Effect.never),
          { startImmediately: true }
        )
        yield* Effect.repeat(Effect.yieldNow, { times: 20 })
        yield* Fiber.interrupt(reading)
        yield* sql.withTransaction(insert("d"))
        assert.deepStrictEqual(yield* names, ["a", "b", "c", "d"])
      })
    )

    test(
      "a query that fails fails the stream",
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const error = yield* Effect.flip(Stream.runDrain(sql.unsafe("SELECT * FROM none").stream))
        assert.include(String(error.reason.cause), "no such table: none")
      })
    )
  })

  it.effect("more statements than are kept prepared run all the same", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      for (let round = 0; round < 3; round++) {
        for (let n = 0; n < 20; n++) {
          const [row] = yield* sql.unsafe<{ n: number }>(`SELECT ${n} + ? AS n`, [round])
          assert.strictEqual(row?.n, n + round)
        }
      }
    }).pipe(Effect.provide(SqliteClient.layer({ filename: ":memory:", prepareCacheSize: 4 })))
  )

  it.effect.prop("any text that is valid Unicode comes back as it was", [Schema.Array(Schema.String)], ([texts]) =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const written = texts.map((text) => text.toWellFormed())
      yield* sql`CREATE TABLE texts (n INTEGER PRIMARY KEY, text TEXT)`
      for (const text of written) yield* sql`INSERT INTO texts ${sql.insert({ text })}`
      const rows = yield* sql<{ text: string }>`SELECT text FROM texts ORDER BY n`
      assert.deepStrictEqual(
        rows.map(({ text }) => text),
        written
      )
    }).pipe(Effect.provide(Layer.fresh(memory)))
  )
})
