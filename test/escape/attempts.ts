/**
 * All attempts to get out of a sandbox.
 */
import type { Attempt } from "./Attempt.ts"
import { host } from "./host.ts"
import { kernel } from "./kernel.ts"
import { line } from "./line.ts"
import { load } from "./load.ts"
import { reach } from "./reach.ts"
import { shell } from "./shell.ts"
import { wayOut } from "./wayOut.ts"

export const attempts: ReadonlyArray<Attempt> = [...reach, ...host, ...kernel, ...load, ...line, ...wayOut, ...shell]
