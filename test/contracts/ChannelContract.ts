/**
 * What every channel promises, whatever platform it is on.
 */
import { assert, it } from "@effect/vitest"
import * as Channel from "effect-claw/services/Channel"
import { type ChannelName, type InboundMessage, OutputId, textOf } from "effect-claw/services/Message"
import { TurnId } from "effect-claw/services/Turn"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

/** A channel, and a person at its other end. */
export interface Peer {
  readonly name: ChannelName
  readonly layer: Layer.Layer<never, Channel.ChannelError, Channel.Channels>
  /** Writes a message; need not wait until it is heard. */
  readonly say: (text: string) => Effect.Effect<void>
  /** What the person has been sent so far, as one text. */
  readonly read: Effect.Effect<string>
  /** Leaves: there will be no more messages. Where nobody can, the platform being there for good, there is nothing to test. */
  readonly leave?: Effect.Effect<void>
}

export const channelContract = (makePeer: Effect.Effect<Peer, never, Scope.Scope>) => {
  const test = (name: string, body: (peer: Peer) => Effect.Effect<unknown, unknown, Channel.Channels | Scope.Scope>) =>
    it.live(name, () =>
      Effect.flatMap(makePeer, (peer) => Effect.provide(body(peer), Layer.provideMerge(peer.layer, Channel.layer)))
    )

  /** Listens as a claw does: every message is acknowledged, and answered by a turn of one output. */
  const listen = Effect.fnUntraced(function* (peer: Peer, reply: (text: string) => string = (text) => `re: ${text}`) {
    const channels = yield* Channel.Channels
    const heard = yield* Queue.unbounded<InboundMessage>()
    let turns = 0
    const listening = yield* Stream.runForEach(channels.inbound, ({ ack, message }) =>
      Effect.gen(function* () {
        yield* ack
        yield* Queue.offer(heard, message)
        const { follow, send } = yield* channels.get(peer.name)
        const turn = TurnId.make(++turns)
        const id = OutputId.make(`${turn}.1`)
        yield* follow?.(message.chat, { _tag: "TurnBegan", turn }) ?? Effect.void
        yield* send(message.chat, { id, text: reply(textOf(message.content)) })
        yield* (
          follow?.(message.chat, { _tag: "TurnEnded", turn, ending: { _tag: "Done" }, outputs: [id] }) ?? Effect.void
        )
      })
    ).pipe(Effect.forkScoped)
    return { heard, listening }
  })

  /** Waits until the person has read this. */
  const hasRead = (peer: Peer, text: string) =>
    Effect.repeat(Effect.andThen(Effect.sleep("5 millis"), peer.read), { until: (all) => all.includes(text) })

  test("it is in the hub under its name", (peer) =>
    Effect.gen(function* () {
      const channel = yield* Channel.Channels.use((channels) => channels.get(peer.name))
      assert.strictEqual(channel.name, peer.name)
    }))

  test("a message is heard as it was written, and says where it is from", (peer) =>
    Effect.gen(function* () {
      const { heard } = yield* listen(peer)
      yield* peer.say('  "quoted" <b> 😀 \t ünï')
      const message = yield* Queue.take(heard)
      assert.strictEqual(textOf(message.content), '  "quoted" <b> 😀 \t ünï')
      assert.strictEqual(message.channel, peer.name)
      assert.isTrue(message.direct)
      assert.isAbove(message.at, 0)
      const { owner } = yield* Channel.Channels.use((channels) => channels.get(peer.name))
      assert.strictEqual(message.sender, owner)
    }))

  test("messages are heard in order, each with an id of its own", (peer) =>
    Effect.gen(function* () {
      const { heard } = yield* listen(peer)
      const texts = Array.from({ length: 20 }, (_, index) => `message ${index}`)
      yield* Effect.forkScoped(Effect.forEach(texts, peer.say))
      const messages = yield* Effect.forEach(texts, () => Queue.take(heard))
      assert.deepStrictEqual(
        messages.map(({ content }) => textOf(content)),
        texts
      )
      assert.strictEqual(new Set(messages.map(({ id }) => id)).size, 20)
    }))

  test("a reply reaches who wrote", (peer) =>
    Effect.gen(function* () {
      const text = 'one\n\n  two "three" 😀 </message>'
      yield* listen(peer, () => text)
      yield* peer.say("hi")
      yield* hasRead(peer, text)
    }))

  test("so does what is sent unasked", (peer) =>
    Effect.gen(function* () {
      const { heard } = yield* listen(peer)
      yield* peer.say("hi")
      const { chat } = yield* Queue.take(heard)
      const channel = yield* Channel.Channels.use((channels) => channels.get(peer.name))
      yield* channel.send(chat, { id: OutputId.make("9.1"), text: "a reminder" })
      yield* hasRead(peer, "a reminder")
    }))

  test("when the other end leaves, there is no more to hear", (peer) =>
    Effect.gen(function* () {
      if (peer.leave === undefined) return
      const { heard, listening } = yield* listen(peer)
      yield* peer.say("bye")
      yield* Queue.take(heard)
      yield* peer.leave
      assert.isTrue(Exit.isSuccess(yield* Fiber.await(listening)))
    }))

  it.live("on release it is out of the hub", () =>
    Effect.gen(function* () {
      const peer = yield* makePeer
      const channels = yield* Channel.Channels
      const scope = yield* Scope.make()
      yield* Layer.buildWithScope(peer.layer, scope)
      yield* channels.get(peer.name)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* Effect.flip(channels.get(peer.name))).reason._tag, "Misconfigured")
    }).pipe(Effect.provide(Channel.layer))
  )
}
