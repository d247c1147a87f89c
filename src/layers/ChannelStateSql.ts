/**
 * What channels keep, on a SQL database.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import type * as SqlError from "effect/sql/SqlError"
import { ChannelState, ChannelStateError } from "../services/ChannelState.ts"
import { storeFailed } from "./internal/storeFailed.ts"

const failed = (cause: SqlError.SqlError) => new ChannelStateError({ reason: storeFailed(cause) })

/** Keys that are asked for in one query: far below what SQLite takes. */
const atOnce = 500

/**
 * The state.
 *
 * Provides `ChannelState`; requires a migrated `SqlClient`. Holds nothing to release.
 */
export const layer: Layer.Layer<ChannelState, never, SqlClient.SqlClient> = Layer.effect(
  ChannelState,
  Effect.map(SqlClient.SqlClient, (sql) =>
    ChannelState.of({
      get: Effect.fn("ChannelState.get")(function* (channel, keys) {
        const found = new Map<string, string>()
        for (let from = 0; from < keys.length; from += atOnce) {
          const rows = yield* sql<{ key: string; text: string }>`SELECT key, text FROM channel_states
            WHERE channel = ${channel} AND ${sql.in("key", keys.slice(from, from + atOnce))}`
          for (const { key, text } of rows) found.set(key, text)
        }
        return found
      }, Effect.mapError(failed)),

      set: Effect.fn("ChannelState.set")(
        function* (channel, texts) {
          for (const [key, text] of texts) {
            yield* text === undefined
              ? sql`DELETE FROM channel_states WHERE channel = ${channel} AND key = ${key}`
              : sql`INSERT INTO channel_states ${sql.insert({ channel, key, text })}
                  ON CONFLICT (channel, key) DO UPDATE SET text = excluded.text`
          }
        },
        sql.withTransaction,
        Effect.mapError(failed)
      ),

      clear: Effect.fn("ChannelState.clear")(
        (channel, prefix) =>
          sql`DELETE FROM channel_states WHERE channel = ${channel} AND substr(key, 1, ${prefix.length}) = ${prefix}`,
        Effect.asVoid,
        Effect.mapError(failed)
      )
    })
  )
)
