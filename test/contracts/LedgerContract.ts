/**
 * What every ledger promises, whatever it is kept on.
 */
import { assert, it } from "@effect/vitest"
import type { Budget, Purse } from "effect-claw/services/Budget"
import { HomeZone } from "effect-claw/services/HomeZone"
import { Ledger, type Reservation } from "effect-claw/services/Ledger"
import { AgentName, ConversationId, Sender } from "effect-claw/services/Message"
import { TurnId } from "effect-claw/services/Turn"
import * as Response from "effect/ai/Response"
import * as Arbitrary from "effect/Arbitrary"
import type * as Arr from "effect/Array"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"

const andy = AgentName.make("andy")
const price = { input: 3, output: 15, cacheRead: 0.3, cacheWrite: 3.75 }

const call = (turn: number, step: number, more: Partial<Reservation> = {}): Reservation => ({
  turn: TurnId.make(turn),
  step,
  conversation: ConversationId.make("memory:chat"),
  agent: andy,
  sender: Sender.make("memory:ada"),
  model: "scripted",
  tokens: 100,
  price,
  budget: {},
  ...more
})

const usage = (uncached: number, output: number, cacheRead = 0, cacheWrite = 0) =>
  new Response.Usage({
    inputTokens: { uncached, cacheRead, cacheWrite, total: uncached + cacheRead + cacheWrite },
    outputTokens: { total: output }
  })

const reserve = (...of: Parameters<typeof call>) => Ledger.use((ledger) => ledger.reserve(call(...of)))
const book = (turn: number, step: number, used: Response.Usage | undefined) =>
  Ledger.use((ledger) => ledger.book({ turn: TurnId.make(turn), step, price, usage: used }))
const spent = (...by: Parameters<Ledger["Service"]["spent"]>) => Ledger.use((ledger) => ledger.spent(...by))

const perDay: Budget = { perDay: "250 tokens" }
const perTurn: Budget = { perTurn: "250 tokens" }

/** The layer is built in a home zone of the test's. */
export const ledgerContract = <E>(layer: Layer.Layer<Ledger, E>) => {
  const test = (name: string, body: Effect.Effect<unknown, unknown, Ledger>, zone = "UTC") =>
    it.effect(name, () =>
      body.pipe(
        Effect.provide(layer.pipe(Layer.provide(Layer.succeed(HomeZone, DateTime.zoneMakeNamedUnsafe(zone))))),
        Effect.asVoid
      )
    )

  test(
    "a call counts with the most it can cost until it is booked, then with what it did cost",
    Effect.gen(function* () {
      const nothing = {
        calls: 0,
        inputTokens: 0,
        cacheReadTokens: 0,
        cacheWriteTokens: 0,
        outputTokens: 0,
        microdollars: 0
      }
      assert.deepStrictEqual(yield* spent({}), nothing)
      yield* reserve(1, 1)
      assert.deepStrictEqual(yield* spent({}), { ...nothing, calls: 1, inputTokens: 100, microdollars: 1500 })
      yield* book(1, 1, usage(10, 2, 20, 4))
      assert.deepStrictEqual(yield* spent({}), {
        calls: 1,
        inputTokens: 10,
        cacheReadTokens: 20,
        cacheWriteTokens: 4,
        outputTokens: 2,
        microdollars: 81
      })
    })
  )

  test(
    "a call that was cut counts with what was reserved for it, and the one made again with its own",
    Effect.gen(function* () {
      yield* reserve(1, 1)
      yield* reserve(1, 1, { tokens: 70 })
      assert.deepInclude(yield* spent({}), { calls: 2, inputTokens: 170 })
      yield* book(1, 1, usage(10, 2))
      yield* book(1, 1, usage(10, 2))
      assert.deepInclude(yield* spent({}), { calls: 2, inputTokens: 110, outputTokens: 2 })
    })
  )

  test(
    "a call that the provider refused counts for nothing",
    Effect.gen(function* () {
      yield* reserve(1, 1)
      yield* book(1, 1, undefined)
      assert.deepInclude(yield* spent({}), { calls: 0, inputTokens: 0 })
      yield* reserve(1, 1, { tokens: 70 })
      yield* reserve(1, 1, { tokens: 30 })
      yield* book(1, 1, undefined)
      assert.deepInclude(yield* spent({}), { calls: 1, inputTokens: 70 })
    })
  )

  test(
    "what is asked for is what is counted: an agent's, a conversation's, a person's, a time's",
    Effect.gen(function* () {
      const bea = AgentName.make("bea")
      const other = ConversationId.make("memory:other")
      const bob = Sender.make("memory:bob")
      yield* reserve(1, 1)
      yield* TestClock.adjust("1 hour")
      yield* reserve(2, 1, { agent: bea })
      yield* reserve(3, 1, { conversation: other })
      yield* reserve(4, 1, { sender: bob, conversation: other })
      yield* reserve(5, 1, { sender: undefined })
      const calls = (...by: Parameters<typeof spent>) => Effect.map(spent(...by), ({ calls }) => calls)
      assert.strictEqual(yield* calls({}), 5)
      assert.strictEqual(yield* calls({ agent: bea }), 1)
      assert.strictEqual(yield* calls({ conversation: other }), 2)
      assert.strictEqual(yield* calls({ sender: bob }), 1)
      assert.strictEqual(yield* calls({ since: 1 }), 4)
      assert.strictEqual(yield* calls({ conversation: other, sender: bob, agent: andy, since: 1 }), 1)
    })
  )

  test(
    "a call that does not fit the budget is refused, says why, and costs nothing",
    Effect.gen(function* () {
      yield* reserve(1, 1, { budget: perTurn })
      yield* reserve(1, 2, { budget: perTurn })
      const error = yield* Effect.flip(reserve(1, 3, { budget: perTurn }))
      assert.deepInclude(error.reason, { _tag: "BudgetExceeded", period: "turn", budget: "250 tokens" })
      assert.strictEqual(
        error.message,
        "the budget of 250 tokens per turn is used up (200 tokens spent or reserved, the next call may take 100 tokens)"
      )
      assert.strictEqual((yield* spent({})).calls, 2)
      yield* reserve(2, 1, { budget: perTurn })
    })
  )

  test(
    "what a call left of its reservation is there for the next",
    Effect.gen(function* () {
      for (let step = 1; step <= 15; step++) {
        yield* reserve(1, step, { budget: perTurn })
        yield* book(1, step, usage(8, 2))
      }
      yield* reserve(1, 16, { budget: perTurn })
      assert.strictEqual((yield* Effect.flip(reserve(1, 17, { budget: perTurn }))).reason._tag, "BudgetExceeded")
    })
  )

  test(
    "a call that was refused does not stand in its own way, one that was cut does",
    Effect.gen(function* () {
      yield* reserve(1, 1, { budget: perTurn })
      yield* reserve(1, 2, { budget: perTurn })
      yield* book(1, 2, undefined)
      yield* reserve(1, 2, { budget: perTurn })
      assert.strictEqual((yield* Effect.flip(reserve(1, 2, { budget: perTurn }))).reason._tag, "BudgetExceeded")
    })
  )

  test(
    "an agent's day is all its turns and conversations, and no other agent's",
    Effect.gen(function* () {
      yield* reserve(1, 1, { budget: perDay })
      yield* reserve(2, 1, { budget: perDay, conversation: ConversationId.make("memory:other") })
      assert.strictEqual((yield* Effect.flip(reserve(3, 1, { budget: perDay }))).message.includes("per day"), true)
      yield* reserve(3, 1, { budget: perDay, agent: AgentName.make("bea") })
    })
  )

  test(
    "a day begins at midnight where the claw lives",
    Effect.gen(function* () {
      // 23:30 in New York, and the next day in London.
      yield* TestClock.setTime(Date.UTC(2026, 0, 16, 4, 30))
      yield* reserve(1, 1, { budget: perDay, tokens: 250 })
      assert.isTrue(Exit.isFailure(yield* Effect.exit(reserve(2, 1, { budget: perDay }))))
      yield* TestClock.adjust("29 minutes")
      assert.isTrue(Exit.isFailure(yield* Effect.exit(reserve(2, 1, { budget: perDay }))))
      yield* TestClock.adjust("1 minute")
      yield* reserve(2, 1, { budget: perDay })
    }),
    "America/New_York"
  )

  test(
    "money is counted at the model's price, at the dearest rate until it is known",
    Effect.gen(function* () {
      const budget: Budget = { perDay: "0.01 USD" }
      yield* reserve(1, 1, { budget, tokens: 600 })
      assert.strictEqual((yield* Effect.flip(reserve(1, 2, { budget, tokens: 600 }))).message.includes("$0.0090"), true)
      yield* book(1, 1, usage(500, 10))
      yield* reserve(1, 2, { budget, tokens: 500 })
    })
  )

  test(
    "the calls of many conversations at once together keep to the budget",
    Effect.gen(function* () {
      const exits = yield* Effect.forEach(
        Array.from({ length: 50 }, (_, index) => index + 1),
        (turn) => Effect.exit(reserve(turn, 1, { budget: { perDay: "1000 tokens" } })),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(exits.filter(Exit.isSuccess).length, 10)
      assert.deepInclude(yield* spent({}), { calls: 10, inputTokens: 1000 })
    })
  )

  const coder = AgentName.make("coder")
  const purse = (turn: number, budget: Budget, agent = andy): Purse => ({
    agent,
    conversation: ConversationId.make(`memory:${turn}`),
    turn,
    ...budget
  })
  /** A call of a specialist, in a turn of its own, for andy's first turn. */
  const forAndy = (turn: number, budget: Budget, more: Partial<Reservation> = {}) => ({
    agent: coder,
    conversation: ConversationId.make(`swarm:${turn}`),
    above: [purse(1, budget)],
    ...more
  })

  test(
    "a call for another agent counts as that one's, too: its agent's, its conversation's, its day's and its turn's",
    Effect.gen(function* () {
      yield* reserve(2, 1, forAndy(2, {}))
      yield* reserve(3, 1, forAndy(3, {}))
      yield* book(3, 1, usage(10, 2))
      for (const by of [{ agent: andy }, { agent: coder }, { conversation: ConversationId.make("memory:1") }, {}]) {
        assert.deepInclude(yield* spent(by), { calls: 2, inputTokens: 110, outputTokens: 2 })
      }
      assert.deepInclude(yield* spent({ conversation: ConversationId.make("swarm:2") }), { calls: 1 })
      yield* book(2, 1, undefined)
      assert.deepInclude(yield* spent({ agent: andy }), { calls: 1, inputTokens: 10 })
    })
  )

  for (const [period, budget] of [
    ["day", perDay],
    ["turn", perTurn]
  ] as const) {
    test(
      `a call for another agent needs room in that one's ${period}, and says whose is used up`,
      Effect.gen(function* () {
        yield* reserve(1, 1, { budget })
        yield* reserve(2, 1, forAndy(2, budget))
        const error = yield* Effect.flip(reserve(3, 1, forAndy(3, budget)))
        assert.include(error.message, `the budget of andy's 250 tokens per ${period} is used up (200 tokens`)
        assert.isTrue(Exit.isFailure(yield* Effect.exit(reserve(1, 2, { budget }))))
        // For nobody, or for another, it has room.
        yield* reserve(4, 1, { agent: coder })
        yield* reserve(5, 1, forAndy(5, {}, { above: [purse(9, budget, AgentName.make("bea"))] }))
      })
    )
  }

  it.effect.prop(
    "whatever tree of delegations: what all of it has spent is never more than the budget at its root",
    [Arbitrary.schema(Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 99_999 }))))],
    ([choices]) =>
      Effect.gen(function* () {
        const names = ["andy", "bea", "coder", "dora"].map((name) => AgentName.make(name))
        /** Chains of purses, the root's first: a node of the tree each. */
        const nodes: Array<Arr.NonEmptyReadonlyArray<Purse>> = [
          [purse(1, { perDay: "1000 tokens", perTurn: "700 tokens" })]
        ]
        let step = 0
        for (const choice of choices) {
          const chain = nodes[Math.floor(choice / 1000) % nodes.length] ?? assert.fail()
          if (choice % 3 === 0) {
            const agent = names[choice % names.length] ?? andy
            const budget: Budget = choice % 2 === 0 ? { perDay: "300 tokens" } : {}
            nodes.push([...chain, purse(nodes.length + 1, budget, agent)])
          } else {
            const own = chain[chain.length - 1] ?? chain[0]
            const { agent, conversation, perDay, turn } = own
            const budget = perDay === undefined ? {} : { perDay }
            const of = { agent, conversation, budget, above: chain.slice(0, -1), tokens: choice % 400 }
            const taken = yield* Effect.exit(reserve(turn, ++step, of))
            if (Exit.isSuccess(taken) && choice % 2 === 0)
              yield* book(turn, step, usage((choice % 97) % ((choice % 400) + 1), 0))
          }
          const all = yield* spent({})
          assert.isAtMost(all.inputTokens, 1000)
          assert.deepStrictEqual(yield* spent({ agent: andy }), all)
        }
      }).pipe(Effect.provide(Layer.fresh(layer)))
  )
}
