import { assert, describe, it } from "@effect/vitest"
import * as JournalSql from "effect-claw/layers/JournalSql"
import * as LedgerSql from "effect-claw/layers/LedgerSql"
import * as ModelScripted from "effect-claw/layers/ModelScripted"
import { Vault } from "effect-claw/services/Vault"
import * as Agent from "effect-claw/services/Agent"
import * as AgentRuntime from "effect-claw/services/AgentRuntime"
import { CurrentTurn } from "effect-claw/services/CurrentTurn"
import * as Channel from "effect-claw/services/Channel"
import { Journal } from "effect-claw/services/Journal"
import { Ledger } from "effect-claw/services/Ledger"
import { AgentName, ConversationId, Sender, text } from "effect-claw/services/Message"
import { ModelInfo } from "effect-claw/services/ModelInfo"
import { Outbox } from "effect-claw/services/Outbox"
import { unwrapResult } from "effect-claw/services/PromptBorder"
import { Rights } from "effect-claw/services/Rights"
import * as ToolGuard from "effect-claw/services/ToolGuard"
import { estimateTokens } from "effect-claw/services/PromptSize"
import type { Origin, TurnEvent } from "effect-claw/services/Turn"
import * as AiError from "effect/ai/AiError"
import * as LanguageModel from "effect/ai/LanguageModel"
import type * as Prompt from "effect/ai/Prompt"
import * as Tool from "effect/ai/Tool"
import * as Toolkit from "effect/ai/Toolkit"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { database, files } from "../contracts/store.ts"

const parameters = Schema.Struct({ id: Schema.Int })
const toolkit = Toolkit.make(
  Tool.make("add", { parameters, success: Schema.String, dependencies: [CurrentTurn] }),
  Tool.make("put", { parameters, success: Schema.String, dependencies: [CurrentTurn] }).annotate(Tool.Idempotent, true)
)

/** An agent whose two tools do this; `add` may not be repeated, `put` may. */
const make = (
  use: (tool: "add" | "put", id: number) => Effect.Effect<void>,
  { name = "andy", ...options }: Pick<Agent.Options, "budget" | "limits"> & { readonly name?: string } = {}
) =>
  Agent.make(name, {
    instructions: "You are Andy.",
    ...options,
    toolkits: [
      Agent.withHandlers(toolkit, {
        add: ({ id }) => Effect.as(use("add", id), `added ${id}`),
        put: ({ id }) => Effect.as(use("put", id), `put ${id}`)
      })
    ]
  })

const quiet = () => Effect.void

/** Lets everything go on that does not wait for the clock. */
const idle = Effect.repeat(Effect.yieldNow, { times: 100 })

const store = Layer.mergeAll(JournalSql.layer, LedgerSql.layer).pipe(Layer.provide(database))

type Andy = Agent.Agent<LanguageModel.LanguageModel>
type Model = Layer.Layer<LanguageModel.LanguageModel | ModelScripted.ModelScripted>

/** A runtime of one agent, on a journal and a ledger. Nothing is sent: what is to be sent is looked up in the journal. */
const runtime = (agent: Andy, model: Model) =>
  Layer.unwrap(Effect.map(Agent.ready([agent]), AgentRuntime.layer)).pipe(
    Layer.provide(ToolGuard.layer),
    Layer.provide(Layer.succeed(Outbox, { flush: () => Effect.void, settled: Effect.void })),
    Layer.provide([Channel.layer, files]),
    Layer.provideMerge(model)
  )

const alone = (model: Model, agent: Andy = make(quiet)) => Layer.provideMerge(runtime(agent, model), store)

const conversation = ConversationId.make("memory:chat")
let messages = 0
const ada: Origin = { _tag: "Person", sender: Sender.make("memory:ada"), name: "Ada" }

/** An input on its way: returns when it is received. */
const say = (said: string, origin: Origin = ada, to = conversation) =>
  Journal.use((journal) =>
    journal.accept({
      conversation: to,
      agent: AgentName.make("andy"),
      key: `${++messages}`,
      input: { origin, content: text(said), at: 0 }
    })
  )

/** Does the conversation's work; returns what could be seen of it. */
const run = Effect.fnUntraced(function* (of = conversation) {
  const events: Array<TurnEvent> = []
  const runtime = yield* AgentRuntime.AgentRuntime
  yield* runtime.run(of, (event) => Effect.sync(() => void events.push(event)))
  return events
})

/** What is to be sent. */
const replies = Journal.use((journal) =>
  Effect.map(journal.outbox(conversation), (outputs) => outputs.map(({ text }) => text))
)
const entries = Journal.use((journal) =>
  Effect.map(journal.entries(conversation, 0), (found) => found.map(({ event }) => event))
)
const requests = ModelScripted.ModelScripted.useSync(({ requests }) => requests)
const unfinished = Journal.use(({ unfinished }) => unfinished)

/** What the model was shown, in short. */
const shown = ({ prompt }: ModelScripted.Request): ReadonlyArray<string> =>
  prompt.content.flatMap(({ content, role }): ReadonlyArray<string> =>
    typeof content === "string"
      ? [role]
      : content.map((part: Prompt.Part) =>
          part.type === "text"
            ? `${role}: ${part.text.replace(/<[^>]*>/g, "")}`
            : part.type === "tool-result"
              ? `${part.type}: ${JSON.stringify(unwrapResult(String(part.result)))}`
              : part.type
        )
  )

const calls = (...names: ReadonlyArray<readonly [name: string, id: number]>): ModelScripted.Reply => ({
  calls: names.map(([name, id]) => ({ name, id: `${name} ${id}`, params: { id } }))
})

describe("AgentRuntime", () => {
  it.effect("a turn goes on until there are no more tool calls", () =>
    Effect.gen(function* () {
      yield* say("hi")
      const events = yield* run()
      assert.deepStrictEqual(yield* replies, ["I will look.", "It is 1."])
      assert.deepStrictEqual(
        (yield* entries).map(({ _tag }) => _tag),
        [
          "InputAccepted",
          "ModelRequested",
          "ModelAnswered",
          "ToolStarted",
          "ToolEnded",
          "ModelRequested",
          "ModelAnswered",
          "ToolStarted",
          "ToolEnded",
          "ModelRequested",
          "ModelAnswered",
          "TurnEnded"
        ]
      )
      assert.deepStrictEqual((yield* requests).map(shown).at(-1), [
        "system",
        "user: hi",
        "assistant: I will look.",
        "tool-call",
        `tool-result: "added 1"`,
        "tool-call",
        `tool-result: "put 2"`
      ])
      assert.deepStrictEqual(
        events.filter(({ _tag }) => _tag !== "TextDelta").map(({ _tag }) => _tag),
        ["TurnBegan", "ToolCalled", "ToolReturned", "ToolCalled", "ToolReturned", "TurnEnded"]
      )
      assert.deepStrictEqual(
        events.flatMap((event) => (event._tag === "TextDelta" ? [event.delta] : [])).join(""),
        "I will look.It is 1."
      )
      assert.deepStrictEqual(yield* unfinished, [])
    }).pipe(
      Effect.provide(
        alone(
          ModelScripted.layer([
            { ...calls(["add", 1]), text: "I will look." },
            calls(["put", 2]),
            ModelScripted.text("It is 1.")
          ])
        )
      )
    )
  )

  it.effect("the outputs that the end of a turn names are the ones that are sent", () =>
    Effect.gen(function* () {
      yield* say("hi")
      const last = (yield* run()).at(-1)
      const sent = yield* Journal.use((journal) => journal.outbox(conversation))
      assert.deepInclude(last, { _tag: "TurnEnded", ending: { _tag: "Done" }, outputs: sent.map(({ id }) => id) })
      assert.strictEqual(sent.length, 2)
    }).pipe(
      Effect.provide(alone(ModelScripted.layer([{ ...calls(["add", 1]), text: "one" }, ModelScripted.text("two")])))
    )
  )

  it.effect("no output has the id of one from a life that a restored backup does not know of", () => {
    const once = Effect.gen(function* () {
      yield* say("hi")
      yield* run()
      return yield* Journal.use((journal) => journal.outbox(conversation))
    }).pipe(Effect.provide(Layer.fresh(alone(ModelScripted.layer(() => ({ text: "hello" }))))))
    return Effect.gen(function* () {
      const [before] = yield* once
      yield* TestClock.adjust("1 day")
      const [after] = yield* once
      assert.strictEqual(before?.text, after?.text)
      assert.notStrictEqual(before?.id, after?.id)
    })
  })

  it.effect("an answer of nothing ends the turn and sends nothing", () =>
    Effect.gen(function* () {
      yield* say("hi")
      yield* run()
      assert.deepStrictEqual(yield* replies, [])
      assert.deepStrictEqual(yield* unfinished, [])
    }).pipe(Effect.provide(alone(ModelScripted.layer([{ text: " \n" }]))))
  )

  it.effect("a conversation without work is left alone", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* run(), [])
      yield* say("hi")
      yield* run()
      assert.deepStrictEqual(yield* run(), [])
      assert.strictEqual((yield* requests).length, 1)
    }).pipe(Effect.provide(alone(ModelScripted.layer([ModelScripted.text("one")]))))
  )

  it.effect("a conversation whose agent is not in this claw waits for one that has it", () =>
    Effect.gen(function* () {
      yield* say("hi")
      yield* run()
      assert.deepStrictEqual(yield* unfinished, [conversation])
    }).pipe(Effect.provide(alone(ModelScripted.layer([]), make(quiet, { name: "bea" }))))
  )

  it.effect("the tools of one step run side by side, and their results stand in the order of the calls", () =>
    Effect.gen(function* () {
      const all = yield* Deferred.make<void>()
      let waiting = 0
      const together = () =>
        Effect.suspend(() => (++waiting === 3 ? Deferred.succeed(all, undefined) : Effect.void)).pipe(
          Effect.andThen(Deferred.await(all))
        )
      yield* Effect.gen(function* () {
        yield* say("hi")
        yield* run()
        assert.deepStrictEqual(shown((yield* requests)[1] ?? assert.fail()).slice(5), [
          `tool-result: "added 1"`,
          `tool-result: "put 2"`,
          `tool-result: "added 3"`
        ])
      }).pipe(
        Effect.provide(
          alone(
            ModelScripted.layer([calls(["add", 1], ["put", 2], ["add", 3]), ModelScripted.text("done")]),
            make(together)
          )
        )
      )
    })
  )

  it.effect("what a model copies out of a result is without the marks that it saw there", () =>
    Effect.gen(function* () {
      yield* say("hi")
      yield* run()
      const copied = (yield* entries).flatMap((event) => (event._tag === "ModelAnswered" ? event.content : []))
      assert.deepStrictEqual(
        copied.flatMap((part) => (part.type === "text" ? [part.text] : part.type === "tool-call" ? [part.params] : [])),
        [{ id: 1, note: ["<summary>", "<|x|>"] }, "It says <summary>."]
      )
    }).pipe(
      Effect.provide(
        alone(
          ModelScripted.layer([
            { calls: [{ name: "add", params: { id: 1, note: ["<\u200bsummary>", "<\u200b|x|\u200b>"] } }] },
            ModelScripted.text("It says <\u200bsummary>.")
          ])
        )
      )
    )
  )

  it.effect("but not more than eight at once", () => {
    let now = 0
    let most = 0
    const busy = () =>
      Effect.acquireUseRelease(
        Effect.sync(() => (most = Math.max(most, ++now))),
        () => Effect.sleep("1 second"),
        () => Effect.sync(() => now--)
      )
    return Effect.gen(function* () {
      yield* say("hi")
      const running = yield* Effect.forkChild(run())
      yield* Effect.repeat(Effect.andThen(idle, TestClock.adjust("1 second")), { times: 4 })
      yield* Fiber.join(running)
      assert.strictEqual(most, 8)
      assert.deepStrictEqual(yield* replies, ["done"])
    }).pipe(
      Effect.provide(
        alone(
          ModelScripted.layer([
            calls(...Array.from({ length: 30 }, (_, id) => ["add", id] as const)),
            ModelScripted.text("done")
          ]),
          make(busy)
        )
      )
    )
  })

  describe("bounds", () => {
    const endless = ModelScripted.layer(({ prompt }) => ({
      ...calls(["add", prompt.content.length]),
      usage: { input: 100, output: 10 }
    }))

    it.effect("a turn that makes too many steps is ended, says so, and can go on", () =>
      Effect.gen(function* () {
        yield* say("hi")
        yield* run()
        assert.deepStrictEqual(yield* replies, [
          `I stopped after 3 steps without coming to an end. Write "go on" and I will.`
        ])
        assert.strictEqual((yield* requests).length, 3)
        assert.deepStrictEqual((yield* entries).at(-1), {
          _tag: "TurnEnded",
          ending: { _tag: "Exhausted", bound: "steps" }
        })
        yield* say("go on")
        yield* run()
        assert.strictEqual((yield* requests).length, 6)
      }).pipe(Effect.provide(alone(endless, make(quiet, { limits: { steps: 3 } }))))
    )

    it.effect("what is said during its last step is answered by a turn of its own", () => {
      let asked = 0
      const model = ModelScripted.layer(() => (++asked <= 2 ? calls(["add", asked]) : { text: "the answer" }))
      const agent = make((_, id) => (id === 2 ? Effect.asVoid(onStore(say("one more thing"))) : Effect.void), {
        limits: { steps: 2 }
      })
      let journal: Journal["Service"] | undefined
      const onStore = <A, E>(effect: Effect.Effect<A, E, Journal>) =>
        Effect.suspend(() =>
          journal === undefined
            ? Effect.die("no journal")
            : Effect.orDie(Effect.provideService(effect, Journal, journal))
        )
      return Effect.gen(function* () {
        journal = yield* Journal
        yield* say("hi")
        yield* run()
        assert.match((yield* replies)[0] ?? "", /^I stopped after 2 steps/)
        assert.strictEqual((yield* replies)[1], "the answer")
        assert.include(shown((yield* requests).at(-1) ?? assert.fail()).at(-1), "one more thing")
      }).pipe(Effect.provide(alone(model, agent)))
    })

    it.effect("so is one that uses too many tokens", () =>
      Effect.gen(function* () {
        yield* say("hi")
        yield* run()
        assert.deepStrictEqual(yield* replies, [
          `I stopped after 200 tokens without coming to an end. Write "go on" and I will.`
        ])
        assert.strictEqual((yield* requests).length, 2)
      }).pipe(Effect.provide(alone(endless, make(quiet, { limits: { tokens: 200 } }))))
    )

    it.effect("a call that does not fit the budget of the turn is not made", () =>
      Effect.gen(function* () {
        yield* say("hi")
        yield* run()
        const [reply] = yield* replies
        assert.match(
          reply ?? "",
          /^I stopped: the budget of 9000 tokens per turn is used up \([\d,]+ tokens spent or reserved, /
        )
        assert.deepStrictEqual((yield* entries).at(-1), {
          _tag: "TurnEnded",
          ending: { _tag: "Exhausted", bound: "tokens" }
        })
        assert.isBelow((yield* requests).length, 10)
        assert.isAbove((yield* requests).length, 0)
      }).pipe(Effect.provide(alone(endless, make(quiet, { budget: { perTurn: "9000 tokens" } }))))
    )

    it.effect("nor one that does not fit the day's; the next day it is", () =>
      Effect.gen(function* () {
        yield* say("hi")
        yield* run()
        yield* say("and now?")
        yield* run()
        assert.strictEqual((yield* requests).length, 1)
        assert.strictEqual((yield* replies).length, 2)
        assert.include((yield* replies)[1], "the budget of 9000 tokens per day is used up")
        yield* TestClock.adjust("24 hours")
        yield* say("and now?")
        yield* run()
        assert.strictEqual((yield* requests).length, 2)
      }).pipe(
        Effect.provide(
          alone(
            ModelScripted.layer(() => ({ text: "hi", usage: { input: 5000, output: 0 } })),
            make(quiet, { budget: { perDay: "9000 tokens" } })
          )
        )
      )
    )

    it.effect("what is used is booked, and no more", () =>
      Effect.gen(function* () {
        yield* say("hi")
        yield* run()
        const ledger = yield* Ledger
        assert.deepInclude(yield* ledger.spent({ conversation }), { calls: 3, inputTokens: 300, outputTokens: 30 })
        assert.strictEqual((yield* ledger.spent({ sender: Sender.make("memory:ada") })).calls, 3)
      }).pipe(Effect.provide(alone(endless, make(quiet, { limits: { steps: 3 } }))))
    )
  })

  it.effect("what is shown of a call has no secret in it", () => {
    const secret = "hunter2-hunter2-hunter2"
    const model = ModelScripted.layer([
      { calls: [{ name: "add", id: "one", params: { id: 1, note: `with ${secret}` } }] },
      ModelScripted.text("done")
    ])
    return Effect.gen(function* () {
      yield* say("hi")
      const called = (yield* run()).find(({ _tag }) => _tag === "ToolCalled")
      assert.deepInclude(called, { params: { id: 1, note: "with [REDACTED]" } })
    }).pipe(Effect.provide(alone(model)), Effect.provideService(Vault, new Map([["TOKEN", Redacted.make(secret)]])))
  })

  describe("bounds of time and money", () => {
    const late = `I stopped after 15m without coming to an end. Write "go on" and I will.`
    const ending = { _tag: "Exhausted", bound: "time" } as const
    const limits = { time: "15 minutes" } as const

    it.effect("a turn that takes too long is ended in the middle of its calls, and says so", () => {
      let cut = 0
      const agent = make(() => Effect.onInterrupt(Effect.never, () => Effect.sync(() => void cut++)), { limits })
      return Effect.gen(function* () {
        yield* say("hi")
        const running = yield* Effect.forkChild(run())
        yield* idle
        // A call has a deadline of its own, of ten minutes; the second step's are cut by the turn's bound.
        yield* TestClock.adjust("10 minutes")
        yield* idle
        assert.strictEqual((yield* requests).length, 2)
        yield* TestClock.adjust("5 minutes")
        assert.deepInclude((yield* Fiber.join(running)).at(-1), { _tag: "TurnEnded", ending })
        assert.strictEqual(cut, 4)
        assert.deepStrictEqual(yield* replies, [late])
        assert.deepStrictEqual((yield* entries).at(-1), { _tag: "TurnEnded", ending })
        assert.deepStrictEqual(yield* unfinished, [])
      }).pipe(
        Effect.provide(
          alone(
            ModelScripted.layer(() => calls(["add", 1], ["put", 2])),
            agent
          )
        )
      )
    })

    it.effect("one that waits for its model for too long, too; the next message works", () => {
      let asked = 0
      const model = ModelScripted.layer(() => (++asked === 1 ? Effect.never : Effect.succeed({ text: "here I am" })))
      return Effect.gen(function* () {
        yield* say("hi")
        const running = yield* Effect.forkChild(run())
        yield* idle
        yield* TestClock.adjust("15 minutes")
        yield* Fiber.join(running)
        yield* say("go on")
        yield* run()
        assert.deepStrictEqual(yield* replies, [late, "here I am"])
      }).pipe(Effect.provide(alone(model, make(quiet, { limits }))))
    })

    it.effect("money is a bound of its own", () => {
      const priced = Layer.succeed(ModelInfo, {
        name: "dear",
        contextTokens: 100_000,
        outputTokens: 1000,
        price: { input: 3, output: 15, cacheRead: 0.3, cacheWrite: 3.75 }
      })
      const model = ModelScripted.layer(({ prompt }) => calls(["put", prompt.content.length]))
      return Effect.gen(function* () {
        yield* say("hi")
        yield* run()
        assert.match(
          (yield* replies)[0] ?? "",
          /^I stopped: the budget of 0.05 USD per turn is used up \(\$0\.0\d+ spent/
        )
        assert.deepStrictEqual((yield* entries).at(-1), {
          _tag: "TurnEnded",
          ending: { _tag: "Exhausted", bound: "money" }
        })
        assert.isAtMost((yield* Ledger.use((ledger) => ledger.spent({}))).microdollars, 50_000)
      }).pipe(Effect.provide(alone(Layer.merge(model, priced), make(quiet, { budget: { perTurn: "0.05 USD" } }))))
    })
  })

  describe("a conversation that has grown too long", () => {
    const limits = { prompt: 2000 }
    const isSummary = ({ prompt }: ModelScripted.Request) =>
      JSON.stringify(prompt.content[0]).includes("keep the notes")
    const long = (index: number) => `question ${index} ${"x".repeat(900)}`
    const talk = Effect.forEach([1, 2, 3, 4, 5, 6, 7, 8], (index) => Effect.andThen(say(long(index)), run()), {
      discard: true
    })
    /** Answers, and sums up as `sumUp` says. */
    const model = (sumUp: () => ModelScripted.Reply | Effect.Effect<ModelScripted.Reply, AiError.AiErrorReason>) =>
      ModelScripted.layer((request) => (isSummary(request) ? sumUp() : { text: "answered" }))
    const summaries = Effect.map(requests, (all) => all.filter(isSummary))
    const told = Effect.map(requests, (all) => JSON.stringify(all.at(-1)?.prompt.content))

    it.effect("is summed up by the model, once for many turns, and goes on with the summary", () =>
      Effect.gen(function* () {
        yield* talk
        const asked = yield* summaries
        assert.isAtLeast(asked.length, 1)
        assert.isBelow(asked.length, 4)
        assert.deepStrictEqual(asked[0]?.tools, [])
        assert.include(JSON.stringify(asked[0]?.prompt.content), "question 1")
        assert.deepStrictEqual(
          yield* replies,
          Array.from({ length: 8 }, () => "answered")
        )
        assert.include(yield* told, "<summary>Ada asks and asks.</summary>")
        assert.notInclude(yield* told, "question 1 ")
        assert.include(yield* told, "question 8 ")
        for (const { prompt } of yield* requests) assert.isAtMost(estimateTokens(prompt), 2000)
        // It was paid for, and nothing is deleted.
        const { calls } = yield* Ledger.use((ledger) => ledger.spent({}))
        assert.strictEqual(calls, 8 + asked.length)
        const count = (yield* entries).filter(({ _tag }) => _tag === "Compacted").length
        assert.strictEqual(count, 1)
        const sql = yield* SqlClient.SqlClient
        const kept = yield* sql`SELECT 1 FROM entries WHERE event LIKE '%question%' AND key IS NOT NULL`
        assert.lengthOf(kept, 8)
      }).pipe(
        Effect.provide(
          Layer.provideMerge(
            alone(
              model(() => ({ text: "Ada asks and asks." })),
              make(quiet, { limits })
            ),
            database
          )
        )
      )
    )

    it.effect("is shown as a digest when the model does not take it, or says nothing", () =>
      Effect.forEach(
        [new AiError.ContentPolicyError({ description: "no" }), new AiError.InvalidRequestError({}), undefined],
        (reason) =>
          Effect.gen(function* () {
            yield* talk
            assert.deepStrictEqual(
              yield* replies,
              Array.from({ length: 8 }, () => "answered")
            )
            assert.match(yield* told, /<summary>.*Ada, .*: question \d x/s)
            for (const { prompt } of yield* requests) assert.isAtMost(estimateTokens(prompt), 2000)
          }).pipe(
            Effect.provide(
              Layer.fresh(
                alone(
                  model(() => (reason === undefined ? { text: "" } : Effect.fail(reason))),
                  make(quiet, { limits })
                )
              )
            )
          )
      )
    )

    it.effect("is shown as a digest when the provider cut the summary off, or the budget has no room for it", () =>
      Effect.forEach(
        [
          [{ text: "", finish: "content-filter" }, {}],
          [{ text: "", finish: "length" }, {}],
          [{ text: "never asked" }, { perTurn: "9700 tokens" }]
        ] as const,
        ([summary, budget]) =>
          Effect.gen(function* () {
            yield* talk
            yield* say("and now?")
            yield* run()
            assert.match(yield* told, /<summary>.*Ada, .*: question \d x/s)
            assert.notMatch(yield* told, /declined to answer|cut at the model/)
            // Where the turn's budget is small, what was too long before is answered again after.
            assert.include((yield* replies).slice(4), "answered")
          }).pipe(
            Effect.provide(
              Layer.fresh(
                alone(
                  model(() => summary),
                  make(quiet, { limits, budget })
                )
              )
            )
          )
      )
    )

    it.effect("is shown shorter to a model that takes less than was thought", () => {
      const model = ModelScripted.layer(({ prompt }) =>
        estimateTokens(prompt) > 3000
          ? Effect.fail(new AiError.InvalidRequestError({}))
          : Effect.succeed({ text: "answered" })
      )
      return Effect.gen(function* () {
        yield* Effect.forEach(
          Array.from({ length: 30 }, (_, index) => index),
          (index) => say(long(index)),
          { discard: true }
        )
        yield* run()
        assert.deepStrictEqual(yield* replies, ["answered"])
        assert.include(yield* told, "question 29 ")
        // What was refused cost nothing.
        assert.deepInclude(yield* Ledger.use((ledger) => ledger.spent({})), { calls: 1 })
      }).pipe(Effect.provide(alone(model)))
    })

    it.effect("waits, as ever, for a model that is overloaded", () => {
      let failing = true
      return Effect.gen(function* () {
        const running = yield* Effect.forkChild(talk)
        for (let round = 0; round < 60; round++) {
          yield* TestClock.adjust("1 minute")
          yield* idle
        }
        yield* Fiber.join(running)
        assert.match((yield* replies).at(-1) ?? "", /overloaded right now/)
        assert.isEmpty((yield* entries).filter(({ _tag }) => _tag === "Compacted"))
        failing = false
        yield* say("and now?")
        yield* run()
        assert.strictEqual((yield* replies).at(-1), "answered")
        assert.include(yield* told, "<summary>well</summary>")
      }).pipe(
        Effect.provide(
          alone(
            model(() => (failing ? Effect.fail(new AiError.RateLimitError({})) : Effect.succeed({ text: "well" }))),
            make(quiet, { limits })
          )
        )
      )
    })
  })

  describe("every attempt is in the books", () => {
    const spent = Ledger.use((ledger) => ledger.spent({}))
    const broken = AiError.make({
      module: "test",
      method: "streamText",
      reason: new AiError.InternalProviderError({ description: "broken off" })
    })
    /** A model whose first attempts break off, in the middle of the answer or before it. */
    const model = (attempts: number, begun: boolean) => {
      let asked = 0
      const part = { type: "text-delta" as const, id: "1", delta: "well" }
      const finish = {
        type: "finish" as const,
        reason: "stop" as const,
        usage: {
          inputTokens: { uncached: 50, total: 50, cacheRead: 0, cacheWrite: 0 },
          outputTokens: { total: 5, text: 5, reasoning: 0 }
        }
      }
      return Layer.effectContext(
        Effect.map(
          LanguageModel.make({
            generateText: () => Effect.die("not asked"),
            streamText: () =>
              ++asked > attempts
                ? Stream.make(
                    { type: "text-start" as const, id: "1" },
                    part,
                    { type: "text-end" as const, id: "1" },
                    finish
                  )
                : begun
                  ? Stream.concat(Stream.make({ type: "text-start" as const, id: "1" }, part), Stream.fail(broken))
                  : Stream.fail(broken)
          }),
          (made) =>
            Context.make(LanguageModel.LanguageModel, made).pipe(
              Context.add(ModelScripted.ModelScripted, { requests: [] })
            )
        )
      )
    }
    const patient = Effect.gen(function* () {
      yield* say("hi")
      const running = yield* Effect.forkChild(run())
      yield* idle
      yield* TestClock.adjust("1 minute")
      yield* Fiber.join(running)
    })

    it.effect("one that broke off may have been paid for: what was reserved stands", () =>
      Effect.gen(function* () {
        yield* patient
        assert.deepStrictEqual(yield* replies, ["well"])
        const { calls, inputTokens, outputTokens } = yield* spent
        assert.deepStrictEqual([calls, outputTokens], [3, 5])
        assert.isAbove(inputTokens, 50 + 2 * 8192)
      }).pipe(Effect.provide(alone(model(2, true))))
    )

    it.effect("one that never began was not", () =>
      Effect.gen(function* () {
        yield* patient
        assert.deepStrictEqual(yield* replies, ["well"])
        assert.deepInclude(yield* spent, { calls: 1, inputTokens: 50, outputTokens: 5 })
      }).pipe(Effect.provide(alone(model(2, false))))
    )

    it.effect("one more that does not fit the budget is not made", () =>
      Effect.gen(function* () {
        yield* patient
        assert.match((yield* replies)[0] ?? "", /^I stopped: the budget of 20000 tokens per turn is used up/)
        assert.deepInclude(yield* spent, { calls: 2 })
      }).pipe(Effect.provide(alone(model(3, true), make(quiet, { budget: { perTurn: "20000 tokens" } }))))
    )
  })

  describe("a model that fails", () => {
    const secret = "SECRET sk-1234"
    const overloaded = /overloaded right now\. I kept your message/
    const unusable = /no usable answer\. I kept your message/
    const kinds: ReadonlyArray<readonly [reason: AiError.AiErrorReason, told: RegExp, requests: number]> = [
      [new AiError.RateLimitError({}), overloaded, 4],
      [new AiError.InternalProviderError({ description: secret }), overloaded, 4],
      [
        new AiError.NetworkError({ reason: "TransportError", method: "POST", url: secret, description: secret }),
        /cannot reach the model right now\. I kept your message/,
        4
      ],
      [new AiError.AuthenticationError({ kind: "InvalidKey", description: secret }), /refused the API key/, 1],
      [new AiError.QuotaExhaustedError({}), /no credit left/, 1],
      [new AiError.ContentPolicyError({ description: secret }), /declined to answer/, 1],
      [new AiError.InvalidRequestError({ parameter: "model", description: secret }), /knows no model named/, 1],
      [new AiError.InvalidRequestError({ description: secret }), /did not take this request/, 1],
      [new AiError.InvalidResponseError({ description: secret }), unusable, 1],
      [new AiError.InvalidOutputError({ description: secret }), unusable, 4],
      [new AiError.UnknownError({ description: secret }), unusable, 1]
    ]

    for (const [reason, told, attempts] of kinds) {
      const name = reason._tag === "InvalidRequestError" && reason.parameter !== undefined ? " (model)" : ""
      it.effect(`${reason._tag}${name}: the chat is told once, honestly, and the next message works`, () => {
        let failing = true
        const model = ModelScripted.layer(() =>
          failing ? Effect.fail(reason) : Effect.succeed({ text: "well again" })
        )
        return Effect.gen(function* () {
          yield* say("hi")
          const running = yield* Effect.forkChild(run())
          yield* idle
          yield* TestClock.adjust("1 minute")
          const events = yield* Fiber.join(running)
          const [reply = "", ...more] = yield* replies
          assert.deepStrictEqual(more, [])
          assert.match(reply, told)
          assert.notInclude(reply, "SECRET")
          assert.isBelow(reply.length, 120)
          assert.strictEqual((yield* requests).length, attempts)
          assert.deepInclude(events.at(-1), { ending: { _tag: "Failed", message: reply } })
          failing = false
          yield* say("and now?")
          yield* run()
          assert.deepStrictEqual(yield* replies, [reply, "well again"])
          assert.deepStrictEqual(shown((yield* requests).at(-1) ?? assert.fail()), [
            "system",
            "user: hi",
            "user: and now?"
          ])
        }).pipe(Effect.provide(alone(model)))
      })
    }

    it.effect("a model that is defect is told like one that fails", () =>
      Effect.gen(function* () {
        yield* say("hi")
        yield* run()
        assert.match((yield* replies)[0] ?? "", unusable)
        assert.deepStrictEqual(yield* unfinished, [])
      }).pipe(Effect.provide(alone(ModelScripted.layer(() => Effect.die(new Error(secret))))))
    )

    /** When the model is asked, if it says so first. */
    const attemptsAfter = (retryAfter: Duration.Input | undefined, failures: number) => {
      const attempts: Array<number> = []
      const reason = new AiError.RateLimitError(
        retryAfter === undefined ? {} : { retryAfter: Duration.fromInputUnsafe(retryAfter) }
      )
      const model = ModelScripted.layer(() =>
        Effect.flatMap(Clock.currentTimeMillis, (now) =>
          attempts.push(now) <= failures ? Effect.fail(reason) : Effect.succeed({ text: "at last" })
        )
      )
      return Effect.gen(function* () {
        yield* say("hi")
        const running = yield* Effect.forkChild(run())
        yield* idle
        yield* TestClock.adjust("10 minutes")
        yield* Fiber.join(running)
        return { attempts, replies: yield* replies }
      }).pipe(Effect.provide(alone(model)))
    }

    it.effect("it is asked again after delays that grow, and the answer is as if it had not failed", () =>
      Effect.gen(function* () {
        const { attempts, replies } = yield* attemptsAfter(undefined, 3)
        assert.deepStrictEqual(replies, ["at last"])
        const delays = attempts.slice(1).map((at, index) => at - (attempts[index] ?? 0))
        assert.strictEqual(delays.length, 3)
        for (const [index, delay] of delays.entries()) {
          assert.isAtLeast(delay, 750 * 2 ** index)
          assert.isAtMost(delay, 1250 * 2 ** index)
        }
      })
    )

    it.effect("a provider that says when is asked then", () =>
      Effect.gen(function* () {
        const { attempts, replies } = yield* attemptsAfter("45 seconds", 2)
        assert.deepStrictEqual(attempts, [0, 45_000, 90_000])
        assert.deepStrictEqual(replies, ["at last"])
      })
    )

    it.effect("one that asks for a long wait is not waited for: the chat is told", () =>
      Effect.gen(function* () {
        const { attempts, replies } = yield* attemptsAfter("1 hour", 2)
        assert.deepStrictEqual(attempts, [0])
        assert.match(replies[0] ?? "", overloaded)
      })
    )

    it.effect("what was streamed of an answer that broke off is void", () => {
      const broken = AiError.make({
        module: "test",
        method: "streamText",
        reason: new AiError.InternalProviderError({ description: "broken off" })
      })
      let asked = 0
      const model = Layer.effect(
        LanguageModel.LanguageModel,
        LanguageModel.make({
          generateText: () => Effect.fail(broken),
          streamText: () =>
            Stream.concat(
              Stream.make(
                { type: "text-start" as const, id: "1" },
                { type: "text-delta" as const, id: "1", delta: asked === 0 ? "half an" : "a whole" },
                { type: "text-delta" as const, id: "1", delta: " answer" },
                { type: "text-end" as const, id: "1" }
              ),
              Stream.suspend(() => (asked++ === 0 ? Stream.fail(broken) : Stream.empty))
            )
        })
      )
      return Effect.gen(function* () {
        yield* say("hi")
        const running = yield* Effect.forkChild(run())
        yield* idle
        yield* TestClock.adjust("10 seconds")
        const events = yield* Fiber.join(running)
        assert.deepStrictEqual(yield* replies, ["a whole answer"])
        // A word is shown when it can be no secret's beginning any more.
        assert.deepStrictEqual(
          events.flatMap((event) =>
            event._tag === "TextDelta" ? [event.delta] : event._tag === "TextDiscarded" ? ["void"] : []
          ),
          ["half an ", "void", "a whole ", "answer"]
        )
      }).pipe(Effect.provide(alone(Layer.merge(ModelScripted.layer([]), model))))
    })

    it.effect("an answer cut at the model's limit says so; one that was declined says so", () =>
      Effect.gen(function* () {
        yield* say("hi")
        yield* run()
        yield* say("hi")
        yield* run()
        assert.deepStrictEqual(yield* replies, [
          "so I said\n\n[The answer was cut at the model's limit.]",
          "The model declined to answer this."
        ])
      }).pipe(
        Effect.provide(
          alone(
            ModelScripted.layer([
              { text: "so I said", finish: "length" },
              { text: "", finish: "content-filter" }
            ])
          )
        )
      )
    )
  })

  describe("what comes while it works", () => {
    it.effect("a burst is one turn, in the order of arrival", () =>
      Effect.gen(function* () {
        for (let count = 0; count < 15; count++) yield* say(`${count}`)
        const events = yield* run()
        assert.strictEqual(events.filter(({ _tag }) => _tag === "TurnBegan").length, 1)
        assert.deepStrictEqual((yield* requests).map(shown), [
          ["system", ...Array.from({ length: 15 }, (_, count) => `user: ${count}`)]
        ])
        assert.deepStrictEqual(yield* replies, ["all fifteen"])
      }).pipe(Effect.provide(alone(ModelScripted.layer([ModelScripted.text("all fifteen")]))))
    )

    it.effect("an input that arrives during a tool call is seen by the next step of the same turn", () =>
      Effect.gen(function* () {
        const journal = yield* Journal
        const steered = make(() =>
          Effect.asVoid(say("stop that")).pipe(Effect.provideService(Journal, journal), Effect.orDie)
        )
        yield* Effect.gen(function* () {
          yield* say("hi")
          const events = yield* run()
          assert.deepStrictEqual((yield* requests).map(shown)[1], [
            "system",
            "user: hi",
            "tool-call",
            `tool-result: "added 1"`,
            "user: stop that"
          ])
          assert.strictEqual(events.filter(({ _tag }) => _tag === "TurnBegan").length, 1)
          assert.deepStrictEqual(yield* replies, ["stopped"])
          assert.deepStrictEqual(yield* unfinished, [])
        }).pipe(
          Effect.provide(runtime(steered, ModelScripted.layer([calls(["add", 1]), ModelScripted.text("stopped")])))
        )
      }).pipe(Effect.provide(store))
    )

    it.effect("one that arrives during the last answer is answered too, in the same turn", () =>
      Effect.gen(function* () {
        const journal = yield* Journal
        const model = ModelScripted.layer([
          () =>
            Effect.as(Effect.orDie(say("one more").pipe(Effect.provideService(Journal, journal))), { text: "first" }),
          ModelScripted.text("second")
        ])
        yield* Effect.gen(function* () {
          yield* say("hi")
          const events = yield* run()
          assert.deepStrictEqual((yield* requests).map(shown)[1], [
            "system",
            "user: hi",
            "assistant: first",
            "user: one more"
          ])
          assert.deepStrictEqual(yield* replies, ["first", "second"])
          assert.strictEqual(events.filter(({ _tag }) => _tag === "TurnEnded").length, 1)
        }).pipe(Effect.provide(runtime(make(quiet), model)))
      }).pipe(Effect.provide(store))
    )
  })

  describe("for another agent", () => {
    const child = ConversationId.make("swarm:1.c1.0/andy")
    const brief: Origin = {
      _tag: "Parent",
      conversation,
      agent: AgentName.make("boss"),
      rights: new Rights({ tools: ["put", "bash"] }),
      depth: 1
    }

    it.effect("it reports and sends nothing, and may do no more than who asked it", () =>
      Effect.gen(function* () {
        yield* say("add one", brief, child)
        yield* run(child)
        const journal = yield* Journal
        assert.deepStrictEqual(yield* journal.outbox(child), [])
        const [first, second] = yield* requests
        assert.deepStrictEqual(
          first?.tools.map(({ name }) => name),
          ["put"]
        )
        assert.include(shown(second ?? assert.fail()).at(-1), "You have no right to call add. You may call: put.")
        const outcome = yield* journal.outcome(child, `${messages}`)
        assert.deepStrictEqual(outcome, Option.some({ ending: { _tag: "Done" as const }, answer: "I may not" }))
      }).pipe(Effect.provide(alone(ModelScripted.layer([calls(["add", 1]), ModelScripted.text("I may not")]))))
    )
  })

  describe("a turn that is cut anywhere goes on", () => {
    class Inside extends Context.Reference<boolean>("test/Inside", { defaultValue: () => false }) {}

    /** A journal that stands still before its write number `cut`, as if the claw had died there. */
    const dying = (cut: number, reached: Deferred.Deferred<void>) =>
      Layer.effect(
        Journal,
        Effect.map(Journal, (journal) => {
          let writes = 0
          const write = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
            Effect.flatMap(Inside, (inside) =>
              inside || writes++ < cut ? effect : Effect.andThen(Deferred.succeed(reached, undefined), Effect.never)
            )
          return Journal.of({
            ...journal,
            record: (record) => write(journal.record(record)),
            request: (...of) => write(journal.request(...of)),
            atomically: (effect) => write(journal.atomically(Effect.provideService(effect, Inside, true)))
          })
        })
      )

    /** Answers by what it sees, as a model does: so it goes on from wherever it is. */
    const model = ModelScripted.layer(({ prompt }) => {
      switch (prompt.content.filter(({ role }) => role === "assistant").length) {
        case 0:
          return { ...calls(["add", 1], ["put", 2], ["add", 3]), text: "working" }
        case 1:
          return calls(["put", 4], ["add", 5])
        default:
          return { text: "done" }
      }
    })

    /** Does the turn in two lives, the first of them ended before write number `cut`. Returns whether it was cut at all. */
    const inTwoLives = Effect.fnUntraced(function* (cut: number) {
      const done: Array<string> = []
      const agent = make((tool, id) => Effect.sync(() => void done.push(`${tool} ${id}`)))
      const reached = yield* Deferred.make<void>()
      yield* say("hi")
      const first = yield* run().pipe(
        Effect.provide(Layer.provide(Layer.fresh(runtime(agent, model)), dying(cut, reached))),
        Effect.forkChild
      )
      yield* Effect.raceFirst(Deferred.await(reached), Fiber.join(first))
      yield* Fiber.interrupt(first)
      const before = [...done]
      const ended = (yield* entries).flatMap((event) => (event._tag === "ToolEnded" ? [event.result.id] : []))
      yield* Effect.provide(run(), Layer.fresh(runtime(agent, model)))
      return { wasCut: Deferred.isDoneUnsafe(reached), ended, before, after: done.slice(before.length) }
    })

    for (let cut = 0; cut < 17; cut++) {
      it.effect(`before write ${cut}`, () =>
        Effect.gen(function* () {
          const { after, before, ended, wasCut } = yield* inTwoLives(cut)
          assert.strictEqual(wasCut, cut < 16)
          assert.deepStrictEqual(yield* replies, ["working", "done"])
          assert.deepStrictEqual(yield* unfinished, [])

          const all = yield* entries
          assert.strictEqual(all.filter(({ _tag }) => _tag === "ModelAnswered").length, 3)
          assert.strictEqual(all.filter(({ _tag }) => _tag === "TurnEnded").length, 1)
          // Every call that was asked for is in the books, the one that was cut too.
          const requested = all.filter(({ _tag }) => _tag === "ModelRequested").length
          assert.deepInclude(yield* Ledger.use((ledger) => ledger.spent({})), { calls: requested })

          // What had ended is not done again; what may not be repeated is done once at most, and the model knows which.
          for (const call of ended) assert.notInclude(after, call)
          for (const id of [1, 3, 5]) {
            const times = [...before, ...after].filter((call) => call === `add ${id}`).length
            const result = all.find((event) => event._tag === "ToolEnded" && event.result.id === `add ${id}`)
            const told = result?._tag === "ToolEnded" ? String(result.result.result) : ""
            if (told === `added ${id}`) assert.strictEqual(times, 1)
            else {
              assert.include(told, "interrupted and its outcome is unknown")
              assert.isAtMost(times, 1)
            }
          }
          for (const id of [2, 4]) assert.include([...before, ...after], `put ${id}`)
        }).pipe(Effect.provide(store))
      )
    }
  })
})
