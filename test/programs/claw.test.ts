import { assert, describe, it } from "@effect/vitest"
import { Agent, Bind, Claw } from "effect-claw"
import * as EgressProxy from "effect-claw/layers/EgressProxy"
import * as ModelOffline from "effect-claw/layers/ModelOffline"
import * as SandboxVirtual from "effect-claw/layers/SandboxVirtual"
import * as VaultLocal from "effect-claw/layers/VaultLocal"
import { MemoryTools } from "effect-claw/layers/MemoryTools"
import { ShellTools } from "effect-claw/layers/ShellTools"
import * as Local from "effect-claw/programs/Local"
import { ChannelError, Channels, Refused } from "effect-claw/services/Channel"
import * as Egress from "effect-claw/services/Egress"
import { ChannelName, ChatId, MessageId, SenderId, text as content } from "effect-claw/services/Message"
import { ModelInfo } from "effect-claw/services/ModelInfo"
import { ChannelMemory, ModelScripted, SandboxMemory } from "effect-claw/testing"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { cases } from "../contracts/cases.ts"
import { folder } from "../contracts/store.ts"
import { andy, ask, commands, echo, last, life, model, replies, requests, say, transcript } from "./life.ts"

/** A claw on a folder of its own. */
const alone =
  (options: Parameters<typeof life>[1]) =>
  <A, E, R>(body: Effect.Effect<A, E, R>) =>
    Effect.flatMap(folder, (directory) => life(directory, options)(body))

const text = ModelScripted.text
const call = ModelScripted.call

/** Lets everything go on that does not wait for the clock. */
const idle = Effect.repeat(Effect.yieldNow, { times: 200 })

describe("Claw", () => {
  it.effect("a message becomes a command in a sandbox, and its output a reply", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* ask("hi"), "hello there")
      assert.strictEqual(yield* ask("run it"), "it said 42")
      assert.deepStrictEqual(yield* commands, ["echo 42"])
      assert.include(last((yield* requests)[2] ?? assert.fail()), "42")
      yield* idle
      const events = yield* ChannelMemory.ChannelMemory.useSync(({ events }) => events)
      assert.deepStrictEqual(
        events.map(({ event }) => event._tag).filter((tag) => tag !== "TextDelta"),
        ["TurnBegan", "TurnEnded", "TurnBegan", "ToolCalled", "ToolReturned", "TurnEnded"]
      )
    }).pipe(
      alone({
        model: model([text("hello there"), call("bash", { command: "echo 42" }), text("it said 42")]),
        hands: SandboxMemory.layer(() => ({ stdout: "42\n" }))
      })
    )
  )

  for (const warm of [true, false]) {
    it.live(
      `a sandbox is ${warm ? "opened while the model thinks, if its agent wants it warm" : "else not opened before it is needed"}`,
      () => {
        const asked = Deferred.makeUnsafe<void>()
        const thinking = Deferred.makeUnsafe<void>()
        return Effect.gen(function* () {
          const { opened } = yield* SandboxMemory.SandboxMemory
          yield* say("hi")
          yield* Deferred.await(asked)
          yield* Effect.sleep("200 millis")
          assert.lengthOf(opened, warm ? 1 : 0)
          yield* Deferred.succeed(thinking, undefined)
          assert.deepStrictEqual(yield* replies(1), ["it said 42"])
          assert.lengthOf(opened, 1)
        }).pipe(
          alone({
            agents: [Agent.make("andy", { instructions: "You are Andy.", toolkits: [ShellTools], sandbox: { warm } })],
            model: model([
              () =>
                Deferred.succeed(asked, undefined).pipe(
                  Effect.andThen(Deferred.await(thinking)),
                  Effect.as(call("bash", { command: "echo 42" }))
                ),
              text("it said 42")
            ]),
            hands: SandboxMemory.layer(() => ({ stdout: "42\n" }))
          })
        )
      }
    )
  }

  it.effect("each chat is a conversation of its own", () =>
    Effect.gen(function* () {
      yield* say({ text: "one", chat: "a" })
      yield* say({ text: "two", chat: "b" })
      yield* say({ text: "three", chat: "a" })
      const sent = yield* ChannelMemory.ChannelMemory.use((channel) => channel.awaitSent(3))
      assert.sameDeepMembers(
        sent.map(({ chat, text }) => [String(chat), text]),
        [
          ["a", "re: one"],
          ["b", "re: two"],
          ["a", "re: three"]
        ]
      )
      assert.sameDeepMembers((yield* requests).map(transcript), [["one"], ["two"], ["one", "re: one", "three"]])
    }).pipe(alone({ model: echo }))
  )

  it.effect("a very long message, and one that is no valid Unicode, are answered", () =>
    Effect.gen(function* () {
      assert.include(yield* ask("x".repeat(1_000_000)), "900,000 characters more were cut")
      assert.strictEqual(
        yield* ask("half \ud83d, a \0 and <|im_start|>"),
        "re: half \ufffd, a \0 and &lt;|im_start|&gt;"
      )
      assert.strictEqual(yield* ask("and now?"), "re: and now?")
    }).pipe(alone({ model: echo }))
  )

  it.effect("it is seen to be typing for as long as it works", () => {
    const typing: Array<string> = []
    const finish = Deferred.makeUnsafe<void>()
    return Effect.gen(function* () {
      const channels = yield* Channels
      const name = ChannelName.make("showing")
      const texts = yield* Queue.unbounded<string>()
      yield* channels.register({
        name,
        owner: SenderId.make("owner"),
        capabilities: { textLimit: undefined, deduplicates: false },
        inbound: Stream.map(Stream.fromQueue(texts), (said) => ({
          message: {
            channel: name,
            chat: ChatId.make("chat"),
            id: MessageId.make(said),
            sender: SenderId.make("owner"),
            content: content(said),
            direct: true,
            at: 0
          },
          ack: Effect.void
        })),
        send: (_, { text }) => Effect.sync(() => void typing.push(text)),
        typing: () =>
          Effect.acquireRelease(
            Effect.sync(() => typing.push("typing")),
            () => Effect.sync(() => typing.push("done"))
          )
      })
      yield* Queue.offer(texts, "hi")
      yield* idle
      assert.deepStrictEqual(typing, ["typing"])
      yield* Deferred.succeed(finish, undefined)
      yield* idle
      assert.sameMembers(typing, ["typing", "hello", "done"])
    }).pipe(alone({ model: model(() => Effect.as(Deferred.await(finish), { text: "hello" })) }))
  })

  it.effect("a channel that fails for good is told to the owner, once, on another", () =>
    Effect.gen(function* () {
      yield* ask("hi")
      const name = ChannelName.make("broken")
      const failure = new ChannelError({ channel: name, reason: new Refused({ detail: "logged out; log in again" }) })
      yield* Channels.use((channels) =>
        channels.register({
          name,
          capabilities: { textLimit: undefined, deduplicates: false },
          inbound: Stream.fail(failure),
          send: () => failure
        })
      )
      assert.strictEqual(
        (yield* replies(2))[1],
        "I receive no more messages on channel broken: logged out; log in again"
      )
      assert.strictEqual(yield* ask("still there?"), "re: still there?")
    }).pipe(alone({ model: echo }))
  )

  it.effect("an agent may have a model of its own", () => {
    const bea = Agent.make("bea", { instructions: "", model: model(() => ({ text: "from Bea's model" })) })
    return Effect.gen(function* () {
      assert.strictEqual(yield* ask({ text: "hi", chat: "beas" }), "from Bea's model")
      assert.strictEqual(yield* ask("hi"), "re: hi")
    }).pipe(
      alone({
        model: echo,
        agents: [andy, bea],
        bindings: [Bind.conversation("memory:beas", bea), Bind.everywhere(andy)]
      })
    )
  })

  it.effect("a stranger is not answered, costs nothing, and is acknowledged so that it does not come again", () =>
    Effect.gen(function* () {
      for (const message of ["hi", "@andy hi", "/status"]) yield* say({ text: message, sender: "stranger" })
      assert.strictEqual(yield* ask({ text: "hi", sender: "guest" }), "re: hi")
      assert.strictEqual((yield* requests).length, 1)
      assert.strictEqual((yield* ChannelMemory.ChannelMemory.use((channel) => channel.sent)).length, 1)
    }).pipe(alone({ model: echo, admitted: [{ channel: "memory", sender: "guest" }] }))
  )

  it.effect("in a group it answers who addresses it, and the agent that is bound there", () => {
    const bea = Agent.make("bea", { instructions: "You are Bea." })
    return Effect.gen(function* () {
      yield* say({ text: "what do you think?", direct: false })
      assert.strictEqual(yield* ask({ text: "@Andy hi", direct: false }), "You are Andy.")
      assert.strictEqual(yield* ask({ text: "hi", direct: false, mentionsAgent: true }), "You are Andy.")
      assert.strictEqual(yield* ask({ text: "anything", direct: false, chat: "beas" }), "You are Bea.")
    }).pipe(
      alone({
        model: model(({ prompt }) => ({ text: /You are \w+\./.exec(JSON.stringify(prompt.content[0]))?.[0] ?? "" })),
        agents: [andy, bea],
        bindings: [Bind.conversation("memory:beas", bea, { engage: "always" }), Bind.everywhere(andy, { groups: true })]
      })
    )
  })

  describe("chat commands", () => {
    it.effect("/help lists them, and /status says who is there and what it is doing", () =>
      Effect.gen(function* () {
        const help = yield* ask("/help")
        for (const command of ["/stop", "/new", "/status", "/usage", "/help"]) assert.include(help, `${command}: `)
        assert.strictEqual(yield* ask("/status"), "I am andy on unknown, commands in: in memory. This chat is idle.")
        yield* say("work")
        yield* idle
        assert.include(yield* ask("/status"), "This chat is running.")
        assert.strictEqual((yield* requests).length, 1)
      }).pipe(alone({ model: model(() => Effect.never) }))
    )

    it.effect("/usage says what was used today, here and in all", () =>
      Effect.gen(function* () {
        assert.include(yield* ask("/usage"), "This chat today: 0 model calls, 0 tokens, $0.0000")
        yield* ask("hi")
        yield* ask({ text: "hi", chat: "other" })
        const usage = yield* ask("/usage")
        assert.include(usage, "This chat today: 1 model calls, 1,100 tokens")
        assert.include(usage, "All chats today: 2 model calls, 2,200 tokens")
        yield* TestClock.adjust("24 hours")
        assert.include(yield* ask("/usage"), "All chats today: 0 model calls")
      }).pipe(alone({ model: model(() => ({ text: "hi", usage: { input: 1000, output: 100 } })) }))
    )

    it.effect("/new forgets the conversation, and not the memories", () =>
      Effect.gen(function* () {
        yield* ask("my name is Ada")
        yield* ask("remember")
        assert.strictEqual(yield* ask("/new"), "We start afresh. What I remember, I keep.")
        assert.match(yield* ask("recall"), /^recall: .*Ada likes tea/)
        assert.notInclude(transcript((yield* requests).at(-1) ?? assert.fail()).join(), "my name is")
      }).pipe(
        alone({
          model: model((request) => {
            const said = last(request)
            if (said === "remember") return call("remember", { text: "Ada likes tea" })
            if (said === "recall") return call("recall", { query: "tea" })
            return { text: said }
          })
        })
      )
    )

    it.effect("where nothing runs there is nothing to stop", () =>
      Effect.gen(function* () {
        assert.strictEqual(yield* ask("/stop"), "There is nothing to stop.")
        assert.strictEqual(yield* ask("hi"), "re: hi")
      }).pipe(alone({ model: echo }))
    )

    for (const { name } of cases(
      "queueing",
      Schema.Struct({
        name: Schema.String,
        input: Schema.Struct({ text: Schema.Literal("/stop") }),
        expect: Schema.Struct({
          runningTurn: Schema.Literal("cancelled within 1 second"),
          childTurns: Schema.Literal("cancelled")
        })
      })
    )) {
      it.live(`/stop: ${name}: the turn, its children and their commands, within a second`, () => {
        const stopped: Array<string> = []
        return Effect.gen(function* () {
          yield* say("work")
          while ((yield* commands).length < 3) yield* Effect.sleep("5 millis")
          const began = yield* Clock.currentTimeMillis
          assert.strictEqual(yield* ask("/stop"), "Stopped.")
          assert.isBelow((yield* Clock.currentTimeMillis) - began, 1000)
          assert.sameMembers(stopped, ["mine", "coder 1", "coder 2"])
          assert.include(yield* ask("/status"), "This chat is idle.")
          assert.strictEqual(yield* ask("are you there?"), "yes")
        }).pipe(
          alone({
            model: model((request) => {
              const said = last(request)
              if (said === "work") {
                const briefs = ["coder 1", "coder 2"].map((brief) => ({ agent: "coder", brief }))
                return {
                  calls: [
                    { name: "bash", params: { command: "mine" } },
                    { name: "delegate_all", params: { briefs } }
                  ]
                }
              }
              return said.startsWith("coder") ? call("bash", { command: said }) : text("yes")
            }),
            hands: SandboxMemory.layer(({ run }) =>
              Effect.onInterrupt(Effect.never, () => Effect.sync(() => void stopped.push(String(run))))
            )
          })
        )
      })
    }
  })

  describe("many at once", () => {
    it.live("two hundred conversations, no more at a time than it is told", () => {
      let now = 0
      let most = 0
      return Effect.gen(function* () {
        yield* Effect.forEach(
          Array.from({ length: 200 }, (_, index) => `chat ${index}`),
          (chat) => say({ text: "hi", chat }),
          { concurrency: "unbounded" }
        )
        const sent = yield* ChannelMemory.ChannelMemory.use((channel) => channel.awaitSent(200))
        assert.strictEqual(new Set(sent.map(({ chat }) => chat)).size, 200)
        assert.strictEqual(most, 10)
      }).pipe(
        alone({
          model: model(() =>
            Effect.acquireUseRelease(
              Effect.sync(() => (most = Math.max(most, ++now))),
              () => Effect.as(Effect.sleep("2 millis"), { text: "hi" }),
              () => Effect.sync(() => now--)
            )
          ),
          turnsAtOnce: 10
        })
      )
    })

    for (const { expect, input, name } of cases(
      "queueing",
      Schema.Struct({
        name: Schema.String,
        input: Schema.Struct({ messagesWhileIdleWithin: Schema.Literal("200 millis"), count: Schema.Int }),
        expect: Schema.Struct({ turns: Schema.Int, inputsSeen: Schema.Int, order: Schema.Literal("arrival") })
      })
    )) {
      it.effect(name, () =>
        Effect.gen(function* () {
          const texts = Array.from({ length: input.count }, (_, index) => `${index}`)
          for (const message of texts) {
            yield* say(message)
            yield* idle
            yield* TestClock.adjust("10 millis")
          }
          yield* Effect.repeat(Effect.andThen(TestClock.adjust("1 second"), idle), { times: 3 })
          const { events } = yield* ChannelMemory.ChannelMemory
          assert.strictEqual(events.filter(({ event }) => event._tag === "TurnBegan").length, expect.turns)
          const seen = transcript((yield* requests).at(-1) ?? assert.fail()).filter((said) => texts.includes(said))
          assert.strictEqual(seen.length, expect.inputsSeen)
          assert.deepStrictEqual(seen, texts)
        }).pipe(alone({ model: model(() => Effect.as(Effect.sleep("1 second"), { text: "answer" })) }))
      )
    }
  })

  describe("on its own time", () => {
    const reminding = model((request) => {
      const said = last(request)
      if (said === "remind me") return call("schedule_task", { task: "stretch", in_seconds: 600 })
      return { text: said === "stretch" ? "Time to stretch!" : `re: ${said}` }
    })

    it.effect("a task fires when it is due, in its chat, and is answered", () =>
      Effect.gen(function* () {
        yield* ask({ text: "remind me", chat: "a" })
        yield* ask({ text: "hi", chat: "b" })
        yield* TestClock.adjust("599 seconds")
        yield* idle
        assert.strictEqual((yield* replies(2)).length, 2)
        yield* TestClock.adjust("1 second")
        const sent = yield* ChannelMemory.ChannelMemory.use((channel) => channel.awaitSent(3))
        assert.strictEqual(`${sent[2]?.chat}: ${sent[2]?.text}`, "a: Time to stretch!")
      }).pipe(alone({ model: reminding }))
    )

    for (const { name } of cases(
      "queueing",
      Schema.Struct({
        name: Schema.String,
        input: Schema.Struct({ idleConversationWithWarmSandbox: Schema.Literal(true), taskDue: Schema.Literal(true) }),
        expect: Schema.Struct({ taskStarts: Schema.Literal("at once") })
      })
    )) {
      it.effect(name, () =>
        Effect.gen(function* () {
          yield* ask({ text: "remind me", chat: "a" })
          for (const chat of ["b", "c"]) {
            yield* TestClock.adjust("299 seconds")
            yield* ask({ text: "run", chat })
          }
          assert.strictEqual((yield* SandboxMemory.SandboxMemory).open.size, 2)
          yield* TestClock.adjust("2 seconds")
          assert.strictEqual((yield* replies(4))[3], "Time to stretch!")
        }).pipe(
          alone({
            model: model((request) => {
              const said = last(request)
              if (said === "remind me") return call("schedule_task", { task: "stretch", in_seconds: 600 })
              if (said === "run") return call("bash", { command: "true" })
              return { text: said === "stretch" ? "Time to stretch!" : `re: ${said}` }
            }),
            turnsAtOnce: 1
          })
        )
      )
    }
  })

  describe("memories", () => {
    const remembering = model((request) => {
      const [, kind, about, what] = /^please (remember|recall) ?(\w+)? ?(.*)$/.exec(last(request)) ?? []
      if (kind === "remember") return call("remember", { text: what, about })
      return kind === "recall" ? call("recall", {}) : { text: last(request) }
    })
    const recalled = (message: ChannelMemory.Said) =>
      Effect.map(ask(message), (reply) => [...reply.matchAll(/\d+\. (.*?) \(/g)].map(([, memory = ""]) => memory))

    it.effect("two agents' are apart, and everyone's are everyone's", () => {
      const bea = Agent.make("bea", { instructions: "You are Bea.", toolkits: [MemoryTools] })
      return Effect.gen(function* () {
        yield* ask({ text: "please remember me I am Andy", chat: "a" })
        yield* ask({ text: "please remember everyone water is wet", chat: "a" })
        yield* ask({ text: "please remember me I am Bea", chat: "beas" })
        assert.sameMembers(yield* recalled({ text: "please recall", chat: "c" }), ["I am Andy", "water is wet"])
        assert.sameMembers(yield* recalled({ text: "please recall", chat: "beas" }), ["I am Bea", "water is wet"])
      }).pipe(
        alone({
          model: remembering,
          agents: [andy, bea],
          bindings: [Bind.conversation("memory:beas", bea), Bind.everywhere(andy)]
        })
      )
    })

    it.effect("a chat's are that chat's", () =>
      Effect.gen(function* () {
        yield* ask({ text: "please remember this_chat we plan a trip", chat: "a" })
        assert.deepStrictEqual(yield* recalled({ text: "please recall", chat: "b" }), [])
        assert.deepStrictEqual(yield* recalled({ text: "please recall", chat: "a" }), ["we plan a trip"])
      }).pipe(alone({ model: remembering }))
    )

    it.effect("a person's are that person's, in any chat, on that channel only", () =>
      Effect.gen(function* () {
        const second = Context.get(
          yield* Layer.build(ChannelMemory.layer({ name: "second" })),
          ChannelMemory.ChannelMemory
        )
        yield* ask({ text: "please remember sender I like tea", chat: "a" })
        assert.deepStrictEqual(yield* recalled({ text: "please recall", chat: "b" }), ["I like tea"])
        assert.deepStrictEqual(yield* recalled({ text: "please recall", chat: "a", sender: "guest" }), [])
        yield* second.say({ text: "please recall", chat: "a" })
        assert.include((yield* second.awaitSent(1))[0]?.text, "[nothing]")
      }).pipe(alone({ model: remembering, admitted: [{ channel: "memory", sender: "guest" }] }))
    )
  })

  describe("a swarm", () => {
    it.effect("a specialist does its own, and is refused what only another may", () =>
      Effect.gen(function* () {
        const reply = yield* ask("work")
        assert.include(reply, "## coder\nbash: it ran")
        assert.include(reply, "## researcher\nbash: You have no right to call bash.")
        assert.deepStrictEqual(yield* commands, ["coder"])
        const tools = (yield* requests).map((request) => request.tools.map(({ name }) => name))
        assert.includeDeepMembers(tools, [["read_file", "remember", "recall", "forget"]])
      }).pipe(
        alone({
          model: model((request) => {
            const said = last(request)
            if (said === "work") {
              const briefs = ["coder", "researcher"].map((agent) => ({ agent, brief: agent }))
              return call("delegate_all", { briefs })
            }
            return said === "coder" || said === "researcher" ? call("bash", { command: said }) : { text: said }
          }),
          hands: SandboxMemory.layer(() => ({ stdout: "it ran\n" }))
        })
      )
    )

    it.effect("specialists work at the same time, each in a sandbox of its own", () => {
      let waiting = 0
      let open: (value: void) => void = () => {}
      const both = new Promise<void>((resolve) => (open = resolve))
      return Effect.gen(function* () {
        yield* ask("work")
        const { opened } = yield* SandboxMemory.SandboxMemory
        assert.strictEqual(new Set(opened.map(({ workspace }) => workspace)).size, 2)
      }).pipe(
        alone({
          model: model((request) => {
            const said = last(request)
            if (said === "work") {
              return call("delegate_all", { briefs: ["1", "2"].map((brief) => ({ agent: "coder", brief })) })
            }
            return said === "1" || said === "2" ? call("bash", { command: said }) : { text: said }
          }),
          hands: SandboxMemory.layer(() =>
            Effect.suspend(() => {
              if (++waiting === 2) open()
              return Effect.as(
                Effect.promise(() => both),
                {}
              )
            })
          )
        })
      )
    })

    it.effect("a delegation that no team member is named in is refused, and the turn goes on", () =>
      Effect.gen(function* () {
        assert.include(yield* ask("work"), "there is no stranger in your team; it has coder, researcher")
      }).pipe(
        alone({
          model: model((request) =>
            last(request) === "work" ? call("delegate", { agent: "stranger", brief: "x" }) : { text: last(request) }
          )
        })
      )
    )
  })

  it.effect("a budget that is used up is said to be, and nothing more is spent", () => {
    const thrifty = Agent.make("thrifty", { instructions: "", budget: { perDay: "10000 tokens" } })
    return Effect.gen(function* () {
      assert.strictEqual(yield* ask("hi"), "hello")
      assert.include(yield* ask("hi"), "I stopped: the budget of 10000 tokens per day is used up")
      assert.strictEqual((yield* requests).length, 1)
      yield* TestClock.adjust("24 hours")
      assert.strictEqual(yield* ask("hi"), "hello")
    }).pipe(alone({ model: model(() => ({ text: "hello", usage: { input: 5000, output: 100 } })), agents: [thrifty] }))
  })

  describe("what cannot go together is refused at the start", () => {
    const refused = (options: Omit<Parameters<typeof life>[1], "model">) =>
      Effect.map(Effect.flip(alone({ model: echo, ...options })(Effect.void)), (error) => String(error))

    it.effect("two agents of one name", () =>
      Effect.gen(function* () {
        assert.include(
          yield* refused({ agents: [andy, Agent.make("andy", { instructions: "another" })] }),
          "two agents have this name"
        )
      })
    )

    it.effect("two tools of one name", () =>
      Effect.gen(function* () {
        const twice = Agent.make("twice", { instructions: "", toolkits: [MemoryTools, MemoryTools] })
        assert.include(yield* refused({ agents: [twice] }), "two of its tools are named")
      })
    )

    it.effect("a binding to an agent that is not there", () =>
      Effect.gen(function* () {
        const bindings = [Bind.everywhere({ name: "nobody" })]
        assert.include(yield* refused({ bindings }), "agent nobody: a binding names it")
      })
    )

    it.effect("a rule for a secret that the vault does not have", () =>
      Effect.gen(function* () {
        const directory = yield* folder
        const rule = Egress.allow("a.test", { secret: "NONE" })
        const caller = Agent.make("caller", { instructions: "", sandbox: { egress: [rule] } })
        const claw = Claw.layer({ agents: [caller], bindings: [Bind.everywhere(caller)] }).pipe(
          Layer.provide([ChannelMemory.layer(), echo, EgressProxy.layer({ directory })]),
          Layer.provide(Local.layer({ directory }))
        )
        assert.deepInclude(yield* Effect.flip(Layer.build(claw)), {
          _tag: "AgentError",
          message:
            "agent caller: no way out: the rule for a.test names the secret NONE, which the vault does not have; " +
            "give it to the vault, or take it from the rule"
        })
      })
    )

    it.live("a rule for a secret that the proxy alone is given, so that nothing would be masked", () =>
      Effect.gen(function* () {
        const directory = yield* folder
        writeFileSync(join(directory, "secret"), "hunter2-hunter2")
        const vault = VaultLocal.layer({ TOKEN: VaultLocal.file(join(directory, "secret")) })
        const rule = Egress.allow("a.test", { secret: "TOKEN" })
        const caller = Agent.make("caller", { instructions: "", sandbox: { egress: [rule] } })
        const claw = Claw.layer({ agents: [caller], bindings: [Bind.everywhere(caller)] }).pipe(
          Layer.provide([ChannelMemory.layer(), echo]),
          Layer.provide(Local.layer({ directory }))
        )
        const wayOut = EgressProxy.layer({ directory })
        const error = yield* Effect.flip(Layer.build(Layer.provide(claw, Layer.provide(wayOut, vault))))
        assert.include(error.message, "provide the vault to the whole claw")
        yield* Layer.build(claw.pipe(Layer.provide(wayOut), Layer.provide(vault)))
      })
    )

    it.effect("a budget in money for a model without a price", () =>
      Effect.gen(function* () {
        const rich = Agent.make("rich", { instructions: "", budget: { perDay: "2 USD" } })
        assert.include(yield* refused({ agents: [rich] }), "no price is known for the model unknown")
        const priced = Layer.succeed(ModelInfo, {
          name: "priced",
          contextTokens: 1000,
          outputTokens: 100,
          price: { input: 1, output: 1, cacheRead: 1, cacheWrite: 1 }
        })
        yield* Effect.void.pipe(alone({ model: Layer.merge(echo, priced), agents: [rich] }))
      })
    )
  })

  it.live("without a key and without an engine every part can be tried in plain words", () =>
    Effect.gen(function* () {
      const directory = yield* folder
      const claw = Claw.layer({ agents: [andy], bindings: [Bind.everywhere(andy)] }).pipe(
        Layer.provideMerge(ChannelMemory.layer()),
        Layer.provide(SandboxVirtual.layer),
        Layer.provide(ModelOffline.layer),
        Layer.provide(Local.layer({ directory, synchronous: "NORMAL" }))
      )
      yield* Effect.gen(function* () {
        assert.strictEqual(yield* ask("run: echo hello > a.txt && cat a.txt"), "hello")
        assert.include(yield* ask("read a.txt"), "hello")
        yield* ask("write b.txt: some text")
        assert.include(yield* ask("list files"), "b.txt")
        assert.include(yield* ask("search for some"), "b.txt")
        yield* ask("remember that I like tea")
        assert.include(yield* ask("what do you know about tea?"), "I like tea")
        assert.include(yield* ask("remind me every weekday at eight to stand up"), "0 8 * * 1-5")
        assert.include(yield* ask("list tasks"), "stand up")
        const reports = yield* ask("ask researcher and coder: run: echo work")
        assert.match(reports, /## researcher\n.*no right to call bash.*## coder\nwork/s)
      }).pipe(Effect.provide(claw))
      yield* Effect.gen(function* () {
        assert.include(yield* ask("read a.txt"), "hello")
        assert.include(yield* ask("what do you know about tea?"), "I like tea")
        assert.include(yield* ask("list tasks"), "stand up")
      }).pipe(Effect.provide(Layer.fresh(claw)))
    })
  )

  it.effect("it is finished when its channels have closed and all is answered", () =>
    Effect.gen(function* () {
      yield* say("hi")
      yield* ChannelMemory.ChannelMemory.use((channel) => channel.close)
      yield* Claw.Claw.use((claw) => claw.finished)
      assert.deepStrictEqual(yield* replies(1), ["re: hi"])
    }).pipe(alone({ model: echo }))
  )
})
