/**
 * From the start of a claw to the first request at the model and to the last reply, with so many conversations that were
 * not answered when it ended; against as many turns, all asked for at once, on the claw when it runs.
 */
import { Agent, Bind, Claw } from "effect-claw"
import * as Local from "effect-claw/programs/Local"
import { Channels, type InboundDelivery } from "effect-claw/services/Channel"
import { Journal } from "effect-claw/services/Journal"
import {
  ChannelName,
  ChatId,
  conversationId,
  type InboundMessage,
  MessageId,
  sender,
  SenderId,
  text
} from "effect-claw/services/Message"
import { ModelScripted } from "effect-claw/testing"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { join } from "node:path"
import { median, millis, type Row, withFolder } from "./support.ts"

const name = ChannelName.make("bench")
const owner = SenderId.make("owner")
const andy = Agent.make("andy", { instructions: "You are Andy." })

const messageIn = (chat: string): InboundMessage => ({
  channel: name,
  chat: ChatId.make(chat),
  id: MessageId.make("m"),
  sender: owner,
  content: text("hi"),
  direct: true,
  at: 0
})

const chats = (prefix: string, count: number): ReadonlyArray<string> =>
  Array.from({ length: count }, (_, index) => `${prefix}${index}`)

const local = (directory: string) => Local.layer({ directory })

/** Has as many messages on the disk as if they had been acknowledged a moment before the end. */
const leave = (directory: string, count: number) =>
  Effect.gen(function* () {
    const journal = yield* Journal
    yield* journal.atomically(
      Effect.forEach(
        chats("left", count).map(messageIn),
        ({ at, channel, chat, content, id, sender: from }) =>
          journal.accept({
            conversation: conversationId(channel, chat),
            agent: andy.name,
            key: id,
            input: { origin: { _tag: "Person", sender: sender(channel, from) }, content, at }
          }),
        { discard: true }
      )
    )
  }).pipe(Effect.provide(local(directory)))

/** Starts a claw on the folder, and keeps the times; when all that was left is answered, it is asked as much again. */
const recover = Effect.fnUntraced(function* (directory: string, count: number) {
  yield* leave(directory, count)
  const inbound = yield* Queue.unbounded<InboundDelivery>()
  let requested = Number.NaN
  let unanswered = count
  let answered = Deferred.makeUnsafe<number>()
  const send = Effect.sync(() => {
    if (--unanswered === 0) Deferred.doneUnsafe(answered, Effect.succeed(performance.now()))
  })
  const channel = Layer.effectDiscard(
    Effect.flatMap(Channels, (channels) =>
      channels.register({
        name,
        owner,
        capabilities: { textLimit: undefined, deduplicates: false },
        inbound: Stream.fromQueue(inbound),
        send: () => send
      })
    )
  )
  const model = ModelScripted.layer(() => {
    if (Number.isNaN(requested)) requested = performance.now()
    return ModelScripted.text("hello")
  })

  const started = performance.now()
  yield* Layer.build(
    Claw.layer({ agents: [andy], bindings: [Bind.everywhere(andy)] }).pipe(
      Layer.provide(channel),
      Layer.provide(model),
      Layer.provide(local(directory))
    )
  )
  const ready = performance.now()
  if (count === 0) return { first: ready - started, last: ready - started, running: Number.NaN }
  const last = yield* Deferred.await(answered)

  unanswered = count
  answered = Deferred.makeUnsafe()
  const asked = performance.now()
  for (const chat of chats("new", count)) {
    Queue.offerUnsafe(inbound, { message: messageIn(chat), ack: Effect.void })
  }
  const running = (yield* Deferred.await(answered)) - asked
  return { first: requested - started, last: last - started, running }
}, Effect.scoped)

export const rows = (): Promise<ReadonlyArray<Row>> =>
  withFolder(async (folder) => {
    let folders = 0
    /** Medians over so many starts. */
    const measure = async (count: number, times: number) => {
      const all: Array<Effect.Success<ReturnType<typeof recover>>> = []
      for (let time = 0; time < times; time++) {
        all.push(await Effect.runPromise(recover(join(folder, `state${++folders}`), count)))
      }
      const of = (key: "first" | "last" | "running") => median(all.map((each) => each[key]))
      return { first: of("first"), last: of("last"), running: of("running") }
    }
    // What has not run yet is slow.
    await measure(100, 3)
    const idle = await measure(0, 7)
    const one = await measure(1, 7)
    const hundred = await measure(100, 7)
    const most = await measure(10_000, 1)
    const toLast = (which: string, { last, running }: typeof one): Row => ({
      what: `start to the last reply, ${which} unanswered`,
      ours: millis(last),
      floor: `${millis(running)} as many turns on a running claw`,
      ratio: last / running,
      aim: ""
    })
    return [
      {
        what: "start to the first request at the model, 1, 100 and 10,000 conversations unanswered",
        ours: [one, hundred, most].map(({ first }) => millis(first)).join(", "),
        floor: `${millis(idle.last)} a start with none`,
        ratio: most.first / idle.last,
        aim: ""
      },
      toLast("1 conversation", one),
      toLast("100 conversations", hundred),
      toLast("10,000 conversations", most)
    ]
  })
