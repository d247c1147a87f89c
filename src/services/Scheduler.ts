/**
 * The scheduler: a claw acts on its own time.
 *
 * A task belongs to a conversation. When it is due its text becomes an input of that conversation, in the transaction
 * that moves the task on; from there it takes the road of every message. So a task fires once, whatever crashes.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { AgentName, ConversationId, Sender } from "./Message.ts"
import { StoreFailed } from "./StoreFailed.ts"
import type { Ending } from "./Turn.ts"
import { type When, WhenInvalid, type WhenInput } from "./When.ts"

/** There is no task of this id in this conversation. */
export class TaskUnknown extends Schema.TaggedError<TaskUnknown>()("TaskUnknown", { id: Schema.String }) {}

/** The scheduler refuses, for `reason`. */
export class SchedulerError extends Schema.TaggedError<SchedulerError>()("SchedulerError", {
  reason: Schema.Union([WhenInvalid, TaskUnknown, StoreFailed])
}) {
  override get message(): string {
    return this.reason._tag === "TaskUnknown"
      ? `there is no task ${this.reason.id} here; list the tasks to see their ids`
      : this.reason.detail
  }
}

/** What happens to firings that were missed while the claw was down or asleep, by more than a minute. */
export type WhenMissed =
  /** One firing makes up for all of them. The default. */
  | "once"
  /** None. */
  | "skip"

/** A new task. */
export interface NewTask {
  readonly conversation: ConversationId
  readonly agent: AgentName
  /** The person it is for. */
  readonly sender?: Sender | undefined
  /** What the agent is told when the task is due. */
  readonly text: string
  readonly when: WhenInput
  readonly whenMissed?: WhenMissed
}

/** Something scheduled. `next` is in epoch milliseconds; none when it is done. */
export interface Task extends Omit<NewTask, "when"> {
  readonly id: string
  readonly when: When
  readonly whenMissed: WhenMissed
  readonly paused: boolean
  readonly next: Option.Option<number>
}

/** One firing. `ending` is how its turn ended; none while it has not. Times are in epoch milliseconds. */
export interface TaskRun {
  readonly due: number
  readonly firedAt: number
  readonly ending: Option.Option<Ending>
}

/** Tasks of conversations. */
export class Scheduler extends Context.Service<
  Scheduler,
  {
    readonly schedule: (task: NewTask) => Effect.Effect<Task, SchedulerError>
    /** Tasks still to come, soonest first; of one conversation, or of all. */
    readonly list: (conversation?: ConversationId) => Effect.Effect<ReadonlyArray<Task>, SchedulerError>
    readonly pause: (conversation: ConversationId, id: string) => Effect.Effect<void, SchedulerError>
    /** Firings missed while paused are not made up for, but for that of a task that has only one. */
    readonly resume: (conversation: ConversationId, id: string) => Effect.Effect<void, SchedulerError>
    readonly cancel: (conversation: ConversationId, id: string) => Effect.Effect<void, SchedulerError>
    /** The latest firings of a task, newest first. */
    readonly runs: (conversation: ConversationId, id: string) => Effect.Effect<ReadonlyArray<TaskRun>, SchedulerError>
  }
>()("effect-claw/services/Scheduler") {}
