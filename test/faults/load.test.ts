/**
 * Load: ten thousand messages over five hundred conversations, on channels and a model that fail at random, a real
 * database and a test clock. What is judged is what the platform saw. All chance comes out of one seed, so `SOAK_SEED=7`
 * has the same run again, to the last reply; `SOAK_SECONDS` goes on with the seeds after it.
 */
import { assert, describe, it, vi } from "@effect/vitest"
import { Agent, Bind, Claw } from "effect-claw"
import * as DatabaseSqlite from "effect-claw/layers/DatabaseSqlite"
import * as JournalSql from "effect-claw/layers/JournalSql"
import * as Local from "effect-claw/programs/Local"
import * as Channel from "effect-claw/services/Channel"
import { Journal } from "effect-claw/services/Journal"
import {
  ChannelName,
  ChatId,
  MessageId,
  type OutboundPart,
  type OutputId,
  SenderId,
  text as content
} from "effect-claw/services/Message"
import * as AiError from "effect/ai/AiError"
import * as LanguageModel from "effect/ai/LanguageModel"
import type * as Prompt from "effect/ai/Prompt"
import type * as Response from "effect/ai/Response"
import * as Tool from "effect/ai/Tool"
import * as Toolkit from "effect/ai/Toolkit"
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { createHash } from "node:crypto"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { folder } from "../contracts/store.ts"

const conversations = 500
/** Messages that each chat is sent, part by part; between the parts all is quiet, and memory is measured. */
const parts = [4, 8, 8]
/** How often a model is asked before it is given up. */
const attempts = 4
/** What a message does that comes while a turn runs: a third of the chats each, on a channel of that name. */
const modes = ["steer", "collect", "interrupt"] as const
/** How long a moment is, in milliseconds. */
const moment = 250
/** What the heap may grow by, from the first quiet to the last. */
const growth = 5 * 1024 * 1024

/** What keeps the process alive, but for timers: this test's own runner has some. */
const resourcesHeld = () =>
  process
    .getActiveResourcesInfo()
    .filter((kind) => kind !== "Timeout")
    .toSorted()

setFlagsFromString("--expose-gc")
const collect: () => void = runInNewContext("gc")

/** A chat, as its people know it. Its messages are words, numbered from 1. */
interface Chat {
  readonly id: ChatId
  readonly mode: (typeof modes)[number]
  said: number
  answered: number
  /** Model calls that were given up, and what the chat was told instead of an answer. */
  givenUp: number
  apologies: number
  /** The output that was accepted last: what a resend is known by. */
  accepted: OutputId | undefined
  /** The model call under way: the attempts that are still to fail, and what comes of it in the end. */
  call: { failures: number; readonly end: "answered" | "given up" | "refused" } | undefined
}

const owner = SenderId.make("owner")

const failed = ({ mode }: Chat, reason: Channel.ChannelError["reason"]) =>
  Effect.fail(new Channel.ChannelError({ channel: ChannelName.make(mode), reason }))
const unreachable = (chat: Chat) => failed(chat, new Channel.Unreachable({ detail: "the line is down" }))

const modelFailed = (reason: AiError.AiErrorReason) => AiError.make({ module: "load", method: "streamText", reason })
const cut = new AiError.NetworkError({ reason: "TransportError", method: "POST", url: "https://model.invalid" })

const milliseconds = (millis: number) => Duration.millis(Math.round(millis))

/** The words in a text: the chat's number and their own. */
const wordsOf = (text: string): ReadonlyArray<string> => text.match(/\d+\.\d+/g) ?? []

const usage: Extract<Response.StreamPartEncoded, { type: "finish" }>["usage"] = {
  inputTokens: { uncached: 1, total: 1, cacheRead: 0, cacheWrite: 0 },
  outputTokens: { total: 1, text: 1, reasoning: 0 }
}
const textParts = (words: ReadonlyArray<string>): ReadonlyArray<Response.StreamPartEncoded> => [
  { type: "text-start", id: "text" },
  ...words.map((word) => ({ type: "text-delta" as const, id: "text", delta: `${word} ` })),
  { type: "text-end", id: "text" }
]
const workPart = (n: number): Response.StreamPartEncoded => ({
  type: "tool-call",
  id: `call${n}`,
  name: "work",
  params: { n }
})

/** A tool that may not be repeated. */
const toolkit = Toolkit.make(
  Tool.make("work", { parameters: Schema.Struct({ n: Schema.Int }), success: Schema.String })
)

/** A platform, a model and a tool, and what they have seen. Compact, for what is measured is the claw. */
const makeWorld = Effect.gen(function* () {
  const generator = yield* Random.Random
  const random = () => generator.nextDoubleUnsafe()
  const happens = (probability: number) => random() < probability
  const between = (least: number, most: number) => least + random() * (most - least)

  const chats = Array.from({ length: conversations }, (_, index): Chat => ({
    id: ChatId.make(`${index}`),
    mode: modes[index % 3] ?? "steer",
    said: 0,
    answered: 0,
    givenUp: 0,
    apologies: 0,
    accepted: undefined,
    call: undefined
  }))
  const chatOf = (id: string | undefined) => chats[Number(id)] ?? assert.fail(`there is no chat ${id}`)
  const counts = {
    said: 0,
    deliveries: 0,
    turns: 0,
    cutTurns: 0,
    sends: 0,
    replies: 0,
    modelCalls: 0,
    modelFailures: 0,
    toolCalls: 0
  }
  /** What is against the promise. */
  const wrong: Array<string> = []
  const seen = createHash("sha256")
  const unacknowledged = new Set<string>()
  /** Tool calls that the model has made, and that have not run; in a chat that interrupts, some never do. */
  const called = new Map<number, Chat>()
  const makeInbound = Queue.unbounded<Channel.InboundDelivery, Cause.Done>()
  const inbound = yield* Effect.all({ steer: makeInbound, collect: makeInbound, interrupt: makeInbound })
  const moments = new Map<number, Latch.Latch>()
  const agenda = yield* FiberSet.make<void>()
  const run = yield* FiberSet.runtime(agenda)()
  /**
   * Waits. A test clock has whoever it wakes come to rest before it wakes the next, so that nobody ever meets; here all
   * that is due within a moment is woken together, and goes on in an order of chance.
   */
  const wait = Effect.fnUntraced(function* (millis: number) {
    const now = yield* Clock.currentTimeMillis
    const due = Math.ceil((now + millis) / moment) * moment
    const opening = moments.get(due) ?? Latch.makeUnsafe()
    if (!moments.has(due)) {
      moments.set(due, opening)
      const open = Effect.sync(() => {
        moments.delete(due)
        opening.openUnsafe()
      })
      run(Effect.delay(open, due - now))
    }
    yield* opening.await
    yield* Effect.repeat(Effect.yieldNow, { times: Math.floor(between(0, 12)) })
  })
  const later = (millis: number, act: () => void) => void run(Effect.andThen(wait(millis), Effect.sync(act)))

  /** Until it is acknowledged, a message is delivered again; now and then afterwards, too. */
  const deliver = (chat: Chat, word: string): void => {
    counts.deliveries++
    const acknowledge = () => {
      const fate = random()
      const again = () => later(between(0, 5000), () => deliver(chat, word))
      if (fate < 0.2) again()
      if (fate < 0.1) return unreachable(chat)
      unacknowledged.delete(word)
      return fate > 0.95 ? unreachable(chat) : Effect.void
    }
    Queue.offerUnsafe(inbound[chat.mode], {
      message: {
        channel: ChannelName.make(chat.mode),
        chat: chat.id,
        id: MessageId.make(word),
        sender: owner,
        content: content(word),
        direct: true,
        at: 0
      },
      ack: Effect.suspend(acknowledge)
    })
  }

  const say = (chat: Chat): void => {
    const word = `${chat.id}.${++chat.said}`
    counts.said++
    unacknowledged.add(word)
    deliver(chat, word)
  }

  /** A reply that somebody sees: it names the words it answers, each of them the one after the last, or it is an apology. */
  const show = (chat: Chat, text: string): void => {
    counts.replies++
    seen.update(`${chat.id} ${text}\n`)
    const words = wordsOf(text)
    if (words.length === 0) {
      if (++chat.apologies > chat.givenUp) wrong.push(`in chat ${chat.id} nothing had failed: ${text}`)
      // As it was told to, it writes again.
      later(between(1000, 20_000), () => say(chat))
      return
    }
    for (const word of words) {
      if (word !== `${chat.id}.${++chat.answered}`) wrong.push(`in chat ${chat.id} came ${text}, not ${chat.answered}`)
    }
  }

  const accept = (chat: Chat, { id, text }: OutboundPart): void => {
    if (chat.accepted !== id) show(chat, text)
    chat.accepted = id
  }

  const send = Effect.fnUntraced(function* (to: ChatId, part: OutboundPart) {
    yield* wait(between(0, 500))
    counts.sends++
    const chat = chatOf(to)
    const fate = random()
    // Every third minute the platform is away, so that replies pile up.
    if ((yield* Clock.currentTimeMillis) % 180_000 > 120_000 || fate < 0.1) return yield* unreachable(chat)
    if (fate < 0.2)
      return yield* failed(chat, new Channel.RateLimited({ retryAfter: milliseconds(between(1000, 3000)) }))
    accept(chat, part)
    if (fate < 0.3) return yield* unreachable(chat)
  })

  const register = (mode: Chat["mode"]) =>
    Effect.flatMap(Channel.Channels, (channels) =>
      channels.register({
        name: ChannelName.make(mode),
        owner,
        capabilities: { textLimit: 4096, deduplicates: true },
        inbound: Stream.fromQueue(inbound[mode]),
        send,
        follow: (_, event) =>
          Effect.sync(() => {
            if (event._tag === "TurnBegan") counts.turns++
            if (event._tag === "TurnEnded" && event.ending._tag === "Stopped") counts.cutTurns++
          })
      })
    )

  const makeCall = ({ mode }: Chat): NonNullable<Chat["call"]> => {
    // Where a turn may be cut it may be cut before its apology, and that is as it should be.
    const fate = between(mode === "interrupt" ? 0.03 : 0, 1)
    if (fate < 0.02) return { failures: attempts, end: "given up" }
    if (fate < 0.03) return { failures: 1, end: "refused" }
    return { failures: fate < 0.3 ? Math.ceil(between(0, attempts - 1)) : 0, end: "answered" }
  }

  /** A failure that it helps to ask again after. What came before a line was cut is void: no one sees it, nothing of it runs. */
  const fail = (word: string) => {
    const busy = new AiError.RateLimitError({ retryAfter: milliseconds(between(0, 3000)) })
    switch (Math.floor(between(0, 5))) {
      case 0:
        return Stream.fail(modelFailed(busy))
      case 1:
        return Stream.fail(modelFailed(new AiError.InternalProviderError({ description: "overloaded" })))
      case 2:
        return Stream.fail(modelFailed(cut))
      case 3:
        return Stream.concat(Stream.fromIterable(textParts([word])), Stream.fail(modelFailed(cut)))
      default:
        return Stream.concat(Stream.fromIterable([workPart(0)]), Stream.fail(modelFailed(cut)))
    }
  }

  /** A failure that ends the call. */
  const refuse = () => {
    switch (Math.floor(between(0, 3))) {
      case 0:
        return Stream.fail(modelFailed(new AiError.AuthenticationError({ kind: "InvalidKey" })))
      case 1:
        return Stream.fail(modelFailed(new AiError.RateLimitError({ retryAfter: Duration.hours(1) })))
      default:
        return Stream.die("the model is defect")
    }
  }

  /** A text, or one or two calls of the tool. */
  const answer = (chat: Chat, words: ReadonlyArray<string>) => {
    const works = happens(0.15) ? Math.ceil(between(0, 2)) : 0
    const calls = Array.from({ length: works }, () => ++counts.toolCalls)
    calls.forEach((n) => called.set(n, chat))
    return Stream.fromIterable<Response.StreamPartEncoded>([
      ...(works > 0 ? calls.map(workPart) : textParts(words)),
      { type: "finish", reason: works > 0 ? "tool-calls" : "stop", usage }
    ])
  }

  /** Answers every word that it is shown and has not answered before. */
  const respond = ({ content }: Prompt.Prompt): Stream.Stream<Response.StreamPartEncoded, AiError.AiError> => {
    counts.modelCalls++
    const spoke = content.findLastIndex(
      (message) => message.role === "assistant" && message.content.some(({ type }) => type === "text")
    )
    const words = content
      .slice(spoke + 1)
      .flatMap((message) => (message.role === "user" ? message.content : []))
      .flatMap((part) => (part.type === "text" ? wordsOf(part.text) : []))
    const [first = "none"] = words
    const chat = chatOf(first.split(".")[0])
    const call = (chat.call ??= makeCall(chat))
    if (call.failures === 0) {
      chat.call = undefined
      return answer(chat, words)
    }
    counts.modelFailures++
    call.failures--
    if (call.failures === 0 && call.end !== "answered") {
      chat.call = undefined
      chat.givenUp++
    }
    return call.end === "refused" ? refuse() : fail(first)
  }

  const model = Layer.effect(
    LanguageModel.LanguageModel,
    LanguageModel.make({
      streamText: ({ prompt }) => Stream.unwrap(Effect.map(wait(between(0, 2000)), () => respond(prompt))),
      generateText: () => Effect.die("a claw streams")
    })
  )

  const work = ({ n }: { readonly n: number }) =>
    Effect.map(wait(between(0, 1000)), () => {
      if (!called.delete(n)) wrong.push(`the tool ran for call ${n}, which was not made, or has run`)
      return "done"
    })
  const andy = Agent.make("andy", { instructions: "You work.", toolkits: [Agent.withHandlers(toolkit, { work })] })

  return {
    /** The claw's end of it: what it is told, and whom it asks. */
    channels: Layer.effectDiscard(Effect.forEach(modes, register)),
    model,
    agent: andy,
    counts,
    wrong,
    seen: () => seen.copy().digest("hex").slice(0, 12),
    /** Has each chat say so much, most of it in bursts. */
    talk: (each: number) => {
      for (const chat of chats) {
        let at = 0
        for (let message = 0; message < each; message++) {
          at += between(0, happens(0.6) ? 2000 : 150_000)
          later(at, () => say(chat))
        }
      }
    },
    /** What still waits for something. */
    open: Effect.map(FiberSet.size(agenda), (scheduled) => ({
      scheduled,
      unacknowledged: unacknowledged.size,
      called: [...called.values()].filter(({ mode }) => mode !== "interrupt").length,
      unanswered: chats.filter(({ answered, said }) => answered < said).length,
      unapologized: chats.filter(({ apologies, givenUp }) => apologies < givenUp).length
    })),
    close: Effect.forEach(modes, (mode) => Queue.end(inbound[mode]))
  }
})

/** What ten thousand messages come to, in a folder of their own. */
const load = Effect.gen(function* () {
  const world = yield* makeWorld
  const directory = yield* folder
  const errors: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => {
    if (logLevel === "Error" || logLevel === "Fatal") errors.push(String(message))
  })
  const heap: Array<number> = []
  const measure = Effect.sync(() => {
    collect()
    heap.push(process.memoryUsage().heapUsed)
  })

  const judge = () => assert.deepStrictEqual([...world.wrong, ...errors].slice(0, 10), [])

  /** Goes on until nobody waits for anything, and the journal agrees. */
  const quiet = Effect.gen(function* () {
    const journal = yield* Journal
    for (let hours = 0; ; hours++) {
      const open = yield* world.open
      const [unfinished, unsent] = [yield* journal.unfinished, yield* journal.unsent]
      const left = { ...open, unfinished: unfinished.length, unsent: unsent.length }
      if (Object.values(left).every((count) => count === 0)) return
      judge()
      if (hours === 24) assert.fail(`it does not come to rest: ${JSON.stringify(left)}`)
      yield* TestClock.adjust("1 hour")
    }
  })

  yield* Effect.gen(function* () {
    const claw = yield* Claw.Claw
    for (const each of parts) {
      world.talk(each)
      yield* quiet
      yield* measure
    }
    yield* world.close
    yield* claw.finished
  }).pipe(
    Effect.provide(
      Claw.layer({
        agents: [world.agent],
        bindings: modes.map((mode) => Bind.channel(mode, world.agent, { whileBusy: mode }))
      }).pipe(
        Layer.provide(world.channels),
        Layer.provide(world.model),
        Layer.provideMerge(Local.layer({ directory, synchronous: "NORMAL", turnsAtOnce: 64 })),
        Layer.provide(Logger.layer([logger]))
      )
    )
  )

  // After its end nothing of it is left: the clock moves no one, and the folder is as it should be.
  const before = { ...world.counts }
  yield* TestClock.adjust("1 day")
  assert.deepStrictEqual(world.counts, before)
  yield* Effect.gen(function* () {
    const journal = yield* Journal
    assert.isFalse(journal.wasCut)
    assert.deepStrictEqual([yield* journal.unfinished, yield* journal.unsent], [[], []])
  }).pipe(Effect.provide(JournalSql.layer.pipe(Layer.provide(DatabaseSqlite.layer({ directory })))))

  judge()
  return { counts: world.counts, heap, seen: world.seen() }
}).pipe(Effect.scoped)

/** One load, with all chance out of this seed. */
const oneLoad = async (seed: number) => {
  process.stdout.write(`seed: ${seed}\n`)
  const started = performance.now()
  const resources = resourcesHeld()
  let fibers = 0
  const counting: Metric.FiberRuntimeMetricsService = {
    recordFiberStart: () => void fibers++,
    recordFiberEnd: () => void fibers--
  }
  const { counts, heap, seen } = await load.pipe(
    Random.withSeed(seed),
    // What is due in one moment may be the work of seconds, and the clock waits for it.
    Effect.provide(TestClock.layer({ warningDelay: "1 minute" })),
    Effect.provideService(Metric.FiberRuntimeMetrics, counting),
    Effect.runPromise
  )
  const seconds = ((performance.now() - started) / 1000).toFixed(0)
  const megabytes = heap.map((bytes) => (bytes / 1024 / 1024).toFixed(1)).join(", ")
  process.stdout.write(`${JSON.stringify(counts)}\nheap: ${megabytes} MiB, seen: ${seen}, ${seconds} s\n`)
  assert.strictEqual(fibers, 0, "fibers are left")
  await vi.waitFor(() => assert.deepStrictEqual(resourcesHeld(), resources))
  assert.isBelow(Math.max(...heap) - (heap[0] ?? 0), growth)
}

const soak = Number(process.env["SOAK_SECONDS"] ?? 0) * 1000

describe("ten thousand messages over five hundred conversations, with faults of channels and model", () => {
  it(
    "are each answered once, in order; nothing is left running, and memory does not grow",
    { timeout: 300_000 + soak },
    async () => {
      let seed = Number(process.env["SOAK_SEED"] ?? Date.now() % 1_000_000)
      const until = Date.now() + soak
      do await oneLoad(seed++)
      while (Date.now() < until)
    }
  )
})
