/**
 * A claw that acts by itself: a task of a conversation, due in a second, and one for every weekday at eight.
 *
 * When a task is due its text becomes an input of its conversation, in the transaction that moves the task on. From there
 * it takes the road of every message, so it fires once, whatever crashes. Tasks are kept where the claw's state is, which
 * is a folder of its own at every run here.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Agent, Bind, Claw, HomeZone, Message, Scheduler, When } from "effect-claw"
import * as ModelOffline from "effect-claw/layers/ModelOffline"
import * as Local from "effect-claw/programs/Local"
import { ChannelMemory } from "effect-claw/testing"
import * as Console from "effect/Console"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { mkdtempSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const agent = Agent.make("gardener", { instructions: "You look after the garden." })
const conversation = Message.ConversationId.make("memory:garden")

const program = Effect.gen(function* () {
  const scheduler = yield* Scheduler.Scheduler
  const plan = { conversation, agent: agent.name, sender: undefined }
  yield* scheduler.schedule({ ...plan, text: "water the tomatoes", when: { in: "1 second" } })
  yield* scheduler.schedule({
    ...plan,
    text: "look for snails",
    when: { cron: "0 8 * * 1-5", timeZone: "Europe/Oslo" }
  })

  for (const { text, when } of yield* scheduler.list()) yield* Console.log(`${text}: ${When.format(when)}`)

  const channel = yield* ChannelMemory.ChannelMemory
  const [sent] = yield* channel.awaitSent(1)
  yield* Console.log(`in ${sent?.chat}: ${sent?.text}`)

  const [next] = yield* scheduler.list()
  yield* Console.log(`still to come: ${next?.text}`)
})

const claw = Claw.layer({ agents: [agent], bindings: [Bind.everywhere(agent)] }).pipe(
  Layer.provide(ModelOffline.layer),
  Layer.provideMerge(ChannelMemory.layer()),
  Layer.provideMerge(Local.layer({ directory: mkdtempSync(join(tmpdir(), "claw-")) })),
  // Days and wall-clock times are of this zone; without it, of the machine's.
  Layer.provide(Layer.succeed(HomeZone.HomeZone, DateTime.zoneMakeNamedUnsafe("Europe/Oslo")))
)

program.pipe(Effect.provide(claw), NodeRuntime.runMain)
