/**
 * Channels on their platforms: from a message at the platform's socket to the claw's acknowledgement, and from a send to the
 * platform's acknowledgement. The floor is a bare client of the same library on the same local server, with its keys where
 * that library's own example has them: in files that are written one by one and not waited for by the disk. Ours commits.
 */
import { useMultiFileAuthState } from "@whiskeysockets/baileys"
import * as ChannelStateSql from "effect-claw/layers/ChannelStateSql"
import * as ChannelWhatsApp from "effect-claw/layers/ChannelWhatsApp"
import * as DatabaseSqlite from "effect-claw/layers/DatabaseSqlite"
import * as Channel from "effect-claw/services/Channel"
import { ChannelName, ChatId, OutputId } from "effect-claw/services/Message"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { join } from "node:path"
import { makePerson, type Person } from "../test/support/WhatsAppPerson.ts"
import { makeWhatsAppServer, type WhatsAppServer } from "../test/support/WhatsAppServer.ts"
import { median, millis, type Row, withFolder } from "./support.ts"

const times = 200
const person = "15550001"
const bot = "15550002"
const claw = "15550003"
const jid = (phone: string) => `${phone}@s.whatsapp.net`

/** What is measured of one end: when a message has reached it, and how it sends one until that is acknowledged. */
interface End {
  readonly phone: string
  /** Resolves when the next message has come, and has been acknowledged where that is a thing. */
  readonly next: () => Promise<void>
  readonly send: (text: string) => Promise<void>
}

/** The medians of each end; they take turns, so that both meet the machine in the same mood. */
const measure = async (on: WhatsAppServer, ada: Person, ends: ReadonlyArray<End>) => {
  const figures = ends.map((end) => ({ end, received: new Array<number>(), sent: new Array<number>() }))
  let arrived = 0
  for (let index = -20; index < times; index++) {
    for (const { end, received, sent } of figures) {
      on.decide(() => {
        arrived = performance.now()
        return "carried"
      })
      const heard = end.next()
      await ada.send(jid(end.phone), { text: `message ${index}` })
      await heard
      if (index >= 0) received.push(performance.now() - arrived)
      const begun = performance.now()
      await end.send(`answer ${index}`)
      if (index >= 0) sent.push(performance.now() - begun)
    }
  }
  return figures.map(({ received, sent }) => ({ received: median(received), sent: median(sent) }))
}

/** A client as Baileys' own example has it. */
const bare = async (on: WhatsAppServer, folder: string): Promise<End> => {
  const client = await makePerson(on, bot, bot, await useMultiFileAuthState(folder))
  const socket = await client.online()
  return {
    phone: bot,
    next: () =>
      new Promise((resolve) => {
        const onMessages = () => {
          socket.ev.off("messages.upsert", onMessages)
          resolve()
        }
        socket.ev.on("messages.upsert", onMessages)
      }),
    send: (text) =>
      new Promise((resolve, reject) => {
        socket.ws.once("CB:ack,class:message", () => resolve())
        client.send(on.lidOf(person), { text }).catch(reject)
      })
  }
}

/** Ours, while `use` is at work. */
const ours = (on: WhatsAppServer, directory: string, use: (end: End) => Promise<void>) =>
  Effect.gen(function* () {
    const channels = yield* Channel.Channels
    const { send } = yield* channels.get(ChannelName.make("whatsapp"))
    const run = Effect.runPromiseWith(yield* Effect.context())
    let told = () => {}
    let outputs = 0
    yield* Effect.forkScoped(
      Stream.runForEach(channels.inbound, ({ ack }) =>
        Effect.andThen(
          ack,
          Effect.sync(() => told())
        )
      )
    )
    yield* Effect.promise(() =>
      use({
        phone: claw,
        next: () => new Promise((resolve) => (told = resolve)),
        send: (text) => run(send(ChatId.make(on.lidOf(person)), { id: OutputId.make(`1.${++outputs}`), text }))
      })
    )
  }).pipe(
    Effect.scoped,
    Effect.provide(
      Layer.unwrap(
        Effect.map(Deferred.make<void>(), (loggedIn) => {
          const onLogin = (event: ChannelWhatsApp.LoginEvent) =>
            event._tag === "Qr"
              ? Effect.sync(() => on.scan(claw, event.text))
              : Effect.asVoid(Deferred.succeed(loggedIn, undefined))
          return Layer.effectDiscard(Deferred.await(loggedIn)).pipe(
            Layer.provide(ChannelWhatsApp.layer({ login: "qr", websocketUrl: on.url, onLogin }))
          )
        })
      ).pipe(
        Layer.provideMerge(Channel.layer),
        Layer.provide(ChannelStateSql.layer),
        Layer.provide(DatabaseSqlite.layer({ directory }))
      )
    ),
    Effect.runPromise
  )

export const rows = (): Promise<ReadonlyArray<Row>> =>
  withFolder(async (directory) => {
    const on = await makeWhatsAppServer()
    const ada = await makePerson(on, person)
    const other = await bare(on, join(directory, "bare"))
    let figures: Awaited<ReturnType<typeof measure>> = []
    await ours(on, directory, async (end) => {
      figures = await measure(on, ada, [end, other])
    })
    ada.leave()
    on.close()
    const row = (what: string, of: "received" | "sent"): Row => {
      const [mine = Number.NaN, floor = Number.NaN] = figures.map((figure) => figure[of])
      return { what, ours: millis(mine), floor: `${millis(floor)} a bare Baileys`, ratio: mine / floor, aim: "1.5" }
    }
    return [
      row("WhatsApp: a message at the socket to the claw's acknowledgement, median", "received"),
      row("WhatsApp: a send to the platform's acknowledgement, median", "sent")
    ]
  })
