import { assert, describe, it } from "@effect/vitest"
import { Agent } from "effect-claw"
import * as ConversationsLocal from "effect-claw/layers/ConversationsLocal"
import * as DatabaseSqlite from "effect-claw/layers/DatabaseSqlite"
import * as JournalSql from "effect-claw/layers/JournalSql"
import * as LedgerSql from "effect-claw/layers/LedgerSql"
import * as MemorySql from "effect-claw/layers/MemorySql"
import * as SandboxVirtual from "effect-claw/layers/SandboxVirtual"
import * as SchedulerSql from "effect-claw/layers/SchedulerSql"
import * as SwarmLocal from "effect-claw/layers/SwarmLocal"
import * as WorkspacesLocal from "effect-claw/layers/WorkspacesLocal"
import * as Channel from "effect-claw/services/Channel"
import { Journal } from "effect-claw/services/Journal"
import { ChannelName, ConversationId } from "effect-claw/services/Message"
import { ChannelMemory, ModelScripted, SandboxMemory } from "effect-claw/testing"
import * as AiError from "effect/ai/AiError"
import * as Tool from "effect/ai/Tool"
import * as Toolkit from "effect/ai/Toolkit"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import * as TestClock from "effect/testing/TestClock"
import { join } from "node:path"
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

describe("delivery cases", () => {
  /** Drives the row of this name; what it expects is held against what comes. */
  const row = <Expect>(
    name: string,
    input: Schema.ConstraintDecoder<unknown>,
    expect: Schema.ConstraintDecoder<Expect>,
    body: (expect: Expect, directory: string) => Effect.Effect<unknown, unknown, Scope.Scope>
  ) => {
    const rows = cases("delivery", Schema.Struct({ name: Schema.Literal(name), input, expect }))
    if (rows.length !== 1) throw new Error(`there is no such row: ${name}`)
    for (const { expect } of rows) test(name, (directory) => body(expect, directory))
  }

  const turns = ChannelMemory.ChannelMemory.useSync(
    ({ events }) => events.filter(({ event }) => event._tag === "TurnBegan").length
  )

  row(
    "same message twice",
    Schema.Struct({ sameChannelMessageId: Schema.Int }),
    Schema.Struct({ turns: Schema.Int, replies: Schema.Int }),
    (expect, directory) =>
      Effect.gen(function* () {
        yield* say({ text: "hi", id: "1" })
        yield* say({ text: "hi", id: "1" })
        yield* replies(1)
        yield* say({ text: "hi", id: "1" })
        yield* idle
        assert.strictEqual(yield* turns, expect.turns)
        assert.strictEqual((yield* sent).length, expect.replies)
      }).pipe(life(directory, { model: echo }))
  )

  row(
    "edited id in another chat",
    Schema.Struct({ sameMessageIdInTwoChats: Schema.Boolean }),
    Schema.Struct({ turns: Schema.Int }),
    (expect, directory) =>
      Effect.gen(function* () {
        yield* say({ text: "hi", id: "1", chat: "a" })
        yield* say({ text: "hi", id: "1", chat: "b" })
        yield* replies(2)
        assert.strictEqual(yield* turns, expect.turns)
      }).pipe(life(directory, { model: echo }))
  )

  row(
    "two messages in one second",
    Schema.Struct({ sameTimestamp: Schema.Int }),
    Schema.Struct({ inputsSeen: Schema.Int, order: Schema.Literal("arrival") }),
    (expect, directory) =>
      Effect.gen(function* () {
        yield* say({ text: "b", at: 5 })
        yield* say({ text: "a", at: 5 })
        yield* idle
        const seen = transcript((yield* requests).at(-1) ?? assert.fail()).filter(
          (said) => said === "a" || said === "b"
        )
        assert.strictEqual(seen.length, expect.inputsSeen)
        assert.deepStrictEqual(seen, ["b", "a"])
      }).pipe(life(directory, { model: echo }))
  )

  row(
    "killed before the model answered",
    Schema.Struct({ killAt: Schema.Literal("model call in flight") }),
    Schema.Struct({ afterRestart: Schema.Literal("the turn goes on"), replies: Schema.Int }),
    (expect, directory) =>
      Effect.gen(function* () {
        yield* Effect.andThen(say("hi"), idle).pipe(life(directory, { model: model(() => Effect.never) }))
        yield* Effect.gen(function* () {
          yield* replies(1)
          yield* idle
          assert.strictEqual((yield* sent).length, expect.replies)
        }).pipe(life(directory, { model: echo }))
      })
  )

  /** Two tools that do as they are told, and count. `once` may not be repeated, `again` may. */
  const parameters = Schema.Struct({ n: Schema.Int })
  const toolkit = Toolkit.make(
    Tool.make("once", { parameters, success: Schema.String }),
    Tool.make("again", { parameters, success: Schema.String }).annotate(Tool.Idempotent, true)
  )
  const counting = (hangAt: () => string | undefined) => {
    const ran: Array<string> = []
    const run = (name: string) =>
      Effect.suspend(() => {
        ran.push(name)
        return hangAt() === name ? Effect.never : Effect.succeed(`did ${name}`)
      })
    const agent = Agent.make("andy", {
      instructions: "",
      toolkits: [
        Agent.withHandlers(toolkit, { once: ({ n }) => run(`once ${n}`), again: ({ n }) => run(`again ${n}`) })
      ]
    })
    return { agent, ran }
  }
  /** Calls the tools one after the other, then says what the last one returned. */
  const calling = (...tools: ReadonlyArray<"once" | "again">) =>
    model((request) => {
      const done = request.prompt.content.filter(({ role }) => role === "assistant").length
      const tool = tools[done]
      return tool === undefined ? { text: last(request) } : call(tool, { n: done + 1 })
    })

  /** The first life ends while this tool runs; returns what ran in each life, and what was replied. */
  const inTwoLives = Effect.fnUntraced(function* (
    directory: string,
    hangs: string,
    ...tools: ReadonlyArray<"once" | "again">
  ) {
    let hangAt: string | undefined = hangs
    const { agent, ran } = counting(() => hangAt)
    const options = { model: calling(...tools), agents: [agent] }
    yield* Effect.andThen(say("go"), Effect.repeat(Effect.yieldNow, { until: () => ran.includes(hangs) })).pipe(
      life(directory, options)
    )
    hangAt = undefined
    const before = ran.splice(0)
    const replied = yield* Effect.gen(function* () {
      yield* replies(1)
      yield* idle
      return yield* sent
    }).pipe(life(directory, options))
    return { before, after: ran, replied }
  })

  row(
    "killed between two tool calls",
    Schema.Struct({ killAt: Schema.Literal("after the first tool result") }),
    Schema.Struct({ firstToolRunsAgain: Schema.Boolean, replies: Schema.Int }),
    (expect, directory) =>
      Effect.gen(function* () {
        const { after, replied } = yield* inTwoLives(directory, "again 2", "once", "again")
        assert.strictEqual(after.includes("once 1"), expect.firstToolRunsAgain)
        assert.strictEqual(replied.length, expect.replies)
      })
  )

  row(
    "killed during a tool not marked idempotent",
    Schema.Struct({ killAt: Schema.Literal("tool running") }),
    Schema.Struct({ toolRunsAgain: Schema.Boolean, modelTold: Schema.String }),
    (expect, directory) =>
      Effect.gen(function* () {
        const { after, replied } = yield* inTwoLives(directory, "once 1", "once")
        assert.strictEqual(after.includes("once 1"), expect.toolRunsAgain)
        assert.include(replied[0]?.replace("The call", "the call"), expect.modelTold)
      })
  )

  row(
    "killed during an idempotent tool",
    Schema.Struct({ killAt: Schema.Literal("idempotent tool running") }),
    Schema.Struct({ toolRunsAgain: Schema.Boolean }),
    (expect, directory) =>
      Effect.gen(function* () {
        const { after, replied } = yield* inTwoLives(directory, "again 1", "again")
        assert.strictEqual(after.includes("again 1"), expect.toolRunsAgain)
        assert.deepStrictEqual(replied, ["again: did again 1"])
      })
  )

  row(
    "killed after the answer, before sending",
    Schema.Struct({ killAt: Schema.Literal("reply recorded, not sent") }),
    Schema.Struct({ replies: Schema.Int }),
    (expect, directory) =>
      Effect.gen(function* () {
        yield* Effect.andThen(say("hi"), idle).pipe(
          life(directory, { model: echo, channel: { onSend: () => Effect.never } })
        )
        yield* Effect.gen(function* () {
          yield* replies(1)
          yield* idle
          assert.strictEqual((yield* sent).length, expect.replies)
          assert.strictEqual((yield* requests).length, 0)
        }).pipe(life(directory, { model: echo }))
      })
  )

  row(
    "killed between send and acknowledgement",
    Schema.Struct({ killAt: Schema.Literal("channel accepted, row not marked") }),
    Schema.Struct({ replies: Schema.Literal("1 where the channel takes a client message id, else at most 2") }),
    (_, directory) =>
      Effect.gen(function* () {
        const seen: Array<string> = []
        const accepting = (then: Effect.Effect<void>) => ({
          onSend: ({ id }: ChannelMemory.Sent) =>
            Effect.andThen(
              Effect.sync(() => void seen.push(id)),
              then
            )
        })
        yield* Effect.andThen(say("hi"), idle).pipe(life(directory, { model: echo, channel: accepting(Effect.never) }))
        yield* Effect.andThen(replies(1), idle).pipe(life(directory, { model: echo, channel: accepting(Effect.void) }))
        assert.strictEqual(seen.length, 2)
        assert.strictEqual(new Set(seen).size, 1)
      })
  )

  const unreachable = new Channel.ChannelError({
    channel: ChannelName.make("memory"),
    reason: new Channel.Unreachable({ detail: "no network" })
  })

  row(
    "channel down",
    Schema.Struct({ sendFails: Schema.Literal("3 times, then works") }),
    Schema.Struct({ replies: Schema.Int, order: Schema.Literal("kept") }),
    (expect, directory) => {
      let failures = 0
      return Effect.gen(function* () {
        yield* say("1")
        yield* idle
        yield* say("2")
        yield* idle
        yield* TestClock.adjust("1 minute")
        assert.deepStrictEqual(yield* replies(2), ["re: 1", "re: 2"])
        yield* idle
        assert.strictEqual((yield* sent).filter((reply) => reply === "re: 1").length, expect.replies)
      }).pipe(
        life(directory, {
          model: echo,
          channel: { onSend: () => (++failures <= 3 ? Effect.fail(unreachable) : Effect.void) }
        })
      )
    }
  )

  row(
    "disk full",
    Schema.Struct({ insertFails: Schema.Boolean }),
    Schema.Struct({ channelAcknowledged: Schema.Boolean, lost: Schema.Int }),
    (expect, directory) =>
      Effect.gen(function* () {
        const { pages, platform } = withQuota(directory)
        yield* Effect.gen(function* () {
          yield* ask("hi")
          yield* pages("full")
          const said = yield* Effect.forkChild(say("x".repeat(50_000)))
          yield* Effect.repeat(Effect.andThen(TestClock.adjust("10 seconds"), idle), { times: 5 })
          assert.strictEqual(said.pollUnsafe() !== undefined, expect.channelAcknowledged)
          yield* pages("free")
          yield* Effect.andThen(TestClock.adjust("10 seconds"), idle)
          yield* Fiber.join(said)
          const [, second] = yield* replies(2)
          assert.strictEqual(second?.length, 50_004 + expect.lost)
        }).pipe(life(directory, { model: echo, platform }))
      })
  )
})

/** A platform as `Local` makes it, on a disk that can be filled. */
const withQuota = (directory: string) => {
  const ready = Deferred.makeUnsafe<SqlClient.SqlClient>()
  const database = DatabaseSqlite.layer({ directory, synchronous: "NORMAL" })
  const platform = Layer.mergeAll(SchedulerSql.layer, SwarmLocal.layer()).pipe(
    Layer.provideMerge(ConversationsLocal.layer()),
    Layer.provideMerge(
      Layer.mergeAll(
        JournalSql.layer,
        LedgerSql.layer,
        MemorySql.layer,
        Channel.layer,
        WorkspacesLocal.layer({ directory: join(directory, "workspaces") }),
        Layer.effectDiscard(Effect.flatMap(SqlClient.SqlClient, (sql) => Deferred.succeed(ready, sql)))
      )
    ),
    Layer.provide(database)
  )
  const pages = (state: "full" | "free") =>
    Effect.flatMap(Deferred.await(ready), (sql) =>
      sql.unsafe(`PRAGMA max_page_count = ${state === "full" ? 1 : 1_000_000}`)
    )
  return { platform, pages }
}

describe("a store that fails for a while", () => {
  test("in the middle of a turn: the turn goes on, and the reply comes once", (directory) =>
    Effect.gen(function* () {
      const { pages, platform } = withQuota(directory)
      const long = "y".repeat(50_000)
      let answers = 0
      const filling = model((request) =>
        last(request) === "hi"
          ? { text: "hello" }
          : Effect.as(Effect.orDie(pages(++answers <= 3 ? "full" : "free")), { text: long })
      )
      yield* Effect.gen(function* () {
        yield* ask("hi")
        yield* say("tell me more")
        yield* Effect.repeat(Effect.andThen(TestClock.adjust("5 seconds"), idle), { times: 10 })
        assert.deepStrictEqual(yield* sent, ["hello", long])
        assert.strictEqual(answers, 4)
      }).pipe(life(directory, { model: filling, platform }))
    }))

  test("what came meanwhile is taken in order when there is room", (directory) =>
    Effect.gen(function* () {
      const { pages, platform } = withQuota(directory)
      yield* Effect.gen(function* () {
        yield* ask("hi")
        yield* pages("full")
        const texts = ["1", "2", "3"].map((digit) => digit.repeat(20_000))
        yield* Effect.forEach(texts, (text) => Effect.forkChild(say(text), { startImmediately: true }))
        yield* Effect.repeat(Effect.andThen(TestClock.adjust("10 seconds"), idle), { times: 3 })
        yield* pages("free")
        yield* Effect.repeat(Effect.andThen(TestClock.adjust("10 seconds"), idle), { times: 3 })
        const seen = transcript((yield* requests).at(-1) ?? assert.fail()).filter((said) => texts.includes(said))
        assert.deepStrictEqual(seen, texts)
      }).pipe(life(directory, { model: echo, platform }))
    }))
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
