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

/** There is no such zone. */
export class TimeZoneInvalid extends Schema.TaggedError<TimeZoneInvalid>(
  "effect-claw/services/HomeZone/TimeZoneInvalid"
)("TimeZoneInvalid", { zone: Schema.String }) {
  override get message(): string {
    return `the time zone (${this.zone}) is none that is known; set TZ, or give HomeZone, one such as Europe/Berlin`
  }
}

/** The home zone, if it is one: what a machine calls its zone may be none. */
export const make: Effect.Effect<DateTime.TimeZone, TimeZoneInvalid> = Effect.flatMap(HomeZone, (zone) => {
  // A zone that the machine does not know has no name, whatever the type says.
  const name = `${DateTime.zoneToString(zone)}`
  return Effect.mapError(Effect.fromOption(DateTime.zoneFromString(name)), () => new TimeZoneInvalid({ zone: name }))
})
