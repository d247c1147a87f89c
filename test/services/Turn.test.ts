import { assert, describe, it } from "@effect/vitest"
import { AgentName, ConversationId, Sender, text } from "effect-claw/services/Message"
import { Rights } from "effect-claw/services/Rights"
import * as Turn from "effect-claw/services/Turn"
import * as Prompt from "effect/ai/Prompt"
import { callOf, journal, resultOf, usage } from "./journals.ts"

const agent = AgentName.make("andy")
const ada = Sender.make("memory:ada")
const bob = Sender.make("memory:bob")

const entries = (...events: ReadonlyArray<Turn.Event>): ReadonlyArray<Turn.Entry> =>
  events.map((event, index) => ({ position: index + 1, at: 0, event }))

const said = (sender: Sender): Turn.Event => ({
  _tag: "InputAccepted",
  input: { origin: { _tag: "Person", sender }, content: text("hi"), at: 0 }
})
const collected = {
  _tag: "InputAccepted",
  mode: "collect",
  input: { origin: { _tag: "Person", sender: bob }, content: text("hi"), at: 0 }
} as const
const task = (sender?: Sender): Turn.Event => ({
  _tag: "InputAccepted",
  input: {
    origin: { _tag: "Task", task: "t1", ...(sender === undefined ? {} : { sender }) },
    content: text("hi"),
    at: 0
  }
})
const asked = (step: number): Turn.Event => ({ _tag: "ModelRequested", step, agent })
const answered = (step: number, ...calls: ReadonlyArray<string>): Turn.Event => ({
  _tag: "ModelAnswered",
  step,
  content: calls.map(callOf),
  usage
})
const started = (call: string): Turn.Event => ({ _tag: "ToolStarted", call, tool: "bash" })
const ended = (call: string): Turn.Event => ({ _tag: "ToolEnded", result: resultOf(call) })
const over = (ending: Turn.Ending = { _tag: "Done" }): Turn.Event => ({ _tag: "TurnEnded", ending })

const mandateOf = (entries: ReadonlyArray<Turn.Entry>) => Turn.fold(entries).mandate
const approvalsOf = (entries: ReadonlyArray<Turn.Entry>, now: number) => Turn.approvals(Turn.fold(entries), now)
const nextOf = (entries: ReadonlyArray<Turn.Entry>, now = 0) => Turn.next(Turn.fold(entries), now)

describe("Turn.next", () => {
  it.prop("wherever a journal is cut, it names exactly the work that is missing", [journal], ([written]) => {
    for (let cut = 1; cut <= written.length; cut++) {
      assert.deepStrictEqual(nextOf(Turn.inOrder(written.slice(0, cut))), written[cut - 1]?.next)
    }
  })

  it("a conversation of nothing rests", () => assert.deepStrictEqual(nextOf([]), { _tag: "Rest" }))

  it("a call that was started and did not end is interrupted, the others are to be made", () =>
    assert.deepStrictEqual(
      nextOf(entries(said(ada), asked(1), answered(1, "a", "b", "c"), started("a"), started("b"), ended("a"))),
      { _tag: "CallTools", step: 1, calls: [callOf("b"), callOf("c")], interrupted: new Set(["b"]) }
    ))

  it("the same call id in a later step is another call", () =>
    assert.deepStrictEqual(
      nextOf(entries(said(ada), asked(1), answered(1, "a"), started("a"), ended("a"), asked(2), answered(2, "a"))),
      { _tag: "CallTools", step: 2, calls: [callOf("a")], interrupted: new Set<string>() }
    ))

  it("what came during the last answer is answered next, in the same turn", () =>
    assert.deepStrictEqual(nextOf(entries(said(ada), asked(1), said(ada), answered(1))), { _tag: "AskModel", step: 2 }))

  it("what came before a failure was seen, what came during it was not", () => {
    const failed = over({ _tag: "Failed", message: "no model" })
    assert.deepStrictEqual(nextOf(entries(said(ada), asked(1), failed)), { _tag: "Rest" })
    assert.deepStrictEqual(nextOf(entries(said(ada), asked(1), said(ada), failed)), { _tag: "AskModel", step: 1 })
  })

  it("a stop cancels what was not seen yet", () =>
    assert.deepStrictEqual(nextOf(entries(said(ada), asked(1), said(ada), over({ _tag: "Stopped" }))), {
      _tag: "Rest"
    }))

  it("a message that took a turn's place is answered by a new one, whether the old one saw it or not", () => {
    const superseded = over({ _tag: "Superseded" })
    for (const before of [
      [asked(1), said(ada)],
      [asked(1), said(ada), asked(1)]
    ]) {
      assert.deepStrictEqual(nextOf(entries(said(ada), ...before, superseded)), { _tag: "AskModel", step: 1 })
    }
  })

  it("a tool that the provider runs is not ours to run", () => {
    const theirs = Prompt.toolCallPart({ id: "a", name: "web_search", params: {}, providerExecuted: true })
    assert.deepStrictEqual(
      nextOf(entries(said(ada), asked(1), { _tag: "ModelAnswered", step: 1, content: [theirs], usage })),
      { _tag: "Rest" }
    )
  })
})

describe("Turn.inOrder", () => {
  const waits = (sender: Sender): Turn.Event => ({
    ...collected,
    input: { ...collected.input, origin: { _tag: "Person", sender } }
  })
  const positions = (...events: ReadonlyArray<Turn.Event>) =>
    Turn.inOrder(entries(...events)).map(({ position }) => position)

  it("what is to be collected stands behind the end of the turn it came in, and is not there before", () => {
    assert.deepStrictEqual(positions(said(ada), asked(1), waits(bob), waits(ada), answered(1)), [1, 2, 5])
    assert.deepStrictEqual(
      positions(said(ada), asked(1), waits(bob), waits(ada), answered(1), over()),
      [1, 2, 5, 6, 3, 4]
    )
  })

  it("so does what came too late for a turn, and what one that was superseded had not answered", () => {
    const failed = over({ _tag: "Failed", message: "no model" })
    assert.deepStrictEqual(
      positions(said(ada), asked(1), answered(1, "a"), said(bob), ended("a"), failed),
      [1, 2, 3, 5, 6, 4]
    )
    const superseded = over({ _tag: "Superseded" })
    assert.deepStrictEqual(positions(said(ada), asked(1), said(bob), superseded), [2, 4, 1, 3])
    assert.deepStrictEqual(
      positions(said(ada), asked(1), answered(1, "a"), ended("a"), asked(2), said(bob), superseded),
      [1, 2, 3, 4, 5, 7, 6]
    )
  })

  it("where no turn is open it does not wait", () =>
    assert.deepStrictEqual(positions(waits(ada), asked(1), answered(1), over(), waits(bob)), [1, 2, 3, 4, 5]))

  it("a stop cancels it, and so does a new beginning", () => {
    for (const end of [over({ _tag: "Stopped" }), { _tag: "ConversationReset" } as const]) {
      const written = [said(ada), asked(1), waits(bob), end]
      assert.deepStrictEqual(nextOf(Turn.inOrder(entries(...written))), { _tag: "Rest" })
    }
  })

  it("the turn acts for who is seen, not for who waits or was not speaking to it", () => {
    const context: Turn.Event = { ...collected, mode: "context" }
    const ordered = Turn.inOrder(entries(said(ada), asked(1), waits(bob), context))
    assert.strictEqual(mandateOf(ordered).sender, ada)
  })
})

describe("Turn.mandate", () => {
  it.prop("a turn is the position of its first request, until it ends", [journal], ([written]) => {
    let turn: Turn.TurnId | undefined
    let tokens = 0
    for (const [index, { event, position }] of written.entries()) {
      if (event._tag === "ModelRequested") turn ??= Turn.TurnId.make(position)
      if (event._tag === "ModelAnswered") tokens += 10
      if (event._tag === "TurnEnded") {
        turn = undefined
        tokens = 0
      }
      const mandate = mandateOf(Turn.inOrder(written.slice(0, index + 1)))
      assert.deepStrictEqual([mandate.turn, mandate.tokens], [turn, tokens])
    }
  })

  it("it acts for who wrote last", () => {
    assert.strictEqual(mandateOf(entries(said(ada))).sender, ada)
    assert.strictEqual(mandateOf(entries(said(ada), asked(1), said(bob))).sender, bob)
    assert.strictEqual(mandateOf(entries(said(ada), asked(1), answered(1), over(), said(bob))).sender, bob)
  })

  it("a task acts for who had it made, and for nobody else", () => {
    assert.strictEqual(mandateOf(entries(task(bob))).sender, bob)
    assert.strictEqual(mandateOf(entries(said(ada), asked(1), answered(1), over(), task())).sender, undefined)
  })

  it("a brief's rights hold for its whole turn", () => {
    const parent: Turn.Origin = {
      _tag: "Parent",
      conversation: ConversationId.make("memory:chat"),
      agent,
      sender: ada,
      rights: new Rights({ tools: ["read_file"] }),
      depth: 2
    }
    const brief: Turn.Event = { _tag: "InputAccepted", input: { origin: parent, content: text("do it"), at: 0 } }
    const acting = mandateOf(entries(brief, asked(1), answered(1, "a"), ended("a"), asked(2)))
    assert.deepInclude(acting, { parent, sender: ada })
    assert.strictEqual(mandateOf(entries(brief, asked(1), answered(1), over(), said(bob))).parent, undefined)
  })
})

describe("Turn.approvals", () => {
  const day = 86_400_000
  const waits = (call: string, code = `code ${call}`): Turn.Event => ({
    _tag: "ApprovalAsked",
    call,
    tool: "bash",
    digest: `digest ${call}`,
    code
  })
  const answers = (call: string, yes: boolean, code = `code ${call}`): Turn.Event => ({
    _tag: "ApprovalAnswered",
    code,
    digest: `digest ${call}`,
    yes,
    by: ada
  })
  const before = [said(ada), asked(1), answered(1, "a", "b")]
  const of = (events: ReadonlyArray<Turn.Event>, now = 0) =>
    Object.fromEntries(
      [...approvalsOf(entries(...events), now)].map(([call, { answer }]) => [call, answer?.yes ?? "waits"])
    )

  it("a turn is parked while a call waits, and the others go on", () => {
    const next = (...events: ReadonlyArray<Turn.Event>) => nextOf(entries(...before, ...events))
    assert.deepInclude(next(waits("a")), { _tag: "CallTools", calls: [callOf("b")] })
    assert.deepStrictEqual(next(waits("a"), started("b"), ended("b")), { _tag: "Park" })
    assert.deepStrictEqual(next(waits("a"), waits("b")), { _tag: "Park" })
    assert.deepInclude(next(waits("a"), waits("b"), answers("b", true)), { _tag: "CallTools", calls: [callOf("b")] })
    assert.deepInclude(next(waits("a"), ended("b"), answers("a", false)), { _tag: "CallTools", calls: [callOf("a")] })
  })

  it("an answer is for the one call of its code and its digest, and the first counts", () => {
    assert.deepStrictEqual(of([...before, waits("a"), waits("b"), answers("a", true)]), { a: true, b: "waits" })
    assert.deepStrictEqual(of([...before, waits("a"), answers("a", true, "code b")]), { a: "waits" })
    assert.deepStrictEqual(of([...before, waits("a"), answers("b", true, "code a")]), { a: "waits" })
    assert.deepStrictEqual(of([...before, waits("a"), answers("a", false), answers("a", true)]), { a: false })
    assert.deepStrictEqual(of([...before, answers("a", true), waits("a")]), { a: "waits" })
  })

  it("it is for no other step, turn or conversation that begins afresh", () => {
    const given = [...before, waits("a"), answers("a", true)]
    assert.deepStrictEqual(of([...given, asked(2), answered(2, "a")]), {})
    assert.deepStrictEqual(of([...given, asked(2), answered(2, "a"), waits("a", "other"), answers("a", true)]), {
      a: "waits"
    })
    assert.deepStrictEqual(of([...given, over({ _tag: "Stopped" })]), {})
    assert.deepStrictEqual(of([...given, { _tag: "ConversationReset" }]), {})
  })

  it("a message that a person writes instead denies all that wait; one that waits itself, and a task, do not", () => {
    const waiting = [...before, waits("a"), waits("b"), answers("a", true)]
    assert.deepStrictEqual(of([...waiting, said(bob)]), { a: true, b: false })
    assert.deepStrictEqual(of([...waiting, collected, task(ada)]), { a: true, b: "waits" })
  })

  it("nobody's answer is a no after a day, and so is one that comes then", () => {
    assert.deepStrictEqual(of([...before, waits("a")], day - 1), { a: "waits" })
    assert.deepStrictEqual(of([...before, waits("a")], day), { a: false })
    assert.deepInclude(nextOf(entries(...before, waits("a"), ended("b")), day), { _tag: "CallTools" })
    const waiting = entries(...before, waits("a"))
    const answer = (at: number) => approvalsOf([...waiting, { position: 9, at, event: answers("a", true) }], 9 * day)
    assert.deepStrictEqual(answer(day - 1).get("a")?.answer, { yes: true })
    assert.isFalse(answer(day).get("a")?.answer?.yes)
  })

  it("of two calls with one id the first is made, and no other in its name", () => {
    const two = Prompt.toolCallPart({ id: "a", name: "bash", params: { command: "other" }, providerExecuted: false })
    const both: Turn.Event = { _tag: "ModelAnswered", step: 1, content: [callOf("a"), two], usage }
    assert.deepInclude(nextOf(entries(said(ada), asked(1), both)), { calls: [callOf("a")] })
    assert.deepStrictEqual(nextOf(entries(said(ada), asked(1), both, ended("a"))), { _tag: "AskModel", step: 2 })
  })
})
