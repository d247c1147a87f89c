/**
 * The swarm in this process: a child is a conversation on the channel `swarm`, named after the tool call that made it.
 *
 * The name makes a delegation idempotent: called again after a crash, it finds the child it had made, and waits for it or
 * takes its answer from the journal.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { Conversations } from "../services/Conversations.ts"
import { CurrentTurn } from "../services/CurrentTurn.ts"
import { Journal, type JournalError } from "../services/Journal.ts"
import { type AgentName, ConversationId, text } from "../services/Message.ts"
import { StoreFailed } from "../services/StoreFailed.ts"
import { type Brief, SpecialistUnknown, Swarm, SwarmError, TooDeep } from "../services/Swarm.ts"

/** Bounds of a swarm. */
export interface Options {
  /** How deep agents may delegate below a person's conversation. Default 3. */
  readonly depth?: number
  /** Children of one `all` that work at the same time. Default 4. */
  readonly atOnce?: number
}

const failed = (cause: JournalError) => new SwarmError({ reason: new StoreFailed({ detail: cause.message, cause }) })

/**
 * The swarm.
 *
 * Provides `Swarm`; requires `Conversations` and `Journal`. Interrupting a delegation stops the child, and what it
 * started.
 */
export const layer = (options: Options = {}): Layer.Layer<Swarm, never, Conversations | Journal> =>
  Layer.effect(
    Swarm,
    Effect.gen(function* () {
      const conversations = yield* Conversations
      const journal = yield* Journal
      const deepest = options.depth ?? 3

      const delegate = Effect.fn("Swarm.delegate")(function* ({ agent, text: brief }: Brief, ordinal = 0) {
        const parent = yield* CurrentTurn
        if (!parent.team.includes(agent)) return yield* unknown(agent, parent.team)
        if (parent.depth >= deepest) {
          return yield* new SwarmError({
            reason: new TooDeep({ detail: `agents may delegate ${deepest} deep, and this one is at the bottom` })
          })
        }
        const conversation = childOf(parent, agent, ordinal)
        const key = "brief"
        const origin = {
          _tag: "Parent" as const,
          conversation: parent.conversation,
          agent: parent.agent,
          ...(parent.sender === undefined ? {} : { sender: parent.sender }),
          rights: parent.rights,
          depth: parent.depth + 1
        }
        const input = { origin, content: text(brief), at: yield* Clock.currentTimeMillis }
        const outcome = yield* conversations.deliver({ conversation, agent, key, input }).pipe(
          Effect.andThen(conversations.settled(conversation)),
          Effect.andThen(journal.outcome(conversation, key)),
          Effect.mapError(failed),
          Effect.onInterrupt(() => Effect.ignore(conversations.stop(conversation)))
        )
        return { agent, ...Option.getOrElse(outcome, () => ({ ending: { _tag: "Stopped" as const }, answer: "" })) }
      })

      return Swarm.of({
        delegate,
        all: (briefs) =>
          Effect.forEach(briefs, (brief, ordinal) => delegate(brief, ordinal), { concurrency: options.atOnce ?? 4 })
      })
    })
  )

/** The same call makes the same child. */
const childOf = ({ call, step, turn }: CurrentTurn["Service"], agent: AgentName, ordinal: number): ConversationId =>
  ConversationId.make(`swarm:${turn}.${step}.${call}.${ordinal}/${agent}`)

const unknown = (agent: AgentName, team: ReadonlyArray<AgentName>) =>
  new SwarmError({
    reason: new SpecialistUnknown({
      detail: team.length === 0 ? "you have no team" : `there is no ${agent} in your team; it has ${team.join(", ")}`
    })
  })
