/**
 * What the WhatsApp channel keeps: its texts in `ChannelState`, and shelves of bounded length among them.
 */
import * as Effect from "effect/Effect"
import { ChannelError, Unreachable } from "../../services/Channel.ts"
import type { ChannelState, ChannelStateError } from "../../services/ChannelState.ts"
import type { ChannelName } from "../../services/Message.ts"

/** Texts by key. What is set at once is kept durably at once, or not at all. */
export interface Store {
  readonly get: (keys: ReadonlyArray<string>) => Effect.Effect<ReadonlyMap<string, string>, ChannelError>
  readonly set: (texts: ReadonlyMap<string, string | undefined>) => Effect.Effect<void, ChannelError>
  /** Removes what begins so. */
  readonly clear: (prefix: string) => Effect.Effect<void, ChannelError>
}

/** The texts of one channel. */
export const make = (state: ChannelState["Service"], channel: ChannelName): Store => {
  const failed = ({ message }: ChannelStateError) =>
    new ChannelError({ channel, reason: new Unreachable({ detail: message }) })
  return {
    get: (keys) => Effect.mapError(state.get(channel, keys), failed),
    set: (texts) => Effect.mapError(state.set(channel, texts), failed),
    clear: (prefix) => Effect.mapError(state.clear(channel, prefix), failed)
  }
}

/** The latest texts by id; each that comes when it is full pushes out the oldest. */
export interface Shelf {
  readonly get: (id: string) => Effect.Effect<string | undefined, ChannelError>
  readonly put: (id: string, text: string) => Effect.Effect<void, ChannelError>
}

/** A shelf of so many places. */
export const makeShelf = Effect.fnUntraced(function* (
  store: Store,
  name: string,
  places: number
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
      if (known.has(keyOf(id))) return yield* store.set(new Map([[keyOf(id), text]]))
      const oldest = known.get(place)
      yield* store.set(
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
