/**
 * WhatsApp under load: many conversations at once. `SOAK_SECONDS` is how long, ten seconds by default.
 */
import { assert, it } from "@effect/vitest"
import { OutputId, textOf } from "effect-claw/services/Message"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { clawPhone, person, server, start, store, until } from "../support/WhatsAppClaw.ts"
import { textOf as textOfMessage } from "../support/WhatsAppPerson.ts"

const seconds = Number(process.env["SOAK_SECONDS"] ?? 10)
const perSecond = 10
const conversations = 50

setFlagsFromString("--expose-gc")
const collect: () => void = runInNewContext("gc")
/** What is held, in bytes. */
const held = Effect.sync(() => {
  collect()
  return process.memoryUsage().heapUsed
})

it.live(
  `${conversations} conversations with ${perSecond} messages a second are each answered in order, and memory stays`,
  () =>
    Effect.gen(function* () {
      const on = yield* server
      const ada = yield* person(on, "15550001")
      const claw = yield* start(on, yield* store)
      yield* claw.loggedIn
      const groups = Array.from({ length: conversations }, (_, index) =>
        on.createGroup(`${index}`, "15550001", clawPhone)
      )
      yield* Effect.forkScoped(
        Stream.runForEach(Stream.fromQueue(claw.heard), ({ ack, message }) =>
          Effect.andThen(
            ack,
            claw.channel.send(message.chat, { id: OutputId.make(message.id), text: `re: ${textOf(message.content)}` })
          )
        )
      )
      const answers = () => ada.heard.filter((message) => textOfMessage(message).startsWith("re: ")).length
      /** Writes so many, each when it is due, or as soon as the machine comes to it. */
      const say = (from: number, count: number) =>
        Effect.suspend(() => {
          const begun = performance.now()
          return Effect.forEach(
            Array.from({ length: count }, (_, index) => index),
            (index) =>
              Effect.andThen(
                Effect.sleep(Math.max(0, begun + (index * 1000) / perSecond - performance.now())),
                Effect.promise(() =>
                  ada.send(groups[(from + index) % conversations] ?? "", { text: `${from + index}` })
                )
              )
          )
        })
      // Every chat's keys are exchanged first.
      yield* say(0, conversations)
      yield* until(() => answers() === conversations)
      const before = yield* held
      const total = seconds * perSecond
      const begun = performance.now()
      yield* say(conversations, total)
      const rate = (1000 * total) / (performance.now() - begun)
      yield* until(() => answers() === conversations + total)
      const after = yield* held
      for (const [index, group] of groups.entries()) {
        const texts = ada.heard.filter(({ key }) => key.remoteJid === group).map(textOfMessage)
        const wanted = Array.from({ length: conversations + total }, (_, number) => number)
          .filter((number) => number % conversations === index)
          .map((number) => `re: ${number}`)
        assert.deepStrictEqual(
          texts.filter((text) => text.startsWith("re: ")),
          wanted
        )
      }
      // The server and the person keep all that they saw, about 10 KiB of each message.
      const grown = (after - before) / total
      process.stdout.write(
        `${rate.toFixed(1)} messages a second; held more, of each: ${Math.round(grown / 1024)} KiB\n`
      )
      assert.isBelow(grown, 40 * 1024)
    }),
  120_000 + 2000 * seconds
)
