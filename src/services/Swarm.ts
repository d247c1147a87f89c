/**
 * The swarm: agents working for an agent.
 *
 * A child is a conversation of its own, with a sandbox of its own and at most the rights its parent has. It lives under
 * its parent's turn: the parent stopped, it stops. What it was asked and what it answered are journalled on both sides,
 * so a delegation survives a crash and is never done twice.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { AgentName } from "./Message.ts"
import type { CurrentTurn } from "./CurrentTurn.ts"
import { StoreFailed } from "./StoreFailed.ts"
import { type Ending } from "./Turn.ts"

/** The agent has no such specialist in its team. */
export class SpecialistUnknown extends Schema.TaggedError<SpecialistUnknown>()("SpecialistUnknown", {
  detail: Schema.String
}) {}
/** Too many agents deep. */
export class TooDeep extends Schema.TaggedError<TooDeep>()("TooDeep", { detail: Schema.String }) {}

/** A delegation was refused, for `reason`. */
export class SwarmError extends Schema.TaggedError<SwarmError>()("SwarmError", {
  reason: Schema.Union([SpecialistUnknown, TooDeep, StoreFailed])
}) {
  override get message(): string {
    return this.reason.detail
  }
}

/** Work for a specialist. */
export interface Brief {
  readonly agent: AgentName
  readonly text: string
}

/** What came of it. `answer` is all the specialist said. */
export interface Report {
  readonly agent: AgentName
  readonly ending: Ending
  readonly answer: string
}

/** Work given to other agents, under the current turn. */
export class Swarm extends Context.Service<
  Swarm,
  {
    /** Gives work to one specialist and waits for its report. `ordinal` tells briefs of one tool call apart. */
    readonly delegate: (brief: Brief, ordinal?: number) => Effect.Effect<Report, SwarmError, CurrentTurn>
    /** Gives work to several at once and waits for all. */
    readonly all: (briefs: ReadonlyArray<Brief>) => Effect.Effect<ReadonlyArray<Report>, SwarmError, CurrentTurn>
  }
>()("effect-claw/services/Swarm") {}
