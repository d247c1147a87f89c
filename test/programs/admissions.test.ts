/**
 * Who may speak with a claw beyond those that the code names, and how they come to.
 */
import { assert, describe, it } from "@effect/vitest"
import * as ChannelStateSql from "effect-claw/layers/ChannelStateSql"
import * as DatabaseSqlite from "effect-claw/layers/DatabaseSqlite"
import * as Admissions from "effect-claw/services/Admissions"
import { Bind } from "effect-claw"
import type { Channel } from "effect-claw/services/Channel"
import { ChannelName, ChatId, type InboundMessage, MessageId, SenderId, text } from "effect-claw/services/Message"
import { ChannelMemory } from "effect-claw/testing"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { channelState, folder } from "../contracts/store.ts"
import { andy, ask, echo, life, replies, requests, say } from "./life.ts"

const sent = ChannelMemory.ChannelMemory.use(({ sent }) => sent)
const codeIn = (said: string) => /[/](?:pair|claim) ([a-z2-9]{8})/.exec(said)?.[1] ?? assert.fail(said)
const stranger = { sender: "id-9", chat: "nine", senderName: "Nina" }

const test = (
  name: string,
  options: Omit<Parameters<typeof life>[1], "model">,
  body: Effect.Effect<unknown, unknown, ChannelMemory.ChannelMemory | Scope.Scope>
) =>
  it.effect(name, () => Effect.flatMap(folder, (directory) => body.pipe(life(directory, { model: echo, ...options }))))

describe("pairing", () => {
  const pairing = { claw: { pairing: {} } }

  test(
    "a stranger hears nothing; the owner is told, once, and lets it in with a word",
    pairing,
    Effect.gen(function* () {
      yield* ask("hi")
      yield* say({ ...stranger, text: "let me in" })
      yield* say({ ...stranger, text: "hello?" })
      const [, told, ...more] = yield* replies(2)
      assert.deepStrictEqual(more, [])
      assert.include(told, 'memory:id-9, who goes by "Nina", wrote to me')
      yield* say(`/pair ${codeIn(told ?? "")}`)
      const all = yield* Effect.andThen(replies(4), sent)
      assert.sameDeepMembers(
        all.slice(2).map(({ chat, text }) => [chat, text]),
        [
          ["nine", "You can write to me now."],
          ["chat", "memory:id-9 can write to me now."]
        ]
      )
      assert.strictEqual(yield* ask({ ...stranger, text: "thanks" }), "re: thanks")
    })
  )

  it.effect("what was let in stays so in the next life", () =>
    Effect.gen(function* () {
      const directory = yield* folder
      const lives = life(directory, { model: echo, ...pairing })
      yield* Effect.gen(function* () {
        yield* ask("hi")
        yield* say({ ...stranger, text: "x" })
        const [, told = ""] = yield* replies(2)
        yield* say(`/pair ${codeIn(told)}`)
        yield* replies(4)
      }).pipe(lives)
      assert.strictEqual(yield* ask({ ...stranger, text: "again" }).pipe(lives), "re: again")
    })
  )

  it.effect("the owner is told of a stranger, although the claw died before", () =>
    Effect.gen(function* () {
      const directory = yield* folder
      const hello = { ...stranger, text: "x", id: "same" }
      yield* ask("hi").pipe(life(directory, { model: echo, ...pairing }))
      // It died when the stranger had its code, and nobody had been told.
      yield* Effect.provide(
        Admissions.Admissions.use((admissions) =>
          admissions.request({
            channel: ChannelName.make("memory"),
            chat: ChatId.make("nine"),
            id: MessageId.make("same"),
            sender: SenderId.make("id-9"),
            content: text("x"),
            direct: true,
            at: 0
          })
        ),
        Admissions.layer.pipe(
          Layer.provide(ChannelStateSql.layer),
          Layer.provide(DatabaseSqlite.layer({ directory, synchronous: "NORMAL" }))
        )
      )
      yield* Effect.gen(function* () {
        yield* say(hello)
        const [told = ""] = yield* replies(1)
        assert.include(told, "memory:id-9, who goes by")
        yield* say(hello)
        yield* ask("end")
        assert.strictEqual((yield* sent).length, 2)
      }).pipe(life(directory, { model: echo, ...pairing }))
    })
  )

  test(
    "only the owner lets in, alone with the claw",
    { ...pairing, admitted: [{ channel: "memory", sender: "guest" }] },
    Effect.gen(function* () {
      yield* ask("hi")
      yield* say({ ...stranger, text: "x" })
      const [, told = ""] = yield* replies(2)
      const word = `/pair ${codeIn(told)}`
      assert.include(yield* ask({ text: word, sender: "guest", chat: "guests" }), "for my owner")
      assert.include(yield* ask({ text: word, direct: false }), "for my owner")
      assert.include(yield* ask("/pair aaaaaaaa"), "Nobody waits")
      yield* say({ ...stranger, text: word })
      assert.strictEqual((yield* sent).length, 5)
    })
  )

  test(
    "a code is good for an hour",
    pairing,
    Effect.gen(function* () {
      yield* ask("hi")
      yield* say({ ...stranger, text: "x" })
      const [, told = ""] = yield* replies(2)
      yield* TestClock.adjust("61 minutes")
      assert.include(yield* ask(`/pair ${codeIn(told)}`), "Nobody waits")
    })
  )

  test(
    "three wait at most, and a group has no codes",
    pairing,
    Effect.gen(function* () {
      yield* ask("hi")
      for (const id of ["1", "2", "3", "4", "5"]) yield* say({ text: "x", sender: id, chat: id })
      yield* say({ text: "x", sender: "6", chat: "group", direct: false })
      yield* ask("end")
      assert.strictEqual((yield* sent).length, 5)
    })
  )

  test(
    "a stranger is told its code where a claw says so",
    { claw: { pairing: { tellStranger: true, tellOwner: false } } },
    Effect.gen(function* () {
      const told = yield* ask({ ...stranger, text: "hello" })
      assert.strictEqual((yield* sent)[0]?.chat, "nine")
      yield* say(`/pair ${codeIn(told)}`)
      assert.include((yield* replies(3)).join(), "can write to me now")
    })
  )

  it.effect("whoever sends the code of the log owns a channel that nobody owned", () =>
    Effect.gen(function* () {
      const directory = yield* folder
      const logged: Array<string> = []
      const log = Logger.layer([Logger.make(({ message }) => void logged.push(String(message)))])
      const options = { model: echo, ...pairing, channel: { owner: null } }
      yield* Effect.gen(function* () {
        const code = codeIn(logged.join())
        yield* say({ text: "/claim aaaaaaaa", sender: "thief", chat: "thief" })
        yield* say({ text: `/claim ${code}`, sender: "thief", chat: "group", direct: false })
        assert.strictEqual((yield* sent).length, 0)
        assert.include(yield* ask({ text: `/claim ${code}`, sender: "ada", chat: "ada" }), "my owner now")
        yield* say({ text: `/claim ${code}`, sender: "thief", chat: "thief" })
        assert.strictEqual(yield* ask({ text: "hi", sender: "ada", chat: "ada" }), "re: hi")
      }).pipe(life(directory, options), Effect.provide(log))
      logged.length = 0
      yield* ask({ text: "hi", sender: "ada", chat: "ada" }).pipe(life(directory, options), Effect.provide(log))
      assert.notInclude(logged.join(), "/claim")
    })
  )

  it.effect("without pairing a stranger leaves a line in the audit, and nothing else", () =>
    Effect.gen(function* () {
      const directory = yield* folder
      yield* Effect.gen(function* () {
        for (const text of ["secret words", "/status"]) yield* say({ ...stranger, text, senderName: "owner" })
        yield* ask("end")
        assert.strictEqual((yield* sent).length, 1)
        assert.strictEqual((yield* requests).length, 1)
      }).pipe(life(directory, { model: echo }))
      const database = new DatabaseSync(join(directory, "claw.db"))
      const audit = database.prepare("SELECT who, what, refusal, times FROM audit").all()
      assert.deepStrictEqual(
        audit.map((row) => ({ ...row })),
        [{ who: "memory:id-9", what: "message", refusal: "the sender is not admitted", times: 2 }]
      )
      assert.strictEqual(database.prepare("SELECT * FROM entries WHERE conversation = 'memory:nine'").all().length, 0)
      database.close()
    })
  )
})

describe("groups", () => {
  const group = { direct: false, chat: "group" }
  const guest = { ...group, sender: "guest" }
  const options = { bindings: [Bind.everywhere(andy)], admitted: [{ channel: "memory", sender: "guest" }] }

  test(
    "one that nobody has bound is left alone, until its owner binds it",
    options,
    Effect.gen(function* () {
      yield* say({ ...group, text: "@andy hi" })
      yield* say({ ...guest, text: "/bind" })
      assert.include(yield* ask({ ...group, text: "/bind" }), "to those I know, when I am addressed")
      yield* say({ ...group, text: "not to you" })
      yield* say({ ...group, sender: "x", text: "@andy hi" })
      assert.strictEqual(yield* ask({ ...guest, text: "@andy hi" }), "re: not to you\n@andy hi")
      assert.include(yield* ask({ ...guest, text: "/bind everyone" }), "for my owner")
      assert.include(yield* ask({ ...group, text: "/bind everyone" }), "to everyone")
      assert.strictEqual(yield* ask({ ...group, sender: "x", text: "@andy hello" }), "re: @andy hello")
      yield* ask({ ...group, text: "/bind nobody" })
      yield* say({ ...group, sender: "x", text: "@andy hi" })
      yield* say({ ...group, text: "@andy hi" })
      assert.include(yield* ask({ text: "/bind" }), "in a group")
      assert.strictEqual((yield* sent).length, 7)
    })
  )

  test(
    "a binding may name a group, and admit all its members",
    { bindings: [Bind.conversation("memory:group", andy, { admits: "everyone" }), Bind.everywhere(andy)] },
    Effect.gen(function* () {
      yield* say({ ...group, sender: "x", text: "@andy hi", chat: "other" })
      assert.strictEqual(yield* ask({ ...group, sender: "x", text: "@andy hi" }), "re: @andy hi")
    })
  )

  test(
    "an answer to what the agent said engages it, and shows what that was; what is done to a message does not",
    options,
    Effect.gen(function* () {
      yield* ask({ ...group, text: "/bind" })
      yield* say({ ...group, text: "[reacted with 👍]", kind: "reaction", quoted: { text: "so", fromAgent: true } })
      yield* say({ ...group, text: "yes", quoted: { text: "shall we?", fromAgent: false } })
      const reply = yield* ask({ ...group, text: "no", quoted: { text: "shall we?", fromAgent: true } })
      assert.strictEqual(
        reply,
        "re: [in answer to: so]\n[reacted with 👍]\n[in answer to: shall we?]\nyes\n[in answer to: shall we?]\nno"
      )
      assert.isString((yield* sent)[1]?.replyTo)
    })
  )
})

describe("rates", () => {
  test(
    "what is more than a sender may write in a minute is kept, said once, and read with the next",
    { admitted: [{ channel: "memory", sender: "guest" }], claw: { rates: { sender: 2 } } },
    Effect.gen(function* () {
      const guest = { sender: "guest", chat: "guest" }
      yield* ask({ ...guest, text: "1" })
      yield* ask({ ...guest, text: "2" })
      assert.include(yield* ask({ ...guest, text: "3" }), "more than I may answer")
      yield* say({ ...guest, text: "4" })
      assert.strictEqual(yield* ask("the owner has no bound"), "re: the owner has no bound")
      yield* TestClock.adjust("61 seconds")
      assert.strictEqual(yield* ask({ ...guest, text: "5" }), "re: 3\n4\n5")
      assert.strictEqual((yield* sent).length, 5)
    })
  )
})

describe("Admissions", () => {
  const name = ChannelName.make("memory")
  const channel: Channel = {
    name,
    capabilities: { textLimit: undefined, deduplicates: false },
    inbound: Stream.never,
    send: () => Effect.void
  }
  const message = (sender: string): InboundMessage => ({
    channel: name,
    chat: ChatId.make(sender),
    id: MessageId.make("1"),
    sender: SenderId.make(sender),
    content: text("hi"),
    direct: true,
    at: 0
  })

  it.effect("codes that many ask for at once are three", () =>
    Effect.gen(function* () {
      const admissions = yield* Admissions.Admissions
      const asked = yield* Effect.forEach([1, 2, 3, 4, 5, 6], (id) => admissions.request(message(`${id}`)), {
        concurrency: "unbounded"
      })
      assert.strictEqual(asked.filter((one) => one !== undefined).length, 3)
      assert.strictEqual(new Set(asked).size, 4)
    }).pipe(Effect.provide(Layer.provide(Admissions.layer, channelState)))
  )

  it.effect("a code for an owner makes one owner", () =>
    Effect.gen(function* () {
      const admissions = yield* Admissions.Admissions
      const code = (yield* admissions.offer(channel)) ?? assert.fail()
      const claimed = yield* Effect.forEach(["a", "b"], (one) => admissions.claim(message(one), code), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(claimed, [true, false])
      assert.isUndefined(yield* admissions.offer(channel))
      assert.isTrue(yield* admissions.isOwner(channel, SenderId.make("a")))
    }).pipe(Effect.provide(Layer.provide(Admissions.layer, channelState)))
  )
})
