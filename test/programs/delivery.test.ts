/**
 * What is owed when a claw dies, a message comes twice or a part does not answer, as `test/cases/delivery.json` has it. Here
 * a claw ends at a point by being interrupted there; `test/faults` has it killed.
 */
import { assert, describe } from "@effect/vitest"
import { Agent } from "effect-claw"
import * as ChannelStateSql from "effect-claw/layers/ChannelStateSql"
import * as ConversationsLocal from "effect-claw/layers/ConversationsLocal"
import * as DatabaseSqlite from "effect-claw/layers/DatabaseSqlite"
import * as FilesLocal from "effect-claw/layers/FilesLocal"
import * as JournalSql from "effect-claw/layers/JournalSql"
import * as LedgerSql from "effect-claw/layers/LedgerSql"
import * as MemorySql from "effect-claw/layers/MemorySql"
import * as SchedulerSql from "effect-claw/layers/SchedulerSql"
import * as SwarmLocal from "effect-claw/layers/SwarmLocal"
import * as WorkspacesLocal from "effect-claw/layers/WorkspacesLocal"
import * as Channel from "effect-claw/services/Channel"
import { Journal } from "effect-claw/services/Journal"
import { ChannelName, ConversationId } from "effect-claw/services/Message"
import { ChannelMemory, ModelScripted } from "effect-claw/testing"
import * as Tool from "effect/ai/Tool"
import * as Toolkit from "effect/ai/Toolkit"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as TestClock from "effect/testing/TestClock"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { ask, echo, last, life, model, replies, requests, say, transcript } from "./life.ts"
import { type Body, count, describeRows, drive, test } from "./rows.ts"

/** Lets everything go on that does not wait for the clock. */
const idle = Effect.repeat(Effect.yieldNow, { times: 200 })

const sent = ChannelMemory.ChannelMemory.use((channel) =>
  Effect.map(channel.sent, (all) => all.map(({ text }) => text))
)
const turns = ChannelMemory.ChannelMemory.useSync(
  ({ events }) => events.filter(({ event }) => event._tag === "TurnBegan").length
)
const endings = Journal.use((journal) =>
  Effect.map(
    journal.entries(ConversationId.make("memory:chat"), 0),
    (entries) => entries.filter(({ event }) => event._tag === "TurnEnded").length
  )
)

const killedAt = <const Point extends string>(point: Point) => Schema.Struct({ killAt: Schema.Literal(point) })

/** Two tools that do as they are told, and count. `once` may not be repeated, `again` may. */
const parameters = Schema.Struct({ n: Schema.Int })
const toolkit = Toolkit.make(
  Tool.make("once", { parameters, success: Schema.String }),
  Tool.make("again", { parameters, success: Schema.String }).annotate(Tool.Idempotent, true)
)
type Name = "once" | "again"

/** An agent that calls these tools one after the other, then says what the last one returned; one of them hangs. */
const calling = (hangs: () => string | undefined, ...tools: ReadonlyArray<Name>) => {
  const ran: Array<string> = []
  const run = (call: string) =>
    Effect.suspend(() => {
      ran.push(call)
      return hangs() === call ? Effect.never : Effect.succeed(`did ${call}`)
    })
  const agent = Agent.make("andy", {
    instructions: "",
    toolkits: [Agent.withHandlers(toolkit, { once: ({ n }) => run(`once ${n}`), again: ({ n }) => run(`again ${n}`) })]
  })
  const asking = model((request) => {
    const done = request.prompt.content.filter(({ role }) => role === "assistant").length
    const tool = tools[done]
    return tool === undefined ? { text: last(request) } : ModelScripted.call(tool, { n: done + 1 })
  })
  return { ran, options: { model: asking, agents: [agent] } }
}

/** The first life ends while this call runs; returns what ran in each, and what was replied. */
const inTwoLives = Effect.fnUntraced(function* (directory: string, hangs: string, ...tools: ReadonlyArray<Name>) {
  let hanging: string | undefined = hangs
  const { options, ran } = calling(() => hanging, ...tools)
  yield* Effect.andThen(say("go"), Effect.repeat(Effect.yieldNow, { until: () => ran.includes(hangs) })).pipe(
    life(directory, options)
  )
  hanging = undefined
  const before = ran.splice(0)
  const replied = yield* Effect.andThen(replies(1), Effect.andThen(idle, sent)).pipe(life(directory, options))
  return { before, after: ran, replied }
})

const unreachable = Effect.fail(
  new Channel.ChannelError({
    channel: ChannelName.make("memory"),
    reason: new Channel.Unreachable({ detail: "no network" })
  })
)

/** A platform as `Local` makes it, on a disk that can be filled. */
const withQuota = (directory: string) => {
  const ready = Deferred.makeUnsafe<SqlClient.SqlClient>()
  const database = DatabaseSqlite.layer({ directory, synchronous: "NORMAL" })
  const platform = Layer.mergeAll(SchedulerSql.layer, SwarmLocal.layer()).pipe(
    Layer.provideMerge(ConversationsLocal.layer()),
    Layer.provideMerge(
      Layer.mergeAll(
        ChannelStateSql.layer,
        FilesLocal.layer({ directory: join(directory, "files") }),
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

const bodies: Readonly<Record<string, Body>> = {
  "same message twice": drive(
    Schema.Struct({ sameChannelMessageId: Schema.Int }),
    Schema.Struct({ turns: Schema.Int, replies: Schema.Int }),
    (expect, directory, { sameChannelMessageId }) =>
      Effect.gen(function* () {
        const twice = Effect.repeat(say({ text: "hi", id: "1" }), { times: sameChannelMessageId - 1 })
        yield* twice
        yield* replies(1)
        yield* twice
        yield* idle
        assert.strictEqual(yield* turns, expect.turns)
        assert.strictEqual((yield* sent).length, expect.replies)
      }).pipe(life(directory, { model: echo }))
  ),

  "edited id in another chat": drive(
    Schema.Struct({ sameMessageIdInTwoChats: Schema.Literal(true) }),
    Schema.Struct({ turns: Schema.Int }),
    (expect, directory) =>
      Effect.gen(function* () {
        yield* say({ text: "hi", id: "1", chat: "a" })
        yield* say({ text: "hi", id: "1", chat: "b" })
        yield* replies(2)
        yield* idle
        assert.strictEqual(yield* turns, expect.turns)
      }).pipe(life(directory, { model: echo }))
  ),

  "two messages in one second": drive(
    Schema.Struct({ sameTimestamp: Schema.Int }),
    Schema.Struct({ inputsSeen: Schema.Int, order: Schema.Literal("arrival") }),
    (expect, directory, { sameTimestamp }) =>
      Effect.gen(function* () {
        // Neither their ids nor their texts grow as they arrive.
        const texts = Array.from({ length: sameTimestamp }, (_, index) => `text ${9 - index}`)
        for (const text of texts) yield* say({ text, id: text, at: 5 })
        yield* idle
        const seen = transcript((yield* requests).at(-1) ?? assert.fail()).filter((said) => said.startsWith("text"))
        assert.strictEqual(seen.length, expect.inputsSeen)
        assert.deepStrictEqual(seen, { arrival: texts }[expect.order])
      }).pipe(life(directory, { model: echo }))
  ),

  "killed before the model answered": drive(
    killedAt("model call in flight"),
    Schema.Struct({ afterRestart: Schema.Literal("the turn goes on"), replies: Schema.Int }),
    (expect, directory) =>
      Effect.gen(function* () {
        yield* Effect.gen(function* () {
          yield* say("hi")
          yield* idle
          assert.strictEqual((yield* requests).length, 1)
        }).pipe(life(directory, { model: model(() => Effect.never) }))
        yield* Effect.gen(function* () {
          yield* replies(1)
          yield* idle
          assert.strictEqual((yield* sent).length, expect.replies)
          const begun = { "the turn goes on": 0 }[expect.afterRestart]
          assert.deepStrictEqual([yield* turns, yield* endings], [begun, 1])
        }).pipe(life(directory, { model: echo }))
      })
  ),

  "killed between two tool calls": drive(
    killedAt("after the first tool result"),
    Schema.Struct({ firstToolRunsAgain: Schema.Boolean, replies: Schema.Int }),
    (expect, directory) =>
      Effect.gen(function* () {
        const { after, before, replied } = yield* inTwoLives(directory, "again 2", "once", "again")
        assert.include(before, "once 1")
        assert.strictEqual(after.includes("once 1"), expect.firstToolRunsAgain)
        assert.strictEqual(replied.length, expect.replies)
      })
  ),

  "killed during a tool not marked idempotent": drive(
    killedAt("tool running"),
    Schema.Struct({ toolRunsAgain: Schema.Boolean, modelTold: Schema.String }),
    (expect, directory) =>
      Effect.gen(function* () {
        const { after, replied } = yield* inTwoLives(directory, "once 1", "once")
        assert.strictEqual(after.includes("once 1"), expect.toolRunsAgain)
        assert.include(replied.join().toLowerCase(), expect.modelTold)
      })
  ),

  "killed during an idempotent tool": drive(
    killedAt("idempotent tool running"),
    Schema.Struct({ toolRunsAgain: Schema.Boolean }),
    (expect, directory) =>
      Effect.gen(function* () {
        const { after, replied } = yield* inTwoLives(directory, "again 1", "again")
        assert.strictEqual(after.includes("again 1"), expect.toolRunsAgain)
        assert.deepStrictEqual(replied, ["again: did again 1"])
      })
  ),

  "killed after the answer, before sending": drive(
    killedAt("reply recorded, not sent"),
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
  ),

  "killed between send and acknowledgement": drive(
    killedAt("channel accepted, row not marked"),
    Schema.Struct({
      replies: Schema.TemplateLiteralParser([
        count,
        " where the channel takes a client message id, else at most ",
        count
      ])
    }),
    ({ replies: [withIds, , without] }, directory) =>
      Effect.gen(function* () {
        const accepted: Array<string> = []
        const accepting = (then: Effect.Effect<void>) => ({
          onSend: ({ id }: ChannelMemory.Sent) =>
            Effect.andThen(
              Effect.sync(() => void accepted.push(id)),
              then
            )
        })
        yield* Effect.andThen(say("hi"), idle).pipe(life(directory, { model: echo, channel: accepting(Effect.never) }))
        assert.strictEqual(accepted.length, 1)
        yield* Effect.andThen(replies(1), idle).pipe(life(directory, { model: echo, channel: accepting(Effect.void) }))
        assert.isAtMost(accepted.length, without)
        assert.strictEqual(new Set(accepted).size, withIds)
      })
  ),

  "channel down": drive(
    Schema.Struct({ sendFails: Schema.TemplateLiteralParser([count, " times, then works"]) }),
    Schema.Struct({ replies: Schema.Int, order: Schema.Literal("kept") }),
    (expect, directory, { sendFails: [times] }) => {
      let failures = 0
      const said = ["1", "2", "3"]
      return Effect.gen(function* () {
        for (const text of said) yield* Effect.andThen(say(text), idle)
        assert.deepStrictEqual(yield* sent, [])
        yield* TestClock.adjust("1 minute")
        yield* idle
        assert.strictEqual(failures, times)
        const owed = said.flatMap((text) => Array.from({ length: expect.replies }, () => `re: ${text}`))
        assert.deepStrictEqual(yield* sent, { kept: owed }[expect.order])
      }).pipe(
        life(directory, {
          model: echo,
          channel: {
            onSend: () =>
              Effect.suspend(() => {
                if (failures === times) return Effect.void
                failures++
                return unreachable
              })
          }
        })
      )
    }
  ),

  "channel refuses for good": drive(
    Schema.Struct({ sendFails: Schema.Literal("permanently") }),
    Schema.Struct({ rowStatus: Schema.Literal("failed"), agentTold: Schema.Boolean }),
    (expect, directory) => {
      const refused = new Channel.ChannelError({
        channel: ChannelName.make("memory"),
        reason: new Channel.Refused({ detail: "the chat is closed" })
      })
      return Effect.gen(function* () {
        yield* Effect.andThen(say("first"), idle)
        assert.include(yield* ask("second"), "second")
        const told = JSON.stringify((yield* requests).at(-1)?.prompt)
        assert.strictEqual(told.includes("the chat is closed"), expect.agentTold)
        const database = new DatabaseSync(join(directory, "claw.db"), { readOnly: true })
        const rows = database.prepare("SELECT status FROM outputs WHERE text = 're: first'").all()
        database.close()
        assert.deepStrictEqual(
          rows.map(({ status }) => status),
          [expect.rowStatus]
        )
      }).pipe(
        life(directory, {
          model: echo,
          channel: { onSend: ({ text }) => (text === "re: first" ? Effect.fail(refused) : Effect.void) }
        })
      )
    }
  ),

  "disk full": drive(
    Schema.Struct({ insertFails: Schema.Literal(true) }),
    Schema.Struct({ channelAcknowledged: Schema.Boolean, lost: Schema.Int }),
    (expect, directory) =>
      Effect.gen(function* () {
        const { pages, platform } = withQuota(directory)
        yield* Effect.gen(function* () {
          yield* ask("hi")
          yield* pages("full")
          const texts = ["a", "b", "c"].map((letter) => letter.repeat(20_000))
          const said = yield* Effect.forEach(texts, (text) => Effect.forkChild(say(text), { startImmediately: true }))
          yield* Effect.repeat(Effect.andThen(TestClock.adjust("10 seconds"), idle), { times: 5 })
          for (const one of said) assert.strictEqual(one.pollUnsafe() !== undefined, expect.channelAcknowledged)
          yield* pages("free")
          yield* Effect.repeat(Effect.andThen(TestClock.adjust("10 seconds"), idle), { times: 3 })
          yield* Fiber.joinAll(said)
          const seen = transcript((yield* requests).at(-1) ?? assert.fail()).filter((text) => texts.includes(text))
          assert.strictEqual(texts.length - seen.length, expect.lost)
          assert.deepStrictEqual(seen, texts)
          assert.deepStrictEqual((yield* sent).join().match(/([abc])\1+/g), texts)
        }).pipe(life(directory, { model: echo, platform }))
      })
  )
}

describeRows("delivery", bodies)

describe("a disk that is full in the middle of a turn", () => {
  test("the answer waits for room, is not asked for again, and comes once", (directory) =>
    Effect.gen(function* () {
      const { pages, platform } = withQuota(directory)
      const long = "y".repeat(50_000)
      let answers = 0
      const filling = model((request) =>
        last(request) === "hi"
          ? { text: "hello" }
          : Effect.as(
              Effect.andThen(
                Effect.sync(() => void answers++),
                Effect.orDie(pages("full"))
              ),
              { text: long }
            )
      )
      yield* Effect.gen(function* () {
        yield* ask("hi")
        yield* say("tell me more")
        yield* Effect.repeat(Effect.andThen(TestClock.adjust("5 seconds"), idle), { times: 10 })
        assert.deepStrictEqual(yield* sent, ["hello"])
        yield* pages("free")
        yield* Effect.repeat(Effect.andThen(TestClock.adjust("5 seconds"), idle), { times: 4 })
        assert.deepStrictEqual(yield* sent, ["hello", long])
        assert.strictEqual(answers, 1)
      }).pipe(life(directory, { model: filling, platform }))
    }))
})
