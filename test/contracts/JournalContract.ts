/**
 * What every journal promises, whatever it is kept on.
 */
import { assert, it } from "@effect/vitest"
import * as Compaction from "effect-claw/services/Compaction"
import { type Delivery, Journal } from "effect-claw/services/Journal"
import { AgentName, type Content, ConversationId, OutputId, Sender, text } from "effect-claw/services/Message"
import * as Transcript from "effect-claw/services/Transcript"
import { type Ending, type Entry, type Event, fold, inOrder, next, TurnId } from "effect-claw/services/Turn"
import * as Prompt from "effect/ai/Prompt"
import * as Response from "effect/ai/Response"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as TestClock from "effect/testing/TestClock"
import { journal as written } from "../services/journals.ts"

export const andy = AgentName.make("andy")
export const chat = ConversationId.make("memory:chat")
export const other = ConversationId.make("memory:other")

/** An input. */
export const delivery = (key: string, conversation = chat, content: Content = text(key)): Delivery => ({
  conversation,
  agent: andy,
  key,
  input: { origin: { _tag: "Person", sender: Sender.make("memory:ada") }, content, at: 0 }
})

/** An answer of text, or of tool calls. */
export const answer = (step: number, ...parts: ReadonlyArray<string | Prompt.ToolCallPart>): Event => ({
  _tag: "ModelAnswered",
  step,
  content: parts.map((part) => (typeof part === "string" ? Prompt.textPart({ text: part }) : part)),
  usage: new Response.Usage({ inputTokens: { total: 7, cacheRead: 3 }, outputTokens: { total: 2 } })
})

export const output = (id: string) => ({ id: OutputId.make(id), text: `text of ${id}` })

const done: Ending = { _tag: "Done" }
const stopped: Ending = { _tag: "Stopped" }
const failed: Ending = { _tag: "Failed", message: "no model" }

/** An input of which the model was asked. */
const asked = Effect.fnUntraced(function* (key: string, conversation = chat) {
  const journal = yield* Journal
  yield* journal.accept(delivery(key, conversation))
  return yield* journal.request(conversation, andy, 1)
})

/** A turn from its input to its end. */
export const turn = Effect.fnUntraced(function* (key: string, said: string, conversation = chat) {
  const journal = yield* Journal
  const id = yield* asked(key, conversation)
  yield* journal.record({ conversation, events: [answer(1, said)], ending: done })
  return id
})

const tags = Effect.fnUntraced(function* (conversation = chat) {
  const entries = yield* Journal.use((journal) => journal.entries(conversation, 0))
  return entries.map(({ event }) => event._tag)
})

const isUnfinished = (conversation = chat) =>
  Journal.use((journal) => Effect.map(journal.unfinished, (all) => all.includes(conversation)))

export const journalContract = <E>(layer: Layer.Layer<Journal, E>) => {
  const test = (name: string, body: Effect.Effect<unknown, unknown, Journal>) =>
    it.effect(name, () => body.pipe(Effect.provide(layer), Effect.asVoid))

  test(
    "an input is there once it is accepted, as it was",
    Effect.gen(function* () {
      const journal = yield* Journal
      yield* TestClock.adjust("5 seconds")
      const content: Content = [
        Prompt.textPart({ text: 'hi "quoted" \n 😀 \0 <b>' }),
        Prompt.filePart({ mediaType: "image/png", data: new Uint8Array([0, 255, 7]), fileName: "a.png" })
      ]
      assert.isTrue(yield* journal.accept(delivery("1", chat, content)))
      const [entry, ...more] = yield* journal.entries(chat, 0)
      assert.deepStrictEqual(more, [])
      assert.strictEqual(entry?.at, 5000)
      assert.deepStrictEqual(entry?.event, { _tag: "InputAccepted", input: delivery("1", chat, content).input })
    })
  )

  test(
    "an input that is there already is not taken again, in its conversation",
    Effect.gen(function* () {
      const journal = yield* Journal
      assert.isTrue(yield* journal.accept(delivery("1")))
      assert.isFalse(yield* journal.accept(delivery("1", chat, text("edited"))))
      assert.isTrue(yield* journal.accept(delivery("1", other)))
      assert.deepStrictEqual(yield* tags(), ["InputAccepted"])
    })
  )

  test(
    "nor when its turn is long over, or it comes many times at once",
    Effect.gen(function* () {
      const journal = yield* Journal
      yield* turn("1", "hello")
      assert.isFalse(yield* journal.accept(delivery("1")))
      assert.isFalse(yield* isUnfinished())
      const taken = yield* Effect.forEach(
        Array.from({ length: 20 }, () => "2"),
        (key) => journal.accept(delivery(key)),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(taken.filter((isNew) => isNew).length, 1)
    })
  )

  test(
    "entries come in their order, and only those after a position",
    Effect.gen(function* () {
      const journal = yield* Journal
      for (const key of ["1", "2", "3"]) {
        yield* journal.accept(delivery(key))
        yield* journal.accept(delivery(key, other))
      }
      const all = yield* journal.entries(chat, 0)
      assert.strictEqual(all.length, 3)
      const positions = all.map(({ position }) => position)
      assert.deepStrictEqual(
        positions,
        [...positions].sort((a, b) => a - b)
      )
      assert.deepStrictEqual(yield* journal.entries(chat, positions[0] ?? 0), all.slice(1))
      assert.deepStrictEqual(yield* journal.entries(chat, positions[2] ?? 0), [])
    })
  )

  test(
    "a conversation is unfinished from its input to its turn's end",
    Effect.gen(function* () {
      const journal = yield* Journal
      const state = Effect.map(journal.state(chat), Option.getOrUndefined)
      assert.strictEqual(yield* state, undefined)
      yield* journal.accept(delivery("1"))
      assert.deepStrictEqual(yield* state, { agent: andy, unfinished: true })
      yield* journal.request(chat, andy, 1)
      assert.isTrue(yield* isUnfinished())
      yield* journal.record({ conversation: chat, events: [answer(1, "hi")] })
      assert.isTrue(yield* isUnfinished())
      assert.isTrue(yield* journal.record({ conversation: chat, events: [], ending: done }))
      assert.deepStrictEqual(yield* state, { agent: andy, unfinished: false })
      assert.deepStrictEqual(yield* journal.unfinished, [])
    })
  )

  test(
    "a conversation is bound to the agent that its latest input names",
    Effect.gen(function* () {
      const journal = yield* Journal
      yield* journal.accept(delivery("1"))
      yield* journal.accept({ ...delivery("2"), agent: AgentName.make("bea") })
      assert.strictEqual(Option.getOrThrow(yield* journal.state(chat)).agent, "bea")
    })
  )

  test(
    "a turn keeps its id over its steps, and the next has another",
    Effect.gen(function* () {
      const journal = yield* Journal
      const first = yield* asked("1")
      assert.strictEqual(yield* journal.request(chat, andy, 2), first)
      assert.strictEqual(yield* journal.request(chat, andy, 2), first)
      yield* journal.record({ conversation: chat, events: [answer(2, "hi")], ending: done })
      const second = yield* asked("2")
      assert.isAbove(second, first)
      const begun = (yield* journal.entries(chat, 0)).filter(({ event }) => event._tag === "ModelRequested")
      assert.deepStrictEqual(
        begun.map(({ position }) => TurnId.make(position)).filter((at) => at === first || at === second),
        [first, second]
      )
    })
  )

  test(
    "a turn is not done while there are inputs it has not seen",
    Effect.gen(function* () {
      const journal = yield* Journal
      const id = yield* asked("1")
      yield* journal.accept(delivery("2"))
      assert.isFalse(
        yield* journal.record({ conversation: chat, events: [answer(1, "hi")], outputs: [output("a")], ending: done })
      )
      assert.deepStrictEqual(yield* tags(), ["InputAccepted", "ModelRequested", "InputAccepted", "ModelAnswered"])
      assert.strictEqual((yield* journal.outbox(chat)).length, 1)
      assert.strictEqual(yield* journal.request(chat, andy, 2), id)
      assert.isTrue(yield* journal.record({ conversation: chat, events: [answer(2, "hi")], ending: done }))
    })
  )

  test(
    "a failure ends it, and what it had not seen is still to be done",
    Effect.gen(function* () {
      const journal = yield* Journal
      yield* asked("1")
      assert.isTrue(yield* journal.record({ conversation: chat, events: [], ending: failed }))
      assert.isFalse(yield* isUnfinished())
      yield* asked("2")
      yield* journal.accept(delivery("3"))
      assert.isTrue(yield* journal.record({ conversation: chat, events: [], ending: failed }))
      assert.isTrue(yield* isUnfinished())
    })
  )

  test(
    "what is to be collected wakes nobody while a turn is open, and is the next turn's",
    Effect.gen(function* () {
      const journal = yield* Journal
      yield* asked("1")
      yield* journal.accept({ ...delivery("2"), mode: "collect" })
      assert.isTrue(yield* journal.record({ conversation: chat, events: [answer(1, "hi")], ending: done }))
      assert.isTrue(yield* isUnfinished())
      yield* journal.request(chat, andy, 1)
      assert.isTrue(yield* journal.record({ conversation: chat, events: [answer(1, "hi")], ending: done }))
      assert.isFalse(yield* isUnfinished())
      // Where no turn is open it is an input like any other.
      yield* journal.accept({ ...delivery("3"), mode: "collect" })
      assert.isTrue(yield* isUnfinished())
    })
  )

  test(
    "a position does not come again, whatever is removed",
    Effect.gen(function* () {
      const journal = yield* Journal
      yield* turn("1", "old")
      const last = (yield* journal.entries(chat, 0)).at(-1)?.position ?? 0
      yield* TestClock.adjust("10 days")
      yield* journal.retain("5 days")
      assert.deepStrictEqual(yield* journal.entries(chat, 0), [])
      for (const key of ["2", "3", "4"]) {
        yield* journal.accept(delivery(key))
        assert.isTrue(yield* isUnfinished())
        assert.isAbove(yield* journal.request(chat, andy, 1), last)
        yield* journal.record({ conversation: chat, events: [answer(1, "new")], ending: done })
      }
      assert.lengthOf(yield* tags(), 12)
    })
  )

  test(
    "a stop cancels it, too",
    Effect.gen(function* () {
      const journal = yield* Journal
      yield* asked("1")
      yield* journal.accept({ ...delivery("2"), mode: "collect" })
      yield* journal.record({ conversation: chat, events: [], ending: stopped })
      assert.isFalse(yield* isUnfinished())
    })
  )

  test(
    "context is there and wakes nobody, in a conversation that is new, at rest, or at work",
    Effect.gen(function* () {
      const journal = yield* Journal
      const context = (key: string) => journal.accept({ ...delivery(key), mode: "context" })
      assert.isTrue(yield* context("1"))
      assert.isFalse(yield* context("1"))
      assert.isFalse(yield* isUnfinished())
      yield* turn("2", "hi")
      yield* context("3")
      assert.isFalse(yield* isUnfinished())
      yield* asked("4")
      yield* context("5")
      assert.isTrue(yield* journal.record({ conversation: chat, events: [answer(1, "hi")], ending: done }))
      assert.isFalse(yield* isUnfinished())
      const inputs = (yield* journal.entries(chat, 0)).filter(({ event }) => event._tag === "InputAccepted")
      assert.lengthOf(inputs, 5)
    })
  )

  test(
    "a turn whose place is taken ends, and is begun anew; where none is open, nothing is taken",
    Effect.gen(function* () {
      const journal = yield* Journal
      const supersede = journal.record({ conversation: chat, events: [], ending: { _tag: "Superseded" } })
      yield* journal.accept(delivery("1"))
      assert.isFalse(yield* supersede)
      const first = yield* journal.request(chat, andy, 1)
      assert.isTrue(yield* supersede)
      assert.isTrue(yield* isUnfinished())
      assert.notStrictEqual(yield* journal.request(chat, andy, 1), first)
    })
  )

  it.effect.prop(
    "what it says of a conversation is what its entries say, also when they are compacted",
    [written],
    ([events]) =>
      Effect.gen(function* () {
        const journal = yield* Journal
        const all: Array<Entry> = []
        const view = (entries: ReadonlyArray<Entry>) => {
          const ordered = inOrder(entries)
          return { system: "You are Andy.", entries: ordered, clock: String, budget: 400 }
        }
        for (const { event } of events) {
          switch (event._tag) {
            case "InputAccepted": {
              const { input, mode } = event
              yield* journal.accept({ ...delivery(`${all.length}`), input, ...(mode === undefined ? {} : { mode }) })
              break
            }
            case "ModelRequested":
              yield* journal.request(chat, andy, event.step)
              break
            case "TurnEnded":
              assert.isTrue(yield* journal.record({ conversation: chat, events: [], ending: event.ending }))
              break
            default:
              yield* journal.record({ conversation: chat, events: [event] })
          }
          const read = Effect.map(journal.entries(chat, all.at(-1)?.position ?? 0), (more) => void all.push(...more))
          yield* read
          const due = event._tag === "ModelRequested" ? Compaction.due(view(all)) : undefined
          if (due !== undefined) {
            yield* journal.record({ conversation: chat, events: [Compaction.entry(due, view(all), "summary")] })
            yield* read
          }
          const shown = yield* journal.entries(chat, 0)
          assert.deepStrictEqual(next(fold(inOrder(shown)), 0), next(fold(inOrder(all)), 0))
          assert.deepStrictEqual(fold(inOrder(shown)).mandate.turn, fold(inOrder(all)).mandate.turn)
          assert.deepStrictEqual(Transcript.prompt(view(shown)), Transcript.prompt(view(all)))
          const { turn: open } = fold(inOrder(all)).mandate
          assert.strictEqual(yield* isUnfinished(), open !== undefined || next(fold(inOrder(all)), 0)._tag !== "Rest")
        }
      }).pipe(Effect.provide(Layer.fresh(layer))),
    { arbitrary: { runs: 30 } }
  )

  test(
    "what is older than asked for is removed from conversations at rest, and is known as received for good",
    Effect.gen(function* () {
      const journal = yield* Journal
      yield* turn("1", "old")
      yield* journal.record({ conversation: chat, events: [], outputs: [output("a"), output("b")] })
      yield* journal.settle(OutputId.make("a"), "sent")
      yield* asked("1", other)
      yield* TestClock.adjust("10 days")
      yield* turn("2", "new")
      assert.strictEqual(yield* journal.retain("5 days"), 4)
      assert.strictEqual(yield* journal.retain("5 days"), 0)
      assert.deepStrictEqual(yield* tags(), ["InputAccepted", "ModelRequested", "ModelAnswered", "TurnEnded"])
      assert.isFalse(yield* journal.accept(delivery("1")))
      assert.isTrue(yield* journal.isRecorded(OutputId.make("a")))
      assert.deepStrictEqual(
        (yield* journal.outbox(chat)).map(({ text }) => text),
        ["text of b"]
      )
      // A turn that is open keeps what it has.
      assert.deepStrictEqual(yield* tags(other), ["InputAccepted", "ModelRequested"])
    })
  )

  test(
    "a stop ends it, with what it had not seen",
    Effect.gen(function* () {
      const journal = yield* Journal
      yield* asked("1")
      yield* journal.accept(delivery("2"))
      assert.isTrue(yield* journal.record({ conversation: chat, events: [], ending: stopped }))
      assert.isFalse(yield* isUnfinished())
      yield* journal.accept(delivery("3"))
      assert.isTrue(yield* isUnfinished())
    })
  )

  test(
    "a step's events, outputs and end are there together or not at all",
    Effect.gen(function* () {
      const journal = yield* Journal
      yield* asked("1")
      const before = yield* journal.entries(chat, 0)
      const unwritable = Prompt.toolResultPart({
        id: "a",
        name: "bash",
        isFailure: false,
        result: 10n,
        providerExecuted: false
      })
      const error = yield* Effect.flip(
        journal.record({
          conversation: chat,
          events: [answer(1, "hi"), { _tag: "ToolEnded", result: unwritable }],
          outputs: [output("a")],
          ending: done
        })
      )
      assert.strictEqual(error.reason._tag, "EntryInvalid")
      assert.deepStrictEqual(yield* journal.entries(chat, 0), before)
      assert.deepStrictEqual(yield* journal.outbox(chat), [])
      assert.isTrue(yield* isUnfinished())
    })
  )

  test(
    "outputs wait in the order they were recorded, each once",
    Effect.gen(function* () {
      const journal = yield* Journal
      const record = (...ids: ReadonlyArray<string>) =>
        journal.record({ conversation: chat, events: [], outputs: ids.map(output) })
      yield* record("b", "a")
      yield* record("c")
      yield* record("a", "d")
      yield* journal.record({ conversation: other, events: [], outputs: [output("z")] })
      const waiting = yield* journal.outbox(chat)
      assert.deepStrictEqual(
        waiting.map(({ id, text }) => ({ id, text })),
        ["b", "a", "c", "d"].map(output)
      )
      assert.sameMembers([...(yield* journal.unsent)], [chat, other])
    })
  )

  test(
    "what is sent or refused waits no more; what failed counts its attempts",
    Effect.gen(function* () {
      const journal = yield* Journal
      yield* journal.record({ conversation: chat, events: [], outputs: ["a", "b", "c"].map(output) })
      yield* journal.settle(OutputId.make("a"), "sent")
      yield* journal.settle(OutputId.make("b"), "failed")
      yield* journal.settle(OutputId.make("c"), "retry")
      yield* journal.settle(OutputId.make("c"), "retry")
      assert.deepStrictEqual(yield* journal.outbox(chat), [{ ...output("c"), conversation: chat, attempts: 2 }])
      yield* journal.settle(OutputId.make("c"), "sent")
      assert.deepStrictEqual(yield* journal.unsent, [])
    })
  )

  test(
    "after a reset what came before is not read, and not forgotten",
    Effect.gen(function* () {
      const journal = yield* Journal
      yield* turn("1", "hello")
      yield* journal.accept(delivery("2"))
      yield* journal.record({ conversation: chat, events: [{ _tag: "ConversationReset" }] })
      assert.deepStrictEqual(yield* journal.entries(chat, 0), [])
      assert.isFalse(yield* isUnfinished())
      assert.isFalse(yield* journal.accept(delivery("1")))
      yield* turn("3", "anew")
      assert.deepStrictEqual(yield* tags(), ["InputAccepted", "ModelRequested", "ModelAnswered", "TurnEnded"])
    })
  )

  test(
    "a reset ends the open turn: the next has an id of its own",
    Effect.gen(function* () {
      const journal = yield* Journal
      const old = yield* asked("1")
      yield* journal.record({ conversation: chat, events: [{ _tag: "ConversationReset" }] })
      assert.isFalse(yield* isUnfinished())
      assert.notStrictEqual(yield* asked("2"), old)
    })
  )

  test(
    "what came of an input is all that its turn said",
    Effect.gen(function* () {
      const journal = yield* Journal
      const call = Prompt.toolCallPart({ id: "a", name: "bash", params: {}, providerExecuted: false })
      yield* asked("1")
      yield* journal.record({ conversation: chat, events: [answer(1, "I will look.", call)] })
      assert.deepStrictEqual(yield* journal.outcome(chat, "1"), Option.none())
      yield* journal.request(chat, andy, 2)
      yield* journal.record({ conversation: chat, events: [answer(2, "It is 1.")], ending: done })
      yield* turn("2", "bye")
      const outcome = (key: string) => Effect.map(journal.outcome(chat, key), Option.getOrUndefined)
      assert.deepStrictEqual(yield* outcome("1"), { ending: done, answer: "I will look.\n\nIt is 1." })
      assert.deepStrictEqual(yield* outcome("2"), { ending: done, answer: "bye" })
      assert.strictEqual(yield* outcome("unheard of"), undefined)
      assert.deepStrictEqual(yield* journal.outcome(other, "1"), Option.none())
    })
  )

  test(
    "what is done atomically is done whole, or not at all",
    Effect.gen(function* () {
      const journal = yield* Journal
      const both = Effect.andThen(journal.accept(delivery("1")), journal.accept(delivery("2", other)))
      assert.strictEqual(
        yield* Effect.flip(journal.atomically(Effect.andThen(both, Effect.fail("changed my mind")))),
        "changed my mind"
      )
      assert.deepStrictEqual(yield* journal.unfinished, [])
      assert.isTrue(Exit.isFailure(yield* Effect.exit(journal.atomically(Effect.andThen(both, Effect.die("a bug"))))))
      assert.deepStrictEqual(yield* journal.unfinished, [])
      assert.strictEqual(yield* journal.atomically(Effect.as(both, "both")), "both")
      assert.sameMembers([...(yield* journal.unfinished)], [chat, other])
    })
  )

  test(
    "many at once are all kept, those of a conversation in order",
    Effect.gen(function* () {
      const journal = yield* Journal
      const conversations = Array.from({ length: 20 }, (_, index) => ConversationId.make(`memory:${index}`))
      yield* Effect.forEach(
        conversations,
        (conversation) => Effect.forEach(["1", "2", "3"], (key) => turn(key, `said ${key}`, conversation)),
        { concurrency: "unbounded" }
      )
      for (const conversation of conversations) {
        const said = (yield* journal.entries(conversation, 0)).flatMap(({ event }) =>
          event._tag === "ModelAnswered" ? event.content.flatMap((part) => ("text" in part ? [part.text] : [])) : []
        )
        assert.deepStrictEqual(said, ["said 1", "said 2", "said 3"])
      }
      assert.deepStrictEqual(yield* journal.unfinished, [])
    })
  )
}
