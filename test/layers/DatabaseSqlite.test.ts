import { assert, describe, it } from "@effect/vitest"
import * as DatabaseSqlite from "effect-claw/layers/DatabaseSqlite"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync
} from "node:fs"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { fileURLToPath } from "node:url"
import { folder } from "../contracts/store.ts"

/** Opens the database of a folder, for the time of an effect. */
const opened = <A, E>(directory: string, effect: Effect.Effect<A, E, SqlClient.SqlClient>) =>
  Effect.provide(effect, Layer.fresh(DatabaseSqlite.layer({ directory })))
const refused = (directory: string) => Effect.flip(opened(directory, Effect.void))

const insert = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql`INSERT INTO memories ${sql.insert({ scope: "s", text: "kept", at: 1 })}`
)
const tables = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.map(sql<{ name: string }>`SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name`, (rows) =>
    rows.map(({ name }) => name)
  )
)
const versions = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.map(sql<{ id: number }>`SELECT migration_id AS id FROM migrations ORDER BY id`, (rows) =>
    rows.map(({ id }) => id)
  )
)

/** Changes a database as another program would. */
const tamper = (directory: string, statements: string) =>
  Effect.sync(() => {
    const database = new DatabaseSync(join(directory, "claw.db"))
    database.exec(statements)
    database.close()
  })

/** A folder with a database that has been used. */
const used = Effect.tap(folder, (directory) => opened(directory, insert))

const contentOf = (directory: string) => readFileSync(join(directory, "claw.db"))

describe("DatabaseSqlite", () => {
  it.effect("a folder that is not there is made, for its owner alone, with all tables", () =>
    Effect.gen(function* () {
      const directory = join(yield* folder, "not", "there")
      const made = yield* opened(directory, tables)
      assert.includeMembers([...made], ["calls", "conversations", "entries", "memories", "outputs", "tasks"])
      assert.strictEqual(statSync(directory).mode & 0o777, 0o700)
      assert.deepStrictEqual(
        readdirSync(directory).filter((name) => !name.startsWith("lock")),
        ["claw.db"]
      )
    })
  )

  it.effect("opened again, it is as it was", () =>
    Effect.gen(function* () {
      const directory = yield* used
      const before = yield* opened(directory, versions)
      yield* opened(
        directory,
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          assert.strictEqual((yield* sql`SELECT * FROM memories`).length, 1)
          assert.deepStrictEqual(yield* versions, before)
        })
      )
      assert.deepStrictEqual(
        before,
        before.map((_, index) => index + 1)
      )
    })
  )

  /** What the migrations after the third did, undone. */
  const back = `ALTER TABLE outputs DROP COLUMN extra; DROP TABLE channel_states; DROP TABLE audit; ALTER TABLE conversations DROP COLUMN waiting; ALTER TABLE outputs DROP COLUMN at; DROP TABLE calls;
    DROP TABLE payers; CREATE TABLE calls (turn INTEGER, step INTEGER, at INTEGER, conversation TEXT, agent TEXT, sender TEXT, model TEXT,
      booked INTEGER, input_tokens INTEGER, cache_read_tokens INTEGER, cache_write_tokens INTEGER, output_tokens INTEGER,
      microdollars INTEGER);
    INSERT INTO calls VALUES (1, 1, 0, 'memory:chat', 'andy', NULL, 'scripted', 1, 10, 0, 0, 2, 7);
    DELETE FROM migrations WHERE migration_id > 3`

  it.effect("one that an older effect-claw wrote is brought up to date, and keeps what it has", () =>
    Effect.gen(function* () {
      const directory = yield* used
      yield* tamper(directory, `DROP TABLE tasks; DROP TABLE task_runs; ${back}`)
      yield* opened(
        directory,
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          assert.includeMembers([...(yield* tables)], ["tasks", "task_runs"])
          assert.strictEqual((yield* sql`SELECT * FROM memories`).length, 1)
          assert.deepStrictEqual(yield* sql`SELECT attempt, microdollars FROM calls`, [{ attempt: 1, microdollars: 7 }])
          assert.deepStrictEqual(yield* sql`SELECT agent, of_turn, conversation FROM payers`, [
            { agent: "andy", of_turn: 1, conversation: "memory:chat" }
          ])
          assert.includeMembers([...(yield* versions)], [1, 2, 3, 4, 5, 6])
        })
      )
    })
  )

  it.effect("an update that fails leaves nothing of itself", () =>
    Effect.gen(function* () {
      const directory = yield* used
      yield* tamper(directory, `DROP TABLE tasks; ${back}`)
      const error = yield* refused(directory)
      assert.include(error.message, "table task_runs already exists")
      yield* tamper(directory, "DROP TABLE task_runs")
      yield* opened(directory, Effect.asVoid(versions))
      const database = new DatabaseSync(join(directory, "claw.db"))
      assert.isDefined(database.prepare("SELECT 1 FROM sqlite_master WHERE name = 'tasks'").get())
      database.close()
    })
  )

  it.effect("one that a newer effect-claw wrote is refused, and left as it is", () =>
    Effect.gen(function* () {
      const directory = yield* used
      yield* tamper(directory, "INSERT INTO migrations (migration_id, name) VALUES (999, 'from_the_future')")
      const before = contentOf(directory)
      const error = yield* refused(directory)
      assert.strictEqual(error.reason._tag, "Newer")
      assert.match(error.message, /written by a newer effect-claw \(its tables are at 999, .*update effect-claw/)
      assert.include(error.message, directory)
      assert.isTrue(contentOf(directory).equals(before))
    })
  )

  describe("a file that is damaged is refused, and left as it is, byte for byte", () => {
    for (const [name, damage] of [
      ["text", (file) => writeFileSync(file, "these are my notes\n".repeat(500))],
      ["cut off", (file) => truncateSync(file, 6000)],
      [
        "its head overwritten",
        (file) => {
          const content = readFileSync(file)
          writeFileSync(file, content.fill(0x55, 0, 100))
        }
      ],
      [
        "its tables overwritten",
        (file) => {
          const content = readFileSync(file)
          writeFileSync(file, content.fill(0x55, 100))
        }
      ],
      [
        "one page of many overwritten",
        (file) => {
          const content = readFileSync(file)
          writeFileSync(file, content.fill(0x55, 5 * 4096, 6 * 4096))
        }
      ]
    ] satisfies ReadonlyArray<readonly [string, (file: string) => void]>) {
      it.effect(name, () =>
        Effect.gen(function* () {
          const directory = yield* used
          damage(join(directory, "claw.db"))
          const before = contentOf(directory)
          const error = yield* refused(directory)
          assert.strictEqual(error.reason._tag, "Unreadable")
          assert.match(error.message, /claw\.db cannot be read \(.+\); restore a backup of it, or move it away/)
          assert.isTrue(contentOf(directory).equals(before))
          const log = join(directory, "claw.db-wal")
          assert.isTrue(!existsSync(log) || statSync(log).size === 0)
        })
      )
    }
  })

  describe("a folder that cannot be used is said to be so", () => {
    it.effect("a file is in its place", () =>
      Effect.gen(function* () {
        const file = join(yield* folder, "file")
        writeFileSync(file, "")
        for (const directory of [file, join(file, "below")]) {
          const error = yield* refused(directory)
          assert.strictEqual(error.reason._tag, "FolderUnusable")
          assert.include(error.message, directory)
          assert.include(error.message, "CLAW_HOME")
        }
      })
    )

    if (process.platform === "linux") {
      it.effect("it lies where the system makes no folders", () =>
        Effect.map(refused("/proc/claw"), ({ reason }) => assert.strictEqual(reason._tag, "FolderUnusable"))
      )
    }

    // Nothing is forbidden to root.
    if (process.getuid?.() !== 0) {
      it.effect("it may not be written to", () =>
        Effect.gen(function* () {
          const directory = yield* folder
          chmodSync(directory, 0o500)
          assert.strictEqual((yield* refused(directory)).reason._tag, "FolderUnusable")
          chmodSync(directory, 0o700)
        })
      )
    }
  })

  it.effect("a second claw on the folder is refused, until the first has left", () =>
    Effect.gen(function* () {
      const directory = yield* folder
      yield* opened(
        directory,
        Effect.gen(function* () {
          const error = yield* refused(directory)
          assert.strictEqual(error.reason._tag, "FolderInUse")
          assert.include(error.message, "another claw is running on it")
          yield* insert
        })
      )
      yield* opened(directory, insert.pipe(Effect.flip, Effect.asVoid))
    })
  )

  describe("another process", () => {
    const program = `
      import * as DatabaseSqlite from "effect-claw/layers/DatabaseSqlite"
      import * as Effect from "effect/Effect"
      import * as SqlClient from "effect/sql/SqlClient"
      const hold = Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql\`INSERT INTO memories (scope, text, at) VALUES ('s', 'kept', 1)\`
        process.stdout.write("holding")
        return yield* Effect.never
      })
      Effect.runFork(Effect.provide(hold, DatabaseSqlite.layer({ directory: process.argv[1] })))
      setInterval(() => {}, 1000)`

    /** A process that has opened the folder, and written to it; killed with the scope if it was not before. */
    const holder = (directory: string) =>
      Effect.acquireRelease(
        Effect.promise(async (): Promise<ChildProcess> => {
          const child = spawn(
            process.execPath,
            ["--conditions=source", "--input-type=module", "-e", program, directory],
            { cwd: fileURLToPath(new URL("../..", import.meta.url)), stdio: ["ignore", "pipe", "inherit"] }
          )
          await once(child.stdout, "data")
          return child
        }),
        (child) => Effect.sync(() => child.kill("SIGKILL"))
      )

    it.live("that holds the folder is respected, and killed leaves no lock behind, nor loses what it committed", () =>
      Effect.gen(function* () {
        const directory = yield* folder
        const child = yield* holder(directory)
        assert.strictEqual((yield* refused(directory)).reason._tag, "FolderInUse")
        const exited = once(child, "exit")
        child.kill("SIGKILL")
        yield* Effect.promise(() => exited)
        const rows = yield* opened(
          directory,
          Effect.flatMap(SqlClient.SqlClient, (sql) => sql`SELECT * FROM memories`)
        )
        assert.strictEqual(rows.length, 1)
      })
    )
  })

  describe("a backup", () => {
    /** Two rows at once, which are never there one without the other. */
    const insertTwo = (text: string) =>
      Effect.flatMap(SqlClient.SqlClient, (sql) =>
        sql.withTransaction(
          Effect.forEach(["one", "two"], (scope) => sql`INSERT INTO memories ${sql.insert({ scope, text, at: 1 })}`)
        )
      )
    /** What a copy holds, put in the place of a database. Opening it checks that it is whole. */
    const restored = Effect.fnUntraced(function* (copy: string) {
      const directory = yield* folder
      copyFileSync(copy, join(directory, "claw.db"))
      return yield* opened(
        directory,
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          yield* insert
          return yield* sql<{
            scope: string
            text: string
          }>`SELECT scope, text FROM memories WHERE scope <> 's' ORDER BY id`
        })
      )
    })
    const failing = (directory: string, path: string) => Effect.flip(DatabaseSqlite.backup(directory, path))

    it.live("that is made while a claw writes is the whole database at one moment, not before it was asked for", () =>
      Effect.gen(function* () {
        const directory = yield* folder
        const copies = yield* folder
        const names = ["a.db", "b.db", "c.db"]
        const committed: Array<number> = []
        let count = 0
        const insertNext = Effect.flatMap(
          Effect.sync(() => count),
          (next) => Effect.tap(insertTwo(`${next} ${"x".repeat(20_000)}`), () => Effect.sync(() => count++))
        )
        yield* opened(
          directory,
          Effect.gen(function* () {
            const sql = yield* SqlClient.SqlClient
            // Enough that a copy takes longer than a write.
            yield* sql.withTransaction(Effect.repeat(insertNext, { times: 499 }))
            const writing = yield* Effect.forkChild(
              Effect.forever(Effect.andThen(insertNext, Effect.sleep("1 millis")))
            )
            for (const name of names) {
              const before = count
              committed.push(before)
              yield* DatabaseSqlite.backup(directory, join(copies, name))
              assert.isAbove(count, before, "it was written to meanwhile")
            }
            yield* Fiber.interrupt(writing)
          })
        )
        assert.sameMembers(readdirSync(copies), names)
        for (const [index, name] of names.entries()) {
          const rows = yield* restored(join(copies, name))
          const [ones, twos] = ["one", "two"].map((of) =>
            rows.flatMap(({ scope, text }) => (scope === of ? [Number.parseInt(text, 10)] : []))
          )
          assert.deepStrictEqual(ones, twos)
          // All that was written up to a moment, and nothing after.
          assert.deepStrictEqual(
            ones,
            ones?.map((_, at) => at)
          )
          assert.isAtLeast(ones?.length ?? 0, committed[index] ?? Infinity)
          assert.isAtMost(ones?.length ?? Infinity, count)
        }
      })
    )

    it.live("has what was committed a moment before, and the claw goes on with its own", () =>
      Effect.gen(function* () {
        const directory = yield* folder
        const copy = join(yield* folder, "copy.db")
        yield* opened(
          directory,
          Effect.gen(function* () {
            yield* insertTwo("before")
            yield* DatabaseSqlite.backup(directory, copy)
            yield* insertTwo("after")
            const sql = yield* SqlClient.SqlClient
            assert.strictEqual((yield* sql`SELECT * FROM memories`).length, 4)
          })
        )
        const rows = yield* restored(copy)
        assert.deepStrictEqual([...new Set(rows.map(({ text }) => text))], ["before"])
      })
    )

    it.live("of a folder where no claw is at work is made, and its database opens as before", () =>
      Effect.gen(function* () {
        const directory = yield* folder
        const copies = yield* folder
        yield* opened(directory, insertTwo("kept"))
        yield* DatabaseSqlite.backup(directory, join(copies, "copy.db"))
        assert.strictEqual((yield* restored(join(copies, "copy.db"))).length, 2)
        yield* opened(directory, insertTwo("more"))
        assert.deepStrictEqual(readdirSync(copies), ["copy.db"])
      })
    )

    it.live("does not take the place of a file that is there", () =>
      Effect.gen(function* () {
        const directory = yield* used
        const copies = yield* folder
        const copy = join(copies, "copy.db")
        writeFileSync(copy, "my notes")
        mkdirSync(join(copies, "folder"))
        for (const path of [copy, join(copies, "folder")]) {
          const error = yield* failing(directory, path)
          assert.strictEqual(error.reason._tag, "BackupFailed")
          assert.include(error.message, path)
          assert.include(error.message, "a file of that name")
        }
        assert.strictEqual(readFileSync(copy, "utf8"), "my notes")
        assert.sameMembers(readdirSync(copies), ["copy.db", "folder"])
        assert.deepStrictEqual(readdirSync(join(copies, "folder")), [])
      })
    )

    it.live("of a folder without a database is none, and says so", () =>
      Effect.gen(function* () {
        const empty = yield* folder
        const copies = yield* folder
        for (const directory of [empty, join(empty, "not", "there")]) {
          const error = yield* failing(directory, join(copies, "copy.db"))
          assert.strictEqual(error.reason._tag, "BackupFailed")
          assert.include(error.message, directory)
          assert.match(error.message, /no database|claw\.db/)
        }
        assert.deepStrictEqual([readdirSync(empty), readdirSync(copies)], [[], []])
      })
    )

    it.live("to a folder that is not there is none, and says so", () =>
      Effect.gen(function* () {
        const directory = yield* used
        const copies = yield* folder
        const path = join(copies, "not", "there", "copy.db")
        const error = yield* failing(directory, path)
        assert.strictEqual(error.reason._tag, "BackupFailed")
        assert.include(error.message, path)
        assert.notMatch(error.message, /no database|claw\.db/)
        assert.deepStrictEqual(readdirSync(copies), [])
      })
    )

    it.live("of a database that is none leaves nothing of itself", () =>
      Effect.gen(function* () {
        const directory = yield* folder
        const copies = yield* folder
        writeFileSync(join(directory, "claw.db"), "these are my notes\n".repeat(500))
        const before = contentOf(directory)
        const error = yield* failing(directory, join(copies, "copy.db"))
        assert.strictEqual(error.reason._tag, "BackupFailed")
        assert.include(error.message, "not a database")
        assert.deepStrictEqual(readdirSync(copies), [])
        assert.isTrue(contentOf(directory).equals(before))
      })
    )

    it.live("that was cut is not in the way of the next", () =>
      Effect.gen(function* () {
        const directory = yield* folder
        const copies = yield* folder
        yield* opened(directory, insertTwo("kept"))
        // A copy of which only the beginning was written.
        writeFileSync(join(copies, "copy.db.part"), contentOf(directory).subarray(0, 9000))
        yield* DatabaseSqlite.backup(directory, join(copies, "copy.db"))
        assert.strictEqual((yield* restored(join(copies, "copy.db"))).length, 2)
        assert.deepStrictEqual(readdirSync(copies).toSorted(), ["copy.db", "copy.db.part"])
      })
    )
  })
})
