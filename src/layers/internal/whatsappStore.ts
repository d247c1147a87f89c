/**
 * What the WhatsApp channel keeps: its texts in `ChannelState`, and shelves of bounded length among them.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { ChannelError, Unreachable } from "../../services/Channel.ts"
import type { ChannelState, ChannelStateError } from "../../services/ChannelState.ts"
import type { ChannelName } from "../../services/Message.ts"

type Texts = ReadonlyMap<string, string | undefined>

/** Texts by key. What is set at once is kept durably at once, or not at all. */
export interface Store {
  readonly get: (keys: ReadonlyArray<string>) => Effect.Effect<ReadonlyMap<string, string>, ChannelError>
  readonly set: (texts: Texts) => Effect.Effect<void, ChannelError>
  /** Sets what may as well be set a second later, or be gone with the process. `get` knows it at once. */
  readonly setLater: (texts: Texts) => Effect.Effect<void>
  /** Removes what begins so. */
  readonly clear: (prefix: string) => Effect.Effect<void, ChannelError>
}

/** The texts of one channel. On release what was to be set later is set. */
export const make = Effect.fnUntraced(function* (
  state: ChannelState["Service"],
  channel: ChannelName
): Effect.fn.Return<Store, never, Scope.Scope> {
  const failed = ({ message }: ChannelStateError) =>
    new ChannelError({ channel, reason: new Unreachable({ detail: message }) })
  const pending = new Map<string, string | undefined>()
  const some = yield* Latch.make(false)

  const flush = Effect.suspend(() => {
    const texts = new Map(pending)
    if (texts.size === 0) return Effect.void
    return Effect.andThen(
      state.set(channel, texts),
      Effect.sync(() => {
        for (const [key, text] of texts) if (pending.get(key) === text) pending.delete(key)
      })
    )
  })
  yield* Effect.addFinalizer(() => Effect.ignore(flush))
  yield* some.await.pipe(
    Effect.andThen(some.close),
    Effect.andThen(Effect.sleep("1 second")),
    Effect.andThen(Effect.retry(flush, Schedule.spaced("1 second"))),
    Effect.forever,
    Effect.forkScoped
  )

  return {
    get: (keys) =>
      Effect.map(
        Effect.mapError(state.get(channel, keys), failed),
        (found) =>
          new Map(
            keys.flatMap((key) => {
              const text = pending.has(key) ? pending.get(key) : found.get(key)
              return text === undefined ? [] : [[key, text] as const]
            })
          )
      ),
    set: (texts) =>
      Effect.suspend(() => {
        for (const key of texts.keys()) pending.delete(key)
        return Effect.mapError(state.set(channel, texts), failed)
      }),
    setLater: (texts) =>
      Effect.suspend(() => {
        for (const [key, text] of texts) pending.set(key, text)
        return some.open
      }),
    clear: (prefix) => Effect.mapError(state.clear(channel, prefix), failed)
  }
})

/** The latest texts by id; each that comes when it is full pushes out the oldest. */
export interface Shelf {
  readonly get: (id: string) => Effect.Effect<string | undefined, ChannelError>
  readonly put: (id: string, text: string) => Effect.Effect<void, ChannelError>
}

/** A shelf of so many places, which is filled by `set`. */
export const makeShelf = Effect.fnUntraced(function* (
  store: Store,
  name: string,
  places: number,
  set: (texts: Texts) => Effect.Effect<void, ChannelError>
): Effect.fn.Return<Shelf, ChannelError> {
  const counter = `${name}-count`
  const one = (key: string) => Effect.map(store.get([key]), (found) => found.get(key))
  let count = Number((yield* one(counter)) ?? 0)
  const keyOf = (id: string) => `${name}:${id}`
  return {
    get: (id) => one(keyOf(id)),
    put: Effect.fnUntraced(function* (id, text) {
      const place = `${name}-place:${count++ % places}`
      const known = yield* store.get([keyOf(id), place])
      if (known.has(keyOf(id))) return yield* set(new Map([[keyOf(id), text]]))
      const oldest = known.get(place)
      yield* set(
        new Map([
          ...(oldest === undefined ? [] : [[keyOf(oldest), undefined] as const]),
          [keyOf(id), text],
          [place, id],
          [counter, String(count)]
        ])
      )
    })
  }
})
