/**
 * Telegram, on a local Bot API server, against bare grammy bots in the same run. In: from an update at the server to its being
 * handed over, and to its commit to the journal. Out: how long the channel waits for Telegram, and from an output in the outbox to its
 * being settled. A commit is held against a bot that stores each message, and each reply that it has sent, by one INSERT in SQLite,
 * as durably as the journal does.
 */
import * as ChannelTelegram from "effect-claw/layers/ChannelTelegram"
import * as Local from "effect-claw/programs/Local"
import { Channels } from "effect-claw/services/Channel"
import { Journal } from "effect-claw/services/Journal"
import { AgentName, ChatId, ChannelName, conversationId, OutputId, sender } from "effect-claw/services/Message"
import * as Outbox from "effect-claw/services/Outbox"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { Bot } from "grammy"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import * as TelegramServer from "../test/support/TelegramServer.ts"
import { median, millis, type Row, withFolder } from "./support.ts"

const rounds = 300
const warmUp = 50

type Server = TelegramServer.TelegramServer["Service"]

/** Times of each round, in milliseconds. */
const makeTimes = () => ({
  heard: [] as Array<number>,
  stored: [] as Array<number>,
  sent: [] as Array<number>,
  settled: [] as Array<number>
})
type Times = ReturnType<typeof makeTimes>

const server = Effect.map(Layer.build(TelegramServer.layer), Context.get(TelegramServer.TelegramServer))

const bare = Effect.fnUntraced(function* (file: string) {
  const { apiRoot, person, say, token }: Server = yield* server
  const ada = person("Ada")
  const database = new DatabaseSync(file)
  database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE texts (text TEXT)")
  const insert = database.prepare("INSERT INTO texts VALUES (?)")
  const stored = yield* Queue.unbounded<{ readonly heard: number; readonly stored: number }>()
  const grammy = new Bot(token, { client: { apiRoot } })
  grammy.on("message:text", ({ message }) => {
    const heard = performance.now()
    insert.run(message.text)
    Queue.offerUnsafe(stored, { heard, stored: performance.now() })
  })
  yield* Effect.acquireRelease(
    Effect.sync(() => void grammy.start()),
    () =>
      Effect.andThen(
        Effect.promise(() => grammy.stop()),
        Effect.sync(() => database.close())
      )
  )
  const times = makeTimes()
  for (let round = 0; round < rounds; round++) {
    const said = performance.now()
    say(ada, `message ${round}`)
    const came = yield* Queue.take(stored)
    times.heard.push(came.heard - said)
    times.stored.push(came.stored - said)
    const sending = performance.now()
    yield* Effect.promise(() => grammy.api.sendMessage(ada.id, `reply ${round}`))
    times.sent.push(performance.now() - sending)
    insert.run(`reply ${round}`)
    times.settled.push(performance.now() - sending)
  }
  return times
})

const ours = Effect.fnUntraced(function* (directory: string) {
  const { apiRoot, person, say, token }: Server = yield* server
  const ada = person("Ada")
  const name = ChannelName.make("telegram")
  const conversation = conversationId(name, ChatId.make(`${ada.id}`))
  return yield* Effect.gen(function* () {
    const channels = yield* Channels
    const journal = yield* Journal
    const outbox = yield* Outbox.Outbox
    const { send } = yield* channels.get(name)
    const stored = yield* Queue.unbounded<{ readonly heard: number; readonly stored: number }>()
    yield* Stream.runForEach(channels.inbound, ({ ack, message }) =>
      Effect.gen(function* () {
        const heard = performance.now()
        yield* journal.accept({
          conversation,
          agent: AgentName.make("andy"),
          key: message.id,
          input: {
            origin: { _tag: "Person", sender: sender(name, message.sender) },
            content: message.content,
            at: message.at
          }
        })
        yield* ack
        yield* Queue.offer(stored, { heard, stored: performance.now() })
      })
    ).pipe(Effect.forkScoped)
    const times = makeTimes()
    for (let round = 0; round < rounds; round++) {
      const said = performance.now()
      say(ada, `message ${round}`)
      const came = yield* Queue.take(stored)
      times.heard.push(came.heard - said)
      times.stored.push(came.stored - said)
      const sending = performance.now()
      yield* send(ChatId.make(`${ada.id}`), { id: OutputId.make(`sent.${round}`), text: `reply ${round}` })
      times.sent.push(performance.now() - sending)
      const id = OutputId.make(`bench.${round}`)
      yield* journal.record({ conversation, events: [], outputs: [{ id, text: `reply ${round}` }] })
      const flushed = performance.now()
      yield* outbox.flush(conversation)
      yield* outbox.settled
      times.settled.push(performance.now() - flushed)
    }
    return times
  }).pipe(
    Effect.provide(
      Outbox.layer.pipe(
        Layer.provideMerge(ChannelTelegram.layer({ token: Redacted.make(token), apiRoot, owner: `${ada.id}` })),
        Layer.provideMerge(Local.layer({ directory }))
      )
    )
  )
})

export const rows = (): Promise<ReadonlyArray<Row>> =>
  withFolder(async (folder) => {
    const floor = await Effect.runPromise(Effect.scoped(bare(join(folder, "bare.db"))))
    const measured = await Effect.runPromise(Effect.scoped(ours(join(folder, "telegram"))))
    const row = (what: string, of: keyof Times, held: string): Row => {
      const mine = median(measured[of].slice(warmUp))
      const theirs = median(floor[of].slice(warmUp))
      return { what, ours: millis(mine), floor: `${millis(theirs)}: ${held}`, ratio: mine / theirs, aim: "≤ 1.5" }
    }
    const one = "a bare grammy bot"
    const keeper = "one that stores it"
    return [
      row("Telegram: an update at the server to the claw", "heard", one),
      row("Telegram: an update at the server to its commit", "stored", keeper),
      row("Telegram: a reply to Telegram's answer", "sent", one),
      row("Telegram: an output in the outbox to its settlement", "settled", keeper)
    ]
  })
