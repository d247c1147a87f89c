/**
 * Swapping a layer: the same claw twice, and all that differs is what its commands run in.
 *
 * A `Sandbox` is a contract; the claw does not know which one it has. Channels, models and stores are swapped the same way.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Agent, Bind, Claw, type Sandbox } from "effect-claw"
import * as ModelOffline from "effect-claw/layers/ModelOffline"
import * as SandboxDocker from "effect-claw/layers/SandboxDocker"
import * as SandboxVirtual from "effect-claw/layers/SandboxVirtual"
import { ShellTools } from "effect-claw/layers/ShellTools"
import * as Local from "effect-claw/programs/Local"
import { ChannelMemory } from "effect-claw/testing"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { mkdtempSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const agent = Agent.make("andy", { instructions: "You are Andy.", toolkits: [ShellTools] })

const clawIn = (sandbox: Layer.Layer<Sandbox.Sandbox>) =>
  Claw.layer({ agents: [agent], bindings: [Bind.everywhere(agent)] }).pipe(
    Layer.provide(sandbox),
    Layer.provide(ModelOffline.layer),
    Layer.provideMerge(ChannelMemory.layer()),
    Layer.provide(Local.layer({ directory: mkdtempSync(join(tmpdir(), "claw-")) }))
  )

/** Asks one question, and `/status`, which tells where commands run. */
const tour = Effect.gen(function* () {
  const { awaitSent, say } = yield* ChannelMemory.ChannelMemory
  yield* say("run: echo $((2 ** 10)) bytes; test -e /proc/1 && echo real processes || echo no processes")
  yield* awaitSent(1)
  yield* say("/status")
  for (const { text } of yield* awaitSent(2)) yield* Console.log(text)
})

const program = Effect.gen(function* () {
  yield* Effect.provide(tour, clawIn(SandboxVirtual.layer))
  yield* (yield* SandboxDocker.isAvailable())
    ? Effect.provide(tour, clawIn(SandboxDocker.layer()))
    : Console.log("No container engine answers here, so that was all.")
})

NodeRuntime.runMain(program)
