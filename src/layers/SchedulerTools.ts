/**
 * Tools to act later. Tasks belong to the conversation they were made in, and are seen in no other.
 */
import * as Tool from "effect/ai/Tool"
import * as Toolkit from "effect/ai/Toolkit"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { withHandlers } from "../services/Agent.ts"
import { CurrentTurn } from "../services/CurrentTurn.ts"
import { HomeZone } from "../services/HomeZone.ts"
import { Scheduler, SchedulerError, type Task } from "../services/Scheduler.ts"
import * as When from "../services/When.ts"

const shared = { success: Schema.String, failure: SchedulerError, dependencies: [CurrentTurn] }

const ScheduleTask = Tool.make("schedule_task", {
  ...shared,
  description: "Be given a task later, in this chat. Give exactly one of in_seconds, at, every_seconds and cron.",
  parameters: Schema.Struct({
    task: Schema.NonEmptyString.annotate({ description: "what you will be asked to do then" }),
    in_seconds: Schema.optionalKey(Schema.Int),
    at: Schema.optionalKey(Schema.String).annotate({
      description: "2026-01-15T09:00, in time_zone, or with an offset"
    }),
    every_seconds: Schema.optionalKey(Schema.Int),
    cron: Schema.optionalKey(Schema.String).annotate({ description: "five fields: 0 8 * * 1-5" }),
    time_zone: Schema.optionalKey(Schema.String).annotate({ description: "IANA name; default: the home zone" })
  })
})

const ListTasks = Tool.make("list_tasks", {
  ...shared,
  description: "The tasks still to come in this chat.",
  parameters: Tool.EmptyParams
}).annotate(Tool.Readonly, true)

const ChangeTask = Tool.make("change_task", {
  ...shared,
  description: "Pause, resume or cancel a task of this chat.",
  parameters: Schema.Struct({ id: Schema.String, change: Schema.Literals(["pause", "resume", "cancel"]) })
}).annotate(Tool.Idempotent, true)

const toolkit = Toolkit.make(ScheduleTask, ListTasks, ChangeTask)

const whenOf = (
  times: Omit<typeof ScheduleTask.parametersSchema.Type, "task">
): Effect.Effect<When.WhenInput, SchedulerError> => {
  const { at, cron, every_seconds, in_seconds, time_zone } = times
  const zone = time_zone === undefined ? {} : { timeZone: time_zone }
  const given: ReadonlyArray<When.WhenInput> = [
    ...(in_seconds === undefined ? [] : [{ in: `${in_seconds} seconds` as const }]),
    ...(at === undefined ? [] : [{ at, ...zone }]),
    ...(every_seconds === undefined ? [] : [{ every: `${every_seconds} seconds` as const }]),
    ...(cron === undefined ? [] : [{ cron, ...zone }])
  ]
  const [only] = given
  // Each firing is work for a model: none comes every second.
  const isRare = (every_seconds ?? 60) >= 60 && (cron ?? "* * * * *").trim().split(/\s+/).length === 5
  if (only !== undefined && given.length === 1 && isRare) return Effect.succeed(only)
  const detail = "give exactly one of in_seconds, at, every_seconds (60 at least) and cron (five fields)"
  return Effect.fail(new SchedulerError({ reason: new When.WhenInvalid({ detail }) }))
}

/** `schedule_task`, `list_tasks`, `change_task`. Requires a `Scheduler`. */
export const SchedulerTools = withHandlers(
  toolkit,
  Effect.gen(function* () {
    const scheduler = yield* Scheduler
    const zone = yield* HomeZone
    const show = ({ id, next, paused, text, when }: Task): string => {
      const due = Option.map(next, (at) => DateTime.makeZonedUnsafe(at - (at % 1000), { timeZone: zone }))
      const then = Option.map(due, (at) => `, next ${DateTime.formatIsoZoned(at).replace(".000", "")}`)
      const often = when._tag === "Once" ? "once" : When.format(when)
      return `${id}: "${text}", ${often}${paused ? ", paused" : Option.getOrElse(then, () => "")}`
    }
    return toolkit.of({
      schedule_task: ({ task: text, ...times }) =>
        Effect.gen(function* () {
          const { agent, conversation, sender } = yield* CurrentTurn
          const task = yield* scheduler.schedule({ conversation, agent, sender, text, when: yield* whenOf(times) })
          return `scheduled ${show(task)}`
        }),
      list_tasks: () =>
        Effect.gen(function* () {
          const tasks = yield* scheduler.list((yield* CurrentTurn).conversation)
          return tasks.length === 0 ? "[no tasks]" : tasks.map(show).join("\n")
        }),
      change_task: ({ change, id }) =>
        Effect.flatMap(CurrentTurn, ({ conversation }) => scheduler[change](conversation, id)).pipe(
          Effect.as(`${id}: ${change} done`)
        )
    })
  })
)
