import { assert, describe, it } from "@effect/vitest"
import { Agent, Bind, Claw } from "effect-claw"
import * as Local from "effect-claw/programs/Local"
import { MemoryTools } from "effect-claw/layers/MemoryTools"
import { ShellTools } from "effect-claw/layers/ShellTools"
import { ChannelMemory, ModelScripted, SandboxMemory } from "effect-claw/testing"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { mkdtempSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const andy = Agent.make("andy", { instructions: "You are Andy.", toolkits: [ShellTools, MemoryTools] })

describe("Claw", () => {
  it.live("answers", () =>
    Effect.gen(function* () {
      const channel = yield* ChannelMemory.ChannelMemory
      yield* channel.say("hi")
      const sent = yield* channel.awaitSent(1)
      assert.deepStrictEqual(
        sent.map(({ text }) => text),
        ["hello there"]
      )
      yield* channel.say("run it")
      const all = yield* channel.awaitSent(2)
      assert.strictEqual(all[1]?.text, "it said 42")
    }).pipe(
      Effect.provide(
        Claw.layer({ agents: [andy], bindings: [Bind.everywhere(andy)] }).pipe(
          Layer.provideMerge(ChannelMemory.layer()),
          Layer.provide(SandboxMemory.layer(() => ({ stdout: "42\n" }))),
          Layer.provideMerge(
            ModelScripted.layer([
              ModelScripted.text("hello there"),
              ModelScripted.call("bash", { command: "echo 42" }),
              ModelScripted.text("it said 42")
            ])
          ),
          Layer.provide(Local.layer({ directory: mkdtempSync(join(tmpdir(), "claw-")) }))
        )
      )
    )
  )
})
