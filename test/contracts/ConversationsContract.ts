/**
 * What every kind of conversations promises, in one process or many.
 */
import { assert, describe, it } from "@effect/vitest"
import { Conversations } from "effect-claw/services/Conversations"
import { Journal, JournalError, type Mode } from "effect-claw/services/Journal"
import { ConversationId } from "effect-claw/services/Message"
import { StoreFailed } from "effect-claw/services/StoreFailed"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { cases } from "./cases.ts"
import { andy, answer, chat, delivery, other } from "./JournalContract.ts"

/** Lets everything go on that does not wait for the clock. */
const idle = Effect.repeat(Effect.yieldNow, { times: 50 })

const full = new JournalError({ operation: "read", reason: new StoreFailed({ detail: "full", cause: "full" }) })

/** Work that answers every input it finds, and stops where the test wants it to. */
const makeWork = (during: (conversation: ConversationId) => Effect.Effect<void, JournalError> = () => Effect.void) => {
  const log = { seen: new Array<string>(), running: 0, most: 0, cut: new Array<ConversationId>() }
  const turn = Effect.fnUntraced(function* (conversation: ConversationId) {
    const journal = yield* Journal
    yield* journal.request(conversation, andy, 1)
    for (const { event } of yield* journal.entries(conversation, 0)) {
      if (event._tag !== "InputAccepted") continue
      const [part] = event.input.content
      const key = `${conversation} ${part?.type === "text" ? part.text : ""}`
      if (!log.seen.includes(key)) log.seen.push(key)
    }
    yield* during(conversation)
    yield* journal.record({ conversation, events: [answer(1, "ok")], ending: { _tag: "Done" } })
  })
  const run = Effect.fnUntraced(function* (conversation: ConversationId) {
    const journal = yield* Journal
    while (Option.exists(yield* journal.state(conversation), ({ unfinished }) => unfinished)) {
      yield* turn(conversation)
    }
  })
  const work = (conversation: ConversationId) =>
    Effect.acquireUseRelease(
      Effect.sync(() => (log.most = Math.max(log.most, ++log.running))),
      () => run(conversation),
      (_, exit) =>
        Effect.sync(() => {
          log.running--
          if (Exit.hasInterrupts(exit)) log.cut.push(conversation)
        })
    )
  return { log, work }
}

const serve = ({ work }: ReturnType<typeof makeWork>) =>
  Effect.gen(function* () {
    const journal = yield* Journal
    const conversations = yield* Conversations
    yield* conversations.serve((conversation) => Effect.provideService(work(conversation), Journal, journal))
  })
const deliver = (key: string, conversation = chat, mode: Mode = "steer") =>
  Conversations.use((conversations) => conversations.deliver({ ...delivery(key, conversation), mode }))
const status = (conversation = chat) => Conversations.use((conversations) => conversations.status(conversation))
const settled = Conversations.use((conversations) => conversations.settled())
const stop = (conversation = chat) => Conversations.use((conversations) => conversations.stop(conversation))
const tags = Journal.use((journal) =>
  Effect.map(journal.entries(chat, 0), (entries) => entries.map(({ event }) => event._tag))
)

/** `make` makes conversations of which so many work at once; they are built anew on the same `store` at a restart. */
export const conversationsContract = <E>(
  store: Layer.Layer<Journal, E>,
  make: (turnsAtOnce: number) => Layer.Layer<Conversations, never, Journal>
) => {
  const running = <A, E, R>(effect: Effect.Effect<A, E, R>, turnsAtOnce = 8) =>
    Effect.scoped(Effect.provide(effect, Layer.fresh(make(turnsAtOnce))))

  /** The body decides when there are conversations. */
  const bare = (name: string, body: Effect.Effect<unknown, unknown, Journal | Scope.Scope>) =>
    it.effect(name, () => body.pipe(Effect.provide(store), Effect.asVoid))
  const test = (name: string, body: Effect.Effect<unknown, unknown, Journal | Conversations | Scope.Scope>) =>
    bare(name, running(body))

  test(
    "what is delivered is stored and worked on, once",
    Effect.gen(function* () {
      const work = makeWork()
      yield* serve(work)
      assert.isTrue(yield* deliver("1"))
      assert.isFalse(yield* deliver("1"))
      yield* settled
      assert.deepStrictEqual(work.log.seen, [`${chat} 1`])
      assert.deepStrictEqual(yield* tags, ["InputAccepted", "ModelRequested", "ModelAnswered", "TurnEnded"])
    })
  )

  test(
    "what is delivered before there is someone to work on it waits",
    Effect.gen(function* () {
      const work = makeWork()
      yield* deliver("1")
      yield* idle
      assert.deepStrictEqual(work.log.seen, [])
      yield* serve(work)
      yield* settled
      assert.deepStrictEqual(work.log.seen, [`${chat} 1`])
    })
  )

  bare(
    "what was left unfinished is worked on at the start",
    Effect.gen(function* () {
      const journal = yield* Journal
      yield* journal.accept(delivery("1"))
      yield* journal.accept(delivery("2", other))
      yield* journal.request(other, andy, 1)
      const work = makeWork()
      yield* running(Effect.andThen(serve(work), settled))
      assert.sameMembers(work.log.seen, [`${chat} 1`, `${other} 2`])
      assert.deepStrictEqual(yield* journal.unfinished, [])
    })
  )

  test(
    "a conversation without work is idle; one at work is running",
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      yield* serve(makeWork(() => Deferred.await(gate)))
      assert.strictEqual(yield* status(), "idle")
      yield* deliver("1")
      yield* idle
      assert.strictEqual(yield* status(), "running")
      assert.strictEqual(yield* status(other), "idle")
      yield* Deferred.succeed(gate, undefined)
      yield* settled
      assert.strictEqual(yield* status(), "idle")
    })
  )

  test(
    "one waits for another's end only where it is asked for",
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      yield* serve(makeWork((conversation) => (conversation === chat ? Deferred.await(gate) : Effect.void)))
      yield* deliver("1")
      yield* deliver("1", other)
      yield* Conversations.use((conversations) => conversations.settled(other))
      const both = yield* Effect.forkChild(settled)
      yield* idle
      assert.isUndefined(both.pollUnsafe())
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(both)
    })
  )

  test(
    "told while it works, it looks once more when it is done",
    Effect.gen(function* () {
      const gate = yield* Deferred.make<void>()
      let looks = 0
      yield* Conversations.use((conversations) =>
        conversations.serve(() => (++looks === 1 ? Deferred.await(gate) : Effect.void))
      )
      const wake = Conversations.use((conversations) => conversations.wake(chat))
      yield* wake
      yield* idle
      yield* wake
      yield* wake
      yield* Deferred.succeed(gate, undefined)
      yield* settled
      assert.strictEqual(looks, 2)
    })
  )

  describe("stop", () => {
    test(
      "it ends the work, and with it what was not seen yet",
      Effect.gen(function* () {
        const work = makeWork(() => Effect.never)
        yield* serve(work)
        yield* deliver("1")
        yield* idle
        yield* deliver("2")
        assert.isTrue(yield* stop())
        assert.deepStrictEqual(work.log.cut, [chat])
        assert.strictEqual((yield* tags).at(-1), "TurnEnded")
        assert.strictEqual(yield* status(), "idle")
        yield* Conversations.use((conversations) => conversations.wake(chat))
        yield* settled
        assert.deepStrictEqual(work.log.seen, [`${chat} 1`])
      })
    )

    test(
      "it ends work that still waits for its turn, and no other conversation's",
      Effect.gen(function* () {
        const work = makeWork(() => Effect.never)
        yield* serve(work)
        for (let count = 0; count < 8; count++) yield* deliver("1", ConversationId.make(`memory:${count}`))
        yield* deliver("1")
        yield* idle
        assert.strictEqual(yield* status(), "waiting")
        assert.isTrue(yield* stop())
        assert.strictEqual(yield* status(), "idle")
        assert.isFalse(work.log.seen.includes(`${chat} 1`))
        assert.strictEqual(work.log.running, 8)
      })
    )

    test(
      "where nothing runs there is nothing to stop",
      Effect.gen(function* () {
        yield* serve(makeWork())
        assert.isFalse(yield* stop())
        yield* deliver("1")
        yield* settled
        assert.isFalse(yield* stop())
        assert.strictEqual((yield* tags).filter((tag) => tag === "TurnEnded").length, 1)
      })
    )

    test(
      "what comes after it is worked on",
      Effect.gen(function* () {
        let hang = true
        const work = makeWork(() => (hang ? Effect.never : Effect.void))
        yield* serve(work)
        yield* deliver("1")
        yield* idle
        yield* stop()
        hang = false
        yield* deliver("2")
        yield* settled
        assert.deepStrictEqual(work.log.seen, [`${chat} 1`, `${chat} 2`])
      })
    )

    bare(
      "one that could not be stored is stored when it is asked for again",
      Effect.gen(function* () {
        const journal = yield* Journal
        let broken = true
        const breaking = Layer.succeed(Journal, {
          ...journal,
          record: (record) => (broken ? Effect.fail(full) : journal.record(record))
        })
        yield* Effect.gen(function* () {
          yield* serve(makeWork(() => Effect.never))
          yield* deliver("1")
          yield* idle
          assert.strictEqual(yield* Effect.flip(stop()), full)
          broken = false
          assert.isTrue(yield* stop())
          assert.deepStrictEqual(yield* journal.unfinished, [])
        }).pipe(Effect.provide(Layer.provide(make(8), breaking)), Effect.scoped)
      })
    )
  })

  describe("what is delivered while a turn runs", () => {
    const accepted = "InputAccepted"
    const aTurn = ["ModelRequested", "ModelAnswered", "TurnEnded"]

    /** Work whose first turn waits to be let go on; how often it began one. */
    const held = () => {
      const log = { turns: 0, gate: Deferred.makeUnsafe<void>() }
      return {
        log,
        work: makeWork(() => Effect.suspend(() => (++log.turns === 1 ? Deferred.await(log.gate) : Effect.void)))
      }
    }
    /** Its first turn runs. */
    const atWork = ({ work }: ReturnType<typeof held>) =>
      Effect.andThen(serve(work), Effect.andThen(deliver("1"), idle))
    const seen = (...keys: ReadonlyArray<string>) => keys.map((key) => `${chat} ${key}`)
    const endings = Journal.use((journal) =>
      Effect.map(journal.entries(chat, 0), (entries) =>
        entries.flatMap(({ event }) => (event._tag === "TurnEnded" ? [event.ending._tag] : []))
      )
    )
    const unfinished = Journal.use((journal) => journal.unfinished)

    describe("to be collected", () => {
      test(
        "waits for the turn's end, and one turn after sees all of it",
        Effect.gen(function* () {
          const first = held()
          yield* atWork(first)
          for (const key of ["2", "3", "4"]) {
            assert.isTrue(yield* deliver(key, chat, "collect"))
            yield* idle
          }
          assert.isFalse(yield* deliver("2", chat, "collect"))
          assert.deepStrictEqual(first.work.log.seen, seen("1"))
          yield* Deferred.succeed(first.log.gate, undefined)
          yield* settled
          assert.deepStrictEqual(first.work.log.seen, seen("1", "2", "3", "4"))
          assert.strictEqual(first.log.turns, 2)
          assert.deepStrictEqual(first.work.log.cut, [])
          const [asked, ...rest] = aTurn
          assert.deepStrictEqual(yield* tags, [accepted, asked, accepted, accepted, accepted, ...rest, ...aTurn])
          assert.deepStrictEqual(yield* unfinished, [])
        })
      )

      test(
        "does not wait where no turn runs",
        Effect.gen(function* () {
          const work = makeWork()
          yield* serve(work)
          yield* deliver("1", chat, "collect")
          yield* settled
          assert.deepStrictEqual(work.log.seen, seen("1"))
          assert.deepStrictEqual(yield* tags, [accepted, ...aTurn])
        })
      )

      test(
        "is cancelled by a stop, with the turn that it waits for",
        Effect.gen(function* () {
          const first = held()
          yield* atWork(first)
          yield* deliver("2", chat, "collect")
          assert.isTrue(yield* stop())
          yield* Conversations.use((conversations) => conversations.wake(chat))
          yield* settled
          assert.deepStrictEqual(first.work.log.seen, seen("1"))
          assert.deepStrictEqual(yield* unfinished, [])
        })
      )

      bare(
        "waits over a restart, also one between the turn's end and its own turn",
        Effect.gen(function* () {
          const journal = yield* Journal
          const first = held()
          yield* running(
            Effect.gen(function* () {
              yield* atWork(first)
              yield* deliver("2", chat, "collect")
              yield* deliver("3", chat, "collect")
              yield* idle
            })
          )
          assert.deepStrictEqual(first.work.log.seen, seen("1"))
          // The turn ends, and nobody is there to begin the next.
          assert.isTrue(
            yield* journal.record({ conversation: chat, events: [answer(1, "ok")], ending: { _tag: "Done" } })
          )
          assert.deepStrictEqual(yield* journal.unfinished, [chat])
          const second = makeWork()
          yield* running(Effect.andThen(serve(second), settled))
          assert.includeMembers(second.log.seen, seen("2", "3"))
          assert.deepStrictEqual(yield* endings, ["Done", "Done"])
          assert.deepStrictEqual(yield* journal.unfinished, [])
        })
      )
    })

    describe("to interrupt", () => {
      test(
        "cuts the turn, which ends as superseded, and another begins",
        Effect.gen(function* () {
          const first = held()
          yield* atWork(first)
          assert.isTrue(yield* deliver("2", chat, "interrupt"))
          assert.deepStrictEqual(first.work.log.cut, [chat])
          yield* settled
          assert.strictEqual(first.log.turns, 2)
          assert.strictEqual(first.work.log.most, 1)
          assert.deepStrictEqual(first.work.log.seen, seen("1", "2"))
          assert.deepStrictEqual(yield* endings, ["Superseded", "Done"])
          assert.deepStrictEqual(yield* tags, [accepted, "ModelRequested", accepted, "TurnEnded", ...aTurn])
          assert.deepStrictEqual(yield* unfinished, [])
        })
      )

      test(
        "holds up nobody who delivers, however long the turn takes to end",
        Effect.gen(function* () {
          const ending = yield* Deferred.make<void>()
          let turns = 0
          const conversations = yield* Conversations
          const journal = yield* Journal
          yield* conversations.serve((of) =>
            ++turns === 1
              ? Effect.onInterrupt(Effect.andThen(journal.request(of, andy, 1), Effect.never), () =>
                  Deferred.await(ending)
                )
              : Effect.asVoid(
                  Effect.andThen(
                    journal.request(of, andy, 1),
                    journal.record({ conversation: of, events: [], ending: { _tag: "Done" } })
                  )
                )
          )
          yield* deliver("1")
          yield* idle
          assert.isTrue(yield* deliver("2", chat, "interrupt"))
          assert.isTrue(yield* deliver("3", other))
          yield* conversations.settled(other)
          assert.deepStrictEqual([turns, yield* unfinished], [2, [chat]])
          yield* Deferred.succeed(ending, undefined)
          yield* settled
          assert.deepStrictEqual(yield* unfinished, [])
        })
      )

      test(
        "cuts nothing when it is there already",
        Effect.gen(function* () {
          const first = held()
          yield* atWork(first)
          assert.isFalse(yield* deliver("1", chat, "interrupt"))
          yield* idle
          assert.deepStrictEqual(first.work.log.cut, [])
          yield* Deferred.succeed(first.log.gate, undefined)
          yield* settled
          assert.deepStrictEqual(yield* tags, [accepted, ...aTurn])
        })
      )

      test(
        "is an input like any other where nothing runs",
        Effect.gen(function* () {
          const work = makeWork()
          yield* serve(work)
          for (const key of ["1", "2"]) {
            yield* deliver(key, chat, "interrupt")
            yield* settled
          }
          assert.deepStrictEqual(work.log.seen, seen("1", "2"))
          assert.deepStrictEqual(yield* tags, [accepted, ...aTurn, accepted, ...aTurn])
        })
      )

      bare(
        "takes the place of nothing where the conversation still waits to be worked on",
        running(
          Effect.gen(function* () {
            const gate = yield* Deferred.make<void>()
            const work = makeWork((conversation) => (conversation === other ? Deferred.await(gate) : Effect.void))
            yield* serve(work)
            yield* deliver("1", other)
            yield* deliver("1")
            yield* deliver("2", chat, "interrupt")
            yield* idle
            assert.strictEqual(yield* status(), "waiting")
            yield* Deferred.succeed(gate, undefined)
            yield* settled
            assert.deepStrictEqual(yield* tags, [accepted, accepted, ...aTurn])
          }),
          1
        )
      )

      test(
        "harms no other conversation",
        Effect.gen(function* () {
          const work = makeWork(() => Effect.never)
          yield* serve(work)
          yield* deliver("1")
          yield* deliver("1", other)
          yield* idle
          yield* deliver("2", chat, "interrupt")
          yield* idle
          assert.deepStrictEqual(work.log.cut, [chat])
          assert.strictEqual(work.log.running, 2)
        })
      )

      test(
        "may come many times at once: the last turn sees all of it",
        Effect.gen(function* () {
          let hang = true
          const work = makeWork(() => (hang ? Effect.never : Effect.void))
          yield* serve(work)
          yield* deliver("1")
          yield* idle
          const keys = Array.from({ length: 10 }, (_, index) => `${index + 2}`)
          yield* Effect.forEach(keys, (key) => deliver(key, chat, "interrupt"), { concurrency: "unbounded" })
          yield* idle
          hang = false
          yield* deliver("last", chat, "interrupt")
          yield* settled
          assert.sameMembers(work.log.seen, seen("1", ...keys, "last"))
          assert.strictEqual(work.log.most, 1)
          assert.strictEqual((yield* endings).at(-1), "Done")
          assert.deepStrictEqual(yield* unfinished, [])
        })
      )

      bare(
        "while the conversations end it is kept, and cuts what is cut anyway",
        Effect.gen(function* () {
          const journal = yield* Journal
          const first = makeWork(() => Effect.never)
          const closed = yield* running(
            Effect.andThen(serve(first), Effect.andThen(deliver("1"), Effect.andThen(idle, Conversations)))
          )
          assert.isTrue(yield* closed.deliver({ ...delivery("2"), mode: "interrupt" }))
          assert.deepStrictEqual(yield* tags, [accepted, "ModelRequested", accepted])
          const second = makeWork()
          yield* running(Effect.andThen(serve(second), settled))
          assert.deepStrictEqual(second.log.seen, seen("1", "2"))
          assert.deepStrictEqual(yield* journal.unfinished, [])
        })
      )
    })

    for (const [name, end] of [
      ["interrupted", deliver("2", chat, "interrupt")],
      ["stopped", stop()]
    ] as const) {
      bare(
        `a turn that is being ${name} is not taken up by what wakes the conversation meanwhile`,
        Effect.gen(function* () {
          const journal = yield* Journal
          const gate = yield* Deferred.make<void>()
          const slow = Layer.succeed(Journal, {
            ...journal,
            record: (record) =>
              record.ending?._tag === "Done"
                ? journal.record(record)
                : Effect.andThen(Deferred.await(gate), journal.record(record))
          })
          yield* Effect.gen(function* () {
            const first = held()
            yield* atWork(first)
            const ending = yield* Effect.forkChild(end)
            yield* idle
            assert.deepStrictEqual(first.work.log.cut, [chat])
            yield* Conversations.use((conversations) => conversations.wake(chat))
            yield* idle
            assert.strictEqual(first.log.turns, 1)
            yield* Deferred.succeed(gate, undefined)
            yield* Fiber.join(ending)
            yield* settled
            assert.deepStrictEqual(yield* unfinished, [])
          }).pipe(Effect.provide(Layer.provide(make(8), slow)), Effect.scoped)
        })
      )
    }

    describe("as context", () => {
      test(
        "is there, and wakes nobody, where nothing runs",
        Effect.gen(function* () {
          const work = makeWork()
          yield* serve(work)
          assert.isTrue(yield* deliver("1", chat, "context"))
          assert.isFalse(yield* deliver("1", chat, "context"))
          yield* idle
          assert.strictEqual(yield* status(), "idle")
          assert.deepStrictEqual([work.log.most, work.log.seen], [0, []])
          assert.deepStrictEqual(yield* tags, [accepted])
          assert.deepStrictEqual(yield* unfinished, [])
          yield* deliver("2")
          yield* settled
          assert.deepStrictEqual(work.log.seen, seen("1", "2"))
          assert.deepStrictEqual(yield* tags, [accepted, accepted, ...aTurn])
        })
      )

      test(
        "neither cuts a turn that runs nor has another begin",
        Effect.gen(function* () {
          const first = held()
          yield* atWork(first)
          assert.isTrue(yield* deliver("2", chat, "context"))
          yield* idle
          yield* Deferred.succeed(first.log.gate, undefined)
          yield* settled
          assert.strictEqual(first.log.turns, 1)
          assert.deepStrictEqual(first.work.log.cut, [])
          assert.deepStrictEqual(yield* endings, ["Done"])
        })
      )

      bare(
        "does not make a conversation one that is begun with at the start",
        Effect.gen(function* () {
          const journal = yield* Journal
          yield* running(deliver("1", chat, "context"))
          assert.deepStrictEqual(yield* journal.unfinished, [])
          const work = makeWork()
          yield* running(Effect.andThen(serve(work), settled))
          assert.deepStrictEqual(work.log.seen, [])
        })
      )
    })
  })

  test(
    "a store that fails for a while is asked again, after delays that grow, and the work is done",
    Effect.gen(function* () {
      let failures = 0
      const work = makeWork(() => Effect.suspend(() => (++failures <= 5 ? Effect.fail(full) : Effect.void)))
      yield* serve(work)
      yield* deliver("1")
      yield* idle
      assert.strictEqual(failures, 1)
      yield* Effect.repeat(Effect.andThen(TestClock.adjust("1 second"), idle), { times: 5 })
      yield* settled
      assert.strictEqual(failures, 6)
      assert.deepStrictEqual(yield* Journal.use(({ unfinished }) => unfinished), [])
    })
  )

  test(
    "work that is defect harms no other conversation, and the next message is worked on",
    Effect.gen(function* () {
      let broken = true
      const work = makeWork((conversation) => (broken && conversation === chat ? Effect.die("a bug") : Effect.void))
      yield* serve(work)
      yield* deliver("1")
      yield* deliver("1", other)
      yield* settled
      assert.deepStrictEqual(yield* Journal.use(({ unfinished }) => unfinished), [chat])
      broken = false
      yield* deliver("2")
      yield* settled
      assert.deepStrictEqual(yield* Journal.use(({ unfinished }) => unfinished), [])
      assert.includeMembers(work.log.seen, [`${chat} 2`])
    })
  )

  test(
    "a turn that was left open by a defect can be stopped",
    Effect.gen(function* () {
      yield* serve(makeWork(() => Effect.die("a bug")))
      yield* deliver("1")
      yield* settled
      assert.isTrue(yield* stop())
      assert.deepStrictEqual(yield* Journal.use(({ unfinished }) => unfinished), [])
    })
  )

  bare(
    "on release work is interrupted and stays open, to be gone on with at the next start",
    Effect.gen(function* () {
      const journal = yield* Journal
      const first = makeWork(() => Effect.never)
      yield* running(Effect.andThen(serve(first), Effect.andThen(deliver("1"), idle)))
      assert.deepStrictEqual(first.log.cut, [chat])
      assert.strictEqual(first.log.running, 0)
      assert.deepStrictEqual(yield* tags, ["InputAccepted", "ModelRequested"])
      const second = makeWork()
      yield* running(Effect.andThen(serve(second), settled))
      assert.deepStrictEqual(second.log.seen, [`${chat} 1`])
      assert.deepStrictEqual(yield* journal.unfinished, [])
    })
  )

  test(
    "who serves is served no longer than its scope",
    Effect.gen(function* () {
      const work = makeWork(() => Effect.never)
      const scope = yield* Scope.make()
      yield* Scope.provide(serve(work), scope)
      yield* deliver("1")
      yield* idle
      assert.strictEqual(work.log.running, 1)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(work.log.running, 0)
      assert.deepStrictEqual(yield* tags, ["InputAccepted", "ModelRequested"])
    })
  )

  test(
    "agents that work for others do not wait for a turn: who waits for them has one",
    Effect.gen(function* () {
      const child = (index: number) => ConversationId.make(`swarm:1.c.${index}/andy`)
      const conversations = yield* Conversations
      const delegating = makeWork((conversation) => {
        if (conversation.startsWith("swarm:")) return Effect.void
        const index = Number(conversation.slice(-1))
        return Effect.andThen(
          conversations.deliver(delivery("brief", child(index))),
          conversations.settled(child(index))
        )
      })
      yield* serve(delegating)
      for (let count = 0; count < 8; count++) yield* deliver("1", ConversationId.make(`memory:${count}`))
      yield* settled
      assert.strictEqual(delegating.log.seen.length, 16)
    })
  )

  describe("cases", () => {
    const SingleFile = Schema.Struct({
      name: Schema.String,
      input: Schema.Struct({ conversation: Schema.String, messages: Schema.Int }),
      expect: Schema.Struct({ maxConcurrent: Schema.Int, order: Schema.Literal("arrival") })
    })
    for (const { expect, input, name } of cases("queueing", SingleFile)) {
      test(
        name,
        Effect.gen(function* () {
          const conversation = ConversationId.make(`memory:${input.conversation}`)
          const keys = Array.from({ length: input.messages }, (_, index) => `${index}`)
          const work = makeWork(() => Effect.sleep("1 second"))
          yield* serve(work)
          for (const key of keys) {
            yield* deliver(key, conversation)
            yield* idle
          }
          yield* Effect.repeat(Effect.andThen(TestClock.adjust("1 second"), idle), { times: input.messages + 1 })
          yield* settled
          assert.strictEqual(work.log.most, expect.maxConcurrent)
          assert.deepStrictEqual(
            work.log.seen,
            keys.map((key) => `${conversation} ${key}`)
          )
        })
      )
    }

    const Limit = Schema.Struct({
      name: Schema.String,
      input: Schema.Struct({ limit: Schema.Int, conversations: Schema.Int }),
      expect: Schema.Struct({ thirdStarts: Schema.Literal("when one ends") })
    })
    for (const { input, name } of cases("queueing", Limit)) {
      bare(
        name,
        running(
          Effect.gen(function* () {
            const gates = yield* Effect.all(Array.from({ length: input.conversations }, () => Deferred.make<void>()))
            const chats = gates.map((_, index) => ConversationId.make(`memory:${index}`))
            const work = makeWork((conversation) => {
              const gate = gates[chats.indexOf(conversation)]
              return gate === undefined ? Effect.void : Deferred.await(gate)
            })
            yield* serve(work)
            for (const conversation of chats) yield* deliver("1", conversation)
            yield* idle
            assert.strictEqual(work.log.running, input.limit)
            assert.strictEqual(yield* status(chats.at(-1)), "waiting")
            yield* Deferred.succeed(gates[0] ?? assert.fail(), undefined)
            yield* idle
            assert.strictEqual(yield* status(chats.at(-1)), "running")
            for (const gate of gates) yield* Deferred.succeed(gate, undefined)
            yield* settled
            assert.strictEqual(work.log.most, input.limit)
          }),
          input.limit
        )
      )
    }

    const AfterShutdown = Schema.Struct({
      name: Schema.String,
      input: Schema.Struct({ enqueueAfterShutdown: Schema.Literal(true) }),
      expect: Schema.Struct({ accepted: Schema.Literal("kept for the next start") })
    })
    for (const { name } of cases("queueing", AfterShutdown)) {
      bare(
        name,
        Effect.gen(function* () {
          const first = makeWork()
          const closed = yield* running(Effect.andThen(serve(first), Conversations))
          assert.isTrue(yield* closed.deliver(delivery("1")))
          yield* idle
          assert.deepStrictEqual(first.log.seen, [])
          const second = makeWork()
          yield* running(Effect.andThen(serve(second), settled))
          assert.deepStrictEqual(second.log.seen, [`${chat} 1`])
        })
      )
    }
  })
}
