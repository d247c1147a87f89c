/**
 * The processes of this machine, those in containers among them.
 */
import * as Effect from "effect/Effect"
import { readdirSync, readFileSync } from "node:fs"

/** The processes that have a word in their command line, this one aside. */
export const findProcesses = (word: string): ReadonlyArray<number> =>
  readdirSync("/proc")
    .map(Number)
    .filter((id) => {
      if (Number.isNaN(id) || id === process.pid) return false
      try {
        return readFileSync(`/proc/${id}/cmdline`, "utf8").includes(word)
      } catch {
        return false
      }
    })

/** How many there are. */
export const processesWith = (word: string): number => findProcesses(word).length

/** How many there are once they are as many as said, or after ten seconds. */
export const processesBecome = (word: string, count: number) =>
  Effect.sync(() => processesWith(word)).pipe(
    Effect.delay("50 millis"),
    Effect.repeat({ until: (found) => found === count, times: 200 })
  )
