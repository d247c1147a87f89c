import { assert, describe, it } from "@effect/vitest"
import * as Reply from "effect-claw/services/Reply"
import * as Schema from "effect/Schema"
import { cases } from "../contracts/cases.ts"
import formatting from "../cases/formatting.json" with { type: "json" }
import splitting from "../cases/splitting.json" with { type: "json" }

describe("what a chat is shown", () => {
  it("every row of its cases is one of a kind that is tested", () => {
    const kinds = new Set(["toModel", "toChat", "at timeZone", "timeZone"])
    for (const { input, name } of formatting.cases) {
      assert.isTrue(kinds.has(Object.keys(input).toSorted().join(" ")), name)
    }
  })

  for (const { expect, input, name } of cases(
    "formatting",
    Schema.Struct({
      name: Schema.String,
      input: Schema.Struct({ toChat: Schema.String }),
      expect: Schema.Struct({ text: Schema.NullOr(Schema.String) })
    })
  )) {
    // What is nothing is not sent.
    it(name, () => assert.strictEqual(Reply.shown(input.toChat), expect.text ?? ""))
  }

  it("a block in a fence is kept", () => {
    const fenced = "```\n<think>a</think>\n```"
    assert.strictEqual(Reply.shown(fenced), fenced)
  })
})

describe("a text that is still being written", () => {
  const whole = "\n\nHello <think>secret <b></think>there, `<think>` is a tag.\n\n<internal>more</internal>\n"
  it("shows at every moment a beginning of what it will be, and no thought", () => {
    let before = ""
    for (let length = 0; length <= whole.length; length++) {
      const begun = Reply.begun(whole.slice(0, length))
      assert.isTrue(begun.startsWith(before), JSON.stringify([before, begun]))
      assert.notInclude(begun, "secret")
      before = begun
    }
    assert.isTrue(Reply.shown(whole).startsWith(before))
  })
})

/** The pieces' text without fences, white space and what was put in. */
const bare = (text: string) => text.replace(/^ {0,3}(```|~~~).*$/gm, "").replace(/\s+/g, "")

describe("a long reply is cut", () => {
  for (const { expect, input, name } of splitting.cases) {
    it(name, () => {
      const { text: given } = input
      const text =
        typeof given === "string"
          ? given
          : `${given.prefix ?? ""}${given.repeat.repeat(given.times)}${given.suffix ?? ""}`
      const pieces = Reply.split(text, input.limit)
      if (expect.chunks !== undefined) assert.strictEqual(pieces.length, expect.chunks)
      if (expect.firstEndsWith !== undefined) assert.isTrue(pieces[0]?.endsWith(expect.firstEndsWith))
      if (expect.secondStartsWith !== undefined) assert.isTrue(pieces[1]?.startsWith(expect.secondStartsWith))
      if (expect.equals !== undefined) assert.deepStrictEqual(pieces, expect.equals)
      assert.strictEqual(bare(pieces.join("\n")), bare(text))
      const whole = new Set(Array.from(new Intl.Segmenter().segment(text), ({ segment }) => segment))
      for (const piece of pieces) {
        assert.isAtMost(piece.length, input.limit)
        assert.notStrictEqual(piece.trim(), "")
        if (expect.graphemesIntact === true) {
          for (const { segment } of new Intl.Segmenter().segment(piece)) assert.isTrue(whole.has(segment))
        }
      }
    })
  }

  const words = Schema.Array(
    Schema.Literals([
      "word ",
      "a. ",
      "\n",
      "\n\n",
      "\n```ts\n",
      "\n```\n",

      "👨‍👩‍👧‍👦",
      "世",
      "é",
      "x".repeat(30),
      "  indent\n"
    ])
  )
  it.prop("whatever it is, nothing is lost and every piece fits", [words], ([parts]) => {
    const text = parts.join("")
    for (const limit of [48, 100, 4096]) {
      const pieces = Reply.split(text, limit)
      for (const piece of pieces) {
        assert.isAtMost(piece.length, limit)
        assert.isTrue(piece.isWellFormed())
      }
      assert.strictEqual(bare(pieces.join("\n")), bare(text))
    }
  })
})
