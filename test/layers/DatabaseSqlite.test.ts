import { assert, describe, it } from "@effect/vitest"
import * as DatabaseSqlite from "effect-claw/layers/DatabaseSqlite"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { chmodSync, existsSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs"
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
  const back = `ALTER TABLE conversations DROP COLUMN waiting; ALTER TABLE outputs DROP COLUMN at; DROP TABLE calls;
    CREATE TABLE calls (turn INTEGER, step INTEGER, at INTEGER, conversation TEXT, agent TEXT, sender TEXT, model TEXT,
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
          assert.includeMembers([...(yield* versions)], [1, 2, 3, 4, 5])
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
})
