import type Anthropic from "@anthropic-ai/sdk"
import { assert, describe, it } from "@effect/vitest"
import { fault, makeCache, signer } from "./messagesRules.ts"

type Body = Anthropic.MessageCreateParamsStreaming
type Message = Anthropic.MessageParam

const headers = { "anthropic-version": "2026-10-21", "content-type": "application/json" }

const asked: Message = { role: "user", content: "weather?" }
const called: Message = {
  role: "assistant",
  content: [{ type: "tool_use", id: "toolu_1", name: "weather", input: { city: "Oslo" } }]
}
const told: Message = { role: "user", content: [{ type: "tool_result", tool_use_id: "toolu_1", content: "rain" }] }

const valid: Body = {
  model: "claude-sonnet-5-5",
  max_tokens: 1000,
  stream: true,
  system: [{ type: "text", text: "You are Andy.", cache_control: { type: "ephemeral" } }],
  tools: [{ name: "weather", input_schema: { type: "object" } }],
  messages: [asked, called, told]
}

const say = (text: string): Message => ({ role: "user", content: [{ type: "text", text }] })

const marked = { type: "text" as const, text: "x", cache_control: { type: "ephemeral" as const } }
const image = {
  type: "image" as const,
  source: { type: "base64" as const, media_type: "image/png" as const, data: "AAAA" }
}

const withInput = (input: unknown): Message => ({
  role: "assistant",
  content: [{ type: "tool_use", id: "toolu_1", name: "weather", input }]
})

const refused: ReadonlyArray<readonly [name: string, changed: Partial<Body>, fault: RegExp]> = [
  ["two messages of one role", { messages: [asked, asked] }, /roles must alternate/],
  ["an answer last", { messages: [asked, called] }, /tool_use.* without .tool_result/],
  ["a call without its result", { messages: [asked, called, say("well?")] }, /without .tool_result/],
  ["a result without its call", { messages: [told] }, /unexpected .tool_use_id/],
  ["a call without tools", { tools: [] }, /must define tools/],
  ["arguments that are no object", { messages: [asked, withInput("{"), told] }, /valid dictionary/],
  ["an empty text", { messages: [say("")] }, /must be non-empty/],
  ["a text of spaces", { messages: [say(" \n")] }, /non-whitespace/],
  ["half a letter", { messages: [say("\ud83d")] }, /surrogate/],
  ["no most of tokens", { max_tokens: 0 }, /max_tokens/],
  ["forced tool use", { tool_choice: { type: "any" } }, /forced tool use/],
  ["a budget for thinking", { thinking: { type: "enabled", budget_tokens: 2000 } }, /thinking\.type/],
  ["five marks", { system: Array.from({ length: 5 }, () => marked) }, /maximum of 4/],
  ["an image that is none", { messages: [{ role: "user", content: [image] }] }, /Could not process image/]
]

describe("what the Messages API refuses", () => {
  it("is not what is valid", () => assert.isUndefined(fault(headers, valid)))

  for (const [name, changed, expected] of refused) {
    it(name, () => assert.match(fault(headers, { ...valid, ...changed }) ?? "", expected))
  }

  it("a request without its version", () => assert.match(fault({}, valid) ?? "", /anthropic-version/))

  it("a thought that was thought of something else", () => {
    const thought = (said: string): Message => ({
      role: "assistant",
      content: [
        { type: "thinking", thinking: "", signature: signer({ ...valid, messages: [say(said)] }).sign("") },
        { type: "text", text: "hello" }
      ]
    })
    const conversation = (message: Message) => ({ ...valid, messages: [say("hi"), message, say("well?")] })
    assert.isUndefined(fault(headers, conversation(thought("hi"))))
    assert.match(fault(headers, conversation(thought("ho"))) ?? "", /messages\.1\.content\.0: Invalid .signature/)
  })

  it("and its cache reads what was marked before, and nothing that has changed since", () => {
    const cache = makeCache()
    const end = (text: string): Message => ({ role: "user", content: [{ ...marked, text }] })
    const first = cache({ ...valid, messages: [end("hi")] })
    assert.strictEqual(first.cacheRead, 0)
    const answered: ReadonlyArray<Message> = [say("hi"), { role: "assistant", content: "hello" }]
    assert.strictEqual(cache({ ...valid, messages: [...answered, end("well?")] }).cacheRead, first.cacheWrite)
    assert.strictEqual(cache({ ...valid, system: "You are Bob.", messages: [end("hi")] }).cacheRead, 0)
  })
})
