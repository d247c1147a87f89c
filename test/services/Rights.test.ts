import { assert, describe, it } from "@effect/vitest"
import * as Rights from "effect-claw/services/Rights"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"

const tool = Schema.Literals(["bash", "read_file", "remember", "delegate", "constructor"])
const rights = Arbitrary.map(Arbitrary.schema(Schema.Array(tool)), (tools) => new Rights.Rights({ tools }))

const all = (self: Rights.Rights) => [...new Set(self.tools)].toSorted()

describe("Rights", () => {
  it.prop("a child is never wider than its parent, nor than itself", [rights, rights, tool], ([parent, own, name]) =>
    assert.strictEqual(
      Rights.allows(Rights.intersect(parent, own), name),
      Rights.allows(parent, name) && Rights.allows(own, name)
    )
  )

  it.prop("a long line of children only ever narrows", [Arbitrary.array(rights, { minLength: 1 })], (line) => {
    const [chain] = line
    let granted = chain[0] ?? Rights.none
    for (const next of chain) {
      const narrower = Rights.intersect(granted, next)
      assert.includeMembers(all(granted), all(narrower))
      granted = narrower
    }
  })

  it.prop("the order of intersection does not matter", [rights, rights, rights], ([a, b, c]) => {
    assert.deepStrictEqual(all(Rights.intersect(a, b)), all(Rights.intersect(b, a)))
    assert.deepStrictEqual(
      all(Rights.intersect(a, Rights.intersect(b, c))),
      all(Rights.intersect(Rights.intersect(a, b), c))
    )
    assert.deepStrictEqual(all(Rights.intersect(a, a)), all(a))
  })

  it.prop("from none comes none", [rights], ([any]) => {
    assert.deepStrictEqual(Rights.intersect(Rights.none, any).tools, [])
  })

  it("a name that every object has is no right", () => assert.isFalse(Rights.allows(Rights.none, "constructor")))
})
