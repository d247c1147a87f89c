import { assert, describe, it } from "@effect/vitest"
import * as ChannelMemory from "effect-claw/layers/ChannelMemory"
import * as Channel from "effect-claw/services/Channel"
import { ChannelName, ChatId, OutputId, textOf } from "effect-claw/services/Message"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { channelContract } from "../contracts/ChannelContract.ts"

const memory = ChannelMemory.layer().pipe(Layer.provideMerge(Channel.layer))

describe("ChannelMemory", () => {
  channelContract(
    Effect.gen(function* () {
      const name = ChannelName.make("memory")
      /** What is to become of the next send. */
      let fault: Channel.ChannelError | undefined
      const fails = (reason: Channel.ChannelError["reason"]) =>
        Effect.sync(() => void (fault = new Channel.ChannelError({ channel: name, reason })))
      const onSend = () =>
        Effect.suspend(() => {
          const failure = fault
          fault = undefined
          return failure === undefined ? Effect.void : Effect.fail(failure)
        })
      let said = 0
      const other = yield* Deferred.make<ChannelMemory.ChannelMemory["Service"]>()
      const use = <A>(f: (channel: ChannelMemory.ChannelMemory["Service"]) => Effect.Effect<A>) =>
        Effect.flatMap(Deferred.await(other), f)
      return {
        name,
        layer: Layer.effectDiscard(
          Effect.flatMap(ChannelMemory.ChannelMemory, (channel) => Deferred.succeed(other, channel))
        ).pipe(Layer.provide(ChannelMemory.layer({ onSend }))),
        say: (text) => use((channel) => channel.say({ text, id: `said-${++said}` })),
        repeat: use((channel) => Effect.asVoid(Effect.forkDetach(channel.say({ text: "once", id: `said-${said}` })))),
        breakSend: () => fails(new Channel.Unreachable({ detail: "cut" })),
        refuseSend: (until) =>
          fails(
            until === "never"
              ? new Channel.Refused({ detail: "blocked" })
              : new Channel.RateLimited({ retryAfter: Duration.zero })
          ),
        isTyping: use((channel) => Effect.sync(() => channel.typing.size > 0)),
        share: ({ content, ...file }, text) =>
          use((channel) => channel.say({ text, attachments: [{ ...file, content: Stream.succeed(content) }] })),
        files: use((channel) =>
          Effect.map(channel.sent, (all) => all.flatMap(({ file }) => (file === undefined ? [] : [file])))
        ),
        read: use((channel) => Effect.map(channel.sent, (all) => all.map(({ text }) => text).join("\n"))),
        leave: use((channel) => channel.close)
      }
    })
  )

  it.effect("what is said is answered for when it is acknowledged, and not before", () =>
    Effect.gen(function* () {
      const channel = yield* ChannelMemory.ChannelMemory
      const channels = yield* Channel.Channels
      const said = yield* Effect.forkChild(channel.say("hi"), { startImmediately: true })
      const [delivery] = yield* Stream.runCollect(Stream.take(channels.inbound, 1))
      assert.isUndefined(said.pollUnsafe())
      yield* delivery?.ack ?? Effect.void
      yield* Fiber.join(said)
    }).pipe(Effect.provide(memory))
  )

  it.effect("chat, sender, id and kind are what the test says", () =>
    Effect.gen(function* () {
      const channel = yield* ChannelMemory.ChannelMemory
      const channels = yield* Channel.Channels
      const more = { chat: "c", sender: "s", id: "i", senderName: "Ada", direct: false, mentionsAgent: true, at: 5 }
      yield* Effect.forkChild(channel.say({ text: "hi", ...more }), { startImmediately: true })
      const [delivery] = yield* Stream.runCollect(Stream.take(channels.inbound, 1))
      const { content, ...message } = delivery?.message ?? assert.fail()
      assert.strictEqual(textOf(content), "hi")
      assert.deepStrictEqual<object>(message, { channel: "memory", ...more })
    }).pipe(Effect.provide(memory))
  )

  it.effect("a test waits for what is sent, and reads it in order", () =>
    Effect.gen(function* () {
      const channel = yield* ChannelMemory.ChannelMemory
      const { send } = yield* Channel.Channels.use((channels) => channels.get(ChannelName.make("memory")))
      const waiting = yield* Effect.forkChild(channel.awaitSent(2), { startImmediately: true })
      const part = (text: string) => ({ id: OutputId.make(text), text })
      yield* send(ChatId.make("c"), part("1"))
      yield* send(ChatId.make("d"), part("2"))
      assert.deepStrictEqual(yield* Fiber.join(waiting), [
        { ...part("1"), chat: ChatId.make("c") },
        { ...part("2"), chat: ChatId.make("d") }
      ])
    }).pipe(Effect.provide(memory))
  )

  it.effect("a part that the test lets fail was not sent", () => {
    const refused = new Channel.ChannelError({
      channel: ChannelName.make("memory"),
      reason: new Channel.Refused({ detail: "blocked" })
    })
    return Effect.gen(function* () {
      const channel = yield* ChannelMemory.ChannelMemory
      const { send } = yield* Channel.Channels.use((channels) => channels.get(ChannelName.make("memory")))
      const sending = send(ChatId.make("c"), { id: OutputId.make("1"), text: "1" })
      assert.strictEqual(yield* Effect.flip(sending), refused)
      assert.deepStrictEqual(yield* channel.sent, [])
    }).pipe(
      Effect.provide(Layer.provideMerge(ChannelMemory.layer({ onSend: () => Effect.fail(refused) }), Channel.layer))
    )
  })
})
