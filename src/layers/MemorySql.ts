/**
 * Memory on SQLite, found by full text search (FTS5, BM25 ranking, English stems).
 *
 * The scopes are part of every statement's `WHERE`: a query cannot see past them, whatever its words.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import type * as SqlError from "effect/sql/SqlError"
import { Memory, type MemoryEntry, MemoryError, MemoryInvalid, MemoryScope } from "../services/Memory.ts"
import { storeFailed } from "./internal/storeFailed.ts"

/** The longest memory, in characters. */
const textLimit = 8192

const encodeScope = Schema.encodeSync(Schema.fromJsonString(MemoryScope))
const decodeScope = Schema.decodeSync(Schema.fromJsonString(MemoryScope))

interface Row {
  readonly id: number
  readonly scope: string
  readonly text: string
  readonly at: number
}

const toEntry = (row: Row): MemoryEntry => ({ ...row, scope: decodeScope(row.scope) })

const failed = (cause: SqlError.SqlError) => new MemoryError({ reason: storeFailed(cause) })

/** Any text as an FTS5 query: its words, each quoted, any of which may match. */
const matchAny = (query: string): string =>
  (query.toWellFormed().match(/[\p{L}\p{N}][\p{L}\p{N}\p{M}]*/gu) ?? [])
    .slice(0, 32)
    .map((word) => `"${word}"`)
    .join(" OR ")

/**
 * Memory.
 *
 * Provides `Memory`; requires a migrated `SqlClient` on SQLite. Holds nothing to release.
 */
export const layer: Layer.Layer<Memory, never, SqlClient.SqlClient> = Layer.effect(
  Memory,
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const within = (scopes: ReadonlyArray<MemoryScope>) =>
      sql.in(
        "scope",
        scopes.map((scope) => encodeScope(scope))
      )

    return Memory.of({
      remember: Effect.fn("Memory.remember")(function* (scope, input) {
        const text = input.toWellFormed().replaceAll("\0", "").trim()
        if (text === "" || text.length > textLimit) {
          return yield* new MemoryError({
            reason: new MemoryInvalid({ detail: `a memory has 1 to ${textLimit} characters, this one ${text.length}` })
          })
        }
        const at = yield* Clock.currentTimeMillis
        const [row] = yield* sql<Row>`
          INSERT INTO memories ${sql.insert({ scope: encodeScope(scope), text, at })}
          ON CONFLICT (scope, text) DO UPDATE SET at = excluded.at RETURNING id, scope, text, at`.pipe(
          Effect.mapError(failed)
        )
        return row === undefined ? { id: 0, scope, text, at } : toEntry(row)
      }),

      recall: Effect.fn("Memory.recall")(function* (scopes, query, limit = 10) {
        const match = matchAny(query)
        if (match === "") return []
        const rows = yield* sql<Row>`
          SELECT id, scope, memories.text, at FROM memories_index JOIN memories ON memories.id = memories_index.rowid
          WHERE memories_index MATCH ${match} AND ${within(scopes)}
          ORDER BY bm25(memories_index), at DESC LIMIT ${limit}`
        return rows.map(toEntry)
      }, Effect.mapError(failed)),

      forget: Effect.fn("Memory.forget")(function* (scopes, id) {
        const rows = yield* sql`DELETE FROM memories WHERE id = ${id} AND ${within(scopes)} RETURNING id`
        return rows.length > 0
      }, Effect.mapError(failed)),

      list: Effect.fn("Memory.list")(function* (scopes, limit = 50) {
        const rows = yield* sql<Row>`
          SELECT id, scope, text, at FROM memories WHERE ${within(scopes)} ORDER BY at DESC, id DESC LIMIT ${limit}`
        return rows.map(toEntry)
      }, Effect.mapError(failed))
    })
  })
)
