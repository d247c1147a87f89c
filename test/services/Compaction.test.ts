import { assert, describe, it } from "@effect/vitest"
import * as Compaction from "effect-claw/services/Compaction"
import { AgentName, Sender, text } from "effect-claw/services/Message"
import * as PromptSize from "effect-claw/services/PromptSize"
import * as Transcript from "effect-claw/services/Transcript"
import * as Turn from "effect-claw/services/Turn"
import * as Prompt from "effect/ai/Prompt"
import * as Arbitrary from "effect/Arbitrary"
import * as DateTime from "effect/DateTime"
import * as Schema from "effect/Schema"
import { assertPaired, callOf, journal, usage } from "./journals.ts"

const clock = Transcript.clockIn(DateTime.zoneMakeNamedUnsafe("UTC"))
const system = "You are Andy."
const budget = 2000
const int = (minimum: number, maximum: number) =>
  Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum, maximum })))

const options = (entries: ReadonlyArray<Turn.Entry>, most = budget): Transcript.Options => ({
  system,
  entries: Turn.inOrder(entries),
  clock,
  budget: most
})

/** A journal whose texts are long, each as long as a list of numbers says, over and over. */
const bulky = (entries: ReadonlyArray<Turn.Entry>, sizes: ReadonlyArray<number>): ReadonlyArray<Turn.Entry> =>
  entries.map((entry, index) => {
    const long = `<&"x ${"y".repeat(sizes[index % sizes.length] ?? 0)}`
    const { event } = entry
    switch (event._tag) {
      case "InputAccepted": {
        const file = Prompt.filePart({ mediaType: "image/png", data: new Uint8Array(8), fileName: "cat.png" })
        const content = [...event.input.content, ...text(long), ...(index % 5 === 0 ? [file] : [])]
        return { ...entry, event: { ...event, input: { ...event.input, content } } }
      }
      case "ModelAnswered": {
        const content = event.content.map((part) =>
          part.type === "tool-call"
            ? Prompt.toolCallPart({ id: part.id, name: part.name, params: { command: long }, providerExecuted: false })
            : part
        )
        return { ...entry, event: { ...event, content } }
      }
      case "ToolEnded": {
        const { id, name } = event.result
        const result = index % 2 === 0 ? long : { out: [long], code: 0 }
        return {
          ...entry,
          event: {
            ...event,
            result: Prompt.toolResultPart({ id, name, isFailure: false, result, providerExecuted: false })
          }
        }
      }
      default:
        return entry
    }
  })

const written: Arbitrary.Arbitrary<ReadonlyArray<Turn.Entry>> = Arbitrary.map(
  Arbitrary.all([journal, Arbitrary.array(int(0, 6000), { minLength: 1, maxLength: 7 })]),
  ([entries, sizes]) => bulky(entries, sizes)
)

/** Compacts as the runtime does: at every request, until nothing is due. */
const compactAll = (entries: ReadonlyArray<Turn.Entry>, most = budget): ReadonlyArray<Turn.Entry> => {
  const all: Array<Turn.Entry> = []
  for (const entry of entries) {
    all.push({ ...entry, position: entry.position * 100 })
    if (entry.event._tag !== "ModelRequested") continue
    for (let tries = 0; ; tries++) {
      assert.isBelow(tries, 50, "compaction comes to an end")
      const due = Compaction.due(options(all, most))
      if (due === undefined) break
      const event = due.old.length === 0 ? due.event : Compaction.entry(due, options(all, most), "")
      all.push({ position: entry.position * 100 + tries + 1, at: 0, event })
    }
  }
  return all
}

const input = (said: string): Turn.Event => ({
  _tag: "InputAccepted",
  input: { origin: { _tag: "Person", sender: Sender.make("memory:ada"), name: "Ada" }, content: text(said), at: 0 }
})
const asked = (step = 1): Turn.Event => ({ _tag: "ModelRequested", step, agent: AgentName.make("andy") })
const answered = (...parts: ReadonlyArray<string | Prompt.ToolCallPart>): Turn.Event => ({
  _tag: "ModelAnswered",
  step: 1,
  content: parts.map((part) => (typeof part === "string" ? Prompt.textPart({ text: part }) : part)),
  usage
})
const returned = (id: string, result: unknown): Turn.Event => ({
  _tag: "ToolEnded",
  result: Prompt.toolResultPart({ id, name: "bash", isFailure: false, result, providerExecuted: false })
})
const over: Turn.Event = { _tag: "TurnEnded", ending: { _tag: "Done" } }
const entries = (...events: ReadonlyArray<Turn.Event>): ReadonlyArray<Turn.Entry> =>
  events.map((event, index) => ({ position: index + 1, at: 0, event }))
const turn = (said: string, reply: string): ReadonlyArray<Turn.Event> => [input(said), asked(), answered(reply), over]
const shownOf = (written: ReadonlyArray<Turn.Entry>, most = budget) =>
  JSON.stringify(Transcript.prompt(options(written, most)).content)

describe("a prompt, whatever the journal", () => {
  it.prop("fits its budget", [written, int(300, 8000)], ([entries, most]) => {
    for (let cut = 1; cut <= entries.length; cut++) {
      const prompt = Transcript.prompt(options(entries.slice(0, cut), most))
      assert.isAtMost(PromptSize.estimateTokens(prompt), most)
    }
  })

  it.prop("fits its budget after compactions, too", [written, int(1000, 8000)], ([entries, most]) => {
    const prompt = Transcript.prompt(options(compactAll(entries, most), most))
    assert.isAtMost(PromptSize.estimateTokens(prompt), most)
  })

  it.prop("has no call without its result, and no result without its call", [written], ([entries]) => {
    const all = compactAll(entries)
    for (let cut = 1; cut <= all.length; cut++) assertPaired(Transcript.prompt(options(all.slice(0, cut))).content)
  })

  it.prop("is what it was, as far as it goes, until the next compaction", [written], ([entries]) => {
    let before: ReadonlyArray<Prompt.Message> = []
    const all = compactAll(entries)
    for (const [index, { event }] of all.entries()) {
      if (event._tag === "Compacted") before = []
      // Where even a compaction did not make room, the oldest goes first.
      if (event._tag !== "ModelRequested" || Compaction.due(options(all.slice(0, index + 1))) !== undefined) continue
      const now = Transcript.prompt(options(all.slice(0, index + 1), Infinity)).content
      assert.deepStrictEqual(now.slice(0, before.length), before)
      before = now
    }
  })

  it.prop("shows what it is asked about, whatever was compacted", [written, int(2500, 8000)], ([entries, most]) => {
    const all: Array<Turn.Entry> = []
    for (const entry of compactAll(entries, most)) {
      const ordered = Turn.inOrder(all)
      const end = ordered.findLastIndex(({ event }) => event._tag === "TurnEnded")
      const seen = ordered.findLastIndex(({ event }) => event._tag === "ModelRequested")
      all.push(entry)
      if (entry.event._tag !== "ModelRequested") continue
      if (Compaction.due(options(all, most)) !== undefined) continue
      const shown = JSON.stringify(Transcript.prompt(options(all, most)).content.slice(1))
      const fresh = ordered
        .slice(Math.max(end, seen) + 1)
        .flatMap(({ event }) => (event._tag === "InputAccepted" ? [event.input] : []))
      // What is asked about may be cut, and the newest of it is there.
      const newest = fresh.at(-1)
      if (newest !== undefined) assert.include(shown, `input ${newest.at}`)
    }
  })

  it.prop("what it leaves out changes nothing of what is to be done", [written], ([entries]) => {
    const all = compactAll(entries)
    const plain = all.filter(({ event }) => event._tag !== "Compacted")
    assert.deepStrictEqual(Turn.next(Turn.fold(Turn.inOrder(all)), 0), Turn.next(Turn.fold(Turn.inOrder(plain)), 0))
    assert.deepStrictEqual(Turn.fold(Turn.inOrder(all)).mandate, Turn.fold(Turn.inOrder(plain)).mandate)
  })
})

describe("a compaction", () => {
  it("is not due while everything fits", () =>
    assert.isUndefined(Compaction.due(options(entries(...turn("one", "1"), input("two"), asked())))))

  it("first leaves out files and long texts of tools, of turns that are over", () => {
    const image = Prompt.filePart({ mediaType: "image/png", data: new Uint8Array(8), fileName: "cat.png" })
    const first: Turn.Event = {
      _tag: "InputAccepted",
      input: { origin: { _tag: "Task", task: "t1" }, content: [...text("look at the cat"), image], at: 0 }
    }
    const written = entries(
      first,
      asked(),
      answered(callOf("a")),
      returned("a", { out: "z".repeat(9000), code: 0 }),
      asked(2),
      answered("a fine cat"),
      over,
      input("what was its name?"),
      asked()
    )
    const due = Compaction.due(options(written))
    assert.deepStrictEqual(due, { event: { _tag: "Compacted", before: 1, trimmed: 8, reads: 0, summary: "" }, old: [] })
    const shown = shownOf([...written, { position: 10, at: 0, event: due?.event ?? over }])
    assert.include(shown, "[a file was here: cat.png]")
    assert.match(shown, /8,0\d\d characters more were cut/)
    for (const whole of ["look at the cat", "a fine cat", "what was its name?"]) assert.include(shown, whole)
  })

  it("then sums up the older turns, and shows the newer ones whole", () => {
    const turns = Array.from({ length: 12 }, (_, index) =>
      turn(`question ${index} ${"q".repeat(700)}`, `answer ${index}`)
    )
    const written = entries(...turns.flat(), input("and now?"), asked())
    const due = Compaction.due(options(written))
    assert.isDefined(due)
    if (due === undefined) return
    assert.isAbove(due.old.length, 0)
    const transcript = JSON.stringify(Compaction.request(due, options(written)).content)
    assert.include(transcript, "Ada, Thu, Jan 1, 1970, 12:00 AM: question 0 q")
    assert.include(transcript, "you: answer 0")
    const event = Compaction.entry(due, options(written), "Ada asked a lot.")
    const shown = shownOf([...written, { position: 1000, at: 0, event }])
    assert.include(shown, "<summary>Ada asked a lot.</summary>")
    assert.notInclude(shown, "question 0")
    for (const newer of ["question 11", "answer 11", "and now?"]) assert.include(shown, newer)
  })

  it("of a turn that is too long by itself sums up its steps, and leaves the last", () => {
    const steps = Array.from({ length: 9 }, (_, step) => [
      asked(step + 1),
      answered(callOf(`c${step}`)),
      returned(`c${step}`, `result ${step} ${"r".repeat(1200)}`)
    ])
    const written = entries(input("count the files"), ...steps.flat(), asked(10))
    const all = [...written]
    const due = Compaction.due(options(written))
    assert.isDefined(due)
    if (due !== undefined) all.push({ position: 1000, at: 0, event: Compaction.entry(due, options(written), "") })
    const shown = shownOf(all)
    // What was asked for is in the digest.
    assert.include(shown, "count the files")
    assert.include(shown, "result 8")
    assert.notInclude(shown, `result 0 ${"r".repeat(300)}`)
    assert.isUndefined(Compaction.due(options(all)))
  })

  it("keeps what the one before it knew", () => {
    const turns = (from: number) =>
      Array.from({ length: 12 }, (_, index) => turn(`question ${from + index} ${"q".repeat(700)}`, "yes")).flat()
    const first = entries(...turns(0), input("and now?"), asked())
    const due = Compaction.due(options(first))
    assert.isDefined(due)
    if (due === undefined) return
    const event = Compaction.entry(due, options(first), "Ada's cat is called Tom.")
    const more = [
      { position: 1000, at: 0, event },
      ...entries(answered("yes"), over, ...turns(20), input("well?"), asked()).map((entry) => ({
        ...entry,
        position: entry.position + 1000
      }))
    ]
    const second = Compaction.due(options([...first, ...more]))
    assert.isDefined(second)
    if (second === undefined) return
    assert.include(JSON.stringify(Compaction.request(second, options(first)).content), "Ada's cat is called Tom.")
    assert.include(Compaction.entry(second, options(first), "").summary, "Ada's cat is called Tom.")
  })

  it("never sums up a message that took a turn's place", () => {
    const steps = Array.from({ length: 6 }, (_, step) => [
      asked(step + 1),
      answered(callOf(`c${step}`)),
      returned(`c${step}`, `result ${step} ${"r".repeat(1500)}`)
    ]).flat()
    const superseded: Turn.Event = { _tag: "TurnEnded", ending: { _tag: "Superseded" } }
    const all = [
      ...entries(input("count the files"), ...steps, asked(7), input("no, the folders"), superseded, asked())
    ]
    const due = Compaction.due(options(all))
    assert.isDefined(due)
    if (due !== undefined)
      all.push({ position: 1000, at: 0, event: Compaction.entry(due, options(all), "Ada counts.") })
    assert.include(shownOf(all), "no, the folders")
    assert.include(shownOf(all), "<summary>")
  })

  it("is due when it was asked for in the middle of a turn, after the turn", () => {
    const asking = entries(
      input("one"),
      asked(),
      { _tag: "CompactionAsked" },
      answered("1"),
      over,
      input("two"),
      asked()
    )
    assert.strictEqual(Compaction.due(options(asking))?.event.before, 6)
  })

  it("a thousand messages to nobody are summed up, and the one to the agent is not", () => {
    const context = (index: number): Turn.Event => ({
      _tag: "InputAccepted",
      mode: "context",
      input: { origin: { _tag: "Task", task: "t" }, content: text(`chatter ${index}`), at: 0 }
    })
    const chatter = Array.from({ length: 20_000 }, (_, index) => context(index))
    const all = [...entries(...turn("hi", "ho"), ...chatter, input("what did they say?"), asked())]
    const began = performance.now()
    const due = Compaction.due(options(all))
    assert.isDefined(due)
    if (due === undefined) return
    all.push({ position: 50_000, at: 0, event: Compaction.entry(due, options(all), "") })
    const shown = shownOf(all)
    assert.include(shown, "what did they say?")
    assert.include(shown, "chatter 19999")
    assert.isUndefined(Compaction.due(options(all)))
    // What is not needed any more is not read again.
    assert.isAbove(due.event.reads, 15_000)
    assert.isBelow(performance.now() - began, 10_000)
  })

  it("a digest of digests tells of the latest", () => {
    const all: Array<Turn.Entry> = []
    const add = (...events: ReadonlyArray<Turn.Event>) => {
      for (const event of events) all.push({ position: all.length + 1, at: 0, event })
    }
    for (let round = 0; round < 300; round++) {
      add(input(`question ${round}`), asked())
      const due = Compaction.due(options(all))
      if (due !== undefined) add(Compaction.entry(due, options(all), ""))
      add(answered("y".repeat(300)), over)
    }
    const { summary } = Transcript.compacted(all)
    const told = [...summary.matchAll(/question (\d+)/g)].map(([, round]) => Number(round))
    assert.isAbove(Math.max(...told), 250)
  })

  it("is due when it was asked for, at the next turn, and once", () => {
    const before = [...turn("one", "1"), { _tag: "CompactionAsked" } as const, input("two"), asked()]
    const due = Compaction.due(options(entries(...before)))
    assert.strictEqual(due?.event.before, 5)
    assert.isUndefined(Compaction.due(options(entries(...before, due?.event ?? over))))
    assert.isUndefined(Compaction.due(options(entries({ _tag: "CompactionAsked" }, input("two"), asked()))))
  })

  it("is due when the entries are many, however short they are", () => {
    const written = entries(...Array.from({ length: 400 }, () => turn("hi", "ho")).flat(), input("hi"), asked())
    const due = Compaction.due(options(written, 1_000_000))
    assert.isAtLeast(due?.old.length ?? 0, 800)
  })

  it("asks for a summary with no more than the budget", () => {
    const turns = Array.from({ length: 200 }, (_, index) => turn(`<&> ${index} ${"<".repeat(900)}`, "&".repeat(300)))
    const written = options(entries(...turns.flat(), input("and now?"), asked()))
    const due = Compaction.due(written)
    assert.isDefined(due)
    if (due === undefined) return
    assert.isAtMost(PromptSize.estimateTokens(Compaction.request(due, written)), budget)
  })
})
