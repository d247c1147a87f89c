import { describe } from "@effect/vitest"
import * as SandboxVirtual from "effect-claw/layers/SandboxVirtual"
import { sandboxContract } from "../contracts/SandboxContract.ts"

describe("SandboxVirtual", () => sandboxContract(SandboxVirtual.layer))
