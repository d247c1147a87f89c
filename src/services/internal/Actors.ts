/**
 * One fiber per key. `tell` makes a key's fiber do its work; told while it works, it does it once more afterwards, so no
 * telling is lost and no two fibers work on one key. A key without work costs nothing.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberMap from "effect/FiberMap"
import * as Option from "effect/Option"

export const make = <K, R>(work: (key: K) => Effect.Effect<void, never, R>) =>
  Effect.gen(function* () {
    const fibers = yield* FiberMap.make<K, void, never>()
    const fork = yield* FiberMap.runtime(fibers)<R>()
    const again = new Set<K>()
    /** Keys that are being stopped, by how many, and what waits for that. */
    const held = new Map<K, { stops: number; readonly over: Deferred.Deferred<void> }>()

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

    /** Waits until a key, or every key, has no work. */
    const settled = (key?: K): Effect.Effect<void> =>
      Effect.suspend(() => {
        const hold = key === undefined ? held.values().next().value : held.get(key)
        if (hold !== undefined) return Effect.andThen(Deferred.await(hold.over), settled(key))
        if (key === undefined) {
          const more = Effect.suspend(() => (held.size === 0 ? Effect.void : settled()))
          return Effect.andThen(FiberMap.awaitEmpty(fibers), more)
        }
        return Effect.flatMap(
          FiberMap.get(fibers, key),
          Option.match({
            onNone: () => Effect.void,
            onSome: (fiber) => Effect.andThen(Fiber.await(fiber), settled(key))
          })
        )
      })

    return {
      tell: (key: K) =>
        Effect.sync(() => {
          if (FiberMap.hasUnsafe(fibers, key) || held.has(key)) again.add(key)
          else start(key)
        }),
      /**
       * Interrupts the key's fiber, waits for its end, and does something before the key can be at work again. It is told whether
       * the key was at work.
       */
      stop: <A, E, S>(key: K, then: (wasWorking: boolean) => Effect.Effect<A, E, S>) =>
        Effect.acquireUseRelease(
          Effect.sync(() => {
            const hold = held.get(key) ?? { stops: 0, over: Deferred.makeUnsafe<void>() }
            hold.stops++
            held.set(key, hold)
            return hold
          }),
          () =>
            Effect.gen(function* () {
              const fiber = FiberMap.getUnsafe(fibers, key)
              again.delete(key)
              if (Option.isSome(fiber)) yield* Fiber.interrupt(fiber.value)
              return yield* then(Option.isSome(fiber))
            }),
          (hold) =>
            Effect.sync(() => {
              if (--hold.stops > 0) return
              held.delete(key)
              if (again.has(key)) start(key)
              Deferred.doneUnsafe(hold.over, Effect.void)
            })
        ),
      /** Interrupts every key's fiber and waits for their ends. */
      stopAll: Effect.andThen(
        Effect.sync(() => again.clear()),
        FiberMap.clear(fibers)
      ),
      isWorking: (key: K) => FiberMap.hasUnsafe(fibers, key),
      settled
    }
  })
