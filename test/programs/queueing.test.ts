/**
 * In what order a claw does its work, as `test/cases/queueing.json` has it, and what a message does that arrives while a turn
 * runs. Whole claws; what `Conversations` promises by itself is in its contract.
 */
import { assert, describe } from "@effect/vitest"
import { Bind } from "effect-claw"
import { Conversations } from "effect-claw/services/Conversations"
import { Journal } from "effect-claw/services/Journal"
import { ConversationId, Sender, text as content } from "effect-claw/services/Message"
import { ChannelMemory, ModelScripted, SandboxMemory } from "effect-claw/testing"
import * as AiError from "effect/ai/AiError"
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"
import { andy, ask, commands, echo, last, life, model, replies, requests, say, transcript } from "./life.ts"
import { type Body, count, describeRows, drive, test } from "./rows.ts"

const call = ModelScripted.call

/** Lets everything go on that does not wait for the clock. */
const idle = Effect.repeat(Effect.yieldNow, { times: 200 })

/** Looks again and again until it is so, which takes none of the clock's time. */
const until = <A, E, R>(look: Effect.Effect<A, E, R>, is: (found: A) => boolean): Effect.Effect<A, E, R> =>
  Effect.filterOrElse(Effect.andThen(Effect.yieldNow, look), is, () => until(look, is))

const modes = ["steer", "collect", "interrupt"] as const
const busy = (whileBusy: Bind.WhileBusy) => ({ bindings: [Bind.everywhere(andy, { whileBusy, groups: true })] })

const sent = ChannelMemory.ChannelMemory.use((channel) =>
  Effect.map(channel.sent, (all) => all.map(({ text }) => text))
)
const begun = ChannelMemory.ChannelMemory.useSync(({ events }) =>
  events.flatMap(({ event }) => (event._tag === "TurnBegan" ? [event.turn] : []))
)
const chat = ConversationId.make("memory:chat")
const other = ConversationId.make("memory:other")
const endings = (conversation = chat) =>
  Journal.use((journal) =>
    Effect.map(journal.entries(conversation, 0), (entries) =>
      entries.flatMap(({ event }) => (event._tag === "TurnEnded" ? [event.ending._tag] : []))
    )
  )
const unfinished = Journal.use((journal) => journal.unfinished)

/** What a request shows of these texts, in its order. */
const shownOf = (texts: ReadonlyArray<string>, request: ModelScripted.Request | undefined) =>
  transcript(request ?? assert.fail()).filter((said) => texts.includes(said))

/** Commands that run until they are killed, and which of them were. */
const hanging = (onKill: Effect.Effect<unknown> = Effect.void) => {
  const killed: Array<string> = []
  const hands = SandboxMemory.layer(({ run }) =>
    Effect.onInterrupt(Effect.never, () =>
      Effect.andThen(
        Effect.sync(() => void killed.push(String(run))),
        onKill
      )
    )
  )
  return { killed, hands }
}

/** Asked to work, it runs a command and has two specialists run one each; it repeats whatever else it is told. */
const doing = (request: ModelScripted.Request): ModelScripted.Reply => {
  const told = last(request)
  if (told.startsWith("coder")) return call("bash", { command: told })
  if (told !== "work") return { text: `re: ${told}` }
  const briefs = ["coder 1", "coder 2"].map((brief) => ({ agent: "coder", brief }))
  return {
    calls: [
      { name: "bash", params: { command: "mine" } },
      { name: "delegate_all", params: { briefs } }
    ]
  }
}
const working = model(doing)
const allOfIt = ["mine", "coder 1", "coder 2"]
/** All three commands run; returns the specialists' conversations. */
const atWork = Effect.gen(function* () {
  yield* say("work")
  yield* until(commands, ({ length }) => length === allOfIt.length)
  return (yield* unfinished).filter((conversation) => conversation !== chat)
})

/** A model that takes a second for each answer, and how many it gave at the same time. */
const slow = () => {
  const log = { now: 0, most: 0 }
  const answering = model((request) =>
    Effect.acquireUseRelease(
      Effect.sync(() => (log.most = Math.max(log.most, ++log.now))),
      () => Effect.as(Effect.sleep("1 second"), { text: `re: ${last(request)}` }),
      () => Effect.sync(() => log.now--)
    )
  )
  return { log, model: answering }
}
const seconds = (times: number) => Effect.repeat(Effect.andThen(TestClock.adjust("1 second"), idle), { times })

const bodies: Readonly<Record<string, Body>> = {
  "single file": drive(
    Schema.Struct({ conversation: Schema.String, messages: Schema.Int }),
    Schema.Struct({ maxConcurrent: Schema.Int, order: Schema.Literal("arrival") }),
    (expect, directory, { conversation, messages }) =>
      // Whatever a message does while a turn runs.
      Effect.forEach(modes, (mode) => {
        const { log, model } = slow()
        // Neither their texts nor their ids grow as they arrive.
        const texts = Array.from({ length: messages }, (_, index) => `text ${9 - index}`)
        return Effect.gen(function* () {
          for (const text of texts) yield* Effect.andThen(say({ text, id: text, chat: conversation }), idle)
          yield* seconds(messages + 1)
          assert.strictEqual(log.most, expect.maxConcurrent, mode)
          assert.deepStrictEqual(shownOf(texts, (yield* requests).at(-1)), { arrival: texts }[expect.order], mode)
          assert.deepStrictEqual(yield* unfinished, [])
        }).pipe(life(`${directory}/${mode}`, { model, ...busy(mode) }))
      })
  ),

  limit: drive(
    Schema.Struct({ limit: Schema.Int, conversations: Schema.Int }),
    Schema.Struct({ thirdStarts: Schema.Literal("when one ends") }),
    (expect, directory, { conversations, limit }) => {
      const gates = Array.from({ length: conversations }, () => Deferred.makeUnsafe<void>())
      const started: Array<number> = []
      return Effect.gen(function* () {
        for (const [index] of gates.entries()) yield* say({ text: `${index}`, chat: `chat ${index}` })
        yield* idle
        // Time alone starts nothing.
        yield* Effect.andThen(TestClock.adjust("10 minutes"), idle)
        assert.deepStrictEqual(started, [0, 1].slice(0, limit))
        // Any of those that run will do.
        yield* Deferred.succeed(gates[limit - 1] ?? assert.fail(), undefined)
        yield* replies(1)
        yield* until(
          Effect.sync(() => started.length),
          (length) => length > limit
        )
        assert.deepStrictEqual({ "when one ends": started.slice(limit) }[expect.thirdStarts], [limit])
      }).pipe(
        life(directory, {
          turnsAtOnce: limit,
          model: model((request) => {
            const index = Number(last(request))
            started.push(index)
            return Effect.as(Deferred.await(gates[index] ?? assert.fail()), { text: "done" })
          })
        })
      )
    }
  ),

  "a burst is one turn": drive(
    Schema.Struct({ messagesWhileIdleWithin: Schema.TemplateLiteralParser([count, " millis"]), count: Schema.Int }),
    Schema.Struct({ turns: Schema.Int, inputsSeen: Schema.Int, order: Schema.Literal("arrival") }),
    (expect, directory, { count, messagesWhileIdleWithin: [within] }) =>
      Effect.gen(function* () {
        const texts = Array.from({ length: count }, (_, index) => `text ${count - index}`)
        const first = yield* Clock.currentTimeMillis
        for (const [index, text] of texts.entries()) {
          if (index > 0) yield* TestClock.adjust(Math.floor(within / count))
          yield* Effect.andThen(say({ text, id: text }), idle)
        }
        assert.isAtMost((yield* Clock.currentTimeMillis) - first, within)
        yield* seconds(3)
        const seen = shownOf(texts, (yield* requests).at(-1))
        assert.strictEqual(seen.length, expect.inputsSeen)
        assert.deepStrictEqual(seen, { arrival: texts }[expect.order])
        assert.strictEqual(new Set(yield* begun).size, expect.turns)
        assert.strictEqual((yield* endings()).length, expect.turns)
        assert.deepStrictEqual(yield* unfinished, [])
      }).pipe(life(directory, { model: slow().model }))
  ),

  collect: drive(
    Schema.Struct({ mode: Schema.Literals(modes), messagesDuringTurn: Schema.Int }),
    Schema.Struct({ turnsAfter: Schema.Int, inputsSeen: Schema.Int }),
    (expect, directory, { messagesDuringTurn, mode }) => {
      const finish = Deferred.makeUnsafe<void>()
      const texts = Array.from({ length: messagesDuringTurn }, (_, index) => `text ${9 - index}`)
      return Effect.gen(function* () {
        yield* say("work")
        yield* until(commands, ({ length }) => length === 1)
        for (const text of texts) yield* Effect.andThen(say(text), idle)
        yield* Deferred.succeed(finish, undefined)
        assert.deepStrictEqual(yield* replies(2), ["re: bash: done", `re: ${texts.join("\n")}`])
        yield* idle
        // No step of the turn that ran has seen any of them.
        const seen = (yield* requests).map((request) => shownOf(texts, request))
        assert.deepStrictEqual(seen.slice(0, 2), [[], []])
        assert.strictEqual(seen.at(-1)?.length, expect.inputsSeen)
        assert.deepStrictEqual(seen.slice(2), [texts])
        assert.deepStrictEqual(
          yield* endings(),
          Array.from({ length: 1 + expect.turnsAfter }, () => "Done")
        )
        assert.strictEqual(new Set(yield* begun).size, 1 + expect.turnsAfter)
        assert.deepStrictEqual(yield* unfinished, [])
      }).pipe(
        life(directory, {
          ...busy(mode),
          model: model((request) =>
            last(request) === "work" ? call("bash", { command: "work" }) : { text: `re: ${last(request)}` }
          ),
          hands: SandboxMemory.layer(() => Effect.as(Deferred.await(finish), { stdout: "done" }))
        })
      )
    }
  ),

  steer: drive(
    Schema.Struct({ mode: Schema.Literals(modes), messageDuringTurn: Schema.Literal("after the first tool result") }),
    Schema.Struct({ seenBy: Schema.Literal("the next model step of the same turn") }),
    (expect, directory, { mode }) => {
      const second = Deferred.makeUnsafe<void>()
      return Effect.gen(function* () {
        yield* say("work")
        const results = Journal.use((journal) =>
          Effect.map(journal.entries(chat, 0), (all) => all.filter(({ event }) => event._tag === "ToolEnded"))
        )
        yield* until(results, ({ length }) => length === 1)
        yield* Effect.andThen(say("and be quick"), idle)
        assert.strictEqual((yield* requests).length, 1)
        yield* Deferred.succeed(second, undefined)
        yield* replies(1)
        yield* idle
        const [, next, ...more] = yield* requests
        assert.deepStrictEqual([more.length, yield* endings()], [0, ["Done"]])
        const seeing = { "the next model step of the same turn": next }[expect.seenBy] ?? assert.fail()
        assert.include(last(seeing), "bash: did first")
        assert.include(last(seeing), "and be quick")
      }).pipe(
        life(directory, {
          ...busy(mode),
          model: model((request) =>
            last(request) === "work"
              ? { calls: ["first", "second"].map((command) => ({ name: "bash", params: { command } })) }
              : { text: "done" }
          ),
          hands: SandboxMemory.layer(({ run }) =>
            Effect.as(run === "second" ? Deferred.await(second) : Effect.void, { stdout: `did ${String(run)}` })
          )
        })
      )
    }
  ),

  interrupt: drive(
    Schema.Struct({ mode: Schema.Literals(modes), messageDuringTurn: Schema.Literal(true) }),
    Schema.Struct({
      runningTurn: Schema.Literal("cancelled"),
      sandboxCommand: Schema.Literal("killed"),
      newTurn: Schema.Boolean
    }),
    ({ newTurn, runningTurn, sandboxCommand }, directory, { mode }) => {
      const { hands, killed } = hanging()
      const killedBefore: Array<number> = []
      return Effect.gen(function* () {
        const children = yield* atWork
        yield* say("rather this")
        const [reply, ...more] = yield* replies(1)
        assert.include(reply, "rather this")
        assert.deepStrictEqual(more, [])
        assert.sameMembers({ killed }[sandboxCommand], allOfIt)
        assert.deepStrictEqual(killedBefore, [allOfIt.length], "a new turn begins when nothing of the old one runs")
        yield* idle
        const cancelled = { cancelled: "Superseded" }[runningTurn]
        assert.deepStrictEqual(yield* endings(), [cancelled, ...(newTurn ? ["Done"] : [])])
        assert.strictEqual(new Set(yield* begun).size === 2, newTurn)
        for (const child of children) assert.deepStrictEqual(yield* endings(child), ["Stopped"])
        assert.deepStrictEqual(yield* unfinished, [])
        assert.sameMembers(yield* commands, allOfIt)
      }).pipe(
        life(directory, {
          ...busy(mode),
          hands,
          model: model((request) => {
            if (last(request).includes("rather this")) killedBefore.push(killed.length)
            return doing(request)
          })
        })
      )
    }
  ),

  stop: drive(
    Schema.Struct({ text: Schema.String }),
    Schema.Struct({
      runningTurn: Schema.TemplateLiteralParser(["cancelled within ", count, " second"]),
      childTurns: Schema.Literal("cancelled")
    }),
    ({ childTurns, runningTurn: [, within] }, directory, { text }) => {
      const { hands, killed } = hanging()
      return Effect.gen(function* () {
        const children = yield* atWork
        assert.lengthOf(children, 2)
        const stopping = yield* Effect.forkChild(say(text), { startImmediately: true })
        yield* TestClock.adjust(`${within} seconds`)
        yield* Fiber.join(stopping)
        assert.sameMembers(killed, allOfIt)
        assert.deepStrictEqual(yield* endings(), ["Stopped"])
        const cancelled = { cancelled: ["Stopped"] }[childTurns]
        for (const child of children) assert.deepStrictEqual(yield* endings(child), cancelled)
        assert.deepStrictEqual(yield* unfinished, [])
        // Neither goes on later, and the chat has heard of it once.
        yield* seconds(5)
        assert.strictEqual((yield* requests).length, 3)
        assert.strictEqual((yield* sent).length, 1)
        assert.include(yield* ask("are you there?"), "are you there?")
      }).pipe(life(directory, { model: working, hands }))
    }
  ),

  retry: drive(
    Schema.Struct({ model: Schema.Literal("always overloaded") }),
    Schema.Struct({
      attemptsAt: Schema.Literal("growing with jitter"),
      gaveUp: Schema.TemplateLiteralParser(["tells the chat ", Schema.Literals(["once"])])
    }),
    ({ attemptsAt, gaveUp: [, times] }, directory, input) => {
      const failure = { "always overloaded": new AiError.RateLimitError({}) }[input.model]
      const attempts = new Map<string, Array<number>>()
      return Effect.gen(function* () {
        // Two chats, for jitter is what two do not have in common.
        for (const text of ["a", "b"]) yield* say({ text, chat: text })
        yield* idle
        yield* Effect.repeat(Effect.andThen(TestClock.adjust("50 millis"), idle), { times: 400 })
        const delays = [...attempts.values()].map((at) => at.slice(1).map((time, index) => time - (at[index] ?? 0)))
        assert.lengthOf(delays, 2)
        for (const each of delays) {
          assert.isAtLeast(each.length, 2)
          for (const [index, delay] of each.entries()) assert.isAbove(delay, each[index - 1] ?? 0, attemptsAt)
        }
        assert.notDeepEqual(delays[0], delays[1], attemptsAt)
        yield* TestClock.adjust("1 hour")
        yield* idle
        const told = yield* ChannelMemory.ChannelMemory.use((channel) => channel.sent)
        for (const each of ["a", "b"]) {
          const there = told.filter(({ chat }) => chat === each)
          assert.lengthOf(there, { once: 1 }[times])
          assert.include(there[0]?.text, "overloaded")
        }
      }).pipe(
        life(directory, {
          model: model((request) =>
            Effect.flatMap(Clock.currentTimeMillis, (now) => {
              attempts.set(last(request), [...(attempts.get(last(request)) ?? []), now])
              return Effect.fail(failure)
            })
          )
        })
      )
    }
  ),

  "context rows do not hide the trigger": drive(
    Schema.Struct({ contextMessages: Schema.Int, thenTriggered: Schema.Int }),
    Schema.Struct({ engages: Schema.Boolean, contextSeen: Schema.Int }),
    (expect, directory, { contextMessages, thenTriggered }) => {
      const texts = Array.from({ length: contextMessages }, (_, index) => `text ${contextMessages - index}`)
      return Effect.gen(function* () {
        for (const text of texts) yield* Effect.andThen(say({ text, direct: false }), idle)
        assert.deepStrictEqual([yield* begun, yield* sent, yield* unfinished], [[], [], []])
        for (let turn = 1; turn <= thenTriggered; turn++) {
          yield* Effect.andThen(say({ text: `@andy hi ${turn}`, direct: false }), idle)
          assert.strictEqual((yield* requests).length === turn, expect.engages)
        }
        const seen = shownOf(texts, (yield* requests).at(-1))
        assert.strictEqual(seen.length, expect.contextSeen)
        assert.deepStrictEqual(seen, texts)
        assert.deepStrictEqual(yield* unfinished, [])
      }).pipe(life(directory, { model: echo }))
    }
  ),

  "a task does not wait behind an idle chat": drive(
    Schema.Struct({ idleConversationWithWarmSandbox: Schema.Literal(true), taskDue: Schema.Literal(true) }),
    Schema.Struct({ taskStarts: Schema.Literal("at once") }),
    (expect, directory) => {
      let started: number | undefined
      return Effect.gen(function* () {
        yield* ask({ text: "remind me", chat: "a" })
        const due = (yield* Clock.currentTimeMillis) + 600_000
        yield* TestClock.adjust("595 seconds")
        for (const chat of ["b", "c"]) yield* ask({ text: "run", chat })
        yield* TestClock.adjust("4 seconds")
        yield* idle
        assert.strictEqual(started, undefined)
        assert.strictEqual((yield* SandboxMemory.SandboxMemory).open.size, 2)
        yield* TestClock.adjust("1 second")
        assert.strictEqual((yield* replies(4))[3], "stretch")
        assert.strictEqual(started, { "at once": due }[expect.taskStarts])
        assert.strictEqual((yield* SandboxMemory.SandboxMemory).open.size, 2)
      }).pipe(
        life(directory, {
          turnsAtOnce: 1,
          model: model((request) =>
            Effect.map(Clock.currentTimeMillis, (now) => {
              const told = last(request)
              if (told === "remind me") return call("schedule_task", { task: "stretch", in_seconds: 600 })
              if (told === "run") return call("bash", { command: "true" })
              if (told === "stretch") started = now
              return { text: told }
            })
          )
        })
      )
    }
  ),

  "after shutdown began": drive(
    Schema.Struct({ enqueueAfterShutdown: Schema.Literal(true) }),
    Schema.Struct({ accepted: Schema.Literal("kept for the next start") }),
    (expect, directory) =>
      // Also where it would end the turn that shutdown is ending.
      Effect.forEach(modes, (mode) => {
        const alive = Deferred.makeUnsafe<Context.Context<Conversations | ChannelMemory.ChannelMemory>>()
        const taken: Array<boolean> = []
        let acknowledged = false
        const late = (conversation: ConversationId) =>
          Conversations.use((conversations) =>
            conversations.deliver({
              conversation,
              agent: andy.name,
              mode,
              key: "late",
              input: {
                origin: { _tag: "Person", sender: Sender.make("memory:owner") },
                content: content("late"),
                at: 0
              }
            })
          )
        const whileItEnds = Effect.gen(function* () {
          for (const conversation of [chat, other]) taken.push(yield* late(conversation))
          // What only now reaches the channel is not taken: the platform has it, and sends it again.
          yield* Effect.forkDetach(Effect.map(say({ text: "later", id: "later" }), () => void (acknowledged = true)))
        })
        const { hands, killed } = hanging(
          Effect.flatMap(Deferred.await(alive), (context) => Effect.provideContext(Effect.orDie(whileItEnds), context))
        )
        const living = life(`${directory}/${mode}`, { model: working, hands, ...busy(mode) })
        return Effect.gen(function* () {
          yield* Effect.gen(function* () {
            yield* Deferred.succeed(alive, yield* Effect.context<Conversations | ChannelMemory.ChannelMemory>())
            yield* say("coder")
            yield* until(commands, ({ length }) => length === 1)
          }).pipe(living)
          assert.deepStrictEqual([killed, taken, acknowledged], [["coder"], [true, true], false], mode)
          yield* Effect.gen(function* () {
            yield* say({ text: "later", id: "later" })
            yield* until(unfinished, ({ length }) => length === 0)
            const answers = (yield* sent).join("\n")
            const kept = { "kept for the next start": ["late", "late", "later"] }[expect.accepted]
            assert.deepStrictEqual([...(answers.match(/\blater?\b/g) ?? [])].sort(), kept, mode)
          }).pipe(living)
        })
      })
  ),

  "tool loop": drive(
    Schema.Struct({ sameToolSameArgumentsSameResult: Schema.Int }),
    Schema.Struct({ turn: Schema.Literal("told it is looping, then stopped at a bound") }),
    (expect, directory, { sameToolSameArgumentsSameResult: times }) =>
      Effect.gen(function* () {
        const reply = yield* ask("look around")
        const told = (yield* requests).map((request) => last(request).includes("this very result"))
        const looping = { "told it is looping, then stopped at a bound": told.slice(times) }[expect.turn]
        assert.isFalse(told.slice(0, times).includes(true))
        assert.isAbove(looping.length, 0)
        assert.isFalse(looping.includes(false))
        assert.match(reply, /going in circles/)
        assert.deepStrictEqual(yield* endings(), ["Exhausted"])
        assert.deepStrictEqual(yield* unfinished, [])
      }).pipe(
        life(directory, {
          model: model(() => call("bash", { command: "ls" })),
          hands: SandboxMemory.layer(() => ({ stdout: "a.txt\n" }))
        })
      )
  )
}

describeRows("queueing", bodies)

describe("a message that arrives while a turn runs", () => {
  describe("and interrupts", () => {
    test("is seen with what was asked before, and what the turn had done", (directory) => {
      const { hands } = hanging()
      return Effect.gen(function* () {
        yield* atWork
        yield* say("rather this")
        yield* replies(1)
        const request = (yield* requests).at(-1) ?? assert.fail()
        assert.deepStrictEqual(transcript(request), ["work", "rather this"])
        assert.match(last(request), /^bash: The call was stopped.*\ndelegate_all: The call was stopped.*\nrather this$/)
      }).pipe(life(directory, { model: working, hands, ...busy("interrupt") }))
    })

    test("has a model that is being asked left alone, and nothing of its answer said", (directory) => {
      let cut = 0
      return Effect.gen(function* () {
        yield* Effect.andThen(say("first"), idle)
        yield* Effect.andThen(say("second"), idle)
        yield* Effect.andThen(say("third"), idle)
        assert.strictEqual(cut, 2)
        yield* seconds(3)
        assert.deepStrictEqual(yield* sent, ["re: first\nsecond\nthird"])
        assert.deepStrictEqual(yield* endings(), ["Superseded", "Superseded", "Done"])
      }).pipe(
        life(directory, {
          ...busy("interrupt"),
          model: model((request) =>
            Effect.as(Effect.sleep("1 second"), { text: `re: ${last(request)}` }).pipe(
              Effect.onInterrupt(() => Effect.sync(() => void cut++))
            )
          )
        })
      )
    })

    test("interrupts nothing when it comes a second time, nor when nothing runs", (directory) => {
      const { hands, killed } = hanging()
      return Effect.gen(function* () {
        assert.strictEqual(yield* ask({ text: "hi", id: "1" }), "re: hi")
        yield* atWork
        yield* Effect.andThen(say({ text: "hi", id: "1" }), idle)
        assert.deepStrictEqual(killed, [])
        assert.deepStrictEqual(yield* endings(), ["Done"])
      }).pipe(life(directory, { model: working, hands, ...busy("interrupt") }))
    })

    test("ends no other chat's turn", (directory) => {
      const { hands, killed } = hanging()
      return Effect.gen(function* () {
        yield* atWork
        assert.strictEqual(yield* ask({ text: "hi", chat: "other" }), "re: hi")
        assert.deepStrictEqual(killed, [])
      }).pipe(life(directory, { model: working, hands, ...busy("interrupt") }))
    })

    test("is answered by the next life, when the claw ends before it could", (directory) => {
      const { hands } = hanging()
      const options = (answers: boolean) => ({
        ...busy("interrupt"),
        hands,
        model: model((request) =>
          answers || last(request) === "work"
            ? Effect.succeed(answers ? { text: `re: ${last(request)}` } : call("bash", { command: "mine" }))
            : Effect.never
        )
      })
      return Effect.gen(function* () {
        yield* Effect.gen(function* () {
          yield* say("work")
          yield* until(commands, ({ length }) => length === 1)
          yield* Effect.andThen(say("rather this"), idle)
        }).pipe(life(directory, options(false)))
        yield* Effect.gen(function* () {
          const [reply] = yield* replies(1)
          assert.match(reply ?? "", /^re: bash: The call was stopped.*\nrather this$/)
          yield* idle
          assert.deepStrictEqual(yield* endings(), ["Superseded", "Done"])
          assert.lengthOf(yield* sent, 1)
        }).pipe(life(directory, options(true)))
      })
    })
  })

  describe("and is collected", () => {
    const texts = ["text 3", "text 2", "text 1"]

    test("waits in the next life too, when the claw ends meanwhile", (directory) => {
      const { hands } = hanging()
      return Effect.gen(function* () {
        yield* Effect.gen(function* () {
          yield* atWork
          for (const text of texts) yield* say(text)
        }).pipe(life(directory, { model: working, hands, ...busy("collect") }))
        yield* Effect.gen(function* () {
          yield* replies(1)
          yield* Effect.andThen(idle, idle)
          assert.deepStrictEqual(yield* unfinished, [])
          const [before, ...after] = yield* sent
          assert.match(before ?? "", /^re: bash: The call was interrupted/)
          assert.deepStrictEqual(after, [`re: ${texts.join("\n")}`])
          assert.deepStrictEqual(yield* endings(), ["Done", "Done"])
        }).pipe(life(directory, { model: working, ...busy("collect") }))
      })
    })

    test("is cancelled by /stop with the turn it waits for", (directory) => {
      const { hands } = hanging()
      return Effect.gen(function* () {
        yield* atWork
        for (const text of texts) yield* say(text)
        assert.strictEqual(yield* ask("/stop"), "Stopped.")
        yield* idle
        assert.deepStrictEqual(yield* unfinished, [])
        assert.strictEqual((yield* requests).length, 3)
      }).pipe(life(directory, { model: working, hands, ...busy("collect") }))
    })
  })
})

describe("what is said in a group, and not to the agent", () => {
  const group = (text: string) => ({ text, direct: false })

  test("wakes nobody, and is shown with what is said to it next, also in the next life", (directory) =>
    Effect.gen(function* () {
      yield* Effect.gen(function* () {
        for (const text of ["I like tea", "I like coffee"]) yield* Effect.andThen(say(group(text)), idle)
        assert.deepStrictEqual([yield* unfinished, yield* begun, yield* sent], [[], [], []])
        yield* ask(group("@andy who likes tea?"))
        yield* Effect.andThen(say(group("not me")), idle)
      }).pipe(life(directory, { model: echo }))
      yield* Effect.gen(function* () {
        yield* idle
        assert.strictEqual((yield* requests).length, 0)
        assert.strictEqual(yield* ask(group("@andy and now?")), "re: not me\n@andy and now?")
        assert.deepStrictEqual(transcript((yield* requests)[0] ?? assert.fail()).slice(0, 3), [
          "I like tea",
          "I like coffee",
          "@andy who likes tea?"
        ])
      }).pipe(life(directory, { model: echo }))
    }))

  for (const mode of modes) {
    test(`while a turn runs it changes nothing of that: the turn's next step sees it (${mode})`, (directory) => {
      const finish = Deferred.makeUnsafe<void>()
      return Effect.gen(function* () {
        yield* say(group("@andy work"))
        yield* until(commands, ({ length }) => length === 1)
        yield* Effect.andThen(say(group("I like tea")), idle)
        assert.strictEqual((yield* requests).length, 1)
        yield* Deferred.succeed(finish, undefined)
        assert.deepStrictEqual(yield* replies(1), ["re: bash: done\nI like tea"])
        yield* idle
        assert.deepStrictEqual(yield* endings(), ["Done"])
      }).pipe(
        life(directory, {
          ...busy(mode),
          model: model((request) =>
            last(request) === "@andy work" ? call("bash", { command: "work" }) : { text: `re: ${last(request)}` }
          ),
          hands: SandboxMemory.layer(() => Effect.as(Deferred.await(finish), { stdout: "done" }))
        })
      )
    })

    test(`a turn that is about to end is not kept up by it (${mode})`, (directory) => {
      const finish = Deferred.makeUnsafe<void>()
      return Effect.gen(function* () {
        yield* Effect.andThen(say(group("@andy hi")), idle)
        yield* Effect.andThen(say(group("I like tea")), idle)
        yield* Deferred.succeed(finish, undefined)
        yield* replies(1)
        yield* idle
        assert.deepStrictEqual([(yield* requests).length, yield* endings(), yield* unfinished], [1, ["Done"], []])
      }).pipe(
        life(directory, { ...busy(mode), model: model(() => Effect.as(Deferred.await(finish), { text: "hello" })) })
      )
    })
  }

  test("once, however often it comes", (directory) =>
    Effect.gen(function* () {
      for (const _ of [1, 2]) yield* say({ ...group("I like tea"), id: "1" })
      yield* ask(group("@andy hi"))
      assert.deepStrictEqual((yield* requests).map(transcript), [["I like tea", "@andy hi"]])
    }).pipe(life(directory, { model: echo })))
})
