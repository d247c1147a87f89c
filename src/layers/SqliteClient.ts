/**
 * `effect/sql`'s `SqlClient` on `node:sqlite`: no native build, and what is committed survives a power cut.
 *
 * One connection, in WAL mode. Statements are prepared once and kept. The names follow `@effect/sql-sqlite-node`, which
 * has no release for Effect 4.1 yet, so that it can take this module's place in one line.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import * as Reactivity from "effect/reactivity/Reactivity"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as SqlClient from "effect/sql/SqlClient"
import type * as SqlConnection from "effect/sql/SqlConnection"
import * as SqlError from "effect/sql/SqlError"
import * as Statement from "effect/sql/Statement"
import * as Stream from "effect/Stream"
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite"

/** How to open a database. */
export interface SqliteClientConfig {
  /** A file, or `:memory:`. */
  readonly filename: string
  /**
   * How much a commit waits for the disk. `FULL` (default) survives a power cut; `NORMAL` survives the end of the
   * process only, and is about ten times as fast.
   */
  readonly synchronous?: "FULL" | "NORMAL"
  /** How long a statement waits for another process's lock. Default 5,000. */
  readonly busyTimeoutMillis?: number
  /** Prepared statements kept. Default 256. */
  readonly prepareCacheSize?: number
}

const sqlError = (operation: string) => (cause: unknown) => {
  // Effect's classifier reads `errno`; node:sqlite writes the extended code to `errcode`.
  if (Predicate.isError(cause) && Predicate.hasProperty(cause, "errcode"))
    Object.assign(cause, { errno: cause.errcode })
  return new SqlError.SqlError({
    reason: SqlError.classifySqliteError(cause, { message: `SQLite could not ${operation}`, operation })
  })
}

/** What `SqlClient` may pass and `node:sqlite` does not bind by itself. */
const bind = (value: unknown): SQLInputValue => {
  if (value === undefined || value === null) return null
  if (typeof value === "boolean") return value ? 1 : 0
  if (value instanceof Date) return value.toISOString()
  if (typeof value === "string" || typeof value === "number" || typeof value === "bigint") return value
  if (value instanceof Uint8Array) return value
  throw new TypeError(`cannot bind a ${typeof value}`)
}

interface Connection extends SqlConnection.Connection {
  readonly database: DatabaseSync
}

type Row = Record<string, unknown>

const connect = Effect.fnUntraced(function* (config: SqliteClientConfig) {
  const database = yield* Effect.acquireRelease(
    Effect.try({
      try: () => {
        const opened = new DatabaseSync(config.filename, { timeout: config.busyTimeoutMillis ?? 5000 })
        opened.exec(
          `PRAGMA journal_mode = WAL; PRAGMA synchronous = ${config.synchronous ?? "FULL"}; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY`
        )
        return opened
      },
      catch: sqlError("open the database")
    }),
    (opened) => Effect.sync(() => opened.close())
  )

  const capacity = config.prepareCacheSize ?? 256
  const cache = new Map<string, StatementSync>()
  const prepare = (sql: string): StatementSync => {
    const found = cache.get(sql)
    if (found !== undefined) return found
    const statement = database.prepare(sql)
    cache.set(sql, statement)
    const oldest = cache.size > capacity ? cache.keys().next() : undefined
    if (oldest?.done === false) cache.delete(oldest.value)
    return statement
  }

  const attempt = <A>(sql: string, use: (statement: StatementSync) => A): Effect.Effect<A, SqlError.SqlError> =>
    Effect.withFiber((fiber) =>
      Effect.try({
        try: () => {
          const statement = prepare(sql)
          statement.setReadBigInts(Context.get(fiber.context, SqlClient.SafeIntegers))
          return use(statement)
        },
        catch: sqlError("run a statement")
      })
    )

  const rows = (statement: StatementSync, params: ReadonlyArray<unknown>, arrays: boolean): ReadonlyArray<Row> => {
    statement.setReturnArrays(arrays)
    return statement.all(...params.map(bind))
  }

  const execute: Connection["execute"] = (sql, params, transform) =>
    attempt(sql, (statement) => {
      const found = rows(statement, params, false)
      return transform === undefined ? found : transform(found)
    })

  // With `setReturnArrays` rows are arrays, which the types of node:sqlite do not know.
  const executeValues = (sql: string, params: ReadonlyArray<unknown>) =>
    attempt(sql, (statement) => rows(statement, params, true).map((row) => Object.values(row)))

  return {
    database,
    execute,
    executeUnprepared: execute,
    executeRaw: (sql, params) => attempt(sql, (statement) => statement.run(...params.map(bind))),
    executeValues,
    executeValuesUnprepared: executeValues,
    executeStream: (sql, params, transform) =>
      Stream.suspend(() => Stream.fromIterable<Row>(database.prepare(sql).iterate(...params.map(bind)))).pipe(
        Stream.mapArray((chunk) => {
          const [head, ...tail] = transform === undefined ? chunk : transform(chunk)
          return head === undefined ? chunk : [head, ...tail]
        }),
        Stream.catchCause((cause) => Stream.fail(sqlError("run a statement")(Cause.squash(cause))))
      )
  } satisfies Connection
})

/** Opens a database; the scope closes it. */
export const make = (
  config: SqliteClientConfig
): Effect.Effect<SqlClient.SqlClient, SqlError.SqlError, Scope.Scope | Reactivity.Reactivity> =>
  Effect.gen(function* () {
    const connection: Connection = yield* connect(config)
    return yield* SqlClient.make({
      ...SqlClient.makeSqliteAcquirers({
        connection: Effect.succeed(connection),
        semaphore: yield* Semaphore.make(1),
        isTransaction: ({ database }) => database.isTransaction
      }),
      driver: "sqlite-node",
      compiler: Statement.makeCompilerSqlite(),
      beginTransaction: "BEGIN IMMEDIATE",
      prepareTransactionControls: true,
      spanAttributes: [["db.system.name", "sqlite"]]
    })
  })

/**
 * A database.
 *
 * Provides `SqlClient`, requires nothing. On release the database is closed. Fails when the file cannot be opened, or is
 * no database.
 */
export const layer = (config: SqliteClientConfig): Layer.Layer<SqlClient.SqlClient, SqlError.SqlError> =>
  Layer.effect(SqlClient.SqlClient, make(config)).pipe(Layer.provide(Reactivity.layer))
