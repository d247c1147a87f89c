/**
 * The scheduler on a SQL database.
 *
 * Firing is one transaction: the task's text becomes an input of its conversation, and the task moves on. Between
 * firings it sleeps until the next one is due; it is woken when tasks change, and does not poll.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import type * as SqlError from "effect/sql/SqlError"
import type * as Statement from "effect/sql/Statement"
import { Conversations } from "../services/Conversations.ts"
import { HomeZone } from "../services/HomeZone.ts"
import { Journal, type JournalError } from "../services/Journal.ts"
import { AgentName, ConversationId, Sender, text as content } from "../services/Message.ts"
import { Scheduler, SchedulerError, type Task, TaskUnknown } from "../services/Scheduler.ts"
import { StoreFailed } from "../services/StoreFailed.ts"
import * as When from "../services/When.ts"
import { storeFailed } from "./internal/storeFailed.ts"

/** A firing later than this was missed: the claw was down, or the machine asleep. */
const grace = 60_000

/** The longest sleep: timers stand still while a machine sleeps, so the wall clock is looked at again. */
const longestSleep = 3_600_000

const encodeWhen = Schema.encodeSync(Schema.fromJsonString(When.When))
const decodeWhen = Schema.decodeSync(Schema.fromJsonString(When.When))

const failed = (cause: SqlError.SqlError | JournalError) =>
  new SchedulerError({
    reason: cause._tag === "SqlError" ? storeFailed(cause) : new StoreFailed({ detail: cause.message, cause })
  })

interface Row {
  readonly id: string
  readonly conversation: string
  readonly agent: string
  readonly sender: string | null
  readonly text: string
  readonly due: string
  readonly when_missed: string
  readonly paused: number
  readonly next: number | null
}

const toTask = (row: Row): Task => ({
  id: row.id,
  conversation: ConversationId.make(row.conversation),
  agent: AgentName.make(row.agent),
  sender: row.sender === null ? undefined : Sender.make(row.sender),
  text: row.text,
  when: decodeWhen(row.due),
  whenMissed: row.when_missed === "skip" ? "skip" : "once",
  paused: row.paused === 1,
  next: Option.fromNullOr(row.next)
})

/** The key of a firing's input: what makes firing it twice impossible. */
const runKey = (task: string, due: number) => `task ${task} ${due}`

/**
 * The scheduler.
 *
 * Provides `Scheduler`; requires a migrated `SqlClient`, `Journal` on the same client, and `Conversations`, which it wakes.
 * What was missed is made up for at start. On release it stops; tasks stay.
 */
export const layer: Layer.Layer<Scheduler, SchedulerError, SqlClient.SqlClient | Journal | Conversations> =
  Layer.effect(
    Scheduler,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const journal = yield* Journal
      const conversations = yield* Conversations
      const zone = yield* HomeZone
      const changed = yield* Queue.sliding<void>(1)

      const fire = Effect.fn("Scheduler.fire")(function* (task: Task, due: number, now: number) {
        const missed = now - due > grace
        yield* sql.withTransaction(
          Effect.gen(function* () {
            const next = Option.getOrNull(When.next(task.when, now))
            // Cancelled or paused since it was looked up, it is not due any more.
            const [isDue] = yield* sql`
            UPDATE tasks SET next = ${next} WHERE id = ${task.id} AND next = ${due} AND paused = 0 RETURNING id`
            if (isDue === undefined) return
            if (!missed || task.whenMissed === "once") {
              const { agent, conversation, id, sender, text } = task
              const origin = { _tag: "Task" as const, task: id, ...(sender === undefined ? {} : { sender }) }
              const input = { origin, content: content(text), at: now }
              yield* journal.accept({ conversation, agent, key: runKey(id, due), input })
              yield* sql`INSERT INTO task_runs ${sql.insert({ task: id, due, fired_at: now })} ON CONFLICT DO NOTHING`
            }
          })
        )
        yield* conversations.wake(task.conversation)
      })

      const fireDue = Effect.gen(function* () {
        const now = yield* Clock.currentTimeMillis
        const rows = yield* sql<Row & { next: number }>`
        SELECT * FROM tasks WHERE next IS NOT NULL AND paused = 0 AND next <= ${now} ORDER BY next`
        yield* Effect.forEach(rows, (row) => fire(toTask(row), row.next, now), { discard: true })
        const [soonest] = yield* sql<{ next: number | null }>`
        SELECT MIN(next) AS next FROM tasks WHERE next IS NOT NULL AND paused = 0`
        return Math.min(longestSleep, Math.max(0, (soonest?.next ?? Infinity) - now))
      })

      yield* fireDue.pipe(
        Effect.tapError((error) => Effect.logError(`scheduler: ${error.message}`)),
        Effect.retry(Schedule.min([Schedule.exponential("1 second"), Schedule.spaced("1 minute")])),
        Effect.flatMap((millis) => Effect.timeoutOption(Queue.take(changed), millis)),
        Effect.forever,
        Effect.forkScoped
      )

      const wake = Queue.offer(changed, undefined)

      const unknown = (id: string) => new SchedulerError({ reason: new TaskUnknown({ id }) })
      const find = Effect.fnUntraced(function* (conversation: ConversationId, id: string) {
        const [row] = yield* sql<Row>`SELECT * FROM tasks WHERE id = ${id} AND conversation = ${conversation}`.pipe(
          Effect.mapError(failed)
        )
        return row === undefined ? yield* unknown(id) : toTask(row)
      })

      /** Changes a task that is still to come. */
      const change = (name: string, to: (task: Task, now: number) => Statement.Fragment) =>
        Effect.fn(`Scheduler.${name}`)(function* (conversation: ConversationId, id: string) {
          const task = yield* find(conversation, id)
          if (Option.isNone(task.next)) return yield* unknown(id)
          const set = to(task, yield* Clock.currentTimeMillis)
          yield* sql`UPDATE tasks SET ${set} WHERE id = ${id}`.pipe(Effect.mapError(failed))
          yield* wake
        })

      return Scheduler.of({
        schedule: Effect.fn("Scheduler.schedule")(function* (task) {
          const { agent, conversation, sender = null, text, whenMissed: when_missed = "once" } = task
          const now = yield* Clock.currentTimeMillis
          const invalid = (reason: When.WhenInvalid) => new SchedulerError({ reason })
          const when = yield* Effect.mapError(Effect.fromResult(When.make(task.when, zone, now)), invalid)
          const id = (yield* Random.nextInt).toString(36).slice(-6).replace("-", "x").padStart(6, "0")
          const next = yield* Effect.mapError(Effect.fromOption(When.next(when, now)), () =>
            invalid(new When.WhenInvalid({ detail: `that moment has passed: ${When.format(when)}` }))
          )
          const row = { id, conversation, agent, sender, text, due: encodeWhen(when), when_missed, paused: 0, next }
          yield* sql`INSERT INTO tasks ${sql.insert(row)}`.pipe(Effect.mapError(failed))
          yield* wake
          return toTask(row)
        }),

        list: Effect.fn("Scheduler.list")(function* (conversation) {
          const rows = yield* sql<Row>`SELECT * FROM tasks WHERE next IS NOT NULL AND ${
            conversation === undefined ? sql`1 = 1` : sql`conversation = ${conversation}`
          } ORDER BY next`
          return rows.map(toTask)
        }, Effect.mapError(failed)),

        pause: change("pause", () => sql`paused = 1`),

        resume: change("resume", ({ when }, now) => {
          const next = when._tag === "Once" ? when.at : Option.getOrNull(When.next(when, now))
          return sql`paused = 0, next = ${next}`
        }),

        cancel: change("cancel", () => sql`next = NULL`),

        runs: Effect.fn("Scheduler.runs")(function* (conversation, id) {
          yield* find(conversation, id)
          return yield* sql<{ due: number; fired_at: number }>`
          SELECT due, fired_at FROM task_runs WHERE task = ${id} ORDER BY due DESC LIMIT 50`.pipe(
            Effect.flatMap((rows) =>
              Effect.forEach(rows, ({ due, fired_at }) =>
                Effect.map(journal.outcome(conversation, runKey(id, due)), (outcome) => ({
                  due,
                  firedAt: fired_at,
                  ending: Option.map(outcome, ({ ending }) => ending)
                }))
              )
            ),
            Effect.mapError(failed)
          )
        })
      })
    })
  )
