import { assert, describe, it } from "@effect/vitest"
import { Agent } from "effect-claw"
import { ShellTools } from "effect-claw/layers/ShellTools"
import { SwarmTools } from "effect-claw/layers/SwarmTools"
import type { Budget } from "effect-claw/services/Budget"
import * as Channel from "effect-claw/services/Channel"
import { Ledger } from "effect-claw/services/Ledger"
import { AgentName, ChannelName } from "effect-claw/services/Message"
import { type ChannelMemory, ModelScripted, SandboxMemory } from "effect-claw/testing"
import * as AiError from "effect/ai/AiError"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { folder } from "../contracts/store.ts"
import { ask, commands, echo, last, life, model, replies, requests, say, transcript } from "./life.ts"

const text = ModelScripted.text
const call = ModelScripted.call

let runs = 0
/** What it returns is always something else. */
const varied = SandboxMemory.layer(() => ({ stdout: `${++runs}` }))

/** A test on a folder that outlives its claws. */
const test = (name: string, body: (directory: string) => Effect.Effect<unknown, unknown, Scope.Scope>) =>
  it.effect(name, () => Effect.flatMap(folder, body))

const asked = (count: number) =>
  Effect.repeat(Effect.andThen(Effect.yieldNow, requests), { until: (all) => all.length >= count })

describe("a turn that goes in circles", () => {
  test("is told so, then stopped, and the next message works", (directory) =>
    Effect.gen(function* () {
      const reply = yield* ask("look around")
      assert.match(reply, /going in circles/)
      const seen = (yield* requests).map((request) => last(request))
      assert.isFalse(seen.slice(0, 3).some((told) => told.includes("this very result")))
      assert.isTrue(seen.slice(3).every((told) => told.includes("this very result")))
      assert.lengthOf(yield* commands, 8)
      assert.strictEqual(yield* ask("enough"), "as you say")
    }).pipe(
      life(directory, {
        model: model((request) =>
          last(request).includes("enough") ? text("as you say") : call("bash", { command: "ls" })
        ),
        hands: SandboxMemory.layer(() => ({ stdout: "a.txt\n" }))
      })
    ))

  test("is let alone while its results differ", (directory) => {
    let turns = 0
    return ask("wait for it").pipe(
      Effect.map((reply) => assert.strictEqual(reply, "there it is")),
      life(directory, {
        model: model(() => (turns < 12 ? call("bash", { command: "ls" }) : text("there it is"))),
        hands: SandboxMemory.layer(() => ({ stdout: `${++turns}\n` }))
      })
    )
  })
})

describe("a turn that ends its claw again and again", () => {
  const stalled = model(() => Effect.never)
  /** As if a life had been cut: the mark of its orderly end is gone. */
  const kill = (directory: string) =>
    Effect.sync(() => {
      const database = new DatabaseSync(join(directory, "claw.db"))
      database.exec("DELETE FROM marks")
      database.close()
    })
  /** A life that is cut while the model is being asked. */
  const cut = (
    directory: string,
    body: Effect.Effect<unknown, unknown, ChannelMemory.ChannelMemory | ModelScripted.ModelScripted> = asked(1),
    of = stalled
  ) => Effect.andThen(life(directory, { model: of })(body), kill(directory))

  test("is set aside, the chat is told, and the rest goes on", (directory) =>
    Effect.gen(function* () {
      yield* cut(directory, Effect.andThen(say("do the thing"), asked(1)))
      yield* cut(directory)
      yield* cut(directory)
      yield* Effect.gen(function* () {
        assert.match((yield* replies(1))[0] ?? "", /set it aside/)
        assert.include(yield* ask("and now?"), "and now?")
        assert.deepStrictEqual(transcript((yield* requests)[0] ?? assert.fail()).slice(0, 1), ["do the thing"])
      }).pipe(life(directory, { model: echo }))
    }))

  test("has its count anew when something has come of it", (directory) =>
    Effect.gen(function* () {
      let answers = 0
      const once = model(() => (answers++ === 0 ? call("bash", { command: "ls" }) : Effect.never))
      yield* cut(directory, Effect.andThen(say("do the thing"), asked(1)))
      yield* cut(directory)
      yield* cut(directory, asked(2), once)
      yield* cut(directory)
      const reply = yield* Effect.map(replies(1), ([first]) => first).pipe(
        life(directory, { model: model([text("done")]) })
      )
      assert.strictEqual(reply, "done")
    }))
})

describe("a claw that ends in order again and again", () => {
  test("throws nothing away", (directory) =>
    Effect.gen(function* () {
      const stalled = { model: model(() => Effect.never) }
      yield* life(directory, stalled)(Effect.andThen(say("do the thing"), asked(1)))
      for (let restart = 0; restart < 5; restart++) yield* life(directory, stalled)(asked(1))
      const [reply] = yield* life(directory, { model: model([text("done")]) })(replies(1))
      assert.strictEqual(reply, "done")
    }))
})

describe("what a channel refuses for good", () => {
  test("is told to the agent at its next turn", (directory) => {
    const refused = new Channel.ChannelError({
      channel: ChannelName.make("memory"),
      reason: new Channel.Refused({ detail: "the chat is closed to bots" })
    })
    return Effect.gen(function* () {
      yield* say("first")
      yield* asked(1)
      assert.include(yield* ask("second"), "second")
      const told = JSON.stringify((yield* requests)[1]?.prompt)
      assert.include(told, "<notice>")
      assert.include(told, "the chat is closed to bots")
      assert.include(told, "re: first")
    }).pipe(
      life(directory, {
        model: echo,
        channel: { onSend: ({ text: said }) => (said === "re: first" ? Effect.fail(refused) : Effect.void) }
      })
    )
  })
})

describe("what comes twice", () => {
  test("a command is obeyed once", (directory) =>
    Effect.gen(function* () {
      yield* ask({ text: "/new", id: "9" })
      yield* ask("my name is Ada")
      yield* say({ text: "/new", id: "9" })
      yield* ask("who am I?")
      assert.include(transcript((yield* requests)[1] ?? assert.fail()), "my name is Ada")
    }).pipe(life(directory, { model: echo })))

  test("calls of two steps with one id are two delegations", (directory) =>
    Effect.gen(function* () {
      assert.strictEqual(yield* ask("both, please"), "delegate: one | delegate: two")
    }).pipe(
      life(directory, {
        model: model((request) => {
          const told = last(request)
          if (told === "one" || told === "two") return text(told)
          const brief = told === "both, please" ? "one" : told === "delegate: one" ? "two" : undefined
          return brief === undefined
            ? text(`delegate: one | ${told}`)
            : { calls: [{ id: "call_0", name: "delegate", params: { agent: "coder", brief } }] }
        })
      })
    ))
})

describe("a call that the provider refused", () => {
  test("costs nothing", (directory) =>
    Effect.gen(function* () {
      assert.match(yield* ask("hi"), /refused the API key/)
      const { calls, inputTokens } = yield* Ledger.use((ledger) => ledger.spent({}))
      assert.deepStrictEqual({ calls, inputTokens }, { calls: 0, inputTokens: 0 })
    }).pipe(life(directory, { model: model([new AiError.AuthenticationError({ kind: "InvalidKey" })]) })))
})

describe("what a team spends", () => {
  const team = (budget: Budget) => {
    const deep = Agent.make("deep", { instructions: "You dig.", toolkits: [ShellTools] })
    const middle = Agent.make("middle", { instructions: "You ask deep.", toolkits: [SwarmTools], team: [deep] })
    return Agent.make("lead", { instructions: "You ask middle.", toolkits: [SwarmTools], team: [middle], budget })
  }
  /** Each asks the next; `deep` works until it is stopped. */
  const digging = model((request) => {
    const said = last(request)
    if (said === "dig") return call("delegate", { agent: "middle", brief: "dig on" })
    if (said === "dig on") return call("delegate", { agent: "deep", brief: "dig deep" })
    if (said.startsWith("delegate")) return text(said)
    return { ...call("bash", { command: `${said.length}` }), usage: { input: 100, output: 8_000 } }
  })
  const spent = (name: string) =>
    Effect.map(
      Ledger.use((ledger) => ledger.spent({ agent: AgentName.make(name) })),
      ({ inputTokens, outputTokens }) => inputTokens + outputTokens
    )

  for (const period of ["perDay", "perTurn"] as const) {
    test(`is its leader's, and ends at the leader's budget ${period}`, (directory) =>
      Effect.gen(function* () {
        const reply = yield* ask("dig")
        assert.match(reply, /deep stopped at its bound|I stopped: the budget/)
        const [lead, middle, deep] = yield* Effect.forEach(["lead", "middle", "deep"], spent)
        assert.isAtMost(lead ?? NaN, 100_000)
        assert.isAbove(deep ?? NaN, 50_000)
        assert.isTrue((lead ?? 0) > (middle ?? 0) && (middle ?? 0) > (deep ?? 0))
        assert.include(yield* ask("/usage"), `${(lead ?? NaN).toLocaleString("en-US")} tokens`)
      }).pipe(life(directory, { model: digging, agents: [team({ [period]: "100000 tokens" })], hands: varied })))
  }
})
