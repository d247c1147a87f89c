/**
 * Codes that people read and type.
 */
import { randomBytesUnsafe } from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"

/** None that is taken for another: no 0 and o, no 1, i and l. */
const letters = "abcdefghjkmnpqrstuvwxyz23456789"

/** A code that cannot be foreseen, so that nobody can be made to say it before it is shown. */
export const makeCode = (length: number): Effect.Effect<string> =>
  Effect.sync(() => Array.from(randomBytesUnsafe(length), (byte) => letters.charAt(byte % letters.length)).join(""))
