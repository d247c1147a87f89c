/**
 * What every channel promises, whatever platform it is on. What a platform can do beyond a text in and a text out is promised by
 * those whose peer can show it.
 */
import { assert, it } from "@effect/vitest"
import * as Channel from "effect-claw/services/Channel"
import { type ChannelName, type ChatId, type InboundMessage, OutputId, textOf } from "effect-claw/services/Message"
import * as Reply from "effect-claw/services/Reply"
import { TurnId } from "effect-claw/services/Turn"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

/** A file as a person sends or gets it. */
export interface SharedFile {
  readonly name: string
  readonly mediaType: string
  readonly content: Uint8Array
}

/** A channel, and a person at its other end. The other end outlives the channel, which may be built again. */
export interface Peer {
  readonly name: ChannelName
  readonly layer: Layer.Layer<never, Channel.ChannelError, Channel.Channels>
  /** Writes a message; need not wait until it is heard. */
  readonly say: (text: string) => Effect.Effect<void>
  /** What the person has been sent so far, as one text. */
  readonly read: Effect.Effect<string>
  /** Leaves: there will be no more messages. Where nobody can, the platform being there for good, there is nothing to test. */
  readonly leave?: Effect.Effect<void>
  /** The platform keeps what was not acknowledged, and brings it to a channel that is built again. */
  readonly keepsUnacknowledged?: true
  /** Has the platform bring the last message once more, as it does when it is not sure that it arrived. */
  readonly repeat?: Effect.Effect<void>
  /** Has the connection break at the next send, before or after the platform has taken it. It is there again at once. */
  readonly breakSend?: (when: "before" | "after") => Effect.Effect<void>
  /** Has the platform refuse the next send: for now, or for good. */
  readonly refuseSend?: (until: "later" | "never") => Effect.Effect<void>
  /** Whether the person sees that the agent is at work. */
  readonly isTyping?: Effect.Effect<boolean>
  /** Sends a file with a text. */
  readonly share?: (file: SharedFile, text: string) => Effect.Effect<void>
  /** The files that the person has been sent. */
  readonly files?: Effect.Effect<ReadonlyArray<SharedFile>>
}

/** A message of one small file. */
const note: SharedFile = {
  name: "note é.txt",
  mediaType: "text/plain",
  content: new TextEncoder().encode("0123456789 ünï\n".repeat(1000))
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

  /** Waits until something is so. */
  const until = (what: Effect.Effect<boolean>) =>
    Effect.asVoid(Effect.repeat(Effect.andThen(Effect.sleep("5 millis"), what), { until: (is) => is }))

  const channelOf = (peer: Peer) => Channel.Channels.use((channels) => channels.get(peer.name))

  /** Sends as the outbox does: again, while it may succeed. Returns how often it failed. */
  const sendPatiently = Effect.fnUntraced(function* (peer: Peer, chat: ChatId, id: string, text: string) {
    const { send } = yield* channelOf(peer)
    let failures = 0
    yield* send(chat, { id: OutputId.make(id), text }).pipe(
      Effect.tapError(() => Effect.sync(() => failures++)),
      Effect.retry({ while: (error) => error.isRetryable, schedule: Schedule.spaced("50 millis"), times: 20 })
    )
    return failures
  })

  /** Waits until the person has read this. */
  const hasRead = (peer: Peer, text: string) =>
    Effect.repeat(Effect.andThen(Effect.sleep("5 millis"), peer.read), { until: (all) => all.includes(text) })

  /** The chat that a person's message comes from, when it has been answered. */
  const chatOf = Effect.fnUntraced(function* (peer: Peer, heard: Queue.Dequeue<InboundMessage>) {
    yield* peer.say("hi")
    const { chat } = yield* Queue.take(heard)
    yield* hasRead(peer, "re: hi")
    return chat
  })

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

  test("replies are read in the order they were sent", (peer) =>
    Effect.gen(function* () {
      const { heard } = yield* listen(peer)
      const chat = yield* chatOf(peer, heard)
      const texts = Array.from({ length: 10 }, (_, index) => `reply number ${index}.`)
      for (const [index, text] of texts.entries()) yield* sendPatiently(peer, chat, `8.${index}`, text)
      yield* hasRead(peer, "reply number 9.")
      const read = yield* peer.read
      const places = texts.map((text) => read.indexOf(text))
      assert.isTrue(places.every((place) => place >= 0))
      assert.deepStrictEqual(
        places,
        places.toSorted((a, b) => a - b)
      )
    }))

  test("a text is carried up to the limit that it names, whatever is in it", (peer) =>
    Effect.gen(function* () {
      const { heard } = yield* listen(peer)
      const chat = yield* chatOf(peer, heard)
      const { textLimit = 4000 } = (yield* channelOf(peer)).capabilities
      const sentence = "3.5 (three-and-a-half) is > 3! 😀 a_b #1 {x} = [y] ~ `z` | "
      const text = `${sentence.repeat(Math.ceil((2.5 * textLimit) / sentence.length))}the end`
      for (const [index, piece] of Reply.split(text, textLimit).entries()) {
        yield* sendPatiently(peer, chat, `7.${index}`, piece)
      }
      yield* sendPatiently(peer, chat, "7.whole", "x".repeat(textLimit))
      yield* hasRead(peer, "x".repeat(textLimit))
      const read = yield* peer.read
      assert.include(read, "the end")
      assert.isAtLeast(read.split("three-and-a-half").length - 1, Math.floor((2.5 * textLimit) / sentence.length))
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

  test("a message that comes twice has the same id", (peer) =>
    Effect.gen(function* () {
      if (peer.repeat === undefined) return
      const { heard } = yield* listen(peer)
      yield* peer.say("once")
      const first = yield* Queue.take(heard)
      yield* peer.repeat
      yield* peer.say("next")
      const second = yield* Queue.take(heard)
      // One that a channel recognises need not be heard again.
      if (textOf(second.content) === "once") assert.strictEqual(second.id, first.id)
      else assert.strictEqual(textOf(second.content), "next")
    }))

  it.live("what was not acknowledged comes again, with the same id, and what was does not", () =>
    Effect.gen(function* () {
      const peer = yield* makePeer
      if (peer.keepsUnacknowledged === undefined) return
      /** Hears this many messages, acknowledges all but the last, and is gone. */
      const hear = (count: number) =>
        Effect.gen(function* () {
          const channels = yield* Channel.Channels
          const deliveries = yield* Stream.runCollect(
            channels.inbound.pipe(
              Stream.take(count),
              Stream.tap(({ ack, message }) => (textOf(message.content) === "kept" ? Effect.void : ack))
            )
          )
          return deliveries.map(({ message }) => ({ id: message.id, text: textOf(message.content) }))
        }).pipe(Effect.provide(Layer.provideMerge(peer.layer, Channel.layer)), Effect.scoped)
      yield* peer.say("acknowledged")
      const hearing = yield* Effect.forkChild(hear(2))
      yield* Effect.sleep("200 millis")
      yield* peer.say("kept")
      const before = yield* Fiber.join(hearing)
      const again = yield* hear(1)
      assert.deepStrictEqual(again, before.slice(1))
      assert.strictEqual(again[0]?.text, "kept")
    })
  )

  for (const when of ["before", "after"] as const) {
    test(`a send that is cut ${when} the platform has it fails for now, and is read when it is sent again`, (peer) =>
      Effect.gen(function* () {
        if (peer.breakSend === undefined) return
        const { heard } = yield* listen(peer)
        const chat = yield* chatOf(peer, heard)
        const { deduplicates } = (yield* channelOf(peer)).capabilities
        yield* peer.breakSend(when)
        assert.isAtLeast(yield* sendPatiently(peer, chat, "6.1", "after all"), 1)
        yield* sendPatiently(peer, chat, "6.2", "and this")
        yield* hasRead(peer, "and this")
        const times = (yield* peer.read).split("after all").length - 1
        if (when === "before" || deduplicates) assert.strictEqual(times, 1)
        else assert.include([1, 2], times)
      }))
  }

  test("a refusal says whether it is for good", (peer) =>
    Effect.gen(function* () {
      if (peer.refuseSend === undefined) return
      const { heard } = yield* listen(peer)
      const chat = yield* chatOf(peer, heard)
      const { send } = yield* channelOf(peer)
      yield* peer.refuseSend("never")
      const never = yield* Effect.flip(send(chat, { id: OutputId.make("5.1"), text: "never" }))
      assert.isFalse(never.isRetryable)
      yield* peer.refuseSend("later")
      const later = yield* Effect.flip(send(chat, { id: OutputId.make("5.2"), text: "later" }))
      assert.isTrue(later.isRetryable)
      yield* sendPatiently(peer, chat, "5.3", "at last")
      yield* hasRead(peer, "at last")
      assert.notInclude(yield* peer.read, "never")
    }))

  test("the person sees that the agent is at work for as long as the scope is open", (peer) =>
    Effect.gen(function* () {
      const { isTyping } = peer
      if (isTyping === undefined) return
      const { heard } = yield* listen(peer)
      const chat = yield* chatOf(peer, heard)
      const { typing = () => Effect.void } = yield* channelOf(peer)
      const scope = yield* Scope.make()
      yield* Scope.provide(typing(chat), scope)
      yield* until(isTyping)
      yield* Scope.close(scope, Exit.void)
      yield* until(Effect.map(isTyping, (is) => !is))
    }))

  test("a file comes with its text, its name and its bytes", (peer) =>
    Effect.gen(function* () {
      if (peer.share === undefined) return
      const channels = yield* Channel.Channels
      yield* Effect.forkScoped(peer.share(note, "look at this"))
      const [delivery] = yield* Stream.runCollect(Stream.take(channels.inbound, 1))
      const { attachments = [], message } = delivery ?? assert.fail("nothing came")
      assert.strictEqual(textOf(message.content), "look at this")
      assert.strictEqual(attachments.length, 1)
      assert.strictEqual(attachments[0]?.name, note.name)
      assert.strictEqual(attachments[0]?.mediaType, note.mediaType)
      const chunks = yield* Stream.runCollect(attachments[0]?.content ?? Stream.empty)
      assert.deepStrictEqual(Buffer.concat(chunks), Buffer.from(note.content))
      yield* delivery?.ack ?? Effect.void
    }))

  test("a file reaches the person with its name, its bytes and its text", (peer) =>
    Effect.gen(function* () {
      const { files } = peer
      if (files === undefined) return
      const { heard } = yield* listen(peer)
      const chat = yield* chatOf(peer, heard)
      const { capabilities, send } = yield* channelOf(peer)
      assert.isAbove(capabilities.fileLimit ?? 0, note.content.length)
      yield* send(chat, { id: OutputId.make("4.1"), text: "here it is", file: note })
      yield* hasRead(peer, "here it is")
      yield* until(Effect.map(files, (all) => all.length > 0))
      const [file] = yield* files
      assert.strictEqual(file?.name, note.name)
      assert.deepStrictEqual(Buffer.from(file?.content ?? []), Buffer.from(note.content))
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

  it.live("its release waits for nothing that its platform does", () =>
    Effect.gen(function* () {
      const peer = yield* makePeer
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(Layer.provideMerge(peer.layer, Channel.layer), scope)
      yield* Effect.provideContext(listen(peer), context).pipe(Scope.provide(scope))
      yield* Effect.sleep("100 millis")
      const [took] = yield* Effect.timed(Scope.close(scope, Exit.void))
      assert.isBelow(Duration.toMillis(took), 2000)
    })
  )
}
