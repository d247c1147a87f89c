import { assert, describe, it } from "@effect/vitest"
import * as Channel from "effect-claw/services/Channel"
import { ChannelName, ChatId, MessageId, SenderId, text as content, textOf } from "effect-claw/services/Message"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Exit from "effect/Exit"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"

type Inbound = Queue.Queue<string, Channel.ChannelError | Cause.Done>

const unreachable = (name: string) =>
  new Channel.ChannelError({
    channel: ChannelName.make(name),
    reason: new Channel.Unreachable({ detail: "no network" })
  })

/** A channel whose messages are the texts of a queue. */
const channel = (name: string, texts: Inbound): Channel.Channel => ({
  name: ChannelName.make(name),
  capabilities: { textLimit: undefined, deduplicates: false },
  inbound: Stream.map(Stream.fromQueue(texts), (text) => ({
    message: {
      channel: ChannelName.make(name),
      chat: ChatId.make("chat"),
      id: MessageId.make(text),
      sender: SenderId.make("ada"),
      content: content(text),
      direct: true,
      at: 0
    },
    ack: Effect.void
  })),
  send: () => Effect.void
})

const register = Effect.fnUntraced(function* (name: string) {
  const texts = yield* Queue.unbounded<string, Channel.ChannelError | Cause.Done>()
  yield* Channel.Channels.use((channels) => channels.register(channel(name, texts)))
  return texts
})

/** What the claw hears, until there is no more. */
const heard = Channel.Channels.use((channels) =>
  Stream.runCollect(Stream.map(channels.inbound, ({ message }) => `${message.channel}: ${textOf(message.content)}`))
)

const test = (name: string, body: () => Effect.Effect<unknown, unknown, Channel.Channels | Scope.Scope>) =>
  it.effect(name, () => Effect.provide(body(), Channel.layer))

describe("Channels", () => {
  test("what several channels receive comes in one stream, each in its order", () =>
    Effect.gen(function* () {
      const [one, two] = [yield* register("one"), yield* register("two")]
      yield* Queue.offerAll(one, ["a", "b"])
      yield* Queue.offerAll(two, ["c", "d"])
      yield* Queue.end(one)
      yield* Queue.end(two)
      const all = yield* heard
      assert.sameMembers(all, ["one: a", "one: b", "two: c", "two: d"])
      assert.isBelow(all.indexOf("one: a"), all.indexOf("one: b"))
      assert.isBelow(all.indexOf("two: c"), all.indexOf("two: d"))
    }))

  test("a channel is found by its name, for as long as it is there", () =>
    Effect.gen(function* () {
      const channels = yield* Channel.Channels
      const name = ChannelName.make("one")
      const scope = yield* Scope.make()
      yield* Scope.provide(register("one"), scope)
      assert.strictEqual((yield* channels.get(name)).name, name)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* Effect.flip(channels.get(name))).reason._tag, "Misconfigured")
      yield* register("one")
      assert.strictEqual((yield* channels.get(name)).name, name)
    }))

  test("two channels of one name are refused, and the first goes on", () =>
    Effect.gen(function* () {
      const first = yield* register("one")
      const error = yield* Effect.flip(register("one"))
      assert.strictEqual(error.reason._tag, "Misconfigured")
      assert.include(error.message, "two channels have this name")
      yield* Queue.offer(first, "a")
      yield* Queue.end(first)
      assert.deepStrictEqual(yield* heard, ["one: a"])
    }))

  test("one that fails leaves the others running, loses nothing it had received, and is the end's reason", () =>
    Effect.gen(function* () {
      const [one, two] = [yield* register("one"), yield* register("two")]
      yield* Queue.offer(one, "before")
      yield* Queue.fail(one, unreachable("one"))
      const all: Array<string> = []
      const listening = yield* Channel.Channels.use((channels) =>
        Stream.runForEach(channels.inbound, ({ message }) => Effect.sync(() => all.push(textOf(message.content))))
      ).pipe(Effect.forkChild({ startImmediately: true }))
      yield* Effect.yieldNow
      yield* Queue.offer(two, "after")
      yield* Queue.end(two)
      const error = yield* Effect.flip(Fiber.join(listening))
      assert.deepStrictEqual(all, ["before", "after"])
      assert.strictEqual(error.message, "channel one: no network")
    }))

  test("one that is defect leaves the others running", () =>
    Effect.gen(function* () {
      const channels = yield* Channel.Channels
      const two = yield* register("two")
      const texts = yield* Queue.unbounded<string, Channel.ChannelError | Cause.Done>()
      yield* channels.register({ ...channel("one", texts), inbound: Stream.die("a bug") })
      yield* Queue.offer(two, "a")
      yield* Queue.end(two)
      assert.deepStrictEqual(yield* heard, ["two: a"])
    }))

  test("it ends when all have ended, and not before a listener is there", () =>
    Effect.gen(function* () {
      const one = yield* register("one")
      yield* Queue.end(one)
      yield* Effect.yieldNow
      const two = yield* register("two")
      const listening = yield* Effect.forkChild(heard)
      yield* Queue.offer(two, "late")
      yield* Queue.end(two)
      assert.deepStrictEqual(yield* Fiber.join(listening), ["two: late"])
    }))

  test("a flood waits until it is heard", () =>
    Effect.gen(function* () {
      const channels = yield* Channel.Channels
      const texts = yield* Queue.unbounded<string, Channel.ChannelError | Cause.Done>()
      yield* Queue.offerAll(texts, ["first"])
      yield* Queue.end(texts)
      const one = channel("one", texts)
      let asked = 0
      yield* channels.register({
        ...one,
        inbound: Stream.flatMap(one.inbound, (delivery) =>
          Stream.range(1, 1000).pipe(
            Stream.rechunk(1),
            Stream.map(() => {
              asked++
              return delivery
            })
          )
        )
      })
      yield* TestClock.adjust("1 second")
      assert.isAtMost(asked, 100)
      assert.strictEqual((yield* heard).length, 1000)
    }))
})
