/**
 * What every memory promises, whatever it is kept on.
 */
import { assert, it } from "@effect/vitest"
import { Memory, type MemoryScope } from "effect-claw/services/Memory"
import { AgentName, ConversationId, Sender } from "effect-claw/services/Message"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/testing/TestClock"

const claw: MemoryScope = { _tag: "Claw" }
const agent = (name: string): MemoryScope => ({ _tag: "Agent", agent: AgentName.make(name) })
const chat = (id: string): MemoryScope => ({ _tag: "Conversation", conversation: ConversationId.make(`memory:${id}`) })
const person = (id: string): MemoryScope => ({ _tag: "Sender", sender: Sender.make(`memory:${id}`) })

const remember = (scope: MemoryScope, text: string) => Memory.use((memory) => memory.remember(scope, text))
const recall = (scopes: ReadonlyArray<MemoryScope>, query: string, limit?: number) =>
  Memory.use((memory) => Effect.map(memory.recall(scopes, query, limit), (all) => all.map(({ text }) => text)))
const list = (scopes: ReadonlyArray<MemoryScope>, limit?: number) =>
  Memory.use((memory) => Effect.map(memory.list(scopes, limit), (all) => all.map(({ text }) => text)))
const forget = (scopes: ReadonlyArray<MemoryScope>, id: number) => Memory.use((memory) => memory.forget(scopes, id))

/** What a query may not be misread as. */
const hostile = [
  "",
  " ",
  "?",
  '"',
  "'; DROP TABLE memories; --",
  "tea AND",
  "NOT tea",
  "NEAR(tea, 2)",
  "text:tea",
  "^tea*",
  "(tea",
  "tea)",
  "-tea",
  "tea + *",
  "😀",
  "\0tea",
  "\ud83d tea",
  "tea ".repeat(10_000)
]

const word = Schema.String.check(Schema.isPattern(/^[\p{L}\p{N}]{1,12}$/u))
const words = Schema.Literals([
  "tea",
  "Ünïcödé",
  "ЛЕНА",
  "привет",
  "日本語",
  "हिन्दी",
  "ไทย",
  "한국어",
  "العربية",
  "naïve",
  "cafe\u0301",
  "ﬁne",
  "ΌΣΟΣ",
  "İstanbul",
  "x2",
  "½"
])

export const memoryContract = <E>(layer: Layer.Layer<Memory, E>) => {
  const test = (name: string, body: Effect.Effect<unknown, unknown, Memory>) =>
    it.effect(name, () => body.pipe(Effect.provide(layer), Effect.asVoid))

  test(
    "what is remembered is found by its words, whatever their case and number",
    Effect.gen(function* () {
      const kept = yield* remember(claw, "Ada likes green teas")
      yield* remember(claw, "Bob drives a truck")
      assert.deepInclude(kept, { scope: claw, text: "Ada likes green teas", at: 0 })
      assert.deepStrictEqual(yield* recall([claw], "what TEA does she like?"), ["Ada likes green teas"])
      assert.deepStrictEqual(yield* recall([claw], "trucks"), ["Bob drives a truck"])
      assert.deepStrictEqual(yield* recall([claw], "coffee"), [])
    })
  )

  test(
    "the best match comes first",
    Effect.gen(function* () {
      yield* remember(claw, "the tea is in the kitchen")
      yield* remember(claw, "the green tea is on the upper shelf")
      yield* remember(claw, "a kitchen has walls")
      assert.strictEqual((yield* recall([claw], "where is the green tea?"))[0], "the green tea is on the upper shelf")
    })
  )

  test(
    "a memory is seen in its scope, and in no other",
    Effect.gen(function* () {
      const scopes = [claw, agent("andy"), agent("bea"), chat("1"), chat("2"), person("ada"), person("bob")]
      for (const [index, scope] of scopes.entries()) yield* remember(scope, `tea ${index}`)
      for (const [index, scope] of scopes.entries()) {
        assert.deepStrictEqual(yield* recall([scope], "tea"), [`tea ${index}`])
        assert.deepStrictEqual(yield* list([scope]), [`tea ${index}`])
      }
      assert.sameMembers([...(yield* recall([claw, agent("bea"), person("ada")], "tea"))], ["tea 0", "tea 2", "tea 5"])
      assert.sameMembers([...(yield* list([chat("1"), person("bob")]))], ["tea 3", "tea 6"])
      assert.deepStrictEqual(yield* recall([], "tea"), [])
      assert.deepStrictEqual(yield* list([]), [])
    })
  )

  test(
    "a scope's name cannot be made to pass for another",
    Effect.gen(function* () {
      yield* remember(person('ada","_tag":"Claw'), "forged")
      yield* remember(chat("1' OR '1'='1"), "forged too")
      assert.deepStrictEqual(yield* list([claw, person("ada"), chat("1")]), [])
    })
  )

  test(
    "any text is a query",
    Effect.gen(function* () {
      yield* remember(claw, "tea")
      yield* remember(person("ada"), "tea of another")
      for (const query of hostile) assert.includeMembers(["tea"], [...(yield* recall([claw], query))])
      assert.deepStrictEqual(yield* list([claw]), ["tea"])
    })
  )

  test(
    "the same is kept once, in its scope, and is then the latest",
    Effect.gen(function* () {
      const first = yield* remember(claw, "tea")
      yield* TestClock.adjust("1 second")
      yield* remember(claw, "coffee")
      yield* TestClock.adjust("1 second")
      const again = yield* remember(claw, "  tea\n")
      assert.strictEqual(again.id, first.id)
      assert.strictEqual(again.at, 2000)
      yield* remember(chat("1"), "tea")
      assert.deepStrictEqual(yield* list([claw]), ["tea", "coffee"])
      assert.deepStrictEqual(yield* recall([claw], "tea"), ["tea"])
    })
  )

  test(
    "the latest are listed first, as many as are wanted",
    Effect.gen(function* () {
      for (let day = 1; day <= 30; day++) {
        yield* remember(claw, `day ${day}`)
        yield* TestClock.adjust("1 day")
      }
      assert.deepStrictEqual(yield* list([claw], 3), ["day 30", "day 29", "day 28"])
      assert.strictEqual((yield* list([claw])).length, 30)
      assert.strictEqual((yield* recall([claw], "day", 4)).length, 4)
      assert.strictEqual((yield* recall([claw], "day")).length, 10)
    })
  )

  test(
    "what is forgotten is gone, and only who sees it can forget it",
    Effect.gen(function* () {
      const { id } = yield* remember(person("ada"), "secret tea")
      assert.isFalse(yield* forget([claw, person("bob")], id))
      assert.isFalse(yield* forget([person("ada")], id + 1))
      assert.deepStrictEqual(yield* recall([person("ada")], "tea"), ["secret tea"])
      assert.isTrue(yield* forget([claw, person("ada")], id))
      assert.isFalse(yield* forget([person("ada")], id))
      assert.deepStrictEqual(yield* recall([person("ada")], "tea"), [])
      assert.deepStrictEqual(yield* list([person("ada")]), [])
      assert.notStrictEqual((yield* remember(person("ada"), "other tea")).id, id)
    })
  )

  test(
    "nothing, and too much, are no memories",
    Effect.gen(function* () {
      for (const text of ["", " \n ", "\0", "x".repeat(8193)]) {
        const error = yield* Effect.flip(remember(claw, text))
        assert.strictEqual(error.reason._tag, "MemoryInvalid")
        assert.include(error.message, "1 to 8192 characters")
      }
      yield* remember(claw, "x".repeat(8192))
      assert.strictEqual((yield* list([claw])).length, 1)
    })
  )

  test(
    "text that is no valid Unicode is kept as what can be shown of it",
    Effect.gen(function* () {
      yield* remember(claw, "tea \ud83d and\0 more")
      assert.deepStrictEqual(yield* recall([claw], "tea"), ["tea \ufffd and more"])
    })
  )

  test(
    "whatever the language, it is found by any of its words",
    Effect.gen(function* () {
      const found = Arbitrary.checkEffect(
        Arbitrary.array(Arbitrary.schema(Schema.Union([words, word])), { minLength: 1, maxLength: 6 }),
        (parts) =>
          Effect.gen(function* () {
            const text = parts.join(" ")
            yield* remember(claw, text)
            for (const part of parts) {
              assert.include(yield* recall([claw], `${part}?`, 1000), text)
              assert.include(yield* recall([claw], part.toLowerCase(), 1000), text)
            }
            return true
          }),
        { runs: 60 }
      )
      assert.isUndefined(Arbitrary.formatCheckFailure(yield* found))
    })
  )
}
