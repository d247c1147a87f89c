/**
 * When to connect again, by what ended the connection.
 *
 * After a restart that WhatsApp asks for: at once. After anything that may pass: from one second, doubling to five minutes,
 * jittered; a connection that was open for a minute begins anew with one second. After what will not pass: never.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"

/** How a connection ended. */
export interface Ended {
  /** As Baileys has it. */
  readonly code: number
  /** Epoch milliseconds; `undefined`: it never was. */
  readonly openSince: number | undefined
}

/** Codes after which there is nothing to wait for, and what the owner is to do. */
const finals: ReadonlyMap<number, string> = new Map([
  [401, "the device was logged out. Start again to log in anew; the conversations go on"],
  [403, "the account is banned or restricted. Open WhatsApp on the phone, see what it says, then start again"],
  [411, "the account does not have linked devices. Update WhatsApp on the phone, then start again"],
  [440, "another process has logged in with the same device. End it, then start again"]
])
export const loggedOut = 401
const restart = 515

const longest = Duration.minutes(5)
const settled = Duration.minutes(1)

/** From one second, doubling, at least half of it by chance. */
const delay = (failures: number) =>
  Effect.map(Random.nextBetween(0.5, 1), (share) =>
    Duration.times(Duration.min(Duration.seconds(2 ** Math.min(failures, 20)), longest), share)
  )

/**
 * Connects again and again, one connection after the other; ends with what its end means, when there is nothing to wait
 * for.
 */
export const keepConnected = Effect.fnUntraced(function* <E, R>(
  connection: Effect.Effect<Ended, E, R>
): Effect.fn.Return<{ readonly code: number; readonly detail: string }, E, R> {
  let failures = 0
  let restarted = false
  while (true) {
    const { code, openSince } = yield* connection
    const detail = finals.get(code)
    if (detail !== undefined) return { code, detail }
    const wasOpen = openSince === undefined ? 0 : (yield* Clock.currentTimeMillis) - openSince
    if (wasOpen >= Duration.toMillis(settled)) {
      failures = 0
      restarted = false
    }
    // It asks for one; a restart that ends in a restart is waited for like anything else.
    if (code === restart && !restarted) {
      restarted = true
      continue
    }
    const wait = yield* delay(failures++)
    yield* Effect.logWarning(`WhatsApp's connection ended with code ${code}; the next in ${Duration.format(wait)}`)
    yield* Effect.sleep(wait)
  }
})
