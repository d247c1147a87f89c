import { assert, describe, it } from "@effect/vitest"
import * as SandboxVirtual from "effect-claw/layers/SandboxVirtual"
import { Journal } from "effect-claw/services/Journal"
import { ConversationId } from "effect-claw/services/Message"
import { ChannelMemory, ModelScripted, SandboxMemory } from "effect-claw/testing"
import * as AiError from "effect/ai/AiError"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { cases } from "../contracts/cases.ts"
import { folder } from "../contracts/store.ts"
import { ask, commands, echo, last, life, model, replies, requests, say, transcript } from "./life.ts"

const call = ModelScripted.call

/** Lets everything go on that does not wait for the clock. */
const idle = Effect.repeat(Effect.yieldNow, { times: 200 })

const sent = ChannelMemory.ChannelMemory.use((channel) =>
  Effect.map(channel.sent, (all) => all.map(({ text }) => text))
)

/** A test on a folder that outlives its claws. */
const test = (name: string, body: (directory: string) => Effect.Effect<unknown, unknown, Scope.Scope>) =>
  it.effect(name, () => Effect.flatMap(folder, body))

const conversation = ConversationId.make("memory:chat")
const journalled = Journal.use((journal) =>
  Effect.map(journal.entries(conversation, 0), (entries) => entries.map(({ event }) => event))
)

describe("a claw that starts again", () => {
  test("knows what was said before", (directory) =>
    Effect.gen(function* () {
      yield* life(directory, { model: echo })(ask("my name is Ada"))
      yield* Effect.gen(function* () {
        yield* ask("who am I?")
        assert.deepStrictEqual((yield* requests).map(transcript), [
          ["my name is Ada", "re: my name is Ada", "who am I?"]
        ])
      }).pipe(life(directory, { model: echo }))
    }))

  test("has its memories, and its tasks still come", (directory) =>
    Effect.gen(function* () {
      const remembering = model((request) => {
        switch (last(request)) {
          case "remember":
            return call("remember", { text: "Ada likes tea" })
          case "recall":
            return call("recall", { query: "tea" })
          case "remind":
            return call("schedule_task", { task: "stretch", in_seconds: 600 })
          default:
            return { text: last(request) }
        }
      })
      yield* life(directory, { model: remembering })(Effect.andThen(ask("remember"), ask("remind")))
      yield* TestClock.adjust("5 minutes")
      yield* Effect.gen(function* () {
        assert.include(yield* ask("recall"), "Ada likes tea")
        yield* TestClock.adjust("5 minutes")
        assert.deepStrictEqual((yield* replies(2))[1], "stretch")
      }).pipe(life(directory, { model: remembering }))
    }))

  test("makes up for a task that came while it was away, once", (directory) =>
    Effect.gen(function* () {
      const reminding = model((request) =>
        last(request) === "remind"
          ? call("schedule_task", { task: "stretch", every_seconds: 600 })
          : { text: last(request) }
      )
      yield* life(directory, { model: reminding })(ask("remind"))
      yield* TestClock.adjust("2 hours")
      yield* Effect.gen(function* () {
        yield* replies(1)
        yield* idle
        assert.deepStrictEqual(yield* sent, ["stretch"])
      }).pipe(life(directory, { model: reminding }))
    }))

  test("does not answer again what it has answered", (directory) =>
    Effect.gen(function* () {
      yield* life(directory, { model: echo })(ask({ text: "hi", id: "1" }))
      yield* Effect.gen(function* () {
        yield* say({ text: "hi", id: "1" })
        assert.strictEqual(yield* ask("and now?"), "re: and now?")
        assert.strictEqual((yield* requests).length, 1)
      }).pipe(life(directory, { model: echo }))
    }))

  test("goes on with a specialist's work where it was, and does not give it out again", (directory) =>
    Effect.gen(function* () {
      let hang = true
      const delegating = model((request) => {
        const said = last(request)
        if (said === "work") return call("delegate", { agent: "coder", brief: "dig" })
        if (said === "dig") return call("write_file", { path: "a.txt", content: "dug" })
        return said.startsWith("write_file") && hang ? Effect.never : Effect.succeed({ text: `so: ${said}` })
      })
      yield* Effect.gen(function* () {
        yield* say("work")
        while ((yield* requests).length < 3) yield* Effect.yieldNow
      }).pipe(life(directory, { model: delegating }))
      hang = false
      yield* Effect.gen(function* () {
        assert.include((yield* replies(1))[0], "so: delegate: so: write_file: wrote 3 characters")
        assert.strictEqual((yield* requests).length, 2)
      }).pipe(life(directory, { model: delegating }))
    }))
})

describe("a claw that ends", () => {
  test("interrupts what runs, and leaves nothing running and nothing open", (directory) =>
    Effect.gen(function* () {
      const cut: Array<string> = []
      const hanging = SandboxMemory.layer(({ run }) =>
        Effect.onInterrupt(Effect.never, () => Effect.sync(() => void cut.push(String(run))))
      )
      const log = yield* Effect.gen(function* () {
        yield* say({ text: "run", chat: "a" })
        yield* say({ text: "run", chat: "b" })
        while ((yield* commands).length < 2) yield* Effect.yieldNow
        return yield* SandboxMemory.SandboxMemory
      }).pipe(life(directory, { model: model(() => call("bash", { command: "work" })), hands: hanging }))
      assert.deepStrictEqual(cut, ["work", "work"])
      assert.strictEqual(log.open.size, 0)
      // The folder is free, and what was cut is still to be done.
      yield* Effect.gen(function* () {
        assert.sameMembers(
          [...(yield* Journal.use(({ unfinished }) => unfinished))],
          ["memory:a", "memory:b"].map((id) => ConversationId.make(id))
        )
      }).pipe(life(directory, { model: model(() => Effect.never) }))
    }))

  it.live("in the middle of a command: the command is interrupted, it has not failed", () =>
    Effect.gen(function* () {
      const directory = yield* folder
      const virtual = Layer.merge(SandboxMemory.layer(), SandboxVirtual.layer)
      const asked: Array<string> = []
      const running = model((request) => {
        asked.push(last(request))
        return last(request) === "run" ? call("bash", { command: "sleep 20" }) : { text: last(request) }
      })
      yield* Effect.gen(function* () {
        yield* say("run")
        while (!(yield* journalled).some(({ _tag }) => _tag === "ToolStarted")) yield* Effect.sleep("5 millis")
        yield* Effect.sleep("200 millis")
      }).pipe(life(directory, { model: running, hands: virtual }))
      assert.deepStrictEqual(asked, ["run"])
      yield* Effect.gen(function* () {
        assert.include((yield* replies(1))[0], "interrupted and its outcome is unknown")
      }).pipe(life(directory, { model: running, hands: virtual }))
    })
  )
})

describe("a model that is overloaded", () => {
  for (const { name } of cases(
    "queueing",
    Schema.Struct({
      name: Schema.String,
      input: Schema.Struct({ model: Schema.Literal("always overloaded") }),
      expect: Schema.Struct({
        attemptsAt: Schema.Literal("growing with jitter"),
        gaveUp: Schema.Literal("tells the chat once")
      })
    })
  )) {
    test(name, (directory) => {
      const attempts: Array<number> = []
      return Effect.gen(function* () {
        yield* say("hi")
        yield* idle
        yield* TestClock.adjust("5 minutes")
        yield* idle
        const delays = attempts.slice(1).map((at, index) => at - (attempts[index] ?? 0))
        assert.deepStrictEqual(
          [...delays].sort((a, b) => a - b),
          delays
        )
        assert.isAbove(new Set(delays.map((delay) => delay % 1000)).size, 1)
        assert.strictEqual((yield* sent).length, 1)
        assert.include((yield* sent)[0], "overloaded")
      }).pipe(
        life(directory, {
          model: model(() =>
            Effect.flatMap(Clock.currentTimeMillis, (now) => {
              attempts.push(now)
              return Effect.fail(new AiError.RateLimitError({}))
            })
          )
        })
      )
    })
  }
})

describe("steering", () => {
  for (const { name } of cases(
    "queueing",
    Schema.Struct({
      name: Schema.String,
      input: Schema.Struct({
        mode: Schema.Literal("steer"),
        messageDuringTurn: Schema.Literal("after the first tool result")
      }),
      expect: Schema.Struct({ seenBy: Schema.Literal("the next model step of the same turn") })
    })
  )) {
    test(name, (directory) => {
      const finish = Deferred.makeUnsafe<void>()
      return Effect.gen(function* () {
        yield* say("run")
        yield* idle
        yield* say("and be quick")
        yield* Deferred.succeed(finish, undefined)
        const [reply] = yield* replies(1)
        assert.include(reply, "and be quick")
        const { events } = yield* ChannelMemory.ChannelMemory
        assert.strictEqual(events.filter(({ event }) => event._tag === "TurnBegan").length, 1)
      }).pipe(
        life(directory, {
          model: model((request) =>
            last(request) === "run" ? call("bash", { command: "work" }) : { text: `re: ${last(request)}` }
          ),
          hands: SandboxMemory.layer(() => Effect.as(Deferred.await(finish), {}))
        })
      )
    })
  }
})
