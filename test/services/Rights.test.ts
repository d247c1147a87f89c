import { assert, describe, it } from "@effect/vitest"
import { AgentName, ConversationId } from "effect-claw/services/Message"
import * as Rights from "effect-claw/services/Rights"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"

const tool = Schema.Literals(["bash", "read_file", "remember", "delegate", "constructor"])
const rule = Schema.Literals(["api.github.com", "*.npmjs.org", "constructor"])
const mount = Schema.Struct({ host: Schema.Literals(["~/notes", "~/code", "/srv"]), write: Schema.Boolean })
const purse = Schema.Struct({
  agent: Schema.Literals(["andy", "bea"]),
  turn: Schema.Literals([1, 2]),
  perDay: Schema.optionalKey(Schema.Literals(["1 USD", "50000 tokens"]))
})

const rights = Arbitrary.map(
  Arbitrary.schema(
    Schema.Struct({
      tools: Schema.Array(tool),
      mounts: Schema.Array(mount),
      egress: Schema.Array(rule),
      budget: Schema.Array(purse)
    })
  ),
  ({ budget, ...others }) =>
    new Rights.Rights({
      ...others,
      budget: budget.map(({ agent, ...more }) => ({
        agent: AgentName.make(agent),
        conversation: ConversationId.make("memory:chat"),
        ...more
      }))
    })
)

const set = (items: ReadonlyArray<unknown>) => [...new Set(items.map((item) => JSON.stringify(item)))].toSorted()

/** All that rights allow, whatever the order and however often it is said. */
const all = ({ budget, egress, mounts, tools }: Rights.Rights) => ({
  tools: set(tools),
  egress: set(egress),
  reads: set(mounts.map(({ host }) => host)),
  writes: set(mounts.flatMap(({ host, write }) => (write ? [host] : []))),
  budget: set(budget)
})

const mayMount = (self: Rights.Rights, wanted: typeof mount.Type) =>
  Rights.mountsWithin(self, [wanted]).some(({ write }) => write === wanted.write)

describe("Rights", () => {
  it.prop(
    "a child is never wider than its parent, nor than itself",
    [rights, rights, tool, rule, mount],
    ([parent, own, name, host, wanted]) => {
      const both = Rights.intersect(parent, own)
      assert.strictEqual(Rights.allows(both, name), Rights.allows(parent, name) && Rights.allows(own, name))
      assert.strictEqual(
        Rights.allowsEgress(both, host),
        Rights.allowsEgress(parent, host) && Rights.allowsEgress(own, host)
      )
      if (wanted.write) assert.strictEqual(mayMount(both, wanted), mayMount(parent, wanted) && mayMount(own, wanted))
      // To be read is what both have, in whatever way.
      const isThere = (self: Rights.Rights) => Rights.mountsWithin(self, [wanted]).length > 0
      assert.strictEqual(isThere(both), isThere(parent) && isThere(own))
      // It is paid from every budget of both: each more is one more bound.
      assert.deepStrictEqual(all(both).budget, set([...parent.budget, ...own.budget]))
    }
  )

  it.prop("what is granted of a mount is never more than what is wanted", [rights, mount], ([self, wanted]) => {
    for (const granted of Rights.mountsWithin(self, [wanted])) {
      assert.strictEqual(granted.host, wanted.host)
      assert.isTrue(wanted.write || !granted.write)
    }
  })

  it.prop("a long line of children only ever narrows", [Arbitrary.array(rights, { minLength: 1 })], (line) => {
    const [chain] = line
    let granted = chain[0] ?? Rights.none
    for (const next of chain) {
      const narrower = Rights.intersect(granted, next)
      for (const kind of ["tools", "egress", "reads", "writes"] as const) {
        assert.includeMembers(all(granted)[kind], all(narrower)[kind])
      }
      assert.includeMembers(all(narrower).budget, all(granted).budget)
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
    const { budget, ...others } = Rights.intersect(Rights.none, any)
    assert.deepStrictEqual({ ...others }, { tools: [], mounts: [], egress: [] })
    assert.isTrue(budget.some(({ perDay }) => perDay === "0 tokens"))
  })

  it.prop("they are data: what is written is read again", [rights], ([any]) => {
    const written: unknown = JSON.parse(JSON.stringify(Schema.encodeSync(Rights.Rights)(any)))
    assert.deepStrictEqual(Schema.decodeUnknownSync(Rights.Rights)(written), any)
  })

  it("what an earlier version wrote has tools, and nothing else", () => {
    const read = Schema.decodeSync(Rights.Rights)({ tools: ["bash"] })
    assert.deepStrictEqual(read, new Rights.Rights({ tools: ["bash"] }))
    assert.deepStrictEqual([read.mounts, read.egress], [[], []])
  })

  it("a name that every object has is no right", () => {
    assert.isFalse(Rights.allows(Rights.none, "constructor"))
    assert.isFalse(Rights.allowsEgress(Rights.none, "constructor"))
  })
})
