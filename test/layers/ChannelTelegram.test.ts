import { assert, describe, it, layer } from "@effect/vitest"
import * as ChannelStateSql from "effect-claw/layers/ChannelStateSql"
import * as ChannelTelegram from "effect-claw/layers/ChannelTelegram"
import * as Channel from "effect-claw/services/Channel"
import { ChannelName, ChatId, type OutboundPart, OutputId, textOf } from "effect-claw/services/Message"
import { TurnId } from "effect-claw/services/Turn"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import { createServer } from "node:net"
import { setTimeout } from "node:timers/promises"
import { inspect } from "node:util"
import { channelContract } from "../contracts/ChannelContract.ts"
import { database } from "../contracts/store.ts"
import * as TelegramServer from "../support/TelegramServer.ts"

/** The server, a person, and a bot of theirs. */
const world = Effect.gen(function* () {
  const built = yield* Layer.build(
    Layer.mergeAll(TelegramServer.layer, Layer.orDie(Layer.provide(ChannelStateSql.layer, database)))
  )
  const server = Context.get(built, TelegramServer.TelegramServer)
  const ada = server.person("Ada")
  const telegram = (options: Partial<ChannelTelegram.Options> = {}) =>
    ChannelTelegram.layer({
      token: Redacted.make(server.token),
      apiRoot: server.apiRoot,
      owner: `${ada.id}`,
      ...options
    }).pipe(Layer.provide(Layer.succeedContext(built)))
  return { server, ada, telegram }
})

const name = ChannelName.make("telegram")

/** A port that nobody listens on. */
const freePort = Effect.callback<number>((resume) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const address = server.address()
    server.close(() => resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0)))
  })
})

describe("ChannelTelegram", () => {
  channelContract(
    Effect.gen(function* () {
      const { ada, server, telegram } = yield* world
      return {
        name,
        layer: telegram(),
        say: (text) => Effect.sync(() => void server.say(ada, text)),
        read: Effect.sync(() => server.read(ada.id)),
        keepsUnacknowledged: true,
        breakSend: (when) => Effect.sync(() => server.fail("sendMessage", { cut: when })),
        refuseSend: (until) =>
          Effect.sync(() =>
            server.fail(
              "sendMessage",
              until === "never"
                ? { status: 403, description: "Forbidden: bot was blocked by the user" }
                : { status: 429, description: "Too Many Requests: retry after 1", parameters: { retry_after: 1 } }
            )
          ),
        isTyping: Effect.sync(() => server.isTyping(ada.id)),
        share: (file, text) => Effect.sync(() => void server.say(ada, { text, file: { kind: "document", ...file } })),
        files: Effect.sync(() =>
          server
            .shown(ada.id)
            .flatMap(({ file, from }) =>
              file === undefined || from.id === ada.id
                ? []
                : [{ name: file.name ?? "", mediaType: file.mediaType ?? "", content: file.content }]
            )
        )
      }
    })
  )

  /** Hears what comes, acknowledges it, and forgets it when the scope ends. */
  const listen = Effect.fnUntraced(function* (options: { readonly ack?: boolean } = {}) {
    const channels = yield* Channel.Channels
    const heard = yield* Queue.unbounded<Channel.InboundDelivery>()
    const listening = yield* Stream.runForEach(channels.inbound, (delivery) =>
      Effect.andThen(options.ack === false ? Effect.void : delivery.ack, Queue.offer(heard, delivery))
    ).pipe(Effect.forkScoped)
    return { heard, next: Effect.map(Queue.take(heard), ({ message }) => message), listening }
  })

  const theChannel = Channel.Channels.use((channels) => channels.get(name))
  const hub = <E>(layer: Layer.Layer<never, E, Channel.Channels>) => Layer.provideMerge(layer, Channel.layer)
  const part = (text: string, more: Partial<OutboundPart> = {}): OutboundPart => ({
    id: OutputId.make(`1.${text.length}`),
    text,
    ...more
  })
  const alone = Layer.unwrap(
    Effect.map(world, ({ server, telegram }) =>
      Layer.merge(hub(telegram()), Layer.succeed(TelegramServer.TelegramServer, server))
    )
  )
  type World = Effect.Success<typeof world>

  const test = (
    title: string,
    body: (world: World) => Effect.Effect<unknown, unknown, Channel.Channels | Scope.Scope>,
    options?: Partial<ChannelTelegram.Options>
  ) => it.live(title, () => Effect.flatMap(world, (made) => Effect.provide(body(made), hub(made.telegram(options)))))

  describe("formatting", () => {
    test("a model's Markdown is shown as it is meant", ({ ada, server }) =>
      Effect.gen(function* () {
        const { send } = yield* theChannel
        const looks = (markdown: string) =>
          Effect.gen(function* () {
            yield* send(ChatId.make(`${ada.id}`), part(markdown))
            const { entities, text } = server.shown(ada.id).at(-1) ?? assert.fail()
            const shown = entities.map(({ length, offset, type, url }) => {
              const entity = `${type} ${text.slice(offset, offset + length)}`
              return url === undefined ? entity : `${entity} ${url}`
            })
            return [text, ...shown]
          })
        assert.deepStrictEqual(yield* looks("# Plan (1.0)\n\nDo **this** and *that*, ~~not it~~."), [
          "Plan (1.0)\n\nDo this and that, not it.",
          "bold Plan (1.0)",
          "bold this",
          "italic that",
          "strikethrough not it"
        ])
        assert.deepStrictEqual(yield* looks("- a\n- [x] b\n  1. c_d_e\n"), ["• a\n☑ b\n  1. c_d_e"])
        assert.deepStrictEqual(yield* looks("Run `a \\ b`:\n\n```ts\nconst x = `y`\n```\ndone!"), [
          "Run a \\ b:\n\nconst x = `y`\n\ndone!",
          "code a \\ b",
          "pre const x = `y`\n"
        ])
        assert.deepStrictEqual(yield* looks("> quoted **bold\n> on**\n\nafter"), [
          "quoted bold\non\n\nafter",
          "blockquote quoted bold\non",
          "bold bold",
          "bold on"
        ])
        assert.deepStrictEqual(yield* looks("[the (page)](https://e.org/a_(b)) and [a file](./x.txt)"), [
          "the (page) and [a file](./x.txt)",
          "text_link the (page) https://e.org/a_(b)"
        ])
        assert.deepStrictEqual(yield* looks("*a*_b_ ***c*** **`d` e**"), [
          "ab c d e",
          "italic ab",
          "bold c",
          "italic c",
          "code d",
          "bold  e"
        ])
        assert.deepStrictEqual(yield* looks("a | b\n--|--\n1 | 2"), [
          "a | b\n--|--\n1 | 2\n",
          "pre a | b\n--|--\n1 | 2\n"
        ])
        assert.deepStrictEqual(yield* looks("<b>2 < 3</b> &amp; 1_000 * 2 = 2_000!"), [
          "<b>2 < 3</b> &amp; 1_000 * 2 = 2_000!"
        ])
      }))

    const pieces = [
      ..."a,b c, ,\n,\n\n,*,**,_,__,~~,`,``,```,```js\n,# ,> ,>,- ,1. ,- [ ] ,[x](http://a.b/c),[y](./z)".split(","),
      ..."[ ] ( ) <b> </b> \\ \\* 😀 é &amp; https://e.x/a_b <http://q.r> ![i](http://a.b/i(1).png)".split(" "),
      ..."[r] + ! = { } . # | || \ud800 \0 --- *a*_b_ [*l*`c`](http://l.m)".split(" "),
      "a | b\n--|--\n1 | 2\n"
    ]
    layer(alone, { excludeTestServices: true })((it) => {
      it.effect.prop(
        "no text is refused for what is in it",
        [Schema.Array(Schema.Literals(pieces)).check(Schema.isMaxLength(40))],
        ([written]) =>
          Effect.gen(function* () {
            const { calls, person } = yield* TelegramServer.TelegramServer
            const { send } = yield* theChannel
            const to = person("Ada").id
            yield* send(ChatId.make(`${to}`), part(`.${written.join("")}`))
            // At the first attempt: it did not come to what is sent without format.
            assert.deepStrictEqual(
              calls.filter(({ parameters }) => parameters["chat_id"] === to).map(({ status }) => status),
              [200]
            )
          }),
        { arbitrary: { runs: 500 } }
      )
    })

    test("what Telegram does not take as formatted is sent as it was written", ({ ada, server }) =>
      Effect.gen(function* () {
        const { send } = yield* theChannel
        server.fail("sendMessage", { status: 400, description: "Bad Request: can't parse entities: of a later time" })
        yield* send(ChatId.make(`${ada.id}`), part("**so** be it."))
        assert.strictEqual(server.read(ada.id), "**so** be it.")
      }))

    test("so is what is nested deeper than can be read", ({ ada, server }) =>
      Effect.gen(function* () {
        const { send } = yield* theChannel
        yield* send(ChatId.make(`${ada.id}`), part(">".repeat(4096)))
        assert.strictEqual(server.read(ada.id).length, 4096)
      }))
  })

  describe("what comes in", () => {
    test("in a group: a mention, an answer to the bot, a command by its name, and what is none of these", ({
      ada,
      server
    }) =>
      Effect.gen(function* () {
        const { next } = yield* listen()
        const { send } = yield* theChannel
        const group = server.group("Family")
        const said = (text: string, type: "mention" | "bot_command", length: number) =>
          server.say(ada, { text, entities: [{ type, offset: 0, length }] }, group.id)

        said("@Andy_Claw_Bot hello", "mention", 14)
        const mention = yield* next
        assert.isTrue(mention.mentionsAgent)
        assert.isFalse(mention.direct)
        assert.strictEqual(mention.sender, `${ada.id}`)
        assert.strictEqual(mention.senderName, "Ada")
        assert.strictEqual(mention.chat, `${group.id}`)

        server.say(
          ada,
          { text: "Andy, hello", entities: [{ type: "text_mention", offset: 0, length: 4, user: server.bot }] },
          group.id
        )
        assert.isTrue((yield* next).mentionsAgent)

        said("/stop@andy_claw_bot now", "bot_command", 19)
        const stop = yield* next
        assert.strictEqual(textOf(stop.content), "/stop now")
        assert.isTrue(stop.mentionsAgent)
        said("/stop@other_bot", "bot_command", 15)
        const other = yield* next
        assert.strictEqual(textOf(other.content), "/stop@other_bot")
        assert.isUndefined(other.mentionsAgent)

        yield* send(mention.chat, part("hello yourself"))
        const answer = server.shown(group.id).at(-1)?.id ?? 0
        server.say(ada, { text: "and now?", replyTo: answer }, group.id)
        assert.deepStrictEqual((yield* next).quoted, { text: "hello yourself", fromAgent: true })
        server.say(ada, { text: "indeed", replyTo: 1 }, group.id)
        const plain = yield* next
        assert.strictEqual(plain.quoted?.fromAgent, false)
        assert.isUndefined(plain.mentionsAgent)
      }))

    test("a topic is a conversation, and is answered where it is", ({ ada, server }) =>
      Effect.gen(function* () {
        const { next } = yield* listen()
        const { send } = yield* theChannel
        const forum = server.group("Forum", { forum: true })
        const opening = { forum_topic_created: { name: "Cats", icon_color: 0 } }
        server.say(ada, { text: "in general" }, forum.id)
        server.say(ada, { text: "on cats", thread: 7, fields: { reply_to_message: opening } }, forum.id)
        assert.strictEqual((yield* next).chat, `${forum.id}`)
        const cats = yield* next
        assert.strictEqual(cats.chat, `${forum.id}/7`)
        assert.isUndefined(cats.quoted)
        yield* send(cats.chat, part("meow"))
        assert.strictEqual(server.shown(forum.id).at(-1)?.thread, 7)
      }))

    test("who writes in the name of a chat is no person, whatever the name", ({ ada, server }) =>
      Effect.gen(function* () {
        const { next } = yield* listen()
        const group = server.group("Family")
        const anonymous = { id: 1087968824, is_bot: true, first_name: "Group" }
        server.say(anonymous, { text: "hi", fields: { sender_chat: group } }, group.id)
        assert.strictEqual((yield* next).sender, `chat:${group.id}`)
        const channel = { id: ada.id, type: "channel", title: "Ada" }
        server.say(ada, { text: "hi", fields: { sender_chat: channel } }, group.id)
        assert.strictEqual((yield* next).sender, `chat:${ada.id}`)
      }))

    test("files of every kind, a photo at its largest, a text beside them", ({ ada, server }) =>
      Effect.gen(function* () {
        const { heard } = yield* listen()
        const content = (text: string) => new TextEncoder().encode(text)
        const get = Effect.gen(function* () {
          const { attachments = [], message } = yield* Queue.take(heard)
          const [attachment] = attachments
          if (attachment === undefined) return assert.fail("no attachment")
          const chunks = yield* Stream.runCollect(attachment.content)
          return [textOf(message.content), attachment.mediaType, Buffer.concat(chunks).toString("utf8")]
        })
        server.say(ada, { text: "look", file: { kind: "photo", content: content("photo") } })
        assert.deepStrictEqual(yield* get, ["look", "image/jpeg", "photo"])
        server.say(ada, { file: { kind: "voice", mediaType: "audio/ogg", content: content("voice") } })
        assert.deepStrictEqual(yield* get, ["", "audio/ogg", "voice"])
        server.say(ada, { file: { kind: "video", mediaType: "video/mp4", content: content("video") } })
        assert.deepStrictEqual(yield* get, ["", "video/mp4", "video"])
        server.say(ada, { file: { kind: "video_note", content: content("round") } })
        assert.deepStrictEqual(yield* get, ["", "video/mp4", "round"])
        server.say(ada, { file: { kind: "sticker", content: content("sticker") } })
        assert.deepStrictEqual(yield* get, ["👍", "image/webp", "sticker"])
      }))

    test("a file that a bot cannot have fails, and says why", ({ ada, server }) =>
      Effect.gen(function* () {
        const { heard } = yield* listen()
        const content = new TextEncoder().encode("x")
        server.say(ada, { file: { kind: "document", content, size: 21 * 1024 * 1024 } })
        const large = yield* Queue.take(heard)
        const refused = yield* Effect.flip(Stream.runDrain(large.attachments?.[0]?.content ?? Stream.empty))
        assert.include(refused.message, "20 MB")
        assert.isFalse(refused.isRetryable)
        server.say(ada, { file: { kind: "document", content } })
        const gone = yield* Queue.take(heard)
        server.fail("getFile", { status: 502, description: "Bad Gateway" })
        assert.isTrue((yield* Effect.flip(Stream.runDrain(gone.attachments?.[0]?.content ?? Stream.empty))).isRetryable)
      }))

    test("places and people are texts", ({ ada, server }) =>
      Effect.gen(function* () {
        const { next } = yield* listen()
        server.say(ada, { fields: { location: { latitude: 59.91, longitude: 10.75 } } })
        assert.strictEqual(textOf((yield* next).content), "Location: 59.91, 10.75")
        server.say(ada, { fields: { contact: { first_name: "Bob", phone_number: "+47 1" } } })
        assert.strictEqual(textOf((yield* next).content), "Contact: Bob, +47 1")
        // What is no message, such as a new title, is not heard.
        server.say(ada, { fields: { new_chat_title: "x" } })
        server.say(ada, "next")
        assert.strictEqual(textOf((yield* next).content), "next")
      }))

    test("an edit and a mark are told as what they are, and have ids of their own", ({ ada, server }) =>
      Effect.gen(function* () {
        const { next } = yield* listen()
        const id = server.say(ada, "one")
        const first = yield* next
        server.edit(ada, id, "two")
        server.edit(ada, id, "three")
        const edits = [yield* next, yield* next]
        assert.deepStrictEqual(
          edits.map(({ content, kind }) => [kind, textOf(content)]),
          [
            ["edit", "two"],
            ["edit", "three"]
          ]
        )
        server.react(ada, id, "🔥")
        const mark = yield* next
        assert.deepStrictEqual([mark.kind, textOf(mark.content)], ["reaction", `reacted with 🔥 to message ${id}`])
        server.react(ada, id, undefined)
        const gone = yield* next
        assert.strictEqual(textOf(gone.content), `took 🔥 from message ${id}`)
        assert.strictEqual(new Set([first, ...edits, mark, gone].map((message) => message.id)).size, 5)
        // An agent that answers an edit, or marks it, means the message.
        const { send } = yield* theChannel
        yield* send(first.chat, part("seen", { replyTo: edits[0]?.id ?? first.id }))
        assert.strictEqual(server.shown(ada.id).at(-1)?.replyTo, id)
        yield* send(first.chat, part("❤️", { reactTo: edits[0]?.id ?? first.id }))
        assert.strictEqual(server.shown(ada.id)[0]?.reactions.get(server.bot.id), "❤")
      }))

    test("the press of a button says its command, and is answered when that is stored", ({ ada, server }) =>
      Effect.gen(function* () {
        const { heard } = yield* listen({ ack: false })
        const { send } = yield* theChannel
        const choices = [
          { label: "Approve", says: "/approve abcd" },
          { label: "Deny", says: "/deny abcd" }
        ]
        yield* send(ChatId.make(`${ada.id}`), part("Shall I?", { choices }))
        assert.deepStrictEqual(
          server.shown(ada.id)[0]?.buttons.map(({ label }) => label),
          ["Approve", "Deny"]
        )
        server.press(ada, "Deny")
        const { ack, message } = yield* Queue.take(heard)
        assert.strictEqual(textOf(message.content), "/deny abcd")
        assert.strictEqual(message.sender, `${ada.id}`)
        const answered = () => server.calls.some(({ method }) => method === "answerCallbackQuery")
        assert.isFalse(answered())
        yield* ack
        assert.isTrue(answered())
      }))

    test("a choice that is too long for a button is said", ({ ada, server }) =>
      Effect.gen(function* () {
        const { send } = yield* theChannel
        const command = `/approve ${"x".repeat(64)}`
        yield* send(ChatId.make(`${ada.id}`), part("Shall I?", { choices: [{ label: "Yes", says: command }] }))
        assert.strictEqual(server.read(ada.id), `Shall I?\n\nYes: ${command}`)
      }))
  })

  describe("a group that becomes a supergroup", () => {
    it.live("stays the same conversation, over a restart, and its new messages are new", () =>
      Effect.gen(function* () {
        const made = yield* world
        const { ada, server } = made
        const group = server.group("Family")
        const to = ChatId.make(`${group.id}`)
        const [before, migrated] = yield* Effect.gen(function* () {
          const { next } = yield* listen()
          server.say(ada, "one", group.id)
          const before = yield* next
          const migrated = server.migrate(group.id)
          server.say(ada, "two", migrated)
          const after = yield* next
          assert.strictEqual(after.chat, before.chat)
          return [before, migrated] as const
        }).pipe(Effect.provide(hub(made.telegram())), Effect.scoped)

        yield* Effect.gen(function* () {
          const { next } = yield* listen()
          const { send } = yield* theChannel
          server.say(ada, "three", migrated)
          const after = yield* next
          assert.strictEqual(after.chat, before.chat)
          yield* send(to, part("here", { replyTo: after.id }))
          assert.strictEqual(server.read(migrated), "here")
          assert.isDefined(server.shown(migrated).at(-1)?.replyTo)
          // Telegram counts them anew, and the claw must not take one for what it has.
          assert.notStrictEqual(after.id, before.id)
          assert.match(after.id, /^-100\d+\/\d+$/)
        }).pipe(Effect.provide(hub(made.telegram())), Effect.scoped)
      })
    )

    test("is followed when a send is told so first", ({ ada, server }) =>
      Effect.gen(function* () {
        const { send } = yield* theChannel
        const group = server.group("Family")
        // Nobody listens, so that the update is not what tells it.
        const migrated = server.migrate(group.id)
        yield* send(ChatId.make(`${group.id}`), part("here"))
        assert.strictEqual(server.read(migrated), "here")
        assert.strictEqual(server.calls.filter(({ method }) => method === "sendMessage").length, 2)
        yield* send(ChatId.make(`${group.id}`), part("again"))
        assert.strictEqual(server.calls.filter(({ method }) => method === "sendMessage").length, 3)
        assert.isAbove(ada.id, 0)
      }))
  })

  describe("what goes out", () => {
    const png = Uint8Array.from([0x89, 0x50, 0x4e, 0x47, 1, 2, 3])
    const photo = (content: Uint8Array) => ({ name: 'a "b"; c\n.png', mediaType: "image/png", content })

    test("an image is a photo; one that is none, or large, is a document", ({ ada, server }) =>
      Effect.gen(function* () {
        const { send } = yield* theChannel
        const to = ChatId.make(`${ada.id}`)
        yield* send(to, part("**see**", { file: photo(png) }))
        yield* send(to, part("see", { file: photo(new TextEncoder().encode("no image")) }))
        const large = new Uint8Array(11 * 1024 * 1024)
        large.set(png)
        yield* send(to, part("see", { file: photo(large) }))
        const shown = server.shown(ada.id)
        assert.deepStrictEqual(
          shown.map(({ file, text }) => [text, file?.kind, file?.content.length]),
          [
            ["see", "photo", png.length],
            ["see", "document", 8],
            ["see", "document", large.length]
          ]
        )
        assert.strictEqual(shown[0]?.entities[0]?.type, "bold")
      }))

    test("a text that is too long to stand below a file follows it, once, though its sending fails between", ({
      ada,
      server
    }) =>
      Effect.gen(function* () {
        const { send } = yield* theChannel
        const long = part("word ".repeat(300), { file: photo(png) })
        server.fail("sendMessage", { status: 502, description: "Bad Gateway" })
        assert.isTrue((yield* Effect.flip(send(ChatId.make(`${ada.id}`), long))).isRetryable)
        yield* send(ChatId.make(`${ada.id}`), long)
        assert.deepStrictEqual(
          server.shown(ada.id).map(({ file, text }) => [file?.kind, text.length > 0]),
          [
            ["photo", false],
            [undefined, true]
          ]
        )
      }))

    test("failures say what they are", ({ ada, server }) =>
      Effect.gen(function* () {
        const { send } = yield* theChannel
        const fails = (status: number, description: string, parameters: { readonly retry_after?: number } = {}) =>
          Effect.suspend(() => {
            server.fail("sendMessage", { status, description, parameters })
            return Effect.map(Effect.flip(send(ChatId.make(`${ada.id}`), part("x"))), ({ reason }) => reason)
          })
        const limited = yield* fails(429, "Too Many Requests: retry after 7", { retry_after: 7 })
        assert.deepStrictEqual(limited, new Channel.RateLimited({ retryAfter: Duration.seconds(7) }))
        assert.strictEqual((yield* fails(403, "Forbidden: bot was kicked"))._tag, "Refused")
        assert.strictEqual((yield* fails(400, "Bad Request: chat not found"))._tag, "Refused")
        assert.strictEqual((yield* fails(500, "Internal Server Error"))._tag, "Unreachable")
        // A new token is put in, and what was said waits for it.
        assert.strictEqual((yield* fails(401, "Unauthorized"))._tag, "Unreachable")
        server.block(ada, true)
        const blocked = yield* Effect.flip(send(ChatId.make(`${ada.id}`), part("x")))
        assert.include(blocked.message, "blocked by the user")
        assert.isFalse(blocked.isRetryable)
      }))

    test("the menu has the claw's commands", ({ server }) =>
      Effect.gen(function* () {
        yield* listen()
        yield* TelegramServer.until(() => server.calls.some(({ method }) => method === "setMyCommands"))
        const { parameters } = server.calls.find(({ method }) => method === "setMyCommands") ?? assert.fail()
        assert.include(JSON.stringify(parameters), '"command":"stop"')
      }))
  })

  /** Lets what is under way come to where it waits for time. */
  const settle = Effect.promise(() => setTimeout(40))

  const virtual = (
    title: string,
    body: (world: World) => Effect.Effect<unknown, unknown, Channel.Channels | Scope.Scope>
  ) => it.effect(title, () => Effect.flatMap(world, (made) => Effect.provide(body(made), hub(made.telegram()))))

  describe("asking for updates", () => {
    const failures: ReadonlyArray<readonly [string, TelegramServer.Fault]> = [
      ["another program asks", { status: 409, description: "Conflict: terminated by other getUpdates request" }],
      ["Telegram is down", { status: 502, description: "Bad Gateway" }],
      ["the network breaks", { cut: "before" }]
    ]
    for (const [why, fault] of failures) {
      virtual(`while ${why}, it is tried after a second, then two, then four, and nothing is lost`, ({ ada, server }) =>
        Effect.gen(function* () {
          server.fail("getUpdates", fault, 3)
          server.say(ada, "said meanwhile")
          const { next } = yield* listen()
          for (const [index, seconds] of [1, 2, 4].entries()) {
            yield* TelegramServer.until(() => server.polls() === index + 1)
            yield* settle
            // Delays are jittered by a fifth.
            yield* TestClock.adjust(Duration.seconds(seconds * 0.79))
            yield* settle
            assert.strictEqual(server.polls(), index + 1)
            yield* TestClock.adjust(Duration.seconds(seconds * 0.42))
          }
          assert.strictEqual(textOf((yield* next).content), "said meanwhile")
        })
      )
    }

    virtual("what Telegram asks to wait is waited", ({ server }) =>
      Effect.gen(function* () {
        server.fail("getUpdates", { status: 429, description: "Too Many Requests", parameters: { retry_after: 60 } })
        yield* listen()
        yield* TelegramServer.until(() => server.polls() === 1)
        yield* settle
        yield* TestClock.adjust("59 seconds")
        yield* settle
        assert.strictEqual(server.polls(), 1)
        yield* TestClock.adjust("2 seconds")
        yield* TelegramServer.until(() => server.polls() > 1)
      })
    )

    virtual("a question that is never answered is asked again", ({ ada, server }) =>
      Effect.gen(function* () {
        server.fail("getUpdates", { stall: true })
        const { next } = yield* listen()
        yield* TelegramServer.until(() => server.polls() === 1)
        yield* settle
        server.say(ada, "hi")
        yield* TestClock.adjust("45 seconds")
        yield* settle
        yield* TestClock.adjust("2 seconds")
        assert.strictEqual(textOf((yield* next).content), "hi")
      })
    )

    virtual("connections that end a hundred times lose nothing, and never two questions are open", ({ ada, server }) =>
      Effect.gen(function* () {
        const bob = server.person("Bob")
        const { send } = yield* theChannel
        const { heard } = yield* listen()
        const really = (millis: number) => Effect.promise(() => setTimeout(millis))
        // Time passes while nothing is asked, and only then: what is on its way is not hurried.
        yield* Effect.forkScoped(
          Effect.forever(
            Effect.andThen(
              really(5),
              Effect.suspend(() => (server.isPolled() ? Effect.void : TestClock.adjust("20 seconds")))
            )
          )
        )
        // Answers each message once, as a claw does: by its id, tried until it is sent.
        const answered = new Set<string>()
        yield* Effect.forkScoped(
          Effect.forever(
            Effect.gen(function* () {
              const { message } = yield* Queue.take(heard)
              const key = `${message.chat} ${message.id}`
              if (answered.has(key)) return
              answered.add(key)
              const reply = { id: OutputId.make(key), text: `re: ${textOf(message.content)}` }
              const tried = Effect.tapError(send(message.chat, reply), () => really(5))
              yield* Effect.retry(tried, { while: ({ isRetryable }) => isRetryable })
            })
          )
        )
        let cuts = 0
        let said = 0
        const cut = Effect.gen(function* () {
          yield* really(yield* Random.nextIntBetween(1, 60))
          if (!server.isPolled()) return
          if (yield* Random.nextBoolean) server.fail("sendMessage", { cut: "before" })
          server.online(false)
          yield* really(yield* Random.nextIntBetween(0, 15))
          server.online(true)
          cuts++
        })
        const talk = Effect.gen(function* () {
          said++
          for (const person of [ada, bob]) server.say(person, `number ${said}`)
          yield* really(yield* Random.nextIntBetween(1, 60))
        })
        yield* Effect.all(
          [Effect.repeat(cut, { until: () => cuts === 100 }), Effect.repeat(talk, { until: () => cuts === 100 })],
          { concurrency: 2 }
        )
        const wanted = Array.from({ length: said }, (_, index) => `re: number ${index + 1}`)
        const got = ({ id }: { readonly id: number }) => server.read(id).split("\n")
        yield* TelegramServer.until(() => [ada, bob].every((person) => got(person).includes(`re: number ${said}`)))
        for (const person of [ada, bob]) assert.deepStrictEqual([...new Set(got(person))], wanted)
        assert.strictEqual(answered.size, said * 2)
        assert.strictEqual(server.conflicts(), 0)
        // Telegram cannot tell a resend: what was taken as its connection ended comes twice.
        const doubled = got(ada).length + got(bob).length - said * 2
        process.stdout.write(`${cuts} disconnects, ${said * 2} messages, ${doubled} replies seen twice\n`)
        assert.isAtMost(doubled, cuts)
      })
    )

    it.live("a claw that starts while Telegram cannot be reached hears when it can", () =>
      Effect.gen(function* () {
        const made = yield* world
        made.server.online(false)
        yield* Effect.gen(function* () {
          const { next } = yield* listen()
          made.server.online(true)
          made.server.say(made.ada, "hi")
          assert.strictEqual(textOf((yield* next).content), "hi")
        }).pipe(Effect.provide(hub(made.telegram())))
      })
    )

    test("nothing is asked while something is not stored, and what is stored is confirmed", ({ ada, server }) =>
      Effect.gen(function* () {
        const { heard } = yield* listen({ ack: false })
        server.say(ada, "one")
        server.say(ada, "two")
        const one = yield* Queue.take(heard)
        yield* one.ack
        // Once more is nothing more.
        yield* one.ack
        yield* settle
        const polls = server.polls()
        yield* settle
        assert.strictEqual(server.polls(), polls)
        const two = yield* Queue.take(heard)
        assert.isAbove(server.pending().length, 0)
        yield* two.ack
        yield* TelegramServer.until(() => server.pending().length === 0)
      }))

    it.live("a token that Telegram does not know stops the claw from starting, and says what to do", () =>
      Effect.gen(function* () {
        const { server, telegram } = yield* world
        const start = (options: Partial<ChannelTelegram.Options>) =>
          Effect.flip(Effect.scoped(Layer.build(hub(telegram(options)))))
        const unknown = yield* start({ token: Redacted.make("4712:AAsomebody-else") })
        assert.include(unknown.message, "@BotFather")
        assert.include((yield* start({ token: Redacted.make("no token") })).message, "@BotFather")
        assert.include((yield* start({ owner: "@ada" })).message, "numeric id")
        assert.include((yield* start({ apiRoot: "nowhere" })).message, "no URL")
        assert.strictEqual(server.polls(), 0)
      })
    )

    test("a token that is taken back ends what is heard", ({ server }) =>
      Effect.gen(function* () {
        const { listening } = yield* listen()
        yield* TelegramServer.until(server.isPolled)
        server.revoke()
        const exit = yield* Fiber.await(listening)
        assert.isTrue(Exit.isFailure(exit))
        assert.include(String(exit), "@BotFather")
      }))

    it.live("the question is given up at once when the scope ends", () =>
      Effect.gen(function* () {
        const { server, telegram } = yield* world
        yield* Effect.gen(function* () {
          yield* listen()
          yield* TelegramServer.until(server.isPolled)
        }).pipe(Effect.provide(hub(telegram())), Effect.scoped)
        yield* TelegramServer.until(() => !server.isPolled())
      })
    )
  })

  describe("a webhook", () => {
    const secret = "a_secret-1"
    const withDoor = (
      title: string,
      body: (world: World & { readonly url: string }) => Effect.Effect<unknown, unknown, Channel.Channels | Scope.Scope>
    ) =>
      it.live(title, () =>
        Effect.gen(function* () {
          const made = yield* world
          const port = yield* freePort
          const url = `http://127.0.0.1:${port}/telegram`
          const webhook = { port, path: "/telegram", url, secret: Redacted.make(secret) }
          yield* Effect.provide(body({ ...made, url }), hub(made.telegram({ webhook })))
        })
      )

    withDoor("brings messages in order, and is answered when they are stored", ({ ada, server }) =>
      Effect.gen(function* () {
        const { heard } = yield* listen({ ack: false })
        for (const text of ["one", "two", "three"]) server.say(ada, text)
        for (const text of ["one", "two", "three"]) {
          const { ack, message } = yield* Queue.take(heard)
          assert.strictEqual(textOf(message.content), text)
          const waiting = server.pending().length
          yield* settle
          assert.strictEqual(server.pending().length, waiting)
          yield* ack
          yield* TelegramServer.until(() => server.pending().length === waiting - 1)
        }
        assert.strictEqual(server.polls(), 0)
      })
    )

    withDoor("is shut to those who do not know the secret, and to what is no update", ({ url }) =>
      Effect.gen(function* () {
        const { heard } = yield* listen()
        const post = (body: string, headers: Readonly<Record<string, string>>, to = url) =>
          Effect.promise(() => fetch(to, { method: "POST", body, headers }).then(({ status }) => status))
        const update = JSON.stringify({ update_id: 1, message: { message_id: 1, text: "hi" } })
        const known = { "x-telegram-bot-api-secret-token": secret }
        assert.strictEqual(yield* post(update, {}), 401)
        assert.strictEqual(yield* post(update, { "x-telegram-bot-api-secret-token": `${secret}x` }), 401)
        assert.strictEqual(yield* post(update, known, `${url}/other`), 404)
        assert.strictEqual(yield* post("{", known), 400)
        assert.strictEqual(yield* post("[]", known), 400)
        assert.strictEqual(yield* post(`"${"x".repeat(1024 * 1024)}"`, known), 413)
        assert.strictEqual(yield* Queue.size(heard), 0)
      })
    )

    it.live("brings again what was not stored", () =>
      Effect.gen(function* () {
        const made = yield* world
        const port = yield* freePort
        const webhook = { port, url: `http://127.0.0.1:${port}/`, secret: Redacted.make(secret) }
        const hear = (ack: boolean) =>
          Effect.gen(function* () {
            const { next } = yield* listen({ ack })
            return yield* next
          }).pipe(Effect.provide(hub(made.telegram({ webhook }))), Effect.scoped)
        made.server.say(made.ada, "hi")
        const first = yield* hear(false)
        const again = yield* hear(true)
        assert.deepStrictEqual(again, first)
      })
    )
  })

  describe("a reply that is being written", () => {
    const output = OutputId.make("life.1.1")
    const turn = TurnId.make(1)
    const delta = (text: string) => ({ _tag: "TextDelta", output, delta: text }) as const
    const ended = (outputs: ReadonlyArray<OutputId>) =>
      ({ _tag: "TurnEnded", turn, ending: { _tag: "Done" }, outputs }) as const
    const texts = ({ server }: World, chat: number) => server.shown(chat).map(({ text }) => text)

    virtual("is shown as it grows, once a second at most, and becomes the reply", (made) =>
      Effect.gen(function* () {
        const { ada, server } = made
        const to = ChatId.make(`${ada.id}`)
        const { follow = () => Effect.void, send } = yield* theChannel
        yield* follow(to, { _tag: "TurnBegan", turn })
        yield* follow(to, delta("**Two"))
        yield* settle
        assert.deepStrictEqual(texts(made, ada.id), [])
        yield* TestClock.adjust("1 second")
        yield* TelegramServer.until(() => server.shown(ada.id).length === 1)
        yield* settle
        for (const word of [" and", " two", " are"]) {
          yield* follow(to, delta(word))
          yield* settle
          assert.strictEqual(server.shown(ada.id)[0]?.edits, 0)
        }
        yield* TestClock.adjust("1 second")
        yield* TelegramServer.until(() => server.shown(ada.id)[0]?.edits === 1)
        assert.deepStrictEqual(texts(made, ada.id), ["**Two and two are"])
        yield* send(to, { id: output, text: "**Two and two are** four." })
        yield* follow(to, ended([output]))
        assert.deepStrictEqual(texts(made, ada.id), ["Two and two are four."])
        // Sent once more, as after a crash, it is the same message.
        yield* send(to, { id: output, text: "**Two and two are** four." })
        assert.deepStrictEqual(texts(made, ada.id), ["Two and two are four."])
      })
    )

    virtual("that is short is sent once", (made) =>
      Effect.gen(function* () {
        const to = ChatId.make(`${made.ada.id}`)
        const { follow = () => Effect.void, send } = yield* theChannel
        yield* follow(to, delta("Four"))
        yield* send(to, { id: output, text: "Four." })
        yield* TestClock.adjust("1 minute")
        yield* settle
        assert.deepStrictEqual(texts(made, made.ada.id), ["Four."])
        assert.strictEqual(made.server.shown(made.ada.id)[0]?.edits, 0)
      })
    )

    virtual("is shown within a second, however many before it were sent at once", (made) =>
      Effect.gen(function* () {
        const { ada, server } = made
        const to = ChatId.make(`${ada.id}`)
        const { follow = () => Effect.void, send } = yield* theChannel
        for (let turn = 2; turn < 22; turn++) {
          const id = OutputId.make(`life.${turn}.1`)
          yield* follow(to, { _tag: "TextDelta", output: id, delta: "Fo" })
          yield* send(to, { id, text: "Four." })
        }
        yield* follow(to, delta("Let me"))
        yield* settle
        yield* TestClock.adjust("1 second")
        yield* TelegramServer.until(() => server.shown(ada.id).length === 21)
        assert.strictEqual(texts(made, ada.id).at(-1), "Let me")
      })
    )

    virtual("is not shown while Telegram asks to wait", (made) =>
      Effect.gen(function* () {
        const { ada, server } = made
        const to = ChatId.make(`${ada.id}`)
        const { follow = () => Effect.void } = yield* theChannel
        server.fail("sendMessage", { status: 429, description: "Too Many Requests", parameters: { retry_after: 20 } })
        const sends = () => server.calls.filter(({ method }) => method === "sendMessage").length
        yield* follow(to, delta("one"))
        yield* settle
        yield* TestClock.adjust("1 second")
        yield* TelegramServer.until(() => sends() === 1)
        yield* settle
        yield* follow(to, delta(" two"))
        yield* settle
        yield* TestClock.adjust("19 seconds")
        yield* settle
        assert.strictEqual(sends(), 1)
        yield* TestClock.adjust("1 second")
        yield* TelegramServer.until(() => server.read(ada.id) === "one two")
      })
    )

    virtual("is shown less often in a group, all its topics together", ({ server }) =>
      Effect.gen(function* () {
        const forum = server.group("Forum", { forum: true })
        const { follow = () => Effect.void } = yield* theChannel
        const shown = () => server.shown(forum.id).length
        for (const topic of [1, 2]) {
          const id = OutputId.make(`life.${topic}.1`)
          yield* follow(ChatId.make(`${forum.id}/${topic}`), { _tag: "TextDelta", output: id, delta: "Hm" })
          yield* settle
        }
        yield* TestClock.adjust("3 seconds")
        yield* settle
        assert.strictEqual(shown(), 0)
        yield* TestClock.adjust("1 second")
        yield* TelegramServer.until(() => shown() === 1)
        yield* TestClock.adjust("3 seconds")
        yield* settle
        assert.strictEqual(shown(), 1)
        yield* TestClock.adjust("1 second")
        yield* TelegramServer.until(() => shown() === 2)
      })
    )

    virtual("that is begun anew, or comes to nothing, leaves nothing behind", (made) =>
      Effect.gen(function* () {
        const { ada, server } = made
        const to = ChatId.make(`${ada.id}`)
        const { follow = () => Effect.void } = yield* theChannel
        yield* follow(to, delta("<internal>hm</internal>Wrong"))
        yield* settle
        yield* TestClock.adjust("1 second")
        yield* TelegramServer.until(() => server.read(ada.id) === "Wrong")
        yield* settle
        yield* follow(to, { _tag: "TextDiscarded", output })
        yield* follow(to, delta("Right"))
        yield* settle
        yield* TestClock.adjust("1 second")
        yield* TelegramServer.until(() => server.read(ada.id) === "Right")
        yield* settle
        yield* follow(to, ended([]))
        assert.deepStrictEqual(texts(made, ada.id), [])
      })
    )

    it.live("by a claw that dies: what was recorded takes its place, and what was not is taken away", () =>
      Effect.gen(function* () {
        const made = yield* world
        const { ada, server } = made
        const to = ChatId.make(`${ada.id}`)
        const began = (text: string, id: OutputId) =>
          Effect.gen(function* () {
            const { follow = () => Effect.void } = yield* theChannel
            yield* follow(to, { _tag: "TextDelta", output: id, delta: text })
            yield* TelegramServer.until(() => server.read(ada.id).includes(text))
            yield* settle
          }).pipe(Effect.provide(hub(made.telegram())), Effect.scoped)
        const other = OutputId.make("life.2.1")

        yield* began("Recorded", output)
        yield* Effect.gen(function* () {
          const { send } = yield* theChannel
          yield* send(to, { id: output, text: "Recorded, in whole." })
        }).pipe(Effect.provide(hub(made.telegram())), Effect.scoped)
        assert.deepStrictEqual(texts(made, ada.id), ["Recorded, in whole."])

        yield* began("Forgotten", other)
        yield* Effect.gen(function* () {
          const { follow = () => Effect.void } = yield* theChannel
          yield* follow(to, { _tag: "TurnContinued", turn })
        }).pipe(Effect.provide(hub(made.telegram())), Effect.scoped)
        assert.deepStrictEqual(texts(made, ada.id), ["Recorded, in whole."])
      })
    )
  })

  it.live("the token is in no error and in no log, whatever fails", () => {
    const said: Array<unknown> = []
    const logger = Logger.make((entry) => void said.push(Logger.formatStructured.log(entry)))
    return Effect.gen(function* () {
      const { ada, server, telegram } = yield* world
      yield* Effect.gen(function* () {
        const { heard } = yield* listen()
        const { send } = yield* theChannel
        server.say(ada, { file: { kind: "document", content: new Uint8Array(1) } })
        const { attachments } = yield* Queue.take(heard)
        const fails = <A>(effect: Effect.Effect<A, Channel.ChannelError>) =>
          Effect.map(Effect.flip(effect), (error) => void said.push(error, error.message, JSON.stringify(error)))
        server.fail("sendMessage", { status: 400, description: `Bad Request: ${server.token} is no chat` })
        yield* fails(send(ChatId.make(`${ada.id}`), part("x")))
        server.online(false)
        yield* fails(send(ChatId.make(`${ada.id}`), part("x")))
        yield* fails(Stream.runDrain(attachments?.[0]?.content ?? Stream.empty))
        yield* settle
        server.online(true)
        yield* TelegramServer.until(() => said.some((entry) => JSON.stringify(entry).includes("goes on")))
        server.revoke()
        yield* fails(send(ChatId.make(`${ada.id}`), part("x")))
        yield* TelegramServer.until(() => said.some((entry) => JSON.stringify(entry).includes("no more messages")))
      }).pipe(Effect.provide(hub(telegram())))
      assert.isAbove(said.length, 12)
      assert.notInclude(inspect(said, { depth: Infinity }), server.token)
      assert.notInclude(inspect(said, { depth: Infinity }), "AAtest-token")
    }).pipe(Effect.provide(Logger.layer([logger])))
  })

  it.live("a bot is configured by the environment", () =>
    Effect.gen(function* () {
      const { ada, server } = yield* world
      const env = {
        TELEGRAM_BOT_TOKEN: server.token,
        TELEGRAM_API_ROOT: server.apiRoot,
        TELEGRAM_OWNER_ID: `${ada.id}`
      }
      const configured = (from: Readonly<Record<string, string>>) =>
        ChannelTelegram.layerConfig().pipe(
          Layer.provide(Layer.provide(ChannelStateSql.layer, database)),
          Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env: from })))
        )
      const { owner } = yield* Effect.provide(theChannel, hub(configured(env)))
      assert.strictEqual(owner, `${ada.id}`)
      const missing = yield* Effect.flip(Effect.scoped(Layer.build(hub(configured({})))))
      assert.include(String(missing), "TELEGRAM_BOT_TOKEN")
    })
  )
})
