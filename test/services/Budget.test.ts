import { assert, describe, it } from "@effect/vitest"
import * as Agent from "effect-claw/services/Agent"
import * as Budget from "effect-claw/services/Budget"
import * as Schema from "effect/Schema"

describe("Budget", () => {
  it("money and tokens are read as they are written", () => {
    assert.deepStrictEqual(Budget.amount("2 USD"), { unit: "microdollars", value: 2_000_000 })
    assert.deepStrictEqual(Budget.amount("0.25 USD"), { unit: "microdollars", value: 250_000 })
    assert.deepStrictEqual(Budget.amount("50000 tokens"), { unit: "tokens", value: 50_000 })
  })

  it.for(["-1 USD", "1e3 tokens", "0x10 tokens"] as const)("%s is no amount", (input) =>
    assert.throws(() => Budget.amount(input), "is no amount")
  )

  it("an agent with a budget that cannot be read is no agent", () => {
    assert.throws(() => Agent.make("a", { instructions: "", budget: { perDay: "-1 USD" } }), "is no amount")
    assert.throws(() => Agent.make("a", { instructions: "", budget: { perTurn: "-1 tokens" } }), "is no amount")
  })

  it.prop(
    "no token and no millionth of a dollar is lost in reading",
    [Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1e12 }))],
    ([value]) => {
      assert.deepStrictEqual(Budget.amount(`${value} tokens`), { unit: "tokens", value })
      const dollars = `${Math.floor(value / 1e6)}.${String(value % 1e6).padStart(6, "0")}`
      assert.deepStrictEqual(Budget.amount(`${Number(dollars)} USD`), { unit: "microdollars", value })
    }
  )

  it("is shown to people as they write it", () => {
    assert.strictEqual(Budget.format(Budget.amount("50000 tokens")), "50,000 tokens")
    assert.strictEqual(Budget.format(Budget.amount("1.5 USD")), "$1.5000")
  })
})
