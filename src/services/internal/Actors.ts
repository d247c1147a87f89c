/**
 * One fiber per key. `tell` makes a key's fiber do its work; told while it works, it does it once more afterwards, so no
 * telling is lost and no two fibers work on one key. A key without work costs nothing.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberMap from "effect/FiberMap"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"

export interface Actors<K> {
  readonly tell: (key: K) => Effect.Effect<void>
  /**
   * Interrupts the key's fiber, waits for its end, and does something before the key can be at work again. It is told whether
   * the key was at work.
   */
  readonly stop: <A, E, R>(key: K, then: (wasWorking: boolean) => Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** Interrupts every key's fiber and waits for their ends. */
  readonly stopAll: Effect.Effect<void>
  readonly isWorking: (key: K) => boolean
  /** Waits until a key, or every key, has no work. */
  readonly settled: (key?: K) => Effect.Effect<void>
}

export const make = <K, R>(
  work: (key: K) => Effect.Effect<void, never, R>
): Effect.Effect<Actors<K>, never, Scope.Scope | R> =>
  Effect.gen(function* () {
    const fibers = yield* FiberMap.make<K, void, never>()
    const fork = yield* FiberMap.runtime(fibers)<R>()
    const again = new Set<K>()
    const held = new Map<K, number>()

    const start = (key: K): void => {
      again.delete(key)
      const fiber = fork(
        key,
        Effect.suspend(() => work(key))
      )
      fiber.addObserver(() => {
        if (again.has(key) && !held.has(key)) start(key)
      })
    }

    const settled = (key?: K): Effect.Effect<void> =>
      key === undefined
        ? FiberMap.awaitEmpty(fibers)
        : Effect.flatMap(
            FiberMap.get(fibers, key),
            Option.match({
              onNone: () => Effect.void,
              onSome: (fiber) => Effect.andThen(Fiber.await(fiber), settled(key))
            })
          )

    return {
      tell: (key) =>
        Effect.sync(() => {
          if (FiberMap.hasUnsafe(fibers, key) || held.has(key)) again.add(key)
          else start(key)
        }),
      stop: (key, then) =>
        Effect.acquireUseRelease(
          Effect.sync(() => held.set(key, (held.get(key) ?? 0) + 1)),
          () =>
            Effect.gen(function* () {
              const fiber = FiberMap.getUnsafe(fibers, key)
              again.delete(key)
              if (Option.isSome(fiber)) yield* Fiber.interrupt(fiber.value)
              return yield* then(Option.isSome(fiber))
            }),
          () =>
            Effect.sync(() => {
              const others = (held.get(key) ?? 1) - 1
              if (others > 0) return void held.set(key, others)
              held.delete(key)
              if (again.has(key)) start(key)
            })
        ),
      stopAll: Effect.andThen(
        Effect.sync(() => again.clear()),
        FiberMap.clear(fibers)
      ),
      isWorking: (key) => FiberMap.hasUnsafe(fibers, key),
      settled
    }
  })
