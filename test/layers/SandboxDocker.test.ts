import { describe } from "@effect/vitest"
import * as SandboxDocker from "effect-claw/layers/SandboxDocker"
import { sandboxContract } from "../contracts/SandboxContract.ts"

describe("SandboxDocker", () => sandboxContract(SandboxDocker.layer()))
