import { assert, describe, it } from "@effect/vitest"
import * as ChannelWhatsApp from "effect-claw/layers/ChannelWhatsApp"
import { ChannelName, OutputId, textOf } from "effect-claw/services/Message"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { channelContract } from "../contracts/ChannelContract.ts"
import { clawPhone, locally, person, server, start, store, until } from "../support/WhatsAppClaw.ts"

const clawJid = `${clawPhone}@s.whatsapp.net`
const adaPhone = "15550001"

describe("ChannelWhatsApp", () => {
  channelContract(
    Effect.gen(function* () {
      const on = yield* server
      const ada = yield* person(on, adaPhone, "Ada")
      const loggedIn = yield* Deferred.make<void>()
      const state = yield* store
      const onLogin = (event: ChannelWhatsApp.LoginEvent) =>
        event._tag === "LoggedIn" ? Effect.asVoid(Deferred.succeed(loggedIn, undefined)) : Effect.void
      return {
        name: ChannelName.make("whatsapp"),
        layer: Layer.provide(
          ChannelWhatsApp.layer(locally(on, { owner: adaPhone, onLogin })),
          Layer.succeedContext(state)
        ),
        say: (text: string) =>
          Effect.andThen(
            Deferred.await(loggedIn),
            Effect.promise(() => ada.send(clawJid, { text }))
          ),
        read: Effect.sync(() => ada.texts().join("\n"))
      }
    }).pipe(Effect.orDie)
  )
})

describe("a login", () => {
  it.live("by a QR code, drawn anew when it has expired; the account's number is told", () =>
    Effect.gen(function* () {
      const on = yield* server
      const claw = yield* start(on, yield* store)
      yield* claw.loggedIn
      assert.deepStrictEqual(
        claw.logins.map(({ _tag }) => _tag),
        ["Qr", "LoggedIn"]
      )
      assert.deepStrictEqual(claw.logins.at(-1), { _tag: "LoggedIn", phone: clawPhone })
    })
  )

  it.live("by a code that is typed on the phone", () =>
    Effect.gen(function* () {
      const on = yield* server
      const claw = yield* start(on, yield* store, { login: { phone: `+${clawPhone}` } })
      yield* claw.loggedIn
      assert.deepStrictEqual(
        claw.logins.map(({ _tag }) => _tag),
        ["Code", "LoggedIn"]
      )
    })
  )

  it.live("lasts: the next start needs none, and the conversation goes on", () =>
    Effect.gen(function* () {
      const on = yield* server
      const state = yield* store
      const ada = yield* person(on, adaPhone, "Ada")
      const first = yield* start(on, state)
      yield* first.loggedIn
      yield* Effect.promise(() => ada.send(clawJid, { text: "one" }))
      const { message } = yield* first.hear
      yield* first.channel.send(message.chat, { id: OutputId.make("1"), text: "re: one" })
      yield* first.stop
      yield* Effect.promise(() => ada.send(clawJid, { text: "while it was away" }))

      const second = yield* start(on, state)
      const { message: next } = yield* second.hear
      assert.strictEqual(textOf(next.content), "while it was away")
      assert.strictEqual(next.chat, message.chat)
      assert.deepStrictEqual(
        second.logins.map(({ _tag }) => _tag),
        ["LoggedIn"]
      )
      yield* second.channel.send(next.chat, { id: OutputId.make("2"), text: "re: two" })
      yield* until(() => ada.texts().includes("re: two"))
    })
  )
})
