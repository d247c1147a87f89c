/**
 * Conversations in this process: a fiber for each that has something to do.
 *
 * A conversation without work is a row in the journal and nothing else.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Semaphore from "effect/Semaphore"
import { Conversations } from "../services/Conversations.ts"
import * as Actors from "../services/internal/Actors.ts"
import { Journal, type JournalError, patiently } from "../services/Journal.ts"
import { type ConversationId, isChild } from "../services/Message.ts"

/** How many conversations work at once. */
export interface Options {
  /**
   * Turns that run at the same time, at most; the others wait. Default 16. A swarm's children run inside their parent's
   * turn and are bounded by the swarm.
   */
  readonly turnsAtOnce?: number
}

/**
 * Conversations in this process.
 *
 * Provides `Conversations`; requires `Journal`. On release running turns are interrupted and stay open in the journal, to
 * be resumed at the next start.
 */
export const layer = (options: Options = {}): Layer.Layer<Conversations, never, Journal> =>
  Layer.effect(
    Conversations,
    Effect.gen(function* () {
      const journal = yield* Journal
      const scope = yield* Effect.scope
      const permits = yield* Semaphore.make(options.turnsAtOnce ?? 16)
      const makeServed = Deferred.makeUnsafe<(conversation: ConversationId) => Effect.Effect<void, JournalError>>
      let served = makeServed()
      const running = new Set<ConversationId>()

      const actors = yield* Actors.make((conversation: ConversationId) => {
        const work = Effect.acquireUseRelease(
          Effect.sync(() => running.add(conversation)),
          () => Effect.flatMap(Deferred.await(served), (run) => run(conversation)),
          () => Effect.sync(() => running.delete(conversation))
        )
        // A parent that waits for its children holds a permit; were children to ask for one too, they could wait forever.
        return (isChild(conversation) ? work : permits.withPermit(work)).pipe(
          patiently,
          Effect.catchCauseIf(
            (cause) => cause.reasons.some((reason) => reason._tag === "Die"),
            (cause) => Effect.logError(`conversation ${conversation} is defect`, cause)
          ),
          Effect.ignore
        )
      })

      // Closing is no stopping: what is cut by it stays open. Runs before the actors' own finalizer.
      let closing = false
      yield* Effect.addFinalizer(() => Effect.sync(() => (closing = true)))

      return Conversations.of({
        serve: Effect.fn("Conversations.serve")(function* (run) {
          yield* Deferred.succeed(served, run)
          yield* Effect.addFinalizer(() =>
            Effect.suspend(() => {
              closing = true
              served = makeServed()
              return Effect.ensuring(
                actors.stopAll,
                Effect.sync(() => (closing = false))
              )
            })
          )
          yield* Effect.flatMap(journal.unfinished, Effect.forEach(actors.tell, { discard: true }))
        }),
        deliver: Effect.fn("Conversations.deliver")(function* (delivery) {
          const { conversation, mode } = delivery
          const isNew = yield* journal.accept(delivery)
          if (isNew && mode === "interrupt" && !closing) {
            const ending = { _tag: "Superseded" } as const
            const supersede = Effect.ignore(patiently(journal.record({ conversation, events: [], ending })))
            // The input is there; whoever delivers it does not wait for what the turn does at its end.
            yield* actors
              .stop(conversation, (wasWorking) => (wasWorking ? supersede : Effect.void))
              .pipe(Effect.forkIn(scope, { startImmediately: true }))
          }
          if (mode !== "context") yield* actors.tell(conversation)
          return isNew
        }),
        wake: actors.tell,
        stop: Effect.fn("Conversations.stop")((conversation) =>
          actors.stop(
            conversation,
            Effect.fnUntraced(function* (stopped) {
              if (closing) return stopped
              const isOpen = Option.exists(yield* journal.state(conversation), ({ unfinished }) => unfinished)
              if (isOpen) yield* journal.record({ conversation, events: [], ending: { _tag: "Stopped" } })
              return stopped || isOpen
            })
          )
        ),
        status: (conversation) =>
          Effect.sync(() =>
            running.has(conversation) ? "running" : actors.isWorking(conversation) ? "waiting" : "idle"
          ),
        settled: actors.settled
      })
    })
  )
