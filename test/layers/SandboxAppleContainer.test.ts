import { assert, describe, it } from "@effect/vitest"
import * as SandboxAppleContainer from "effect-claw/layers/SandboxAppleContainer"
import * as Sandbox from "effect-claw/services/Sandbox"
import * as Effect from "effect/Effect"
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { open, realSandboxContract, sandboxContract, workspace } from "../contracts/SandboxContract.ts"
import { describeWithBubblewrap } from "../support/bubblewrap.ts"
import { processesWith } from "../support/processes.ts"

/** The stand-in of the command, and what it was asked. */
const standIn = () => {
  const folder = mkdtempSync(join(tmpdir(), "claw-container-"))
  const program = join(folder, "container")
  const script = fileURLToPath(new URL("../support/appleContainer.mjs", import.meta.url))
  writeFileSync(program, `#!/bin/sh\nexec ${process.execPath} ${script} ${folder} "$@"\n`, { mode: 0o755 })
  const asked = (): ReadonlyArray<ReadonlyArray<string>> =>
    readFileSync(join(folder, "asked.jsonl"), "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line))
  return { layer: SandboxAppleContainer.layer({ program }), asked }
}

describeWithBubblewrap("SandboxAppleContainer, on a stand-in of the command", () => {
  sandboxContract(standIn().layer)
  realSandboxContract(standIn().layer)

  it.live("the command is asked for the whole spec, and to delete what it started", () => {
    const { asked, layer } = standIn()
    const [folder, notes] = [workspace(), workspace()]
    return Effect.gen(function* () {
      yield* Effect.scoped(
        Effect.gen(function* () {
          const sandbox = yield* Sandbox.Sandbox
          const mounts = [{ host: notes, target: "/mnt/notes", write: false }]
          const options = { memory: "300 MiB", cpus: 2, processes: 99 } as const
          const session = yield* sandbox.open(Sandbox.makeSpec(options, folder, mounts))
          assert.strictEqual((yield* Sandbox.run(session, { run: "echo on" })).stdout, "on\n")
          assert.isAbove(processesWith(folder), 0)
        })
      )
      assert.strictEqual(processesWith(folder), 0)
      const [inspect, run = [], remove] = asked()
      const name = run.find((argument) => argument.startsWith("--name="))?.slice(7) ?? ""
      assert.deepStrictEqual(inspect, ["image", "inspect", "effect-claw/sandbox:1"])
      assert.deepStrictEqual(remove, ["delete", "--force", name])
      assert.includeMembers(
        [...run],
        [
          "--cpus=2",
          "--memory=300M",
          "--ulimit=nproc=99:99",
          "--ulimit=fsize=1073741824:1073741824",
          "--network=none",
          "--cap-drop=ALL",
          "--read-only",
          `--mount=type=bind,source=${folder},target=/workspace`,
          `--mount=type=bind,source=${notes},target=/mnt/notes,readonly`
        ]
      )
    }).pipe(Effect.provide(layer))
  })

  it.live("an image that is not there is named, with how to build it", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(open({ image: "effect-claw/none:0" }))
      assert.strictEqual(error.reason._tag, "ImageMissing")
      assert.include(error.message, "container build --tag effect-claw/none:0")
    }).pipe(Effect.provide(standIn().layer))
  )
})

describe("SandboxAppleContainer", () => {
  it.live("without the command there is an error that says what to install", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(open())
      assert.strictEqual(error.reason._tag, "SandboxUnavailable")
      assert.include(error.message, "github.com/apple/container")
    }).pipe(Effect.provide(SandboxAppleContainer.layer({ program: "/no/such/container" })))
  )
})
