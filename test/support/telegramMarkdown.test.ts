import { assert, describe, it } from "@effect/vitest"
import { CannotParse, type EntityType, parse } from "./telegramMarkdown.ts"

/** What is shown, each entity with its text. */
const read = (source: string) => {
  const { entities, text } = parse(source)
  return entities.map(({ length, offset, type }) => [type, text.slice(offset, offset + length)] as const)
}

describe("MarkdownV2, as the Bot API documents it", () => {
  const documented: ReadonlyArray<readonly [source: string, ...entities: Array<readonly [EntityType, string]>]> = [
    ["*bold \\*text*", ["bold", "bold *text"]],
    ["_italic \\*text_", ["italic", "italic *text"]],
    ["__underline__", ["underline", "underline"]],
    ["~strikethrough~", ["strikethrough", "strikethrough"]],
    ["||spoiler||", ["spoiler", "spoiler"]],
    [
      "*bold _italic bold ~italic bold strikethrough ||italic bold strikethrough spoiler||~ __underline italic bold___ bold*",
      [
        "bold",
        "bold italic bold italic bold strikethrough italic bold strikethrough spoiler underline italic bold bold"
      ],
      ["italic", "italic bold italic bold strikethrough italic bold strikethrough spoiler underline italic bold"],
      ["strikethrough", "italic bold strikethrough italic bold strikethrough spoiler"],
      ["spoiler", "italic bold strikethrough spoiler"],
      ["underline", "underline italic bold"]
    ],
    ["[inline URL](http://www.example.com/)", ["text_link", "inline URL"]],
    ["[inline mention of a user](tg://user?id=123456789)", ["text_link", "inline mention of a user"]],
    ["![👍](tg://emoji?id=5368324170671202286)", ["custom_emoji", "👍"]],
    ["`inline fixed-width code`", ["code", "inline fixed-width code"]],
    ["```\nfixed-width\n```", ["pre", "fixed-width\n"]],
    ["```python\nfixed-width\n```", ["pre", "fixed-width\n"]],
    [">started\n>continued\nand after", ["blockquote", "started\ncontinued"]],
    [
      ">one\n>last\n**>expandable\n>hidden||",
      ["blockquote", "one\nlast"],
      ["expandable_blockquote", "expandable\nhidden"]
    ],
    // `__` is read greedily, from left to right.
    ["___italic underline_**__", ["underline", "italic underline"], ["italic", "italic underline"]]
  ]
  for (const [source, ...entities] of documented) {
    it(`${source.split("\n").join("⏎")} is read`, () => assert.deepStrictEqual(read(source), entities))
  }

  const refused = [
    ..."_*[]()~`>#+-=|{}.!".split("").map((reserved) => `a ${reserved} b`),
    "*bold",
    "*bold _italic* bold_",
    "___italic underline___",
    "`code",
    "```\npre``",
    ">a quotation *that\nends*",
    "[link](http://example.com",
    "![no emoji]"
  ]
  for (const source of refused) {
    it(`${source.split("\n").join("⏎")} is refused`, () => assert.throws(() => parse(source), CannotParse))
  }

  it("what is escaped is text, and so is a backslash before nothing that can be", () => {
    const { entities, text } = parse("\\_\\*\\[\\]\\(\\)\\~\\`\\>\\#\\+\\-\\=\\|\\{\\}\\.\\!\\\\ \\ü \\")
    assert.strictEqual(text, "_*[]()~`>#+-=|{}.!\\ \\ü \\")
    assert.deepStrictEqual(entities, [])
  })
})
