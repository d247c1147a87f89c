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
  /** Interrupts the key's fiber and waits for its end. `false`: it was not at work. */
  readonly stop: (key: K) => Effect.Effect<boolean>
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

    const start = (key: K): void => {
      again.delete(key)
      const fiber = fork(
        key,
        Effect.suspend(() => work(key))
      )
      fiber.addObserver(() => {
        if (again.has(key)) start(key)
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
          if (FiberMap.hasUnsafe(fibers, key)) again.add(key)
          else start(key)
        }),
      stop: (key) =>
        Effect.gen(function* () {
          const fiber = FiberMap.getUnsafe(fibers, key)
          if (Option.isNone(fiber)) return false
          again.delete(key)
          yield* Fiber.interrupt(fiber.value)
          return true
        }),
      stopAll: Effect.andThen(
        Effect.sync(() => again.clear()),
        FiberMap.clear(fibers)
      ),
      isWorking: (key) => FiberMap.hasUnsafe(fibers, key),
      settled
    }
  })
