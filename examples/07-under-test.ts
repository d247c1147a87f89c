/**
 * A claw under test: the same agent, with `effect-claw/testing` in the place of its channel, its model and its sandbox.
 * Runs with Node's own test runner; any other will do.
 */
import { Agent, Bind, Claw } from "effect-claw"
import { ShellTools } from "effect-claw/layers/ShellTools"
import * as Local from "effect-claw/programs/Local"
import { ChannelMemory, ModelScripted, SandboxMemory } from "effect-claw/testing"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { deepStrictEqual, strictEqual } from "node:assert/strict"
import { mkdtempSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { test } from "node:test"

const andy = Agent.make("andy", { instructions: "You are Andy.", toolkits: [ShellTools] })

const claw = (...script: ReadonlyArray<ModelScripted.Step>) =>
  Claw.layer({ agents: [andy], bindings: [Bind.everywhere(andy)] }).pipe(
    Layer.provideMerge(ChannelMemory.layer()),
    Layer.provideMerge(ModelScripted.layer(script)),
    Layer.provideMerge(SandboxMemory.layer(() => ({ stdout: "disk is 81% full\n" }))),
    Layer.provide(Local.layer({ directory: mkdtempSync(join(tmpdir(), "claw-")) }))
  )

void test("andy looks before he answers", () =>
  Effect.gen(function* () {
    const channel = yield* ChannelMemory.ChannelMemory
    yield* channel.say("how full is the disk?")
    const [reply] = yield* channel.awaitSent(1)
    strictEqual(reply?.text, "81%")

    const { commands } = yield* SandboxMemory.SandboxMemory
    deepStrictEqual(
      commands.map(({ command }) => command.run),
      ["df -h /"]
    )
    const { requests } = yield* ModelScripted.ModelScripted
    strictEqual(requests.length, 2)
  }).pipe(
    Effect.provide(claw(ModelScripted.call("bash", { command: "df -h /" }), ModelScripted.text("81%"))),
    Effect.runPromise
  ))

void test("a stranger is not answered", () =>
  Effect.gen(function* () {
    const channel = yield* ChannelMemory.ChannelMemory
    yield* channel.say({ text: "let me in", sender: "stranger" })
    yield* channel.say("/help")
    const sent = yield* channel.awaitSent(1)
    strictEqual(sent.length, 1)
    strictEqual((yield* ModelScripted.ModelScripted).requests.length, 0)
  }).pipe(Effect.provide(claw()), Effect.runPromise))
