/**
 * Keeps private keys out of the log: Baileys' Signal library writes whole sessions to the console when it closes one.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** How what that library writes begins. */
const theirs =
  /^(Clos|Open|Migrat)ing (open )?session|^Removing old closed session|^Session (already|error)|^Decrypted message with closed|^Failed to decrypt message with any|^Unhandled bucket|^V1 session storage/

const methods = ["info", "warn", "error"] as const

/** While the scope is open the console leaves it out, and takes all else as ever. */
export const quiet: Effect.Effect<void, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() =>
    methods.map((method) => {
      // oxlint-disable-next-line eslint/no-console -- it is not written to, it is kept from being written to
      const { [method]: before } = console
      let isQuiet = true
      const filtered = (...said: ReadonlyArray<unknown>) => {
        if (!isQuiet || typeof said[0] !== "string" || !theirs.test(said[0])) before(...said)
      }
      console[method] = filtered
      return () => {
        isQuiet = false
        if (console[method] === filtered) console[method] = before
      }
    })
  ),
  (restore) => Effect.sync(() => restore.forEach((undo) => undo()))
).pipe(Effect.asVoid)
