/**
 * A claw's platform on one machine: everything durable in one folder, on SQLite, and the actors in this process.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { join, resolve } from "node:path"
import * as AuditSql from "../layers/AuditSql.ts"
import * as ChannelStateSql from "../layers/ChannelStateSql.ts"
import * as ConversationsLocal from "../layers/ConversationsLocal.ts"
import * as DatabaseSqlite from "../layers/DatabaseSqlite.ts"
import * as FilesLocal from "../layers/FilesLocal.ts"
import * as JournalSql from "../layers/JournalSql.ts"
import * as LedgerSql from "../layers/LedgerSql.ts"
import * as MemorySql from "../layers/MemorySql.ts"
import * as MountsLocal from "../layers/MountsLocal.ts"
import * as SchedulerSql from "../layers/SchedulerSql.ts"
import * as SwarmLocal from "../layers/SwarmLocal.ts"
import * as WorkspacesLocal from "../layers/WorkspacesLocal.ts"
import * as Channel from "../services/Channel.ts"
import { Journal, type JournalError } from "../services/Journal.ts"
import type { Memory } from "../services/Memory.ts"
import type { Allowed } from "../services/Mount.ts"
import type { Scheduler, SchedulerError } from "../services/Scheduler.ts"
import type { Swarm } from "../services/Swarm.ts"
import type { Platform } from "./Claw.ts"

/** Where state is kept (`directory`: `claw.db`, `files/`, and `workspaces/` of the agents), and the bounds of what runs at once. */
export interface Options extends DatabaseSqlite.Options, ConversationsLocal.Options {
  readonly swarm?: SwarmLocal.Options
  /** What is older is removed from the journal once a day; see `Journal.retain`. Default: nothing is. */
  readonly retain?: Duration.Input
  /** Folders of this machine that sandboxes may mount. Default: none. */
  readonly mounts?: ReadonlyArray<Allowed>
}

/** What a claw keeps and works with on one machine. */
export type Provides = Platform | Memory | Scheduler | Swarm

const retain = (age: Duration.Input): Layer.Layer<never, never, Journal> =>
  Layer.effectDiscard(
    Effect.flatMap(Journal, (journal) => journal.retain(age)).pipe(
      Effect.catch((error) => Effect.logError(error.message)),
      Effect.repeat(Schedule.spaced("1 day")),
      Effect.forkScoped
    )
  )

/**
 * The platform.
 *
 * Provides everything in `Provides`; requires nothing. On release the database is closed and the folder free for another.
 */
export const layer = (
  options: Options
): Layer.Layer<Provides, DatabaseSqlite.DatabaseError | JournalError | SchedulerError> =>
  Layer.mergeAll(
    SchedulerSql.layer,
    SwarmLocal.layer(options.swarm),
    options.retain === undefined ? Layer.empty : retain(options.retain)
  ).pipe(
    Layer.provideMerge(ConversationsLocal.layer(options)),
    Layer.provideMerge(
      Layer.mergeAll(
        AuditSql.layer,
        ChannelStateSql.layer,
        JournalSql.layer,
        LedgerSql.layer,
        MemorySql.layer,
        Channel.layer,
        MountsLocal.layer({ allow: options.mounts ?? [], closed: [options.directory] }),
        FilesLocal.layer({ directory: join(resolve(options.directory), "files"), retain: options.retain }),
        WorkspacesLocal.layer({ directory: join(resolve(options.directory), "workspaces") })
      )
    ),
    Layer.provide(DatabaseSqlite.layer(options))
  )
