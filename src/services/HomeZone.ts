/**
 * The time zone a claw lives in: times it shows to a model, days of a budget, tasks that name no zone of their own.
 */
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"

/** An IANA zone. Default: the machine's. */
export const HomeZone = Context.Reference<DateTime.TimeZone>("effect-claw/services/HomeZone", {
  defaultValue: () => DateTime.zoneMakeLocal()
})
