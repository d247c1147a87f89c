/**
 * A folder and a database that are gone after the test.
 */
import * as DatabaseSqlite from "effect-claw/layers/DatabaseSqlite"
import * as FilesLocal from "effect-claw/layers/FilesLocal"
import { ChannelState } from "effect-claw/services/ChannelState"
import type { Files } from "effect-claw/services/Files"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type * as SqlClient from "effect/sql/SqlClient"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

/** An empty folder, for as long as the scope is open. */
export const folder: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "claw-test-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

/** A claw's database in a folder of its own. A power cut is no part of these tests, so commits do not wait for the disk. */
export const database: Layer.Layer<SqlClient.SqlClient, DatabaseSqlite.DatabaseError> = Layer.unwrap(
  Effect.map(folder, (directory) => DatabaseSqlite.layer({ directory, synchronous: "NORMAL" }))
)

/** Files in a folder of their own. */
export const files: Layer.Layer<Files> = Layer.unwrap(
  Effect.map(folder, (directory) => FilesLocal.layer({ directory }))
)

/** What channels keep, in memory. */
export const channelState: Layer.Layer<ChannelState> = Layer.sync(ChannelState, () => {
  const all = new Map<string, string>()
  return {
    get: (channel, keys) =>
      Effect.sync(
        () =>
          new Map(
            keys.flatMap((key) => {
              const text = all.get(`${channel} ${key}`)
              return text === undefined ? [] : [[key, text] as const]
            })
          )
      ),
    set: (channel, texts) =>
      Effect.sync(() => {
        for (const [key, text] of texts) {
          if (text === undefined) all.delete(`${channel} ${key}`)
          else all.set(`${channel} ${key}`, text)
        }
      }),
    clear: (channel, prefix) =>
      Effect.sync(() => {
        for (const key of all.keys()) if (key.startsWith(`${channel} ${prefix}`)) all.delete(key)
      })
  }
})
