import { afterAll, assert, beforeAll, it } from "@effect/vitest"
import * as SandboxDocker from "effect-claw/layers/SandboxDocker"
import * as Sandbox from "effect-claw/services/Sandbox"
import * as Effect from "effect/Effect"
import { memoryContract, open, realSandboxContract, sandboxContract } from "../contracts/SandboxContract.ts"
import { describeWithPodman, podmanSocket, startPodman } from "../support/podman.ts"

describeWithPodman("SandboxDocker with Podman's engine", () => {
  const layer = SandboxDocker.layer({ socketPath: podmanSocket })
  let stop = () => {}
  beforeAll(() => {
    stop = startPodman()
  }, 120_000)
  afterAll(() => stop())

  sandboxContract(layer)
  realSandboxContract(layer)
  memoryContract(layer)

  it.live("limits hold: memory, processes, open files, and what is in memory", () =>
    Effect.gen(function* () {
      const session = yield* open({ memory: "64 MiB", processes: 32 })
      const run = (script: string) => Sandbox.run(session, { run: script, deadline: "20 seconds" })
      assert.notStrictEqual((yield* run("python3 -c 'print(len(bytearray(256 * 1024 * 1024)))'")).code, 0)
      const bomb = yield* run("for i in $(seq 100); do sleep 5 & done 2>/dev/null; jobs -r | wc -l; kill $(jobs -p)")
      assert.isBelow(Number(bomb.stdout.trim() || 0), 32)
      assert.strictEqual((yield* run("ulimit -n; touch ~/a && echo written")).stdout, "1024\nwritten\n")
      assert.strictEqual((yield* run("touch /x || grep -c : /proc/net/dev; id -u")).stdout, "1\n1000\n")
    }).pipe(Effect.provide(layer))
  )
})
