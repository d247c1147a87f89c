/**
 * Tests that need bubblewrap.
 */
import * as SandboxBubblewrap from "effect-claw/layers/SandboxBubblewrap"
import * as Effect from "effect/Effect"
import { describeUnless } from "./missing.ts"

/** `describe`, for what runs in bubblewrap. */
export const describeWithBubblewrap = describeUnless(
  (await Effect.runPromise(SandboxBubblewrap.isAvailable())) ? undefined : "Bubblewrap makes no sandbox here",
  "Install bubblewrap, as root or with control groups of version 2,"
)
