/**
 * A login on WhatsApp: the credentials of a linked device and the keys of its sessions, as Baileys keeps them, in the
 * channel's store.
 *
 * Keys are set in one transaction with the credentials that go with them: a number of a one-time key is never given twice,
 * whenever the process dies. What else must be true in the same instant is kept with them, see `within`.
 */
import {
  type AuthenticationCreds,
  type AuthenticationState,
  BufferJSON,
  initAuthCreds,
  proto,
  type SignalDataTypeMap
} from "@whiskeysockets/baileys"
import * as Effect from "effect/Effect"
import { AsyncLocalStorage } from "node:async_hooks"
import type { ChannelError } from "../../services/Channel.ts"
import type { Store } from "./whatsappStore.ts"

/** Everything of a login begins so: a logout clears it. */
export const prefix = "login:"

const credentialsKey = `${prefix}credentials`
const keyOf = (type: string, id: string) => `${prefix}${type}:${id}`

const write = (value: unknown) => JSON.stringify(value, BufferJSON.replacer)

export interface Login {
  readonly auth: AuthenticationState
  /** To be done before each connection: one that was given up half way has named an account, and would pass for a login. */
  readonly begin: Effect.Effect<void>
  readonly save: Effect.Effect<void, ChannelError>
  /** Keys that are set while this is at work are kept together with these texts, which it may still add to. */
  readonly within: <A>(texts: Map<string, string>, work: () => Promise<A>) => Promise<A>
}

/** The login that is kept, or the beginning of a new one. */
export const load = Effect.fnUntraced(function* (store: Store): Effect.fn.Return<Login, ChannelError> {
  const together = new AsyncLocalStorage<Map<string, string>>()
  const run = Effect.runPromiseWith(yield* Effect.context())

  const kept = (yield* store.get([credentialsKey])).get(credentialsKey)
  const found: AuthenticationCreds | undefined = kept === undefined ? undefined : JSON.parse(kept, BufferJSON.reviver)
  const creds = found?.account === undefined ? initAuthCreds() : found
  let saved = kept

  /** Sets texts, and the credentials if they have changed. */
  const set = (texts: ReadonlyMap<string, string | undefined>) =>
    Effect.suspend(() => {
      const text = write(creds)
      const changed: ReadonlyArray<readonly [string, string]> = text === saved ? [] : [[credentialsKey, text]]
      return Effect.andThen(
        store.set(new Map([...texts, ...changed])),
        Effect.sync(() => void (saved = text))
      )
    })

  return {
    auth: {
      creds,
      keys: {
        get: <T extends keyof SignalDataTypeMap>(type: T, ids: Array<string>) =>
          run(
            Effect.map(store.get(ids.map((id) => keyOf(type, id))), (texts) => {
              const values: { [id: string]: SignalDataTypeMap[T] } = {}
              for (const id of ids) {
                const text = texts.get(keyOf(type, id))
                if (text === undefined) continue
                const value = JSON.parse(text, BufferJSON.reviver)
                values[id] = type === "app-state-sync-key" ? proto.Message.AppStateSyncKeyData.fromObject(value) : value
              }
              return values
            })
          ),
        set: (data) =>
          run(
            Effect.suspend(() => {
              const texts = new Map<string, string | undefined>(together.getStore())
              for (const [type, entries] of Object.entries(data)) {
                for (const [id, value] of Object.entries(entries)) {
                  texts.set(keyOf(type, id), value === null ? undefined : write(value))
                }
              }
              return set(texts)
            })
          )
      }
    },
    begin: Effect.sync(() => {
      if (creds.account === undefined) delete creds.me
    }),
    save: set(new Map()),
    within: (texts, work) => together.run(texts, work)
  }
})
