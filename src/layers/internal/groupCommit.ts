/**
 * Group commit: transactions that are ready at the same time share one, and so one wait for the disk.
 *
 * Each runs in a savepoint of its own, one after the other, so they are as apart as before: one that fails undoes itself
 * and no other. None returns before the shared commit has succeeded, so what is promised of one is promised of all.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import type * as SqlClient from "effect/sql/SqlClient"
import { SqlError, UnknownError } from "effect/sql/SqlError"

/** Transactions that share a commit, at most. */
const most = 64

/** Runs an effect in a transaction that others may share. Interrupted before its turn has come, it does not run. */
export type Transaction = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | SqlError, R>

interface Job {
  readonly run: Effect.Effect<void>
  readonly end: (shared: Exit.Exit<void, SqlError>) => void
}

const undone = new SqlError({
  reason: new UnknownError({
    message: "another transaction of the same commit was defect, and all of them were undone",
    operation: "commit",
    cause: undefined
  })
})

/** A place where transactions wait for each other, for as long as the scope is open. */
export const make = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient
): Effect.fn.Return<Transaction, never, Scope.Scope> {
  const jobs = yield* Queue.unbounded<Job>()

  const commit = Effect.fnUntraced(function* (taken: ReadonlyArray<Job>) {
    const shared = yield* sql.withTransaction(Effect.forEach(taken, ({ run }) => run, { discard: true })).pipe(
      Effect.catchDefect(() => Effect.fail(undone)),
      Effect.exit
    )
    for (const job of taken) job.end(shared)
  })

  yield* Effect.uninterruptibleMask((restore) =>
    Effect.forever(
      // Whoever is about to ask for a transaction is let do so first: the commit is what costs.
      restore(Effect.andThen(Queue.peek(jobs), Effect.yieldNowWith(1))).pipe(
        Effect.andThen(restore(Queue.takeBetween(jobs, 1, most))),
        Effect.flatMap(commit)
      )
    )
  ).pipe(Effect.forkScoped)

  return <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.contextWith((caller: Context.Context<R>) =>
      Effect.suspend(() => {
        const done = Deferred.makeUnsafe<A, E | SqlError>()
        let abandoned = false
        let own: Exit.Exit<A, E | SqlError> = Exit.fail(undone)
        const inSavepoint = Effect.exit(
          sql.withTransaction(
            Effect.updateContext(effect, (transaction: Context.Context<never>) => Context.merge(caller, transaction))
          )
        )
        const run = Effect.suspend(() =>
          abandoned
            ? Effect.void
            : Effect.flatMap(inSavepoint, (exit) => {
                own = exit
                // After a defect the savepoint may be gone, and the transaction with it: those that follow must not run.
                return Exit.isFailure(exit) && Cause.hasDies(exit.cause) ? Effect.die(exit.cause) : Effect.void
              })
        )
        Queue.offerUnsafe(jobs, {
          run,
          end: (shared) =>
            Deferred.doneUnsafe(
              done,
              Exit.isFailure(shared) && !(Exit.isFailure(own) && Cause.hasDies(own.cause))
                ? Effect.failCause(shared.cause)
                : own
            )
        })
        return Effect.onInterrupt(Deferred.await(done), () => Effect.sync(() => void (abandoned = true)))
      })
    )
})
