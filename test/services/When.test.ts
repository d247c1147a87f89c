import { assert, describe, it } from "@effect/vitest"
import * as When from "effect-claw/services/When"
import * as Arbitrary from "effect/Arbitrary"
import * as Cron from "effect/Cron"
import * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { cases } from "../contracts/cases.ts"

const utc = DateTime.zoneMakeNamedUnsafe("UTC")
const epoch = (iso: string) => DateTime.toEpochMillis(DateTime.makeUnsafe(iso))
const iso = (millis: number) => DateTime.formatIso(DateTime.makeUnsafe(millis)).replace(".000Z", "Z")

/** The next firings after a time. */
const firings = (when: When.When, after: string, count: number): ReadonlyArray<string> => {
  const found: Array<string> = []
  let at = epoch(after)
  for (let fired = 0; fired < count; fired++) {
    const next = When.next(when, at)
    if (Option.isNone(next)) break
    at = next.value
    found.push(iso(at))
  }
  return found
}

const make = (input: When.WhenInput, now = "2026-01-01T00:00:00Z") => When.make(input, utc, epoch(now))
const made = (input: When.WhenInput, now?: string) => Result.getOrThrow(make(input, now))
const refused = (input: When.WhenInput, now?: string) => Result.getOrThrow(Result.flip(make(input, now))).message

const daily = (cron: string, timeZone: string) => made({ cron, timeZone })

describe("When", () => {
  describe("cases", () => {
    const Times = Schema.Union([
      Schema.Struct({ cron: Schema.String, timeZone: Schema.String, from: Schema.optionalKey(Schema.String) }),
      Schema.Struct({ at: Schema.String, timeZone: Schema.String })
    ])
    const when = (input: typeof Times.Type): When.WhenInput =>
      "at" in input ? input : { cron: input.cron, timeZone: input.timeZone }
    const from = (input: typeof Times.Type) => ("from" in input ? input.from : "2026-01-01T00:00:00Z")

    for (const { expect, input, name } of cases(
      "schedule",
      Schema.Struct({
        name: Schema.String,
        input: Times,
        expect: Schema.Union([
          Schema.Struct({ next: Schema.String }),
          Schema.Struct({ nextTwo: Schema.Array(Schema.String) })
        ])
      })
    )) {
      it(name, () => {
        const expected = "next" in expect ? [expect.next] : expect.nextTwo
        assert.deepStrictEqual(firings(made(when(input), from(input)), from(input), expected.length), expected)
      })
    }

    for (const { expect, input, name } of cases(
      "schedule",
      Schema.Struct({
        name: Schema.String,
        input: Schema.Union([Times, Schema.Struct({ everyMillis: Schema.Int })]),
        expect: Schema.Struct({ error: Schema.String, stored: Schema.optionalKey(Schema.Boolean) })
      })
    )) {
      it(`${name} is refused`, () =>
        assert.include(refused("everyMillis" in input ? { every: input.everyMillis } : when(input)), expect.error))
    }

    for (const { input, name } of cases(
      "schedule",
      Schema.Struct({
        name: Schema.Literal("spring forward"),
        input: Times,
        expect: Schema.Struct({ note: Schema.String })
      })
    )) {
      it(name, () =>
        assert.deepStrictEqual(firings(made(when(input)), from(input), 2), [
          "2026-03-08T07:00:00Z",
          "2026-03-09T06:30:00Z"
        ])
      )
    }

    it("interval stays on its grid", () => {
      const when: When.When = { _tag: "Every", millis: 60_000, anchor: epoch("2026-01-01T00:00:00Z") }
      assert.deepStrictEqual(firings(when, "2026-01-01T00:01:02Z", 2), ["2026-01-01T00:02:00Z", "2026-01-01T00:03:00Z"])
    })
  })

  describe("when the clock changes", () => {
    it("a time that is shown twice fires once", () =>
      assert.deepStrictEqual(firings(daily("30 1 * * *", "America/New_York"), "2026-11-01T04:00:00Z", 2), [
        "2026-11-01T05:30:00Z",
        "2026-11-02T06:30:00Z"
      ]))

    it("times that are skipped fire together, once", () =>
      assert.deepStrictEqual(firings(daily("0,30 2 * * *", "America/New_York"), "2026-03-08T05:00:00Z", 2), [
        "2026-03-08T07:00:00Z",
        "2026-03-09T06:00:00Z"
      ]))

    it("what is due every hour misses none", () => {
      const hours = (from: string) => firings(daily("0 * * * *", "America/New_York"), from, 4)
      assert.deepStrictEqual(
        hours("2026-11-01T04:30:00Z"),
        ["05", "06", "07", "08"].map((hour) => `2026-11-01T${hour}:00:00Z`)
      )
      assert.deepStrictEqual(
        hours("2026-03-08T04:30:00Z"),
        ["05", "06", "07", "08"].map((hour) => `2026-03-08T${hour}:00:00Z`)
      )
    })

    it("a gap of half an hour shifts nothing off its minutes", () =>
      assert.deepStrictEqual(firings(daily("*/20 * * * *", "Australia/Lord_Howe"), "2026-10-03T15:10:00Z", 3), [
        "2026-10-03T15:40:00Z",
        "2026-10-03T16:00:00Z",
        "2026-10-03T16:20:00Z"
      ]))
  })

  describe("what a person writes", () => {
    it("a length of time is counted from now", () => {
      assert.deepStrictEqual(made({ in: "10 seconds" }), { _tag: "Once", at: epoch("2026-01-01T00:00:10Z") })
      assert.deepStrictEqual(made({ every: "1 hour" }), {
        _tag: "Every",
        millis: 3_600_000,
        anchor: epoch("2026-01-01")
      })
    })

    it.for([0, -1, Number.NaN, Infinity, 1e300])("%s is no interval", (every) => {
      assert.include(refused({ every }), "interval")
      assert.include(refused({ in: every }), "interval")
    })

    it.for([
      "",
      "tomorrow",
      "2026-01-01",
      "25:00",
      "2026-13-01T00:00",
      "2026-02-30T09:00",
      "2026-02-30T09:00:00Z",
      "2026-01-15T25:00",
      "1/2/2026 09:00 +0100"
    ])("%o is no time, and is not guessed", (at) => assert.include(refused({ at }), "is no time"))

    it("a wall-clock time may have a blank, and no seconds", () =>
      assert.deepStrictEqual(made({ at: "2026-03-25 08:00", timeZone: "Asia/Shanghai" }), {
        _tag: "Once",
        at: epoch("2026-03-25T00:00:00Z")
      }))

    it("what never comes is refused", () => assert.include(refused({ cron: "0 0 31 2 *" }), "never comes"))

    it("a zone that is no name is not guessed", () =>
      assert.include(refused({ cron: "0 9 * * *", timeZone: "IST-2" }), "time zone"))

    it("is shown to people as they would say it", () => {
      assert.strictEqual(When.format(daily("0 8 * * 1-5", "Europe/Oslo")), "cron 0 8 * * 1-5 (Europe/Oslo)")
      assert.strictEqual(When.format(made({ every: "90 minutes" })), "every 1h 30m")
      assert.strictEqual(When.format(made({ in: "1 minute" })), "once at 2026-01-01T00:01:00.000Z")
    })
  })

  describe("whatever the task, whenever it is asked", () => {
    const zones = ["UTC", "America/New_York", "Europe/Oslo", "Asia/Kathmandu", "Australia/Lord_Howe", "Asia/Beirut"]
    const minute = Schema.Literals(["*", "0", "30", "*/20", "7,37", "10-15"])
    const hour = Schema.Literals(["*", "0", "2", "1,3", "*/6", "8-18"])
    const day = Schema.Literals(["* * *", "1 * *", "29 2 *", "* * 1-5", "* 6-8 *", "13 * 5"])

    const int = (minimum: number, maximum: number) =>
      Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum, maximum })))
    const time = int(epoch("2025-01-01"), epoch("2029-01-01"))
    const every = Arbitrary.map(Arbitrary.all([int(1, 1_000_000_000), time]), ([millis, anchor]): When.When => ({
      _tag: "Every",
      millis,
      anchor
    }))
    const cron = Arbitrary.map(
      Arbitrary.all([minute, hour, day, Schema.Literals(zones)].map((schema) => Arbitrary.schema(schema))),
      ([minute, hour, day, timeZone = "UTC"]): When.When => ({
        _tag: "Cron",
        expression: `${minute} ${hour} ${day}`,
        timeZone
      })
    )
    const any = Arbitrary.flatMap(Arbitrary.schema(Schema.Boolean), (isCron): Arbitrary.Arbitrary<When.When> =>
      isCron ? cron : every
    )
    const next = (when: When.When, after: number) => Option.getOrThrow(When.next(when, after))

    it.prop("the next firing is strictly later", [any, time], ([when, after]) =>
      assert.isAbove(next(when, after), after)
    )

    it.prop("a later question has no earlier answer", [any, time, int(0, 10_000_000)], ([when, after, more]) =>
      assert.isAtLeast(next(when, after + more), next(when, after))
    )

    it.prop("asked again before it fires, the answer is the same", [any, time], ([when, after]) => {
      const due = next(when, after)
      assert.strictEqual(next(when, after + Math.floor((due - after) / 2)), due)
      assert.strictEqual(next(when, due - 1), due)
    })

    it.prop("an interval stays on its grid and skips nothing", [every, time], ([when, after]) => {
      if (when._tag !== "Every") return
      const due = next(when, after)
      assert.strictEqual((due - when.anchor) % when.millis, 0)
      assert.isAtMost(due - after, when.millis)
    })

    it.prop("a cron time matches, but for the end of a gap", [cron, time], ([when, after]) => {
      if (when._tag !== "Cron") return
      const due = next(when, after)
      const parsed = Result.getOrThrow(Cron.parse(when.expression, when.timeZone))
      const offset = (at: number) => DateTime.zonedOffset(DateTime.makeZonedUnsafe(at, { timeZone: when.timeZone }))
      if (!Cron.match(parsed, DateTime.makeUnsafe(due))) assert.isAbove(offset(due), offset(due - 1))
    })

    it.prop(
      "no minute that matches is passed over, but for one the clock shows again",
      [cron, time],
      ([when, after]) => {
        if (when._tag !== "Cron") return
        const due = next(when, after)
        const parsed = Result.getOrThrow(Cron.parse(when.expression, when.timeZone))
        const offset = (at: number) => DateTime.zonedOffset(DateTime.makeZonedUnsafe(at, { timeZone: when.timeZone }))
        const first = Math.ceil((after + 1) / 60_000) * 60_000
        for (let at = first; at < Math.min(due, first + 18_000_000); at += 60_000) {
          const isShownAgain = offset(at) < offset(at - 3_600_000)
          assert.isFalse(Cron.match(parsed, DateTime.makeUnsafe(at)) && !isShownAgain, iso(at))
        }
      }
    )

    it.prop("a moment comes once", [time, time], ([at, after]) =>
      assert.deepStrictEqual(When.next({ _tag: "Once", at }, after), at > after ? Option.some(at) : Option.none())
    )
  })
})
