import { assert, describe, it } from "@effect/vitest"
import * as JournalSql from "effect-claw/layers/JournalSql"
import * as SchedulerSql from "effect-claw/layers/SchedulerSql"
import { Conversations } from "effect-claw/services/Conversations"
import type { ConversationId } from "effect-claw/services/Message"
import { Scheduler } from "effect-claw/services/Scheduler"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { adjust, chat, fired, schedule, schedulerContract } from "../contracts/SchedulerContract.ts"
import { database } from "../contracts/store.ts"

const store = Layer.provideMerge(JournalSql.layer, database)

const waking = (wake: (conversation: ConversationId) => Effect.Effect<void>) =>
  Layer.provide(SchedulerSql.layer, Layer.mock(Conversations, { wake }))

describe("SchedulerSql", () => {
  schedulerContract(
    store,
    waking(() => Effect.void)
  )

  it.effect("a firing wakes its conversation", () => {
    const woken: Array<ConversationId> = []
    return Effect.gen(function* () {
      yield* schedule({ in: "1 second" })
      yield* adjust("1 second")
      assert.deepStrictEqual(woken, [chat])
    }).pipe(
      Effect.provide(
        Layer.provideMerge(
          waking((conversation) => Effect.sync(() => void woken.push(conversation))),
          store
        )
      )
    )
  })

  it.effect("a task that is cancelled or paused while another fires does not fire any more", () =>
    Effect.gen(function* () {
      const [first, cancelled, paused] = yield* Effect.all([
        schedule({ every: "1 second" }),
        schedule({ every: "2 seconds" }),
        schedule({ every: "3 seconds" })
      ]).pipe(Effect.provide(waking(() => Effect.void)))
      yield* adjust("10 seconds")

      const held = yield* Deferred.make<void>()
      yield* Effect.gen(function* () {
        const scheduler = yield* Scheduler
        yield* adjust(0)
        assert.strictEqual((yield* fired()).length, 1)
        yield* scheduler.cancel(chat, cancelled.id)
        yield* scheduler.pause(chat, paused.id)
        yield* Deferred.succeed(held, undefined)
        yield* adjust(0)
        assert.strictEqual((yield* fired()).length, 1)
        assert.sameMembers(
          (yield* scheduler.list()).map(({ id }) => id),
          [first.id, paused.id]
        )
      }).pipe(Effect.provide(Layer.fresh(waking(() => Deferred.await(held)))))
    }).pipe(Effect.provide(store))
  )
})
