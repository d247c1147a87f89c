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
  /** Whether a phone has linked it. */
  readonly isLinked: () => boolean
  readonly save: Effect.Effect<void, ChannelError>
  /** Keys that are set while this is at work are kept together with these texts, which it may still add to. */
  readonly within: <A>(texts: Map<string, string>, work: () => Promise<A>) => Promise<A>
}

/** The login that is kept, or the beginning of a new one. `onFailure` is told when the store fails under Baileys. */
export const load = Effect.fnUntraced(function* (
  store: Store,
  onFailure: (error: ChannelError) => void
): Effect.fn.Return<Login, ChannelError> {
  const together = new AsyncLocalStorage<Map<string, string>>()
  const run = Effect.runPromiseWith(yield* Effect.context())
  const told = <A>(effect: Effect.Effect<A, ChannelError>) =>
    run(Effect.tapError(effect, (error) => Effect.sync(() => onFailure(error))))

  const kept = (yield* store.get([credentialsKey])).get(credentialsKey)
  const found: AuthenticationCreds | undefined = kept === undefined ? undefined : JSON.parse(kept, BufferJSON.reviver)
  // One that was given up half way has named an account, and would be taken for a login.
  const creds = found?.account === undefined ? initAuthCreds() : found

  return {
    auth: {
      creds,
      keys: {
        get: <T extends keyof SignalDataTypeMap>(type: T, ids: Array<string>) =>
          told(
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
          told(
            Effect.suspend(() => {
              const texts = new Map<string, string | undefined>([
                [credentialsKey, write(creds)],
                ...(together.getStore() ?? [])
              ])
              for (const [type, entries] of Object.entries(data)) {
                for (const [id, value] of Object.entries(entries)) {
                  texts.set(keyOf(type, id), value === null ? undefined : write(value))
                }
              }
              return store.set(texts)
            })
          )
      }
    },
    isLinked: () => creds.account !== undefined,
    save: Effect.suspend(() => store.set(new Map([[credentialsKey, write(creds)]]))),
    within: (texts, work) => together.run(texts, work)
  }
})
