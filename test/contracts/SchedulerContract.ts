/**
 * What every scheduler promises, whatever it is kept on.
 */
import { assert, describe, it } from "@effect/vitest"
import { HomeZone } from "effect-claw/services/HomeZone"
import { Journal, JournalError } from "effect-claw/services/Journal"
import { AgentName, ConversationId, Sender } from "effect-claw/services/Message"
import { type NewTask, Scheduler, type SchedulerError } from "effect-claw/services/Scheduler"
import { StoreFailed } from "effect-claw/services/StoreFailed"
import type { Ending } from "effect-claw/services/Turn"
import type { WhenInput } from "effect-claw/services/When"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as SqlClient from "effect/sql/SqlClient"
import * as TestClock from "effect/testing/TestClock"
import { cases } from "./cases.ts"

const andy = AgentName.make("andy")
export const chat = ConversationId.make("memory:chat")
const other = ConversationId.make("memory:other")
const start = "2026-01-01T00:00:00Z"

const epoch = (iso: string) => DateTime.toEpochMillis(DateTime.makeUnsafe(iso))
const iso = (millis: number) => DateTime.formatIso(DateTime.makeUnsafe(millis)).replace(".000Z", "Z")

export const schedule = (when: WhenInput, more: Partial<NewTask> = {}) =>
  Scheduler.use((scheduler) => scheduler.schedule({ conversation: chat, agent: andy, text: "water", when, ...more }))
const list = (conversation?: ConversationId) => Scheduler.use((scheduler) => scheduler.list(conversation))
const runs = (id: string) => Scheduler.use((scheduler) => scheduler.runs(chat, id))

/** When inputs came of tasks, by the clock of the journal. */
export const fired = (conversation = chat) =>
  Journal.use((journal) =>
    Effect.map(journal.entries(conversation, 0), (entries) =>
      entries.flatMap(({ at, event }) =>
        event._tag === "InputAccepted" && event.input.origin._tag === "Task" ? [iso(at)] : []
      )
    )
  )

/** Lets everything go on that does not wait for the clock, then moves it. */
export const adjust = (duration: Parameters<typeof TestClock.adjust>[0]) =>
  Effect.repeat(Effect.yieldNow, { times: 20 }).pipe(
    Effect.andThen(TestClock.adjust(duration)),
    Effect.andThen(Effect.repeat(Effect.yieldNow, { times: 20 }))
  )
const setTime = (at: string) =>
  Effect.andThen(TestClock.setTime(epoch(at)), Effect.repeat(Effect.yieldNow, { times: 20 }))

/** The turn that a firing began ends so. */
const endTurn = Effect.fnUntraced(function* (ending: Ending) {
  const journal = yield* Journal
  yield* journal.request(chat, andy, 1)
  yield* journal.record({ conversation: chat, events: [], ending })
})

type Store = SqlClient.SqlClient | Journal

/** `layer` is built anew on the same `store` where a claw restarts. The home zone is New York. */
export const schedulerContract = <E>(
  store: Layer.Layer<Store, E>,
  layer: Layer.Layer<Scheduler, SchedulerError, Store>
) => {
  const zone = Layer.succeed(HomeZone, DateTime.zoneMakeNamedUnsafe("America/New_York"))
  const running = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.provide(effect, Layer.fresh(Layer.provide(layer, zone)))

  /** The body decides when a scheduler runs. */
  const bare = (name: string, body: Effect.Effect<unknown, unknown, Store>) =>
    it.effect(name, () => Effect.andThen(setTime(start), body).pipe(Effect.provide(store), Effect.asVoid))
  const test = (name: string, body: Effect.Effect<unknown, unknown, Scheduler | Store>) => bare(name, running(body))

  test(
    "a task fires when it is due, once, as an input of its conversation",
    Effect.gen(function* () {
      const task = yield* schedule({ in: "10 seconds" }, { sender: Sender.make("memory:ada") })
      yield* adjust("9999 millis")
      assert.deepStrictEqual(yield* fired(), [])
      yield* adjust("1 millis")
      assert.deepStrictEqual(yield* fired(), ["2026-01-01T00:00:10Z"])
      const [entry] = yield* Journal.use((journal) => journal.entries(chat, 0))
      assert.deepInclude(entry?.event, {
        input: {
          origin: { _tag: "Task", task: task.id, sender: Sender.make("memory:ada") },
          content: entry?.event._tag === "InputAccepted" ? entry.event.input.content : [],
          at: epoch("2026-01-01T00:00:10Z")
        }
      })
      assert.deepStrictEqual(yield* list(), [])
      yield* adjust("7 days")
      assert.strictEqual((yield* fired()).length, 1)
    })
  )

  test(
    "one that recurs fires again and again, on its grid",
    Effect.gen(function* () {
      yield* schedule({ every: "1 hour" })
      yield* adjust("150 minutes")
      assert.deepStrictEqual(yield* fired(), ["2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z"])
      yield* adjust("1 day")
      assert.strictEqual((yield* fired()).length, 26)
    })
  )

  test(
    "a cron expression is in the zone it names, or the claw's home",
    Effect.gen(function* () {
      yield* schedule({ cron: "0 8 * * *", timeZone: "Asia/Tokyo" })
      yield* schedule({ cron: "0 8 * * *" }, { conversation: other })
      yield* adjust("1 day")
      assert.deepStrictEqual(yield* fired(), ["2026-01-01T23:00:00Z"])
      assert.deepStrictEqual(yield* fired(other), ["2026-01-01T13:00:00Z"])
    })
  )

  test(
    "a task that comes before the one it waits for is not late",
    Effect.gen(function* () {
      yield* schedule({ in: "30 days" })
      yield* adjust("1 minute")
      yield* schedule({ in: "1 second" })
      yield* adjust("1 second")
      assert.deepStrictEqual(yield* fired(), ["2026-01-01T00:01:01Z"])
      yield* adjust("30 days")
      assert.deepStrictEqual(yield* fired(), ["2026-01-01T00:01:01Z", "2026-01-31T00:00:00Z"])
    })
  )

  test(
    "tasks due together all fire",
    Effect.gen(function* () {
      for (let count = 0; count < 20; count++) yield* schedule({ in: "1 minute" })
      yield* schedule({ in: "1 minute" }, { conversation: other })
      yield* adjust("1 minute")
      assert.strictEqual((yield* fired()).length, 20)
      assert.strictEqual((yield* fired(other)).length, 1)
    })
  )

  test(
    "tasks are listed soonest first, a conversation's or all",
    Effect.gen(function* () {
      const late = yield* schedule({ in: "2 hours" })
      const soon = yield* schedule({ in: "1 hour" }, { whenMissed: "skip", text: "feed" })
      const elsewhere = yield* schedule({ in: "90 minutes" }, { conversation: other })
      assert.deepStrictEqual(yield* list(chat), [soon, late])
      assert.deepStrictEqual(yield* list(), [soon, elsewhere, late])
      assert.deepInclude(soon, { text: "feed", whenMissed: "skip", paused: false, agent: andy, sender: undefined })
      assert.deepStrictEqual(soon.next, Option.some(epoch("2026-01-01T01:00:00Z")))
    })
  )

  test(
    "a paused task does not fire; resumed, it makes up for nothing",
    Effect.gen(function* () {
      const scheduler = yield* Scheduler
      const { id } = yield* schedule({ every: "1 hour" })
      yield* adjust("90 minutes")
      yield* scheduler.pause(chat, id)
      assert.isTrue((yield* list())[0]?.paused)
      yield* adjust("5 hours")
      yield* scheduler.resume(chat, id)
      yield* adjust("1 minute")
      assert.deepStrictEqual(yield* fired(), ["2026-01-01T01:00:00Z"])
      yield* adjust("29 minutes")
      assert.deepStrictEqual(yield* fired(), ["2026-01-01T01:00:00Z", "2026-01-01T07:00:00Z"])
    })
  )

  test(
    "a cancelled task is gone for good",
    Effect.gen(function* () {
      const scheduler = yield* Scheduler
      const { id } = yield* schedule({ every: "1 hour" })
      yield* scheduler.cancel(chat, id)
      assert.deepStrictEqual(yield* list(), [])
      for (const change of ["pause", "resume", "cancel"] as const) {
        assert.strictEqual((yield* Effect.flip(scheduler[change](chat, id))).reason._tag, "TaskUnknown")
      }
      yield* adjust("1 day")
      assert.deepStrictEqual(yield* fired(), [])
    })
  )

  test(
    "a task is its conversation's alone",
    Effect.gen(function* () {
      const scheduler = yield* Scheduler
      const { id } = yield* schedule({ every: "1 hour" })
      for (const change of ["pause", "resume", "cancel", "runs"] as const) {
        const error = yield* Effect.flip(Effect.asVoid(scheduler[change](other, id)))
        assert.deepInclude(error.reason, { _tag: "TaskUnknown", id })
        assert.include(error.message, "list the tasks")
      }
      assert.strictEqual((yield* list()).length, 1)
    })
  )

  test(
    "a moment that has passed is refused, and nothing is stored",
    Effect.gen(function* () {
      const error = yield* Effect.flip(schedule({ at: "2025-12-31T23:59:59Z" }))
      assert.include(error.message, "that moment has passed")
      assert.deepStrictEqual(yield* list(), [])
    })
  )

  test(
    "its firings are listed, latest first, with what came of them",
    Effect.gen(function* () {
      const { id } = yield* schedule({ every: "1 hour" })
      yield* adjust("1 hour")
      yield* endTurn({ _tag: "Done" })
      yield* adjust("1 hour")
      const due = (hour: number) => epoch(`2026-01-01T0${hour}:00:00Z`)
      assert.deepStrictEqual(yield* runs(id), [
        { due: due(2), firedAt: due(2), ending: Option.none() },
        { due: due(1), firedAt: due(1), ending: Option.some({ _tag: "Done" as const }) }
      ])
    })
  )

  bare(
    "tasks outlive the claw, and fire after it has started again",
    Effect.gen(function* () {
      const task = yield* running(schedule({ every: "1 hour" }))
      yield* running(
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* list(), [task])
          yield* adjust("1 hour")
          assert.strictEqual((yield* fired()).length, 1)
        })
      )
    })
  )

  bare(
    "a firing that could not be stored is stored when it can be, and then once",
    Effect.gen(function* () {
      const journal = yield* Journal
      let broken = true
      const full = new JournalError({ operation: "accept", reason: new StoreFailed({ detail: "full", cause: "full" }) })
      const breaking = Layer.succeed(Journal, {
        ...journal,
        accept: (delivery) =>
          Effect.filterOrFail(
            journal.accept(delivery),
            () => !broken,
            () => full
          )
      })
      yield* Effect.gen(function* () {
        yield* schedule({ every: "1 hour" })
        yield* adjust("1 hour")
        yield* adjust("10 seconds")
        assert.deepStrictEqual(yield* fired(), [])
        broken = false
        yield* adjust("1 minute")
        assert.strictEqual((yield* fired()).length, 1)
        yield* adjust("1 hour")
        assert.strictEqual((yield* fired()).length, 2)
      }).pipe(Effect.provide(Layer.fresh(layer.pipe(Layer.provide(breaking), Layer.provide(zone)))))
    })
  )

  describe("cases", () => {
    const Missed = Schema.Struct({
      name: Schema.String,
      input: Schema.Struct({
        everyMillis: Schema.Int,
        anchor: Schema.String,
        downUntil: Schema.String,
        whenMissed: Schema.optionalKey(Schema.Literal("skip"))
      }),
      expect: Schema.Struct({ firesOnRestart: Schema.Int, next: Schema.String })
    })
    for (const { expect, input, name } of cases("schedule", Missed)) {
      bare(
        name,
        Effect.gen(function* () {
          yield* setTime(input.anchor)
          const { whenMissed = "once" } = input
          yield* running(schedule({ every: input.everyMillis }, { whenMissed }))
          yield* setTime(input.downUntil)
          yield* running(
            Effect.gen(function* () {
              yield* adjust(0)
              assert.strictEqual((yield* fired()).length, expect.firesOnRestart)
              assert.deepStrictEqual((yield* list())[0]?.next, Option.some(epoch(expect.next)))
            })
          )
        })
      )
    }

    const Grid = Schema.Struct({
      name: Schema.String,
      input: Schema.Struct({ everyMillis: Schema.Int, anchor: Schema.String, firedAt: Schema.String }),
      expect: Schema.Struct({ next: Schema.String })
    })
    for (const { expect, input, name } of cases("schedule", Grid)) {
      bare(
        name,
        Effect.gen(function* () {
          yield* setTime(input.anchor)
          yield* running(schedule({ every: input.everyMillis }))
          yield* setTime(input.firedAt)
          yield* running(
            Effect.gen(function* () {
              yield* adjust(0)
              assert.deepStrictEqual(yield* fired(), [input.firedAt])
              assert.deepStrictEqual((yield* list())[0]?.next, Option.some(epoch(expect.next)))
            })
          )
        })
      )
    }

    const Rearmed = Schema.Struct({
      name: Schema.String,
      input: Schema.Struct({ cron: Schema.String, run: Schema.Literal("fails") }),
      expect: Schema.Struct({ stillScheduled: Schema.Boolean, runStatus: Schema.Literal("failed") })
    })
    for (const { expect, input, name } of cases("schedule", Rearmed)) {
      test(
        name,
        Effect.gen(function* () {
          const { id } = yield* schedule({ cron: input.cron })
          yield* adjust("5 minutes")
          yield* endTurn({ _tag: "Failed", message: "no model" })
          assert.strictEqual((yield* list()).length === 1, expect.stillScheduled)
          const [run] = yield* runs(id)
          assert.strictEqual(Option.getOrThrow(run?.ending ?? Option.none())._tag.toLowerCase(), expect.runStatus)
          yield* adjust("5 minutes")
          assert.strictEqual((yield* fired()).length, 2)
        })
      )
    }

    const OneShot = Schema.Struct({
      name: Schema.String,
      input: Schema.Struct({ at: Schema.String, restartsAfterFiring: Schema.Int }),
      expect: Schema.Struct({ fires: Schema.Int })
    })
    for (const { expect, input, name } of cases("schedule", OneShot)) {
      bare(
        name,
        Effect.gen(function* () {
          yield* running(schedule({ at: input.at }))
          yield* setTime(input.at)
          for (let restart = 0; restart <= input.restartsAfterFiring; restart++) yield* running(adjust("1 minute"))
          assert.strictEqual((yield* fired()).length, expect.fires)
        })
      )
    }

    const Refused = Schema.Struct({
      name: Schema.String,
      input: Schema.Union([
        Schema.Struct({ cron: Schema.String, timeZone: Schema.String }),
        Schema.Struct({ everyMillis: Schema.Int })
      ]),
      expect: Schema.Struct({ error: Schema.String, stored: Schema.Literal(false) })
    })
    for (const { expect, input, name } of cases("schedule", Refused)) {
      test(
        `${name} is not stored`,
        Effect.gen(function* () {
          const error = yield* Effect.flip(schedule("cron" in input ? input : { every: input.everyMillis }))
          assert.include(error.message, expect.error)
          assert.deepStrictEqual(yield* list(), [])
        })
      )
    }
  })
}
