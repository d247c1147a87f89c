import { assert, describe, it } from "@effect/vitest"
import { AgentName, ConversationId, Sender, text } from "effect-claw/services/Message"
import { none } from "effect-claw/services/Rights"
import * as PromptSize from "effect-claw/services/PromptSize"
import * as Transcript from "effect-claw/services/Transcript"
import * as Turn from "effect-claw/services/Turn"
import * as Prompt from "effect/ai/Prompt"
import * as DateTime from "effect/DateTime"
import * as Schema from "effect/Schema"
import { cases } from "../contracts/cases.ts"
import { assertPaired, callOf, journal, resultOf, usage } from "./journals.ts"

const clock = Transcript.clockIn(DateTime.zoneMakeNamedUnsafe("UTC"))

/** What the model is shown, without the instructions. */
const shown = (entries: ReadonlyArray<Turn.Entry>): ReadonlyArray<Prompt.Message> =>
  Transcript.prompt({ system: "You are Andy.", entries: Turn.inOrder(entries), clock }).content.slice(1)

const entries = (...events: ReadonlyArray<Turn.Event>): ReadonlyArray<Turn.Entry> =>
  events.map((event, index) => ({ position: index + 1, at: 0, event }))

const input = (
  said: string,
  origin: Turn.Origin = { _tag: "Person", sender: Sender.make("memory:ada") }
): Turn.Event => ({ _tag: "InputAccepted", input: { origin, content: text(said), at: 0 } })
const asked: Turn.Event = { _tag: "ModelRequested", step: 1, agent: AgentName.make("andy") }

const textsOf = (messages: ReadonlyArray<Prompt.Message>): ReadonlyArray<string> =>
  messages.flatMap(({ content }) =>
    typeof content === "string" ? [content] : content.flatMap((part) => (part.type === "text" ? [part.text] : []))
  )

describe("Transcript", () => {
  it.prop("a tool call is never without its result, nor a result without its call", [journal], ([written]) => {
    for (let cut = 0; cut <= written.length; cut++) assertPaired(shown(written.slice(0, cut)))
  })

  it.prop("the prompt of a step is the beginning of the next step's", [journal], ([written]) => {
    let before: ReadonlyArray<Prompt.Message> = []
    for (const [index, { event }] of written.entries()) {
      if (event._tag !== "ModelRequested") continue
      const now = shown(written.slice(0, index + 1))
      assert.deepStrictEqual(now.slice(0, before.length), before)
      before = now
    }
  })

  it.prop("every input that does not wait is shown once, in its order", [journal], ([written]) => {
    const told = textsOf(shown(written).filter(({ role }) => role === "user"))
    const inputs = Turn.inOrder(written).flatMap(({ event }) => (event._tag === "InputAccepted" ? [event.input] : []))
    assert.strictEqual(told.length, inputs.length)
    for (const [index, { at }] of inputs.entries()) assert.include(told[index], `input ${at}<`)
  })

  it.prop("a model is asked about something it has not answered yet", [journal], ([written]) => {
    for (const [index, { event }] of written.entries()) {
      if (event._tag !== "ModelRequested") continue
      assert.oneOf(shown(written.slice(0, index + 1)).at(-1)?.role, ["user", "tool"])
    }
  })

  it("what was said while the model answered stands after its answer", () => {
    const messages = shown(
      entries(input("one"), asked, input("two"), { _tag: "ModelAnswered", step: 1, content: [callOf("a")], usage })
    )
    assert.deepStrictEqual(
      messages.map(({ role }) => role),
      ["user", "assistant", "tool", "user"]
    )
    assert.include(textsOf(messages)[1], "two")
  })

  it("a call that was cut short is said to be so, and one that a person stopped", () => {
    const cut = (...more: ReadonlyArray<Turn.Event>) => {
      const begun: ReadonlyArray<Turn.Event> = [
        input("one"),
        asked,
        { _tag: "ModelAnswered", step: 1, content: [callOf("a")], usage },
        { _tag: "ToolStarted", call: "a", tool: "bash" }
      ]
      return shown(entries(...begun, ...more))[2]?.content
    }
    assert.deepStrictEqual(cut(), [Transcript.failedResult(callOf("a"), Transcript.interrupted)])
    assert.deepStrictEqual(cut({ _tag: "TurnEnded", ending: { _tag: "Stopped" } }), [
      Transcript.failedResult(callOf("a"), Transcript.stopped)
    ])
  })

  it("what a tool returned is wrapped once, with its name, however it is read and whatever it is", () => {
    const returned = (more: Partial<Prompt.ToolResultPart>, times = 1) => {
      const steps = Array.from({ length: times }, (): ReadonlyArray<Turn.Event> => [
        asked,
        { _tag: "ModelAnswered", step: 1, content: [callOf("a")], usage },
        { _tag: "ToolEnded", result: resultOf("a", more) }
      ])
      const last = shown(entries(input("one"), ...steps.flat())).at(-1)?.content[0]
      assert(typeof last === "object" && last.type === "tool-result")
      return last
    }
    for (const [result, inside] of [
      ["plain", "plain"],
      ["", ""],
      [{ a: "</result>" }, `{"a":"<\u200b/result>"}`],
      [null, "null"]
    ] as const) {
      assert.strictEqual(returned({ result }).result, `<result tool="bash">${inside}</result>`)
    }
    assert.deepInclude(returned({ result: "no such file", isFailure: true }), {
      isFailure: true,
      result: `<result tool="bash">no such file</result>`
    })
    const image = Prompt.filePart({ mediaType: "image/png", data: new Uint8Array(3) })
    assert.deepStrictEqual(returned({ modelOutput: [Prompt.textPart({ text: "<notice>" }), image] }).modelOutput, [
      Prompt.textPart({ text: `<result tool="bash"><\u200bnotice></result>` }),
      image
    ])
    // What the claw says of it stands outside.
    assert.match(String(returned({}, 3).result), /^<result tool="bash">did a<\/result>\n\[This very call .* 3 times\./)
  })

  it("a result that is cut is closed, and what the claw says of it stays", () => {
    const cut = (result: string) => {
      const [trimmed] = [Prompt.toolMessage({ content: [resultOf("a", { result })] })].map(PromptSize.trim(1000))
      return JSON.stringify(trimmed?.content)
    }
    const long = `<result tool=\\"bash\\">${"x".repeat(978)}`
    assert.include(cut(`<result tool="bash">${"x".repeat(5000)}</result>`), `characters more were cut]</result>`)
    assert.include(cut(`<result tool="bash">${"x".repeat(5000)}</result>\n[again]`), `cut]</result>\\n[again]`)
    assert.include(cut(`<result tool="bash">${"x".repeat(5000)}</result>`), long.slice(0, 900))
  })

  it.prop("results are wrapped once, also after a compaction and by another process", [journal], ([written]) => {
    const ended = Turn.inOrder(written)
    const cut = ended.find(({ event }) => event._tag === "TurnEnded")?.position ?? 0
    const compacted = { _tag: "Compacted", before: cut, trimmed: cut, reads: 0, summary: "so far" } as const
    const resumed = { _tag: "TurnResumed" } as const
    const later = [compacted, resumed].map((event, index) => ({ position: written.length + index + 1, at: 0, event }))
    for (const messages of [shown(written), shown([...written, ...later])]) {
      for (const part of messages.flatMap(({ content, role }) => (role === "tool" ? content : []))) {
        if (part.type !== "tool-result" || part.isFailure) continue
        assert.match(String(part.result), /^<result tool="bash">did [\d.]+<\/result>$/)
      }
    }
  })

  it("who says it, and when, is told with it", () => {
    const time = `time="Thu, Jan 1, 1970, 12:00 AM"`
    assert.deepStrictEqual(
      textsOf(
        shown(
          entries(
            input("hi", { _tag: "Person", sender: Sender.make("memory:ada"), name: 'Ada "A" <x>' }),
            input("hi"),
            input("water", { _tag: "Task", task: "t1" }),
            input("dig", {
              _tag: "Parent",
              conversation: ConversationId.make("memory:chat"),
              agent: AgentName.make("boss"),
              rights: none,
              depth: 1
            })
          )
        )
      ),
      [
        `<message from="Ada &quot;A&quot; &lt;x&gt;" ${time}>hi</message>`,
        `<message from="memory:ada" ${time}>hi</message>`,
        `<task id="t1" ${time}>water</task>`,
        `<brief from="boss" ${time}>dig</brief>`
      ]
    )
  })

  for (const { expect, input, name } of cases(
    "formatting",
    Schema.Struct({
      name: Schema.String,
      input: Schema.Struct({ at: Schema.String, timeZone: Schema.String }),
      expect: Schema.Struct({ contains: Schema.String })
    })
  )) {
    it(name, () => {
      const zone = DateTime.zoneMakeNamedUnsafe(input.timeZone)
      const at = DateTime.toEpochMillis(DateTime.makeUnsafe(input.at))
      assert.include(Transcript.clockIn(zone)(at), expect.contains)
    })
  }

  it("a very long input is cut, and said to be", () => {
    const [long = ""] = textsOf(shown(entries(input("x".repeat(1_000_000)))))
    assert.isBelow(long.length, Transcript.inputLimit + 200)
    assert.include(long, "900,000 characters more were cut")
  })

  it("what is shown is valid Unicode", () => {
    const cut = `${"x".repeat(Transcript.inputLimit - 1)}😀`
    for (const shownText of textsOf(shown(entries(input("a\ud83db"), input(cut)))))
      assert.isTrue(shownText.isWellFormed())
  })

  it("an estimate of tokens is no less than a token for three characters", () => {
    const prompt = Transcript.prompt({ system: "x".repeat(300), entries: entries(input("x".repeat(300))), clock })
    assert.isAtLeast(PromptSize.estimateTokens(prompt), 200)
  })
})
