/**
 * The time zone a claw lives in: times it shows to a model, days of a budget, tasks that name no zone of their own.
 */
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/** An IANA zone. Default: the machine's. */
export const HomeZone = Context.Reference<DateTime.TimeZone>("effect-claw/services/HomeZone", {
  defaultValue: () => DateTime.zoneMakeLocal()
})

/** The home zone is none that is known. */
export class TimeZoneInvalid extends Schema.TaggedError<TimeZoneInvalid>()("TimeZoneInvalid", {}) {
  override get message(): string {
    return "the time zone is none that is known; set TZ, or give HomeZone, one such as Europe/Berlin"
  }
}

/** The home zone, if it is one. A machine's that is not known has no name, or one that nothing can be shown in. */
export const make: Effect.Effect<DateTime.TimeZone, TimeZoneInvalid> = Effect.flatMap(HomeZone, (zone) =>
  Effect.try({
    try: () => {
      const name = DateTime.zoneToString(zone)
      if (!name) throw new RangeError("the zone has no name")
      new Intl.DateTimeFormat("en", { timeZone: name }).format(0)
      return zone
    },
    catch: () => new TimeZoneInvalid()
  })
)
