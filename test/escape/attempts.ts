/**
 * All attempts to get out of a sandbox.
 */
import type { Attempt } from "./Attempt.ts"
import { reach } from "./reach.ts"

export const attempts: ReadonlyArray<Attempt> = [...reach]
