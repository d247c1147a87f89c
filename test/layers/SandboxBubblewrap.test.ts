import { describe } from "@effect/vitest"
import * as SandboxBubblewrap from "effect-claw/layers/SandboxBubblewrap"
import { sandboxContract } from "../contracts/SandboxContract.ts"

describe("SandboxBubblewrap", () => sandboxContract(SandboxBubblewrap.layer))
