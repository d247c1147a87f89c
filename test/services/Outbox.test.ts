import { assert, describe, it } from "@effect/vitest"
import * as ChannelMemory from "effect-claw/layers/ChannelMemory"
import * as JournalSql from "effect-claw/layers/JournalSql"
import * as Channel from "effect-claw/services/Channel"
import { Journal, JournalError } from "effect-claw/services/Journal"
import { AgentName, ChannelName, ConversationId, OutputId, text } from "effect-claw/services/Message"
import * as Outbox from "effect-claw/services/Outbox"
import { StoreFailed } from "effect-claw/services/StoreFailed"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import { database, files } from "../contracts/store.ts"

const name = ChannelName.make("memory")
const failure = (reason: Channel.ChannelError["reason"]) =>
  Effect.fail(new Channel.ChannelError({ channel: name, reason }))
const unreachable = failure(new Channel.Unreachable({ detail: "no network" }))
const rateLimited = (retryAfter: Duration.Input) =>
  failure(new Channel.RateLimited({ retryAfter: Duration.fromInputUnsafe(retryAfter) }))

const store = JournalSql.layer.pipe(Layer.provide(database))

/** A journal, a channel that behaves so, and the outbox between them. */
const parts = (onSend?: ChannelMemory.Options["onSend"]) =>
  Outbox.layer.pipe(
    Layer.provideMerge(ChannelMemory.layer(onSend === undefined ? {} : { onSend })),
    Layer.provideMerge(Channel.layer),
    Layer.provideMerge(files)
  )

/** The same, with a journal of its own. */
const alone = (onSend?: ChannelMemory.Options["onSend"]) => Layer.provideMerge(parts(onSend), store)

/** Records an output in a chat, as a step does. */
const record = Effect.fnUntraced(function* (chat: string, ...texts: ReadonlyArray<string>) {
  const conversation = ConversationId.make(`memory:${chat}`)
  const journal = yield* Journal
  yield* journal.record({
    conversation,
    events: [],
    outputs: texts.map((text) => ({ id: OutputId.make(`${chat} ${text}`), text }))
  })
  return conversation
})

/** Records an output and says so; returns when it was tried. */
const put = (chat: string, ...texts: ReadonlyArray<string>) =>
  record(chat, ...texts).pipe(
    Effect.flatMap((conversation) => Outbox.Outbox.use((outbox) => outbox.flush(conversation))),
    Effect.andThen(TestClock.adjust(0))
  )

const settled = Outbox.Outbox.use((outbox) => outbox.settled)
const sent = ChannelMemory.ChannelMemory.use((channel) =>
  Effect.map(channel.sent, (all) => all.map(({ chat, text }) => `${chat}: ${text}`))
)
const unsent = Effect.flatMap(Journal, ({ unsent }) => unsent)

describe("Outbox", () => {
  it.effect("sends what is recorded, in order, once", () =>
    Effect.gen(function* () {
      yield* put("a", "1", "2")
      yield* put("b", "1")
      yield* put("a", "3")
      yield* settled
      yield* put("a")
      yield* settled
      const all = yield* sent
      assert.deepStrictEqual(
        all.filter((one) => one.startsWith("a")),
        ["a: 1", "a: 2", "a: 3"]
      )
      assert.strictEqual(all.length, 4)
      assert.deepStrictEqual(yield* unsent, [])
    }).pipe(Effect.provide(alone()))
  )

  it.effect("what an earlier run left unsent is sent at the start", () =>
    Effect.gen(function* () {
      yield* record("a", "1", "2")
      yield* Effect.gen(function* () {
        yield* settled
        assert.deepStrictEqual(yield* sent, ["a: 1", "a: 2"])
      }).pipe(Effect.provide(parts()))
    }).pipe(Effect.provide(store))
  )

  it.effect("a channel that is down is tried again, after delays that grow, and the order is kept", () => {
    const attempts: Array<number> = []
    let down = 5
    return Effect.gen(function* () {
      yield* put("a", "1", "2")
      yield* TestClock.adjust("1 minute")
      const delays = attempts.slice(1, 6).map((at, index) => at - (attempts[index] ?? 0))
      assert.strictEqual(delays.length, 5)
      for (const [index, delay] of delays.entries()) {
        assert.isAtLeast(delay, 0.75 * 500 * 2 ** index)
        assert.isAtMost(delay, 1.25 * 500 * 2 ** index)
      }
      assert.deepStrictEqual(yield* sent, ["a: 1", "a: 2"])
    }).pipe(
      Effect.provide(
        alone(() =>
          Effect.flatMap(Clock.currentTimeMillis, (now) => {
            attempts.push(now)
            return down-- > 0 ? unreachable : Effect.void
          })
        )
      )
    )
  })

  it.effect("a channel that is down for a day is tried every few minutes, and gets it", () => {
    let attempts = 0
    return Effect.gen(function* () {
      yield* put("a", "1")
      yield* TestClock.adjust("24 hours")
      assert.isAbove(attempts, 24 * 8)
      assert.isBelow(attempts, 24 * 20)
      yield* TestClock.adjust("7 minutes")
      assert.deepStrictEqual(yield* sent, ["a: 1"])
    }).pipe(
      Effect.provide(
        alone(() =>
          Effect.flatMap(Clock.currentTimeMillis, (now) => {
            attempts++
            return now < Duration.toMillis("1 day") ? unreachable : Effect.void
          })
        )
      )
    )
  })

  it.effect("a channel that asks to wait is not asked before", () => {
    const attempts: Array<number> = []
    return Effect.gen(function* () {
      yield* put("a", "1")
      yield* TestClock.adjust("89 seconds")
      assert.deepStrictEqual(attempts, [0])
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(attempts[1], 90_000)
      assert.deepStrictEqual(yield* sent, ["a: 1"])
    }).pipe(
      Effect.provide(
        alone(() =>
          Effect.flatMap(Clock.currentTimeMillis, (now) =>
            attempts.push(now) === 1 ? rateLimited("90 seconds") : Effect.void
          )
        )
      )
    )
  })

  it.effect("what a channel refuses is recorded as failed, is not tried again, and holds up nothing", () => {
    const attempts: Array<string> = []
    const refusing = parts((part) =>
      Effect.suspend(() => {
        attempts.push(part.text)
        return part.text === "1" ? failure(new Channel.Refused({ detail: "the chat is gone" })) : Effect.void
      })
    )
    return Effect.gen(function* () {
      yield* Effect.gen(function* () {
        yield* put("a", "1", "2")
        yield* settled
        assert.deepStrictEqual(yield* sent, ["a: 2"])
      }).pipe(Effect.provide(refusing))
      assert.deepStrictEqual(yield* unsent, [])
      yield* Effect.provide(settled, Layer.fresh(refusing))
      assert.deepStrictEqual(attempts, ["1", "2"])
    }).pipe(Effect.provide(store))
  })

  it.effect("a conversation that is stuck holds up no other", () =>
    Effect.gen(function* () {
      yield* put("stuck", "1")
      yield* put("down", "1")
      yield* put("fine", "1", "2")
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* sent, ["fine: 1", "fine: 2"])
    }).pipe(
      Effect.provide(
        alone((part) => (part.chat === "stuck" ? Effect.never : part.chat === "down" ? unreachable : Effect.void))
      )
    )
  )

  it.effect("a channel that is defect loses nothing", () =>
    Effect.gen(function* () {
      let broken = true
      yield* Effect.gen(function* () {
        yield* put("a", "1")
        yield* settled
        assert.deepStrictEqual(yield* sent, [])
        broken = false
        yield* put("a", "2")
        yield* settled
        assert.deepStrictEqual(yield* sent, ["a: 1", "a: 2"])
      }).pipe(Effect.provide(parts(() => (broken ? Effect.die("a bug") : Effect.void))))
    }).pipe(Effect.provide(store))
  )

  it.effect("outputs of a channel that is not there wait for it", () =>
    Effect.gen(function* () {
      yield* record("a", "1")
      yield* Effect.provide(settled, Outbox.layer.pipe(Layer.provide([Channel.layer, files])))
      assert.deepStrictEqual(yield* unsent, [ConversationId.make("memory:a")])
      yield* Effect.gen(function* () {
        yield* settled
        assert.deepStrictEqual(yield* sent, ["a: 1"])
      }).pipe(Effect.provide(Layer.fresh(parts())))
    }).pipe(Effect.provide(store))
  )

  it.effect("what was accepted is not sent again while its record cannot be kept", () => {
    const attempts: Array<string> = []
    return Effect.gen(function* () {
      const journal = yield* Journal
      let broken = true
      const full = new JournalError({ operation: "settle", reason: new StoreFailed({ detail: "full", cause: "full" }) })
      const breaking = Layer.succeed(Journal, {
        ...journal,
        settle: (...of) => Effect.suspend(() => (broken ? Effect.fail(full) : journal.settle(...of)))
      })
      yield* Effect.gen(function* () {
        yield* put("a", "1", "2")
        yield* TestClock.adjust("1 minute")
        assert.deepStrictEqual(attempts, ["1"])
        broken = false
        yield* TestClock.adjust("1 minute")
        assert.deepStrictEqual(attempts, ["1", "2"])
        assert.deepStrictEqual(yield* unsent, [])
      }).pipe(
        Effect.provide(
          Layer.provideMerge(
            parts(({ text }) => Effect.sync(() => void attempts.push(text))),
            breaking
          )
        )
      )
    }).pipe(Effect.provide(store))
  })

  it.effect("a claw that ends records what has just been accepted", () => {
    const attempts: Array<string> = []
    const counting = parts(({ text }) => Effect.sync(() => void attempts.push(text)))
    return Effect.gen(function* () {
      for (const text of ["1", "2", "3", "4"]) {
        const conversation = yield* record("a", text)
        yield* Effect.gen(function* () {
          yield* Outbox.Outbox.use((outbox) => outbox.flush(conversation))
          yield* ChannelMemory.ChannelMemory.use((channel) => channel.awaitSent(1))
        }).pipe(Effect.provide(Layer.fresh(counting)))
      }
      assert.deepStrictEqual(attempts, ["1", "2", "3", "4"])
      assert.deepStrictEqual(yield* unsent, [])
    }).pipe(Effect.provide(store))
  })

  it.effect("stopped between a send and its record, it sends again, with the same id", () => {
    const ids: Array<OutputId> = []
    const once = parts((part) => {
      ids.push(part.id)
      return ids.length === 1 ? Effect.never : Effect.void
    })
    return Effect.gen(function* () {
      yield* Effect.andThen(put("a", "1"), TestClock.adjust("1 second")).pipe(Effect.provide(once))
      yield* Effect.provide(settled, Layer.fresh(once))
      assert.strictEqual(ids.length, 2)
      assert.strictEqual(ids[0], ids[1])
      assert.deepStrictEqual(yield* unsent, [])
    }).pipe(Effect.provide(store))
  })

  it.effect("a command's answer is sent like any other", () =>
    Effect.gen(function* () {
      const journal = yield* Journal
      const conversation = ConversationId.make("memory:a")
      yield* journal.accept({
        conversation,
        agent: AgentName.make("andy"),
        key: "1",
        input: { origin: { _tag: "Task", task: "t" }, content: text("hi"), at: 0 }
      })
      yield* put("a", "Stopped.")
      yield* settled
      assert.deepStrictEqual(yield* sent, ["a: Stopped."])
    }).pipe(Effect.provide(alone()))
  )
})
