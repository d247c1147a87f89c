import { assert, describe, it } from "@effect/vitest"
import * as ChannelStateSql from "effect-claw/layers/ChannelStateSql"
import { ChannelState } from "effect-claw/services/ChannelState"
import { ChannelName } from "effect-claw/services/Message"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { database } from "../contracts/store.ts"

const one = ChannelName.make("one")
const two = ChannelName.make("two")
const state = Layer.provideMerge(ChannelStateSql.layer, database)

describe("ChannelStateSql", () => {
  it.effect("each channel has its own texts, which are set, set anew and removed", () =>
    Effect.gen(function* () {
      const { get, set } = yield* ChannelState
      yield* set(
        one,
        new Map([
          ["a", "1"],
          ["b", "2"]
        ])
      )
      yield* set(two, new Map([["a", "other"]]))
      yield* set(
        one,
        new Map([
          ["a", "3"],
          ["b", undefined],
          ["c", ""]
        ])
      )
      assert.deepStrictEqual(
        yield* get(one, ["a", "b", "c", "d"]),
        new Map([
          ["a", "3"],
          ["c", ""]
        ])
      )
      assert.deepStrictEqual(yield* get(two, ["a"]), new Map([["a", "other"]]))
      assert.strictEqual((yield* get(one, [])).size, 0)
    }).pipe(Effect.provide(state))
  )

  it.effect("many are read and written at once, and cleared by how their keys begin", () =>
    Effect.gen(function* () {
      const { clear, get, set } = yield* ChannelState
      const keys = Array.from({ length: 2000 }, (_, index) => `key%${index}`)
      yield* set(one, new Map(keys.map((key) => [key, key])))
      yield* set(one, new Map([["keyring", "stays"]]))
      assert.strictEqual((yield* get(one, keys)).size, 2000)
      yield* clear(one, "key%")
      assert.deepStrictEqual(yield* get(one, [...keys, "keyring"]), new Map([["keyring", "stays"]]))
    }).pipe(Effect.provide(state))
  )

  it.effect("it is set whole or not at all", () =>
    Effect.gen(function* () {
      const { get, set } = yield* ChannelState
      yield* SqlClient.SqlClient.use(
        (sql) =>
          sql`CREATE TRIGGER refuse BEFORE INSERT ON channel_states WHEN NEW.key = 'b' BEGIN SELECT RAISE(ABORT, 'no'); END`
      )
      const error = yield* Effect.flip(
        set(
          one,
          new Map([
            ["a", "1"],
            ["b", "2"]
          ])
        )
      )
      assert.strictEqual(error.reason._tag, "StoreFailed")
      assert.strictEqual((yield* get(one, ["a"])).size, 0)
    }).pipe(Effect.provide(state))
  )
})
