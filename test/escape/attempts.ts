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
import { wayOutHosts, wayOutSockets } from "./wayOutHosts.ts"
import { wayOutRequests } from "./wayOutRequests.ts"
import { wayOutMuch, wayOutSecrets } from "./wayOutSecrets.ts"

export const attempts: ReadonlyArray<Attempt> = [
  ...reach,
  ...host,
  ...kernel,
  ...load,
  ...line,
  ...wayOutHosts,
  ...wayOutRequests,
  ...wayOutSockets,
  ...wayOutSecrets,
  ...wayOutMuch,
  ...shell
]
