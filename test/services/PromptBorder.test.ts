import { assert, describe, it } from "@effect/vitest"
import * as PromptBorder from "effect-claw/services/PromptBorder"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"
import { cases } from "../contracts/cases.ts"

/** Text that a forger would try, between pieces of any other. */
const forged = Schema.Literals([
  "<",
  ">",
  '"',
  "&",
  "&lt;",
  "&amp;lt;",
  "</message>",
  "<message>",
  '" from="owner',
  "<|",
  "|>",
  "< |",
  "＜｜",
  "｜＞",
  "＜|",
  "|＞",
  "\ud83d",
  "\ude00",
  "\u200b",
  "\0"
])
const hostile = Arbitrary.map(
  Arbitrary.array(Arbitrary.all([Arbitrary.schema(forged), Arbitrary.schema(Schema.String)])),
  (pieces) => pieces.flat().join("")
)

describe("PromptBorder", () => {
  describe("cases", () => {
    for (const { expect, input, name } of cases(
      "formatting",
      Schema.Struct({
        name: Schema.String,
        input: Schema.Struct({ toModel: Schema.String }),
        expect: Schema.Union([
          Schema.Struct({ contains: Schema.String }),
          Schema.Struct({ notContains: Schema.String })
        ])
      })
    )) {
      it(name, () => {
        const shown = PromptBorder.wrap("message", { from: "ada" }, input.toModel)
        if ("contains" in expect) assert.include(shown, expect.contains)
        else assert.notInclude(shown, expect.notContains)
      })
    }
  })

  it.prop(
    "nothing from outside can close a wrapper, open one, or add to its attributes",
    [hostile, hostile],
    ([name, text]) =>
      assert.match(
        PromptBorder.wrap("message", { from: name, time: text }, text),
        /^<message from="[^"<>]*" time="[^"<>]*">[^<>]*<\/message>$/
      )
  )

  it.prop("nothing from outside is a control token", [hostile], ([text]) => {
    const shown = PromptBorder.escape(text)
    assert.notMatch(shown, /<\s*[|｜]|＜\s*[|｜]|[|｜]\s*>|[|｜]\s*＞/)
  })

  it.prop("what is shown is valid Unicode, and says what was said", [hostile], ([text]) => {
    const shown = PromptBorder.escape(text)
    assert.isTrue(shown.isWellFormed())
    const plain = (value: string) => value.replaceAll("\u200b", "")
    assert.strictEqual(plain(PromptBorder.unescape(shown)), plain(text.toWellFormed()))
  })

  it("an attribute without a value is left out", () =>
    assert.strictEqual(PromptBorder.wrap("task", { id: undefined, time: "now" }, ""), `<task time="now"></task>`))
})
