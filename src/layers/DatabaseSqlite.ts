/**
 * A claw's database: the file `claw.db` in a folder of this machine, brought up to date, and held against a second claw.
 *
 * The hold is a lock of the operating system's, so a killed claw leaves none behind. A file that is damaged, or that newer
 * code wrote, is left as it is.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { randomUUID } from "node:crypto"
import { accessSync, constants, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { dirname, join, resolve } from "node:path"
import { backup as backupTo, DatabaseSync } from "node:sqlite"
import * as Migrations from "./internal/migrations.ts"
import * as SqliteClient from "./SqliteClient.ts"

/** The folder cannot be made or written to. */
export class FolderUnusable extends Schema.TaggedError<FolderUnusable>()("FolderUnusable", { detail: Schema.String }) {}
/** Another claw works on this folder. */
export class FolderInUse extends Schema.TaggedError<FolderInUse>()("FolderInUse", { detail: Schema.String }) {}
/** The database is damaged, or no database. */
export class Unreadable extends Schema.TaggedError<Unreadable>()("Unreadable", { detail: Schema.String }) {}
/** The database was written by a newer effect-claw. */
export class Newer extends Schema.TaggedError<Newer>()("Newer", { detail: Schema.String }) {}

/** There is no database, or no room for a copy of it. */
export class BackupFailed extends Schema.TaggedError<BackupFailed>()("BackupFailed", { detail: Schema.String }) {}

/** The state folder cannot be used, for `reason`, whose `detail` says what to do. */
export class DatabaseError extends Schema.TaggedError<DatabaseError>()("DatabaseError", {
  folder: Schema.String,
  reason: Schema.Union([FolderUnusable, FolderInUse, Unreadable, Newer, BackupFailed])
}) {
  override get message(): string {
    return `state folder ${this.folder}: ${this.reason.detail}`
  }
}

/** Where the database is, and how it is opened. */
export interface Options extends Pick<SqliteClient.SqliteClientConfig, "synchronous"> {
  /** Made when it is not there. */
  readonly directory: string
}

/** What went wrong at the bottom of it. */
const messageOf = (cause: unknown): string =>
  cause instanceof Error ? (cause.cause instanceof Error ? messageOf(cause.cause) : cause.message) : String(cause)

/** Folder by folder: Node's own recursion does not end where the system will make none, as below `/proc`. */
const makeFolder = (folder: string): void => {
  if (existsSync(folder)) return
  makeFolder(dirname(folder))
  mkdirSync(folder, { mode: 0o700 })
}

const refuse = (folder: string, why: string, holder: string): DatabaseError => {
  // Paths are in quotes, and say nothing.
  const words = why.replace(/'[^']*'/g, "")
  const cure = /full|ENOSPC|I\/O/i.test(words) ? "make room on the disk" : "make it writable"
  const reason = /locked|busy/i.test(words)
    ? new FolderInUse({ detail: `another ${holder}; stop that one, or name another folder` })
    : new FolderUnusable({ detail: `${why}; ${cure}, or name another folder (CLAW_HOME for the bundled programs)` })
  return new DatabaseError({ folder, reason })
}

const claim = (folder: string) =>
  Effect.acquireRelease(
    Effect.try({
      try: () => {
        makeFolder(folder)
        accessSync(folder, constants.R_OK | constants.W_OK | constants.X_OK)
        const lock = new DatabaseSync(join(folder, "lock"))
        lock.exec("BEGIN EXCLUSIVE")
        return lock
      },
      catch: (cause) => refuse(folder, messageOf(cause), "claw is running on it")
    }),
    (lock) => Effect.sync(() => lock.close())
  )

/** A sound database may be one that cannot be opened now: damaged is what nothing else explains. */
const refuseDatabase = (folder: string, why: string): DatabaseError =>
  /locked|busy|full|I\/O|readonly|unable to open/i.test(why)
    ? refuse(folder, why, "program holds claw.db")
    : new DatabaseError({
        folder,
        reason: new Unreadable({
          detail: `claw.db cannot be read (${why}); restore a backup of it, or move it away to begin anew`
        })
      })

const update = Effect.fnUntraced(function* (folder: string) {
  const sql = yield* SqlClient.SqlClient
  const [check] = yield* sql<{ quick_check: string }>`PRAGMA quick_check(1)`
  if (check?.quick_check !== "ok") {
    return yield* refuseDatabase(folder, check?.quick_check.split("\n").at(-1) ?? "it is not checked")
  }
  const [table] = yield* sql`SELECT 1 FROM sqlite_master WHERE name = 'migrations'`
  const [row] =
    table === undefined ? [] : yield* sql<{ newest: number }>`SELECT MAX(migration_id) AS newest FROM migrations`
  if ((row?.newest ?? 0) > Migrations.newest) {
    return yield* new DatabaseError({
      folder,
      reason: new Newer({
        detail:
          `claw.db was written by a newer effect-claw (its tables are at ${row?.newest}, this one knows ` +
          `${Migrations.newest}); update effect-claw`
      })
    })
  }
  yield* Migrations.migrate
  // A file that cannot be written to is opened all the same, and says so when it is asked to change.
  yield* sql`DELETE FROM marks WHERE name = ''`
  return sql
})

/**
 * The database.
 *
 * Provides `SqlClient`, migrated; requires nothing. On release the database is closed and the folder free for another.
 */
export const layer = (options: Options): Layer.Layer<SqlClient.SqlClient, DatabaseError> => {
  const folder = resolve(options.directory)
  return Layer.effect(SqlClient.SqlClient, update(folder)).pipe(
    // A statement that waits for another program's lock has all else wait; what failed is asked for again anyway.
    Layer.provide(SqliteClient.layer({ ...options, filename: join(folder, "claw.db"), busyTimeoutMillis: 500 })),
    Layer.provide(Layer.effectDiscard(claim(folder))),
    Layer.catchTag(["SqlError", "MigrationError"], (error) =>
      Layer.effectContext(refuseDatabase(folder, messageOf(error)))
    )
  )
}

/**
 * Copies the database of a folder to a new file, as it is at one moment, while a claw may be at work on it. Files of the
 * workspaces are not in it. To restore: stop the claw, and put the file in the place of `claw.db`.
 */
export const backup = (directory: string, path: string): Effect.Effect<void, DatabaseError> => {
  const folder = resolve(directory)
  const part = `${path}.${randomUUID()}.part`
  return Effect.tryPromise({
    try: async () => {
      if (existsSync(path)) throw new Error("there is a file of that name already")
      if (!existsSync(join(folder, "claw.db"))) throw new Error("there is no claw.db to copy")
      // Nobody else is to read it, wherever it lies.
      writeFileSync(part, "", { mode: 0o600, flag: "wx" })
      const database = new DatabaseSync(join(folder, "claw.db"), { readOnly: true })
      try {
        // All pages in one go, apart from this thread: what is written meanwhile does not make it begin again.
        await backupTo(database, part, { rate: 2 ** 31 - 1 })
      } finally {
        database.close()
      }
      renameSync(part, path)
    },
    catch: (cause) =>
      new DatabaseError({ folder, reason: new BackupFailed({ detail: `no backup to ${path}: ${messageOf(cause)}` }) })
  }).pipe(
    // It ends by itself.
    Effect.uninterruptible,
    Effect.tapError(() => Effect.ignore(Effect.try(() => rmSync(part, { force: true }))))
  )
}
