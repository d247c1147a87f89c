/**
 * When a task is due: a cron expression, an interval, or one moment. Pure: parsing, and the next firing after a time.
 *
 * All instants are epoch milliseconds. Zones are IANA names; a wall-clock time without an offset is in the task's zone.
 */
import * as Cron from "effect/Cron"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

/** When, with everything resolved: what is stored. */
export const When = Schema.TaggedUnion({
  /** Five fields, or six with seconds first. */
  Cron: { expression: Schema.String, timeZone: Schema.String },
  /** Every so many milliseconds, on a grid that starts at `anchor`. */
  Every: { millis: Schema.Int, anchor: Schema.Int },
  Once: { at: Schema.Int }
})
export type When = typeof When.Type

/** When, as a person writes it. */
export type WhenInput =
  | { readonly cron: string; readonly timeZone?: string }
  | { readonly every: Duration.Input }
  | { readonly in: Duration.Input }
  /** ISO 8601; with an offset or `Z`, or a wall-clock time in `timeZone`. */
  | { readonly at: string; readonly timeZone?: string }

/** A time that cannot be understood or never comes. Nothing was stored. */
export class WhenInvalid extends Schema.TaggedError<WhenInvalid>()("WhenInvalid", { detail: Schema.String }) {
  override get message(): string {
    return this.detail
  }
}

const invalid = (detail: string) => Result.fail(new WhenInvalid({ detail }))

const iso = /^(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)(Z|[+-]\d{2}:?\d{2})?$/i

/** Resolves what a person wrote. `zone` is used where the input names none; `now` is where intervals are anchored. */
export const make = (input: WhenInput, zone: DateTime.TimeZone, now: number): Result.Result<When, WhenInvalid> => {
  const named =
    "timeZone" in input && input.timeZone !== undefined ? DateTime.zoneMakeNamed(input.timeZone) : Option.some(zone)
  if (Option.isNone(named)) {
    return invalid(`"${"timeZone" in input ? input.timeZone : ""}" is no time zone; use an IANA name like Europe/Oslo`)
  }
  if ("cron" in input) {
    const cron = Cron.parse(input.cron, named.value)
    if (Result.isFailure(cron)) return invalid(`"${input.cron}" is no cron expression: ${cron.failure.message}`)
    const when: When = { _tag: "Cron", expression: input.cron, timeZone: DateTime.zoneToString(named.value) }
    return Option.isNone(next(when, now))
      ? invalid(`the cron expression "${input.cron}" never comes`)
      : Result.succeed(when)
  }
  if ("at" in input) return Result.map(instant(input.at, named.value), (at): When => ({ _tag: "Once", at }))
  const duration = Option.map(Duration.fromInput("every" in input ? input.every : input.in), (value) =>
    Math.round(Duration.toMillis(value))
  )
  if (Option.isNone(duration) || !Number.isSafeInteger(now + duration.value) || duration.value < 1) {
    return invalid('an interval is a positive length of time, such as "10 minutes"')
  }
  return Result.succeed(
    "every" in input
      ? { _tag: "Every", millis: duration.value, anchor: now }
      : { _tag: "Once", at: now + duration.value }
  )
}

const instant = (at: string, zone: DateTime.TimeZone): Result.Result<number, WhenInvalid> => {
  const [, date = "", time = "", offset = "Z"] = iso.exec(at) ?? []
  const day = DateTime.make(`${date}T00:00:00Z`)
  const parsed = DateTime.make(`${date}T${time}${offset}`)
  // A day that its month does not have would pass for one of the next month.
  if (Option.isNone(day) || Option.isNone(parsed) || !DateTime.formatIso(day.value).startsWith(date)) {
    return invalid(`"${at}" is no time; write 2026-01-15T09:00, with an offset if it is not in the task's zone`)
  }
  if (!at.endsWith(time)) return Result.succeed(DateTime.toEpochMillis(parsed.value))
  const resolve = (disambiguation: DateTime.Disambiguation) =>
    DateTime.makeZoned(`${date}T${time}`, { timeZone: zone, adjustForTimeZone: true, disambiguation })
  const exact = resolve("reject")
  if (Option.isSome(exact)) return Result.succeed(DateTime.toEpochMillis(exact.value))
  const earlier = resolve("earlier")
  if (Option.isNone(earlier)) return invalid(`"${at}" is no time`)
  // A time the clock skips comes out of the resolution as another wall-clock time; one it repeats, as itself.
  return DateTime.formatIso(parsed.value).slice(0, 16) === DateTime.formatIsoOffset(earlier.value).slice(0, 16)
    ? invalid(`"${at}" is ambiguous: the clock goes back and shows it twice; add an offset`)
    : invalid(`"${at}" does not exist: the clock goes forward over it`)
}

/** The first firing strictly after a time; none when there is no more. */
export const next = (when: When, after: number): Option.Option<number> => {
  switch (when._tag) {
    case "Once":
      return when.at > after ? Option.some(when.at) : Option.none()
    case "Every":
      return Option.some(when.anchor + (Math.floor((after - when.anchor) / when.millis) + 1) * when.millis)
    case "Cron": {
      // As Vixie cron does: what is due every hour goes on through a change of the clock, whatever it shows. A fixed time
      // comes once a day: one that the clock repeats, at first; one that it skips, when the gap ends.
      const hourly = when.expression.trim().split(/\s+/).at(-4)?.startsWith("*") === true
      const parsed = Cron.parse(when.expression, when.timeZone, { onDstOverlap: hourly ? "both" : "earlier" })
      if (Result.isFailure(parsed)) return Option.none()
      const found = Option.liftThrowable(() => Cron.next(parsed.success, new Date(after)).getTime())()
      const matches = (time: number) => Cron.match(parsed.success, new Date(time))
      return Option.flatMap(found, (time) => {
        if (matches(time)) return found
        const end = gapEnd(time, when.timeZone)
        return hourly && !matches(end) ? next(when, end) : Option.some(end)
      })
    }
  }
}

/** The end of the gap that a time fell into: the instant the offset changes. */
const gapEnd = (time: number, timeZone: string): number => {
  const offset = (at: number) => DateTime.zonedOffset(DateTime.makeZonedUnsafe(at, { timeZone }))
  let before = time - 3 * 3_600_000
  let after = time
  const target = offset(after)
  if (offset(before) === target) return time
  while (after - before > 1) {
    const middle = Math.floor((before + after) / 2)
    if (offset(middle) === target) after = middle
    else before = middle
  }
  return after
}

/** For people: `cron 0 8 * * 1-5 (Europe/Oslo)`. */
export const format = (when: When): string => {
  switch (when._tag) {
    case "Cron":
      return `cron ${when.expression} (${when.timeZone})`
    case "Every":
      return `every ${Duration.format(Duration.millis(when.millis))}`
    case "Once":
      return `once at ${DateTime.formatIso(DateTime.makeUnsafe(when.at))}`
  }
}
