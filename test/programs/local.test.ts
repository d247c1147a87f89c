/**
 * A claw's upkeep over days and weeks: what `Local.layer({ retain })` removes, and what it leaves.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Local from "effect-claw/programs/Local"
import { Journal } from "effect-claw/services/Journal"
import { ConversationId } from "effect-claw/services/Message"
import { Scheduler } from "effect-claw/services/Scheduler"
import { ChannelMemory, ModelScripted } from "effect-claw/testing"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { statSync } from "node:fs"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { folder } from "../contracts/store.ts"
import { ask, echo, last, life, model, replies, requests, say, transcript } from "./life.ts"

const call = ModelScripted.call

/** Lets everything go on that does not wait for the clock. */
const idle = Effect.repeat(Effect.yieldNow, { times: 200 })

/** Time passes. A claw here begins at midnight, and so does each day's upkeep. */
const pass = (time: Duration.Input, times = 1) =>
  Effect.repeat(Effect.andThen(TestClock.adjust(time), idle), { times: times - 1 })
const days = (count: number) => pass("1 day", count)

const sent = ChannelMemory.ChannelMemory.use((channel) => channel.sent)
const chat = ConversationId.make("memory:chat")

/** A claw's life on a folder, with an age that its journal is bounded to. */
const keeping = (
  directory: string,
  retain: Duration.Input | undefined,
  options: Partial<Parameters<typeof life>[1]> = {}
) =>
  life(directory, {
    model: echo,
    platform: Local.layer({ directory, synchronous: "NORMAL", ...(retain === undefined ? {} : { retain }) }),
    ...options
  })

/** How many rows of a claw's database say something. */
const rowsWith = (directory: string, text: string) =>
  Effect.sync(() => {
    const database = new DatabaseSync(join(directory, "claw.db"), { readOnly: true })
    const count = (table: string, column: string) =>
      Number(
        database.prepare(`SELECT COUNT(*) AS rows FROM ${table} WHERE ${column} LIKE ?`).get(`%${text}%`)?.["rows"]
      )
    const found = { entries: count("entries", "event"), outputs: count("outputs", "text") }
    database.close()
    return found
  })

/** A test on a folder that outlives its claws. */
const test = (
  name: string,
  body: (directory: string) => Effect.Effect<unknown, unknown, Scope.Scope>,
  options: { readonly timeout?: number } = {}
) => it.effect(name, () => Effect.flatMap(folder, body), options)

describe("a journal whose age is bounded", () => {
  test("loses what is older with the next day's upkeep, in every chat at rest", (directory) =>
    Effect.gen(function* () {
      for (const chat of ["a", "b"]) yield* ask({ text: "my old words", chat })
      yield* days(30)
      assert.deepStrictEqual(yield* rowsWith(directory, "my old words"), { entries: 4, outputs: 2 })
      yield* ask({ text: "my new words", chat: "a" })
      yield* days(1)
      assert.deepStrictEqual(yield* rowsWith(directory, "my old words"), { entries: 0, outputs: 0 })
      assert.deepStrictEqual(yield* rowsWith(directory, "my new words"), { entries: 2, outputs: 1 })
      assert.strictEqual(yield* ask({ text: "hello?", chat: "b" }), "re: hello?")
      assert.deepStrictEqual(transcript((yield* requests).at(-1) ?? assert.fail()), ["hello?"])
    }).pipe(keeping(directory, "30 days")))

  test("does so at its start, when the claw was away", (directory) =>
    Effect.gen(function* () {
      yield* keeping(directory, "30 days")(ask("my old words"))
      yield* TestClock.adjust("31 days")
      yield* Effect.gen(function* () {
        yield* idle
        assert.deepStrictEqual(yield* rowsWith(directory, "my old words"), { entries: 0, outputs: 0 })
      }).pipe(keeping(directory, "30 days"))
    }))

  test("still knows a message that it has had, also in the next life", (directory) => {
    const again = Effect.gen(function* () {
      const before = [(yield* requests).length, (yield* sent).length]
      yield* Effect.andThen(say({ text: "my old words", id: "1" }), idle)
      yield* Effect.andThen(say({ text: "said to nobody", id: "2", direct: false }), idle)
      assert.deepStrictEqual([(yield* requests).length, (yield* sent).length], before)
      assert.deepStrictEqual(yield* rowsWith(directory, "my old words"), { entries: 0, outputs: 0 })
      assert.deepStrictEqual(yield* rowsWith(directory, "said to nobody"), { entries: 0, outputs: 0 })
    })
    return Effect.gen(function* () {
      yield* Effect.gen(function* () {
        yield* ask({ text: "my old words", id: "1" })
        yield* say({ text: "said to nobody", id: "2", direct: false })
        yield* days(31)
        yield* again
      }).pipe(keeping(directory, "30 days"))
      yield* again.pipe(keeping(directory, "30 days"))
    })
  })

  test("shows a model the newer turns, whole", (directory) =>
    Effect.gen(function* () {
      for (const turn of [1, 2, 3, 4]) {
        yield* ask(`words ${turn}`)
        yield* days(5)
      }
      assert.strictEqual(yield* ask("and now?"), "re: and now?")
      assert.deepStrictEqual(transcript((yield* requests).at(-1) ?? assert.fail()), [
        "words 3",
        "re: words 3",
        "words 4",
        "re: words 4",
        "and now?"
      ])
    }).pipe(keeping(directory, "12 days")))

  test("does not begin in the middle of a turn", (directory) =>
    Effect.gen(function* () {
      yield* ask("before")
      yield* pass("23 hours")
      yield* pass("45 minutes")
      // The turn goes on over midnight, which is where the journal is cut ten days later.
      yield* say("work")
      yield* pass("10 minutes", 3)
      assert.strictEqual((yield* replies(2)).at(-1), "worked")
      yield* days(10)
      yield* ask("and now?")
      const shown = (yield* requests).at(-1) ?? assert.fail()
      assert.strictEqual(shown.prompt.content[1]?.role, "user")
      const whole = ["work", "worked"]
      const said = transcript(shown)
      assert.deepStrictEqual(said, [...(said.some((text) => whole.includes(text)) ? whole : []), "and now?"])
    }).pipe(
      keeping(directory, "10 days", {
        model: model((request) => {
          const told = last(request)
          if (told === "work") return Effect.delay(Effect.succeed(call("bash", { command: "work" })), "10 minutes")
          return told.startsWith("bash")
            ? Effect.delay(Effect.succeed({ text: "worked" }), "10 minutes")
            : { text: told }
        })
      })
    ))

  test("still says how often a task has run, and of what is not known any more says no ending", (directory) =>
    Effect.gen(function* () {
      yield* pass("1 hour")
      yield* ask("remind me every day")
      const [task] = yield* Scheduler.use((scheduler) => scheduler.list(chat))
      yield* days(20)
      assert.lengthOf(
        (yield* sent).filter(({ text }) => text === "stretch"),
        20
      )
      const runs = yield* Scheduler.use((scheduler) => scheduler.runs(chat, task?.id ?? assert.fail()))
      const endings = runs.map(({ ending }) => Option.getOrUndefined(ending)?._tag)
      // The latest first; the upkeep was an hour before it.
      assert.deepStrictEqual(
        endings,
        Array.from({ length: 20 }, (_, index) => (index < 6 ? "Done" : undefined))
      )
    }).pipe(
      keeping(directory, "5 days", {
        model: model((request) =>
          last(request) === "remind me every day"
            ? call("schedule_task", { task: "stretch", every_seconds: 86_400 })
            : { text: last(request).startsWith("schedule_task") ? "yes" : last(request) }
        )
      })
    ))

  test("keeps what an open turn's specialists have said, until the turn is over", (directory) => {
    const asked: Array<string> = []
    const delegating = (hangs: boolean) => ({
      model: model((request) => {
        const told = last(request)
        asked.push(told)
        if (told === "work") {
          const briefs = ["one", "two"].map((brief) => ({ agent: "coder", brief }))
          return call("delegate_all", { briefs })
        }
        return told === "two" && hangs ? Effect.never : { text: `so: ${told}` }
      })
    })
    return Effect.gen(function* () {
      yield* Effect.gen(function* () {
        yield* ask({ text: "another chat's words", chat: "other" })
        yield* say("work")
        yield* idle
        assert.sameMembers(asked.splice(0), ["another chat's words", "work", "one", "two"])
      }).pipe(keeping(directory, "30 days", delegating(true)))
      yield* TestClock.adjust("40 days")
      yield* Effect.gen(function* () {
        // The upkeep of its start is over before the second specialist has answered.
        yield* idle
        assert.deepStrictEqual(asked.splice(0), ["two"])
        assert.deepStrictEqual(yield* rowsWith(directory, "so: one"), { entries: 1, outputs: 0 })
        assert.deepStrictEqual(yield* rowsWith(directory, "another chat's words"), { entries: 0, outputs: 0 })
      }).pipe(keeping(directory, "30 days", delegating(true)))
      yield* Effect.gen(function* () {
        assert.deepStrictEqual(yield* replies(1).pipe(Effect.map(([reply]) => reply?.match(/so: (one|two)/g))), [
          "so: one",
          "so: two"
        ])
        assert.notInclude(asked, "one")
        yield* idle
        assert.deepStrictEqual(yield* Journal.use(({ unfinished }) => unfinished), [])
        yield* days(1)
        // The specialist's own words; the turn that it reported to is younger.
        assert.deepStrictEqual(yield* rowsWith(directory, "so: one"), { entries: 2, outputs: 1 })
        yield* days(31)
        assert.deepStrictEqual(yield* rowsWith(directory, "so: one"), { entries: 0, outputs: 0 })
      }).pipe(keeping(directory, "30 days", delegating(false)))
    })
  })

  describe("takes no more room after many days than after a few", () => {
    /** Twenty turns a day; returns the size of the database after each of these numbers of days. */
    const sizes = (directory: string, length: number, ...after: ReadonlyArray<number>) => {
      const text = (kind: string) => `${kind} ${"x".repeat(length)}`
      const chats = Array.from({ length: 20 }, (_, index) => `chat ${index}`)
      const day = Effect.andThen(
        Effect.forEach(chats, (chat) => ask({ text: text("question"), chat })),
        days(1)
      )
      return Effect.forEach(after, (until, index) =>
        Effect.repeat(day, { times: until - (after[index - 1] ?? 0) - 1 }).pipe(
          keeping(directory, "5 days", { model: model(() => ({ text: text("answer") })) }),
          // A database that was closed is one file.
          Effect.andThen(Effect.sync(() => statSync(join(directory, "claw.db")).size))
        )
      )
    }

    test(
      "when texts are long",
      (directory) =>
        Effect.gen(function* () {
          const [few = 0, many = Infinity] = yield* sizes(directory, 20_000, 10, 50)
          assert.isAbove(few, 5 * 20 * 3 * 20_000, "what is to be kept is there")
          assert.isBelow(many, few * 1.2)
        }),
      // A thousand turns, on a busy machine.
      { timeout: 90_000 }
    )

    test("when texts are as long as people's, but for what makes a message known and a cost booked", (directory) =>
      Effect.gen(function* () {
        const [few = 0, many = Infinity] = yield* sizes(directory, 1000, 10, 30)
        assert.isBelow((many - few) / (20 * 20), 1000, "bytes for each turn")
      }))
  })
})

describe("a journal whose age is not bounded", () => {
  test("loses nothing", (directory) =>
    Effect.gen(function* () {
      yield* ask("my old words")
      yield* days(40)
      yield* ask("and now?")
      assert.deepStrictEqual(transcript((yield* requests).at(-1) ?? assert.fail()), [
        "my old words",
        "re: my old words",
        "and now?"
      ])
    }).pipe(keeping(directory, undefined)))
})
