/**
 * A claw's platform on one machine: everything durable in one folder, on SQLite, and the actors in this process.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import { accessSync, constants, mkdirSync } from "node:fs"
import { join, resolve } from "node:path"
import { DatabaseSync } from "node:sqlite"
import * as ConversationsLocal from "../layers/ConversationsLocal.ts"
import * as Migrations from "../layers/internal/migrations.ts"
import * as JournalSql from "../layers/JournalSql.ts"
import * as LedgerSql from "../layers/LedgerSql.ts"
import * as MemorySql from "../layers/MemorySql.ts"
import * as SchedulerSql from "../layers/SchedulerSql.ts"
import * as SqliteClient from "../layers/SqliteClient.ts"
import * as SwarmLocal from "../layers/SwarmLocal.ts"
import * as WorkspacesLocal from "../layers/WorkspacesLocal.ts"
import * as Channel from "../services/Channel.ts"
import type { Conversations } from "../services/Conversations.ts"
import type { Journal } from "../services/Journal.ts"
import type { Ledger } from "../services/Ledger.ts"
import type { Memory } from "../services/Memory.ts"
import type { Scheduler, SchedulerError } from "../services/Scheduler.ts"
import type { Swarm } from "../services/Swarm.ts"
import type { Workspaces } from "../services/Workspaces.ts"

/** The folder cannot be made or written to. */
export class FolderUnusable extends Schema.TaggedError<FolderUnusable>()("FolderUnusable", {
  detail: Schema.String
}) {}
/** Another claw works on this folder. */
export class FolderInUse extends Schema.TaggedError<FolderInUse>()("FolderInUse", {
  detail: Schema.String
}) {}
/** The database is damaged, or no database. It is left as it is. */
export class DatabaseUnreadable extends Schema.TaggedError<DatabaseUnreadable>()("DatabaseUnreadable", {
  detail: Schema.String
}) {}
/** The database was written by a newer effect-claw. It is left as it is. */
export class DatabaseNewer extends Schema.TaggedError<DatabaseNewer>()("DatabaseNewer", {
  detail: Schema.String
}) {}

/** The state folder cannot be used, for `reason`, whose `detail` says what to do. */
export class LocalError extends Schema.TaggedError<LocalError>("effect-claw/programs/Local/LocalError")("LocalError", {
  folder: Schema.String,
  reason: Schema.Union([FolderUnusable, FolderInUse, DatabaseUnreadable, DatabaseNewer])
}) {
  override get message(): string {
    return `state folder ${this.folder}: ${this.reason.detail}`
  }
}

/** Where state is kept, and how. */
export interface Options extends ConversationsLocal.Options {
  /** The folder: `claw.db`, and `workspaces/` of the agents. Made when it is not there. */
  readonly directory: string
  readonly synchronous?: SqliteClient.SqliteClientConfig["synchronous"]
  readonly swarm?: SwarmLocal.Options
}

/** What a claw keeps and works with on one machine. */
export type Provides = Channel.Channels | Conversations | Journal | Ledger | Memory | Scheduler | Swarm | Workspaces

/**
 * The platform.
 *
 * Provides everything in `Provides`; requires nothing. On release the database is closed and the folder free for another.
 */
export const layer = (options: Options): Layer.Layer<Provides, LocalError | SchedulerError> => {
  const folder = resolve(options.directory)
  return Layer.mergeAll(SchedulerSql.layer, SwarmLocal.layer(options.swarm)).pipe(
    Layer.provideMerge(ConversationsLocal.layer(options)),
    Layer.provideMerge(
      Layer.mergeAll(
        JournalSql.layer,
        LedgerSql.layer,
        MemorySql.layer,
        Channel.layer,
        WorkspacesLocal.layer({ directory: join(folder, "workspaces") })
      )
    ),
    Layer.provide(database(folder, options.synchronous))
  )
}

const database = (folder: string, synchronous: Options["synchronous"]) =>
  Layer.effect(
    SqlClient.SqlClient,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* refuseNewer(folder)
      yield* Migrations.migrate
      return sql
    })
  ).pipe(
    Layer.provide(
      SqliteClient.layer({
        filename: join(folder, "claw.db"),
        ...(synchronous === undefined ? {} : { synchronous })
      })
    ),
    Layer.provide(Layer.effectDiscard(claim(folder))),
    Layer.catchTag(["SqlError", "MigrationError"], (error) =>
      Layer.effectContext(
        new LocalError({
          folder,
          reason: new DatabaseUnreadable({
            detail: `claw.db cannot be read (${messageOf(error.cause ?? error)}); restore a backup of it, or move it away to begin anew`
          })
        })
      )
    )
  )

/** Makes the folder and holds it: the lock is the operating system's, so a killed claw leaves none behind. */
const claim = Effect.fnUntraced(function* (folder: string) {
  yield* Effect.try({
    try: () => {
      mkdirSync(folder, { recursive: true, mode: 0o700 })
      accessSync(folder, constants.R_OK | constants.W_OK | constants.X_OK)
    },
    catch: (cause) =>
      new LocalError({
        folder,
        reason: new FolderUnusable({
          detail: `${messageOf(cause)}; make it writable, or name another folder (CLAW_HOME for the bundled programs)`
        })
      })
  })
  yield* Effect.acquireRelease(
    Effect.try({
      try: () => {
        const lock = new DatabaseSync(join(folder, "lock"))
        lock.exec("BEGIN EXCLUSIVE")
        return lock
      },
      catch: (cause) =>
        new LocalError({
          folder,
          reason: /locked|busy/i.test(messageOf(cause))
            ? new FolderInUse({
                detail: "another claw is running on it; stop that one, or name another folder"
              })
            : new FolderUnusable({ detail: messageOf(cause) })
        })
    }),
    (lock) => Effect.sync(() => lock.close())
  )
})

const refuseNewer = Effect.fnUntraced(function* (folder: string) {
  const sql = yield* SqlClient.SqlClient
  const [table] = yield* sql`SELECT 1 FROM sqlite_master WHERE name = 'migrations'`
  if (table === undefined) return
  const [row] = yield* sql<{ newest: number | null }>`SELECT MAX(migration_id) AS newest FROM migrations`
  if ((row?.newest ?? 0) > Migrations.newest) {
    return yield* new LocalError({
      folder,
      reason: new DatabaseNewer({
        detail:
          `claw.db was written by a newer effect-claw (its tables are at ${row?.newest}, this one knows ` +
          `${Migrations.newest}); update effect-claw`
      })
    })
  }
})

const messageOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause))
