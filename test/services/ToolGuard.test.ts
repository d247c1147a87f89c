import { assert, describe, it } from "@effect/vitest"
import * as JournalSql from "effect-claw/layers/JournalSql"
import * as ModelScripted from "effect-claw/layers/ModelScripted"
import * as Agent from "effect-claw/services/Agent"
import { CurrentTurn } from "effect-claw/services/CurrentTurn"
import { Journal, JournalError } from "effect-claw/services/Journal"
import { StoreFailed } from "effect-claw/services/StoreFailed"
import { ConversationId, OutputId, Sender } from "effect-claw/services/Message"
import { Rights } from "effect-claw/services/Rights"
import * as ToolGuard from "effect-claw/services/ToolGuard"
import { interrupted } from "effect-claw/services/Transcript"
import { type Approval, TurnId } from "effect-claw/services/Turn"
import * as Turn from "effect-claw/services/Turn"
import * as Prompt from "effect/ai/Prompt"
import * as Tool from "effect/ai/Tool"
import * as Toolkit from "effect/ai/Toolkit"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { database } from "../contracts/store.ts"

class Sulky extends Schema.TaggedError<Sulky>()("Sulky", { mood: Schema.String }) {
  override get message(): string {
    return `no, I am ${this.mood}`
  }
}

const parameters = Schema.Struct({ text: Schema.String })
const tool = <const Name extends string>(name: Name) =>
  Tool.make(name, { parameters, success: Schema.String, failure: Sulky, dependencies: [CurrentTurn] })

const toolkit = Toolkit.make(
  tool("echo"),
  tool("sulk"),
  tool("throw"),
  tool("die"),
  tool("interrupt_itself"),
  tool("hang"),
  tool("dawdle").annotate(ToolGuard.Deadline, "5 seconds"),
  tool("repeatable").annotate(Tool.Idempotent, true),
  tool("look").annotate(Tool.Readonly, true),
  tool("flood"),
  tool("pay").setNeedsApproval(true),
  tool("maybe").setNeedsApproval(({ text }) =>
    text === "fault" ? Effect.die("fault") : text === "throw" ? assert.fail("fault") : Effect.succeed(text !== "cheap")
  ),
  Tool.make("table", { parameters, success: Schema.Unknown })
)

/** What ran, and what was cut short. */
const makeLog = () => ({ ran: new Array<string>(), cut: new Array<string>() })

const make = (log = makeLog()) => {
  const ran = (name: string) => Effect.sync(() => void log.ran.push(name))
  const never = (name: string) =>
    Effect.onInterrupt(Effect.andThen(ran(name), Effect.never), () => Effect.sync(() => void log.cut.push(name)))
  const agent = Agent.make("andy", {
    instructions: "",
    toolkits: [
      Agent.withHandlers(toolkit, {
        echo: ({ text }) =>
          Effect.andThen(
            ran("echo"),
            CurrentTurn.useSync(({ call, sender }) => `${text} ${call} ${sender}`)
          ),
        sulk: ({ text }) => Effect.fail(new Sulky({ mood: text })),
        throw: () => {
          throw new Error("secret stack")
        },
        die: () => Effect.die(new Error("secret defect")),
        interrupt_itself: () => Effect.interrupt,
        hang: () => never("hang"),
        dawdle: () => never("dawdle"),
        repeatable: () => Effect.as(ran("repeatable"), "done"),
        look: () => Effect.as(ran("look"), "seen"),
        pay: ({ text }) => Effect.as(ran("pay"), `paid ${text}`),
        maybe: ({ text }) => Effect.as(ran("maybe"), `did ${text}`),
        flood: ({ text }) => Effect.succeed(text.repeat(100_000)),
        table: ({ text }) => Effect.succeed(text === "big" ? 10n : { rows: Array.from({ length: 20_000 }, () => text) })
      })
    ]
  })
  return Effect.map(Agent.ready([agent]), (all) => all.get(agent.name) ?? assert.fail("no agent"))
}

/** Waits until a tool runs. */
const running = (log: ReturnType<typeof makeLog>, name: string) =>
  Effect.repeat(Effect.yieldNow, { until: () => log.ran.includes(name) })

const conversation = ConversationId.make("memory:chat")
const everything = new Rights({ tools: [...Object.keys(toolkit.tools), "unheard_of"] })

interface Call {
  readonly params?: unknown
  readonly rights?: Rights
  readonly interrupted?: boolean
  readonly log?: ReturnType<typeof makeLog>
  readonly depth?: number
  readonly approval?: Approval
  readonly textLimit?: number
}

/** Makes a call as the runtime does; without a result, its output is a question. */
const attempt = Effect.fnUntraced(function* (name: string, options: Call = {}) {
  const { interrupted = false, log, params = { text: "hi" }, rights = everything } = options
  const { approval, depth = 0, textLimit = Infinity } = options
  const agent = yield* make(log)
  return yield* ToolGuard.ToolGuard.use((guard) =>
    guard.call({
      call: Prompt.toolCallPart({ id: "c1", name, params, providerExecuted: false }),
      agent,
      interrupted,
      approval,
      textLimit,
      output: OutputId.make("1.1.c1"),
      turn: {
        conversation,
        turn: TurnId.make(1),
        step: 1,
        agent: agent.agent.name,
        sender: Sender.make("memory:ada"),
        message: undefined,
        rights,
        team: [],
        depth
      }
    })
  )
})

/** Makes a call that nobody is asked about. */
const call = (...of: Parameters<typeof attempt>) =>
  Effect.map(attempt(...of), ({ result }) => result ?? assert.fail("a question"))

const journalled = Journal.use((journal) =>
  Effect.map(journal.entries(conversation, 0), (entries) => entries.map(({ event }) => event))
)

const model = ModelScripted.layer([])
const parts = ToolGuard.layer.pipe(Layer.provideMerge(JournalSql.layer), Layer.provide(database), Layer.merge(model))

const test = (name: string, body: () => Effect.Effect<unknown, unknown, Layer.Success<typeof parts> | Scope.Scope>) =>
  it.effect(name, () => Effect.provide(body(), parts))

describe("ToolGuard", () => {
  test("a call runs in its turn, and is journalled before and after", () =>
    Effect.gen(function* () {
      const result = yield* call("echo")
      assert.deepInclude(result, { id: "c1", name: "echo", isFailure: false, result: "hi c1 memory:ada" })
      assert.deepStrictEqual(yield* journalled, [
        { _tag: "ToolStarted", call: "c1", tool: "echo" },
        { _tag: "ToolEnded", result }
      ])
    }))

  test("without the right to it, a tool is not run, and the model is told what it may do", () =>
    Effect.gen(function* () {
      const log = makeLog()
      const result = yield* call("echo", { rights: new Rights({ tools: ["look", "elsewhere"] }), log })
      assert.deepInclude(result, { isFailure: true, result: "You have no right to call echo. You may call: look." })
      assert.deepStrictEqual(log.ran, [])
      assert.deepStrictEqual(yield* journalled, [{ _tag: "ToolEnded", result }])
    }))

  test("without any right it is told so", () =>
    Effect.gen(function* () {
      assert.include((yield* call("echo", { rights: new Rights({ tools: [] }) })).result, "You have no tools.")
    }))

  test("a tool that is not there is a failed call, even where the rights name it", () =>
    Effect.gen(function* () {
      for (const name of ["unheard_of", "constructor", "__proto__"]) {
        const result = yield* call(name)
        assert.isTrue(result.isFailure)
        assert.include(result.result, `no right to call ${name}`)
      }
    }))

  test("arguments that do not fit the schema never reach the tool, and the model is told which", () =>
    Effect.gen(function* () {
      const log = makeLog()
      for (const params of [{}, { text: 1 }, "hi", null, { txet: "hi" }]) {
        const result = yield* call("echo", { params, log })
        assert.isTrue(result.isFailure)
        assert.match(String(result.result), /Invalid parameters for tool 'echo'/)
      }
      assert.include(String((yield* call("echo", { params: { text: 1 } })).result), `["text"]`)
      assert.deepStrictEqual(log.ran, [])
    }))

  test("a tool's own failure is what it says", () =>
    Effect.gen(function* () {
      assert.deepInclude(yield* call("sulk", { params: { text: "tired" } }), {
        isFailure: true,
        result: "no, I am tired"
      })
    }))

  test("a tool that throws, dies or interrupts itself fails its call, says nothing of its inside, and harms no other", () =>
    Effect.gen(function* () {
      for (const name of ["throw", "die", "interrupt_itself"]) {
        const result = yield* call(name)
        assert.deepInclude(result, {
          isFailure: true,
          result: `${name} failed unexpectedly. This is a fault of the tool, not of your call.`
        })
        assert.deepInclude(yield* journalled, { _tag: "ToolEnded", result })
      }
      assert.isFalse((yield* call("echo")).isFailure)
    }))

  test("a tool that takes longer than its deadline is stopped, and its call fails", () =>
    Effect.gen(function* () {
      const log = makeLog()
      const made = yield* Effect.forkChild(call("dawdle", { log }))
      yield* running(log, "dawdle")
      yield* TestClock.adjust("4 seconds")
      assert.deepStrictEqual(log.cut, [])
      yield* TestClock.adjust("1 second")
      const result = yield* Fiber.join(made)
      assert.deepInclude(result, { isFailure: true, result: "dawdle took longer than 5s and was stopped." })
      assert.deepStrictEqual(log.cut, ["dawdle"])
    }))

  test("without a deadline of its own it has ten minutes", () =>
    Effect.gen(function* () {
      const log = makeLog()
      const made = yield* Effect.forkChild(call("hang", { log }))
      yield* running(log, "hang")
      yield* TestClock.adjust("10 minutes")
      assert.include((yield* Fiber.join(made)).result, "took longer than 10m")
    }))

  test("a long result is cut, and says by how much", () =>
    Effect.gen(function* () {
      const result = String((yield* call("flood", { params: { text: "0123456789" } })).result)
      assert.isBelow(result.length, ToolGuard.resultLimit + 100)
      assert.match(result, /\n\[cut: 936,000 more characters\]$/)
    }))

  test("a long table is cut, and says so", () =>
    Effect.gen(function* () {
      const result = (yield* call("table", { params: { text: "abc" } })).result
      assert.isString(result)
      assert.match(String(result), /^\{"rows":\["abc".*\n\[cut: [\d,]+ more characters\]$/s)
    }))

  test("a long failure is cut too", () =>
    Effect.gen(function* () {
      const result = String((yield* call("sulk", { params: { text: "x".repeat(100_000) } })).result)
      assert.match(result, /^no, I am xxx.*\n\[cut: [\d,]+ more characters\]$/s)
    }))

  test("a result is valid Unicode, wherever it is cut", () =>
    Effect.gen(function* () {
      for (const text of ["😀", "x😀", "\ud83d"]) {
        const result = String((yield* call("flood", { params: { text } })).result)
        assert.isTrue(result.isWellFormed())
      }
    }))

  test("a result that cannot be written down is a failed call", () =>
    Effect.gen(function* () {
      assert.isTrue((yield* call("table", { params: { text: "big" } })).isFailure)
    }))

  test("a call that was running when the claw died is not made again, and the model is told", () =>
    Effect.gen(function* () {
      const log = makeLog()
      const result = yield* call("echo", { interrupted: true, log })
      assert.strictEqual(result.result, interrupted)
      assert.isTrue(result.isFailure)
      assert.deepStrictEqual(log.ran, [])
      assert.deepStrictEqual(yield* journalled, [{ _tag: "ToolEnded", result }])
    }))

  test("unless making it again does no harm", () =>
    Effect.gen(function* () {
      const log = makeLog()
      for (const name of ["repeatable", "look"]) yield* call(name, { interrupted: true, log })
      assert.deepStrictEqual(log.ran, ["repeatable", "look"])
    }))

  test("interrupting a call stops its tool, and leaves it started and not ended", () =>
    Effect.gen(function* () {
      const log = makeLog()
      const made = yield* Effect.forkChild(call("hang", { log }))
      yield* running(log, "hang")
      yield* Fiber.interrupt(made)
      assert.deepStrictEqual(log.cut, ["hang"])
      assert.deepStrictEqual(yield* journalled, [{ _tag: "ToolStarted", call: "c1", tool: "hang" }])
    }))

  it.effect("what cannot be journalled is not run", () => {
    const log = makeLog()
    const full = new JournalError({ operation: "record", reason: new StoreFailed({ detail: "full", cause: "full" }) })
    const broken = Layer.mock(Journal, { wasCut: false, record: () => Effect.fail(full) })
    return Effect.gen(function* () {
      assert.strictEqual(yield* Effect.flip(call("echo", { log })), full)
      assert.deepStrictEqual(log.ran, [])
    }).pipe(Effect.provide(Layer.merge(model, Layer.provide(ToolGuard.layer, broken))))
  })

  const sent = Journal.use((journal) =>
    Effect.map(journal.outbox(conversation), (outputs) => outputs.map(({ text }) => text))
  )
  /** What the journal says of the one call that was asked about. */
  const asked = Effect.gen(function* () {
    const entries = yield* Journal.use((journal) => journal.entries(conversation, 0))
    return Turn.approvals(Turn.fold(entries), 0).get("c1") ?? assert.fail("nothing was asked")
  })
  const yes = Effect.map(asked, (one): Approval => ({ ...one, answer: { yes: true } }))

  test("a tool that needs approval is not run: a person is asked, and shown all of its arguments", () =>
    Effect.gen(function* () {
      const log = makeLog()
      const question = yield* attempt("pay", { log })
      assert.isUndefined(question.result)
      assert.deepStrictEqual(log.ran, [])
      const { code, ...approval } = yield* asked
      assert.deepInclude(approval, { call: "c1", tool: "pay", sender: Sender.make("memory:ada"), answer: undefined })
      assert.deepStrictEqual(yield* sent, [
        `May I call "pay"? Answer /approve ${code} or /deny ${code} within a day.\n\`\`\`\n{\n  "text": "hi"\n}\n\`\`\``
      ])
    }))

  test("approved, it is run", () =>
    Effect.gen(function* () {
      yield* attempt("pay")
      assert.strictEqual((yield* call("pay", { approval: yield* yes })).result, "paid hi")
    }))

  test("denied, it is not, and the model is told why", () =>
    Effect.gen(function* () {
      const log = makeLog()
      yield* attempt("pay")
      const denied: Approval = { ...(yield* asked), answer: { yes: false, why: "no" } }
      assert.deepInclude(yield* call("pay", { approval: denied, log }), { isFailure: true, result: "no" })
      assert.deepStrictEqual(log.ran, [])
    }))

  test("arguments that change after consent are refused, and so is another tool (CVE-2025-54136's class)", () =>
    Effect.gen(function* () {
      const log = makeLog()
      yield* attempt("pay")
      const approval = yield* yes
      for (const [name, params] of [
        ["pay", { text: "ho" }],
        ["pay", { text: "hi", more: 1 }],
        ["maybe", { text: "hi" }]
      ] as const) {
        assert.deepInclude(yield* call(name, { params, approval, log }), {
          isFailure: true,
          result: "What was approved is not this call."
        })
      }
      assert.deepStrictEqual(log.ran, [])
    }))

  test("a function decides by the arguments; one that fails has a person decide", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* call("maybe", { params: { text: "cheap" } })).result, "did cheap")
      for (const text of ["dear", "fault", "throw"])
        assert.isUndefined((yield* attempt("maybe", { params: { text } })).result)
    }))

  test("a no stays one, whatever the function says by then", () =>
    Effect.gen(function* () {
      const log = makeLog()
      yield* attempt("maybe")
      const denied: Approval = { ...(yield* asked), answer: { yes: false, why: "no" } }
      assert.strictEqual((yield* call("maybe", { params: { text: "cheap" }, approval: denied, log })).result, "no")
      assert.deepStrictEqual(log.ran, [])
    }))

  test("nobody is asked about arguments that the tool does not take", () =>
    Effect.gen(function* () {
      const log = makeLog()
      for (const name of ["pay", "maybe"]) {
        const result = yield* call(name, { params: { text: 1 }, log })
        assert.isTrue(result.isFailure)
        assert.include(result.result, "text")
      }
      assert.deepStrictEqual(log.ran, [])
    }))

  test("what is too long to be shown whole is refused", () =>
    Effect.gen(function* () {
      for (const options of [{ params: { text: "x".repeat(2000) } }, { textLimit: 80 }]) {
        const result = yield* call("pay", options)
        assert.isTrue(result.isFailure)
        assert.include(result.result, "too long to be shown")
      }
      assert.deepStrictEqual(yield* sent, [])
    }))

  test("an agent that works for another asks nobody, and may not call it", () =>
    Effect.gen(function* () {
      const log = makeLog()
      const result = yield* call("pay", { depth: 1, log })
      assert.deepInclude(result, { isFailure: true })
      assert.include(result.result, "needs a person's approval")
      assert.deepStrictEqual([yield* sent, log.ran], [[], []])
    }))

  test("without the right to it, nobody is asked", () =>
    Effect.gen(function* () {
      assert.include((yield* call("pay", { rights: new Rights({ tools: [] }) })).result, "You have no tools.")
      assert.deepStrictEqual(yield* sent, [])
    }))
})
