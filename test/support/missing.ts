/**
 * Tests that need what is not on every machine. In CI it is a failure that it is missing; elsewhere they are skipped, loudly.
 */
import { describe, it } from "@effect/vitest"

/** `describe` for what needs something that takes its time. `missing` says why it is not there, if it is not. */
export const describeUnless =
  (missing: string | undefined, advice: string) =>
  (name: string, body: () => void): void => {
    if (missing === undefined) return void describe(name, { timeout: 90_000 }, body)
    if (process.env["CI"] !== undefined) {
      return void describe(name, () => it(`needs: ${advice}`, () => Promise.reject(new Error(missing))))
    }
    // What is not on this machine cannot be tested on it.
    process.stderr.write(`\n*** SKIPPED: ${name}. ${missing}. ${advice} to run it. ***\n\n`)
    describe.skip(name, body)
  }
