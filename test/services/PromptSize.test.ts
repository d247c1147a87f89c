import { assert, describe, it } from "@effect/vitest"
import { countTokens } from "@anthropic-ai/tokenizer"
import * as PromptSize from "effect-claw/services/PromptSize"
import * as Prompt from "effect/ai/Prompt"
import * as Schema from "effect/Schema"
import { callOf } from "./journals.ts"

const user = (text: string) => Prompt.userMessage({ content: [Prompt.textPart({ text })] })
const result = (value: unknown, more: Partial<Prompt.ToolResultPart> = {}) =>
  Prompt.toolMessage({
    content: [
      Prompt.toolResultPart({
        id: "a",
        name: "bash",
        isFailure: false,
        result: value,
        providerExecuted: false,
        ...more
      })
    ]
  })
const assistant = (...content: ReadonlyArray<Prompt.AssistantMessagePart>) => Prompt.assistantMessage({ content })
const image = Prompt.filePart({ mediaType: "image/png", data: new Uint8Array(300_000), fileName: "a.png" })
const textsOf = (messages: ReadonlyArray<Prompt.Message>) => JSON.stringify(messages)

describe("tokens", () => {
  for (const [name, text] of [
    ["English", "The quick brown fox jumps over the lazy dog, and then it thinks about it for a while. ".repeat(40)],
    ["code", "export const make = (options: Options = {}): Layer.Layer<never> => Layer.succeed(x, {})\n".repeat(40)],
    [
      "German",
      "Der schnelle braune Fuchs springt \u00fcber den faulen Hund und \u00fcberlegt es sich anders. ".repeat(40)
    ],
    [
      "Russian",
      "\u0431\u044b\u0441\u0442\u0440\u0430\u044f \u043b\u0438\u0441\u0430 \u043f\u0440\u044b\u0433\u0430\u0435\u0442 ".repeat(
        60
      )
    ],
    ["Chinese", "\u4eca\u5929\u5929\u6c14\u5f88\u597d\u6211\u4eec\u53bb\u516c\u56ed\u5427".repeat(60)],
    ["Japanese", "\u4eca\u65e5\u306f\u3044\u3044\u5929\u6c17\u3067\u3059\u306d\u516c\u5712\u306b".repeat(60)]
  ] as const) {
    it(`of ${name} are not estimated too low`, () =>
      assert.isAtLeast(PromptSize.tokensOf([user(text)]), countTokens(text)))
  }

  it("of an image are the same in a message and in what a tool returned", () => {
    const inMessage = PromptSize.tokensOf([Prompt.userMessage({ content: [image] })])
    const inResult = PromptSize.tokensOf([result({ path: "a.png" }, { modelOutput: [image] })])
    assert.isBelow(Math.abs(inMessage - inResult), 50)
  })
})

describe("what fits", () => {
  const chat = Array.from({ length: 60 }, (_, index) => [user(`message ${index} ${"x".repeat(120)}`)])

  it("has the newest whole while there is older to leave out", () => {
    const question = Prompt.userMessage({ content: [Prompt.textPart({ text: "what is in this picture?" }), image] })
    const shown = PromptSize.fit([...chat, [question]], 3000)
    assert.deepStrictEqual(shown.at(-1), question)
    assert.isAtMost(PromptSize.tokensOf(shown), 3000)
    assert.include(textsOf(shown), "What was said before this is not shown.")
  })

  it.prop(
    "shows something of the newest, however it is built",
    [Schema.Array(Schema.String), Schema.Int],
    ([words, seed]) => {
      const bulk = Array.from({ length: 400 }, (_, index) => ({
        word: words[index % (words.length + 1)] ?? "x",
        seed,
        index
      }))
      const call = Prompt.toolCallPart({ id: "a", name: "bash", params: { bulk }, providerExecuted: false })
      const server = Prompt.toolCallPart({ id: "s", name: "search", params: { bulk }, providerExecuted: true })
      const thought = Prompt.reasoningPart({ text: "hm ".repeat(5000) })
      const shown = PromptSize.fit([...chat, [assistant(thought, server, call), result({ bulk })]], 1000)
      assert.isAtMost(PromptSize.tokensOf(shown), 1000)
      assert.deepStrictEqual(
        shown.slice(-2).map(({ role }) => role),
        ["assistant", "tool"]
      )
      assert.include(textsOf(shown), "characters more were cut")
    }
  )

  it("is found in a time that grows with the number of messages, and not with its square", () => {
    const many = Array.from({ length: 40_000 }, (_, index) => [user(`message ${index}`)])
    const began = performance.now()
    PromptSize.fit(many, 5000)
    assert.isBelow(performance.now() - began, 5000)
  })

  it("a wrapper that is cut is closed", () => {
    const [cut] = [user(`<message from="Ada">${"x".repeat(5000)}</message>`)].map(PromptSize.trim(1000, 1000))
    assert.match(textsOf(cut === undefined ? [] : [cut]), /characters more were cut\]<\/message>/)
  })

  it("calls and results that are short are left as they are", () => {
    const messages = [assistant(callOf("a")), result({ out: "fine" })]
    assert.deepStrictEqual(messages.map(PromptSize.trim()), messages)
  })
})
