import { assert, describe, it } from "@effect/vitest"
import * as ModelInfo from "effect-claw/services/ModelInfo"
import * as Response from "effect/ai/Response"
import * as Schema from "effect/Schema"

const price = { input: 3, output: 15, cacheRead: 0.3, cacheWrite: 3.75 }
const cost = (inputTokens: Response.Usage["inputTokens"], total = 0) =>
  ModelInfo.cost(price, new Response.Usage({ inputTokens, outputTokens: { total } }))

const count = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 10_000_000 }))

describe("ModelInfo.cost", () => {
  it("each kind of token has its price", () => {
    assert.strictEqual(cost({ uncached: 1_000_000 }), 3_000_000)
    assert.strictEqual(cost({ uncached: 0, cacheRead: 1_000_000 }), 300_000)
    assert.strictEqual(cost({ uncached: 0, cacheWrite: 1_000_000 }), 3_750_000)
    assert.strictEqual(cost({}, 1_000_000), 15_000_000)
  })

  it("where only the total is told, what was cached is taken off it", () => {
    assert.strictEqual(cost({ total: 1_000_000, cacheRead: 900_000 }), 300_000 + 270_000)
    assert.strictEqual(cost({ total: 10, cacheRead: 20 }), 6)
  })

  it("a part of a micro-dollar is a whole one", () => assert.strictEqual(cost({ uncached: 0, cacheRead: 1 }), 1))

  it("without a price nothing is known to be spent", () =>
    assert.strictEqual(
      ModelInfo.cost(undefined, new Response.Usage({ inputTokens: { total: 1e6 }, outputTokens: { total: 1e6 } })),
      0
    ))

  it.prop(
    "more tokens never cost less",
    [count, count, count, count, count],
    ([uncached, read, write, output, more]) => {
      const base = { uncached, cacheRead: read, cacheWrite: write }
      const spent = cost(base, output)
      assert.isAtLeast(cost({ ...base, uncached: uncached + more }, output), spent)
      assert.isAtLeast(cost({ ...base, cacheRead: read + more }, output), spent)
      assert.isAtLeast(cost({ ...base, cacheWrite: write + more }, output), spent)
      assert.isAtLeast(cost(base, output + more), spent)
    }
  )

  it.prop(
    "a reservation at the dearest rate covers whatever the tokens turn out to be",
    [count, count, count],
    (parts) => {
      const [uncached, cacheRead, total] = parts
      assert.isAtMost(cost({ uncached, cacheRead }, total), Math.ceil((uncached + cacheRead + total) * 15))
    }
  )
})
