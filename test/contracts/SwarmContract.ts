/**
 * What every swarm promises, wherever its agents work.
 */
import { assert, it } from "@effect/vitest"
import { Conversations } from "effect-claw/services/Conversations"
import { CurrentTurn } from "effect-claw/services/CurrentTurn"
import { Journal, JournalError } from "effect-claw/services/Journal"
import { AgentName, ConversationId, Sender } from "effect-claw/services/Message"
import { Rights } from "effect-claw/services/Rights"
import { StoreFailed } from "effect-claw/services/StoreFailed"
import { type Brief, Swarm } from "effect-claw/services/Swarm"
import { type Ending, type Origin, TurnId } from "effect-claw/services/Turn"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { answer } from "./JournalContract.ts"

const boss = AgentName.make("boss")
const coder = AgentName.make("coder")
const researcher = AgentName.make("researcher")

const turn = (more: Partial<CurrentTurn["Service"]> = {}): CurrentTurn["Service"] => ({
  conversation: ConversationId.make("memory:chat"),
  turn: TurnId.make(7),
  step: 1,
  agent: boss,
  sender: Sender.make("memory:ada"),
  message: undefined,
  rights: new Rights({ tools: ["bash", "delegate"] }),
  team: [coder, researcher],
  depth: 0,
  call: "c1",
  send: () => Effect.void,
  ...more
})

const brief = (agent: AgentName, text: string): Brief => ({ agent, text })

interface Work {
  readonly conversation: ConversationId
  readonly text: string
  readonly origin: Origin
}

/** Specialists that do what the test says; what they say is what it returns. */
const serve = Effect.fnUntraced(function* (
  specialist: (work: Work) => Effect.Effect<string | Ending> = ({ text }) => Effect.succeed(`did ${text}`)
) {
  const journal = yield* Journal
  const conversations = yield* Conversations
  const log = { began: new Array<Work>(), ended: new Array<ConversationId>(), running: 0, most: 0 }
  yield* conversations.serve(
    Effect.fnUntraced(function* (conversation) {
      const state = yield* journal.state(conversation)
      if (!Option.exists(state, ({ unfinished }) => unfinished)) return
      const [first] = yield* journal.entries(conversation, 0)
      if (first?.event._tag !== "InputAccepted") return
      const { content, origin } = first.event.input
      const work = { conversation, origin, text: content[0]?.type === "text" ? content[0].text : "" }
      log.began.push(work)
      log.most = Math.max(log.most, ++log.running)
      yield* journal.request(conversation, AgentName.make(conversation.split("/")[1] ?? ""), 1)
      const said = yield* Effect.ensuring(
        specialist(work),
        Effect.sync(() => void log.running--)
      )
      log.ended.push(conversation)
      yield* journal.record({
        conversation,
        events: typeof said === "string" ? [answer(1, said)] : [],
        ending: typeof said === "string" ? { _tag: "Done" } : said
      })
    })
  )
  return log
})

const delegate = (of: Brief, parent = turn(), ordinal?: number) =>
  Effect.provideService(
    Swarm.use((swarm) => swarm.delegate(of, ordinal)),
    CurrentTurn,
    parent
  )
const all = (briefs: ReadonlyArray<Brief>, parent = turn()) =>
  Effect.provideService(
    Swarm.use((swarm) => swarm.all(briefs)),
    CurrentTurn,
    parent
  )
const idle = Effect.repeat(Effect.yieldNow, { times: 50 })

/** `make` makes a swarm with these bounds on the given conversations. */
export const swarmContract = <E>(
  store: Layer.Layer<Journal, E>,
  conversations: Layer.Layer<Conversations, never, Journal>,
  make: (options: {
    readonly depth: number
    readonly atOnce: number
  }) => Layer.Layer<Swarm, never, Conversations | Journal>
) => {
  const layer = make({ depth: 2, atOnce: 3 }).pipe(Layer.provideMerge(conversations), Layer.provideMerge(store))
  const test = (name: string, body: Effect.Effect<unknown, unknown, Journal | Conversations | Swarm | Scope.Scope>) =>
    it.effect(name, () => Effect.scoped(body).pipe(Effect.provide(layer), Effect.asVoid))

  test(
    "a specialist's report is what it said",
    Effect.gen(function* () {
      yield* serve()
      assert.deepStrictEqual(yield* delegate(brief(coder, "one")), {
        agent: coder,
        ending: { _tag: "Done" },
        answer: "did one"
      })
    })
  )

  test(
    "it works in a conversation of its own, for the same person, one deeper, with its parent's rights at most",
    Effect.gen(function* () {
      const log = yield* serve()
      yield* delegate(brief(coder, "one"))
      const [work] = log.began
      assert.match(work?.conversation ?? "", /^swarm:/)
      assert.deepStrictEqual(work?.origin, {
        _tag: "Parent",
        conversation: turn().conversation,
        agent: boss,
        sender: Sender.make("memory:ada"),
        rights: turn().rights,
        depth: 1
      })
    })
  )

  test(
    "only who is in the team may be asked",
    Effect.gen(function* () {
      const log = yield* serve()
      const stranger = brief(AgentName.make("stranger"), "one")
      const error = yield* Effect.flip(delegate(stranger))
      assert.strictEqual(error.reason._tag, "SpecialistUnknown")
      assert.strictEqual(error.message, "there is no stranger in your team; it has coder, researcher")
      assert.include((yield* Effect.flip(delegate(stranger, turn({ team: [] })))).message, "you have no team")
      assert.deepStrictEqual(log.began, [])
    })
  )

  test(
    "the deep end is refused",
    Effect.gen(function* () {
      yield* serve()
      yield* delegate(brief(coder, "one"), turn({ depth: 1 }))
      const error = yield* Effect.flip(delegate(brief(coder, "one"), turn({ depth: 2, call: "c2" })))
      assert.strictEqual(error.reason._tag, "TooDeep")
      assert.include(error.message, "2 deep")
    })
  )

  test(
    "several work side by side, up to a bound, and report in the order they were asked",
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      const log = yield* serve(({ text }) => Effect.as(Deferred.await(gate), `did ${text}`))
      const briefs = Array.from({ length: 7 }, (_, index) => brief(index % 2 === 0 ? coder : researcher, `${index}`))
      const waiting = yield* Effect.forkChild(all(briefs))
      yield* idle
      assert.strictEqual(log.running, 3)
      yield* Deferred.succeed(gate, undefined)
      assert.deepStrictEqual(
        (yield* Fiber.join(waiting)).map(({ answer }) => answer),
        briefs.map(({ text }) => `did ${text}`)
      )
      assert.strictEqual(log.most, 3)
      assert.strictEqual(new Set(log.began.map(({ conversation }) => conversation)).size, 7)
    })
  )

  test(
    "asked again after a crash, it is not done again",
    Effect.gen(function* () {
      const log = yield* serve()
      const first = yield* delegate(brief(coder, "one"))
      assert.deepStrictEqual(yield* delegate(brief(coder, "one")), first)
      assert.strictEqual(log.began.length, 1)
      yield* delegate(brief(coder, "one"), turn({ call: "c2" }))
      yield* delegate(brief(coder, "one"), turn({ turn: TurnId.make(8) }))
      yield* delegate(brief(coder, "one"), turn(), 1)
      assert.strictEqual(log.began.length, 4)
    })
  )

  test(
    "asked again while it works, one waits for the same",
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      const log = yield* serve(() => Effect.as(Deferred.await(gate), "at last"))
      const both = yield* Effect.forEach([1, 2], () => Effect.forkChild(delegate(brief(coder, "one"))))
      yield* idle
      yield* Deferred.succeed(gate, undefined)
      for (const fiber of both) assert.strictEqual((yield* Fiber.join(fiber)).answer, "at last")
      assert.strictEqual(log.began.length, 1)
    })
  )

  test(
    "one that fails says so, and the others are not harmed",
    Effect.gen(function* () {
      const failed: Ending = { _tag: "Failed", message: "no model" }
      yield* serve(({ text }) => Effect.succeed(text === "bad" ? failed : `did ${text}`))
      assert.deepStrictEqual(yield* all([brief(coder, "good"), brief(researcher, "bad")]), [
        { agent: coder, ending: { _tag: "Done" }, answer: "did good" },
        { agent: researcher, ending: failed, answer: "" }
      ])
    })
  )

  test(
    "who delegates is stopped, and so are all that work for it",
    Effect.gen(function* () {
      const journal = yield* Journal
      const log = yield* serve(() => Effect.never)
      const waiting = yield* Effect.forkChild(all([brief(coder, "one"), brief(researcher, "two")]))
      yield* idle
      assert.strictEqual(log.running, 2)
      yield* Fiber.interrupt(waiting)
      assert.strictEqual(log.running, 0)
      assert.deepStrictEqual(log.ended, [])
      for (const { conversation } of log.began) {
        const last = (yield* journal.entries(conversation, 0)).at(-1)
        assert.deepStrictEqual(last?.event, { _tag: "TurnEnded", ending: { _tag: "Stopped" } })
      }
      assert.deepStrictEqual(yield* journal.unfinished, [])
    })
  )

  test(
    "a store that does not answer is said to be why",
    Effect.gen(function* () {
      const full = new JournalError({ operation: "accept", reason: new StoreFailed({ detail: "full", cause: "full" }) })
      const failing = Layer.mock(Conversations, { deliver: () => Effect.fail(full), stop: () => Effect.succeed(false) })
      const error = yield* Effect.flip(
        Effect.provide(delegate(brief(coder, "one")), Layer.provide(make({ depth: 2, atOnce: 3 }), failing))
      )
      assert.strictEqual(error.reason._tag, "StoreFailed")
    })
  )
}
