/**
 * The terminal as a channel: a conversation at the prompt, or, with stdin piped, a message per line.
 *
 * At the prompt replies stream, a spinner shows the tool that runs, lines can be edited and recalled, Ctrl-C stops the
 * turn and a second one leaves. What the claw says by itself, such as a reminder, appears above the line being typed.
 * With stdin piped each line is answered before the next is read, replies are all that is on stdout, and the channel
 * closes when all are answered.
 */
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as FiberHandle from "effect/FiberHandle"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Predicate from "effect/Predicate"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { createInterface } from "node:readline"
import type { Readable, Writable } from "node:stream"
import { ReadStream, WriteStream } from "node:tty"
import { type Channel, type ChannelError, Channels, type InboundDelivery } from "../services/Channel.ts"
import { ChannelName, ChatId, MessageId, type OutputId, SenderId, text as content } from "../services/Message.ts"
import * as Reply from "../services/Reply.ts"
import type { TurnEvent } from "../services/Turn.ts"
import * as Screen from "./internal/screen.ts"

/** Where the terminal is, and what it is called. */
export interface Options {
  /** Default `process.stdin`. */
  readonly input?: Readable
  /** Default `process.stdout`. */
  readonly output?: Writable
  /** The chat's name: another name is another conversation. Default `local`. */
  readonly chat?: string
  /** Written first: on the screen, or, with stdin piped, to stderr. */
  readonly greeting?: string
}

const name = ChannelName.make("terminal")
const owner = SenderId.make("owner")

/** What both kinds of terminal have in common. */
const describe = (
  chat: ChatId
): Effect.Effect<{
  readonly base: Pick<Channel, "name" | "owner" | "capabilities">
  readonly delivery: (line: string, ack?: Effect.Effect<void>) => Effect.Effect<InboundDelivery>
}> =>
  Effect.gen(function* () {
    // Message ids differ between runs, or the journal would take a new line for one it has.
    const run = `${yield* Clock.currentTimeMillis}-${(yield* Random.nextInt).toString(36)}`
    let lines = 0
    return {
      base: { name, owner, capabilities: { textLimit: undefined, deduplicates: false } },
      delivery: (line, ack = Effect.void) =>
        Effect.map(Clock.currentTimeMillis, (at) => ({
          message: {
            channel: name,
            chat,
            id: MessageId.make(`${run}-${++lines}`),
            sender: owner,
            content: content(line),
            direct: true,
            at
          },
          ack
        }))
    }
  })

/** The outputs of an ended turn that are still to be sent. Both say whether the turn is now over and all of it sent. */
const makePending = () => {
  const sent = new Set<OutputId>()
  let waiting: ReadonlyArray<OutputId> | undefined
  const check = () => {
    if (waiting?.every((output) => sent.has(output)) !== true) return false
    waiting = undefined
    sent.clear()
    return true
  }
  const onSent = (output: OutputId) => {
    sent.add(output)
    return check()
  }
  const onEnded = (outputs: ReadonlyArray<OutputId>) => {
    waiting = outputs
    return check()
  }
  return { onSent, onEnded }
}

const summary = (tool: string, params: unknown): string => {
  const detail = Predicate.isObject(params)
    ? Object.values(params).find((value) => typeof value === "string")
    : undefined
  return detail === undefined ? tool : `${tool}: ${detail.split("\n", 1)[0]}`
}

/** Whether the agent is at work now, or the person's answer is waited for. */
const isBegun = ({ _tag }: TurnEvent) => _tag === "TurnBegan" || _tag === "TurnContinued"
const isOver = (event: TurnEvent) => event._tag === "TurnEnded" || event._tag === "TurnParked"

/** A person at a prompt. */
const interactive = Effect.fnUntraced(function* (
  input: ReadStream,
  output: WriteStream,
  chat: ChatId,
  greeting: string | undefined
) {
  const { base, delivery } = yield* describe(chat)
  const lines = yield* Queue.unbounded<string, Cause.Done>()
  const spinner = yield* FiberHandle.make()
  const pending = makePending()
  /** What the model has written of an output, and what of it is on the screen. */
  const streamed = new Map<OutputId, { readonly written: string; readonly shown: string }>()
  const tools = new Map<string, string>()
  /** A turn runs; `watched`: it began with something typed, so its text streams. */
  let running = false
  let watched = false
  let typed = false
  let leaving = false
  let left = false

  const leave = () => void (left = Queue.endUnsafe(lines))
  const screen = yield* Effect.acquireRelease(
    Effect.sync(() =>
      Screen.make(input, output, {
        onLine: (line) => {
          leaving = false
          if (line.trim() === "") return running && watched ? undefined : screen.prompt()
          typed = true
          Queue.offerUnsafe(lines, line)
        },
        onInterrupt: (cleared) => {
          if (cleared) return
          // Left already, and still here: the claw has something that it cannot finish.
          if (left) return void process.kill(process.pid, "SIGINT")
          if (leaving) return leave()
          leaving = true
          if (running) Queue.offerUnsafe(lines, "/stop")
          else screen.print("(Ctrl-C again to leave)")
        },
        onClose: leave
      })
    ),
    (opened) => Effect.sync(opened.close)
  )

  const spin = Effect.sync(() => screen.spin([...tools.values()].join(" · ") || "thinking")).pipe(
    Effect.repeat(Schedule.spaced("100 millis"))
  )
  const settle = Effect.suspend(() => {
    running = watched = typed = false
    streamed.clear()
    tools.clear()
    return Effect.andThen(FiberHandle.clear(spinner), Effect.sync(screen.prompt))
  })

  const write = Effect.fnUntraced(function* (output: OutputId, delta: string) {
    const before = streamed.get(output) ?? { written: "", shown: "" }
    const written = before.written + delta
    const begun = Reply.begun(written)
    const shown = begun.startsWith(before.shown) ? begun : before.shown
    streamed.set(output, { written, shown })
    if (shown === before.shown) return
    yield* FiberHandle.clear(spinner)
    screen.write(shown.slice(before.shown.length))
  })

  const follow = Effect.fnUntraced(function* (event: TurnEvent) {
    if (isBegun(event)) {
      running = true
      watched = typed
    }
    if (isOver(event)) return yield* pending.onEnded(event.outputs) ? settle : Effect.void
    if (!watched) return
    switch (event._tag) {
      case "TurnBegan":
      case "TurnContinued":
        screen.begin()
        return yield* FiberHandle.run(spinner, spin)
      case "TextDelta":
        return yield* write(event.output, event.delta)
      case "TextDiscarded":
        if (streamed.get(event.output)?.shown) screen.write(" …\n")
        streamed.delete(event.output)
        return yield* FiberHandle.run(spinner, spin)
      case "ToolCalled":
        tools.set(event.call, summary(event.tool, event.params))
        return yield* FiberHandle.run(spinner, spin)
      case "ToolReturned":
        tools.delete(event.call)
        return
    }
  })

  if (greeting !== undefined) screen.print(greeting)
  screen.prompt()
  const channel: Channel = {
    ...base,
    inbound: Stream.mapEffect(Stream.fromQueue(lines), (line) => delivery(line)),
    send: (_chat, { id, text }) =>
      Effect.suspend(() => {
        const { shown } = streamed.get(id) ?? { shown: "" }
        if (shown === "") screen.print(text)
        else if (text.startsWith(shown)) screen.write(`${text.slice(shown.length)}\n`)
        else screen.print(text)
        // A reply that belongs to no turn answers a command.
        return pending.onSent(id) || !running ? settle : Effect.void
      }),
    follow: (_chat, event) => follow(event)
  }
  return { channel, print: screen.print }
})

/** A pipe: each line is answered before the next is taken. */
const piped = Effect.fnUntraced(function* (
  input: Readable,
  output: Writable,
  chat: ChatId,
  greeting: string | undefined
) {
  const { base, delivery } = yield* describe(chat)
  const answered = yield* Queue.sliding<void>(1)
  const pending = makePending()
  const done = Queue.offer(answered, undefined)
  // Opened when it is read: lines that come before there is a reader are lost.
  const lines = Stream.unwrap(
    Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => createInterface({ input, crlfDelay: Infinity, terminal: false })),
        (opened) => Effect.sync(() => opened.close())
      ),
      (opened) => Stream.fromAsyncIterable(opened, (cause) => cause)
    )
  )
  // A reader that has gone away is no reason to leave a turn half done.
  const ignoreClosed = () => {}
  output.on("error", ignoreClosed)
  yield* Effect.addFinalizer(() => Effect.sync(() => output.off("error", ignoreClosed)))

  const isCommand = (id: OutputId, line: MessageId | undefined) => line !== undefined && id.endsWith(` ${line}`)
  let current: MessageId | undefined
  /** A turn has begun, or gone on, since the current line was handed over: it is that which answers. */
  let began = false
  const channel: Channel = {
    ...base,
    // A line has been answered when the next element is asked for.
    inbound: lines.pipe(
      Stream.orDie,
      Stream.filter((line) => line.trim() !== ""),
      Stream.mapEffect((line) => delivery(line)),
      Stream.flatMap(
        (next) =>
          Stream.concat(
            Stream.fromEffect(
              Effect.sync(() => {
                current = next.message.id
                began = false
                return next
              }).pipe(Effect.tap(Queue.clear(answered)))
            ),
            Stream.fromEffectDrain(Queue.take(answered))
          ),
        { bufferSize: 1 }
      )
    ),
    send: (_chat, { id, text }) =>
      Effect.callback<void>((resume) => void output.write(`${text}\n`, () => resume(Effect.void))).pipe(
        Effect.andThen(
          Effect.suspend(() => (pending.onSent(id) || (isCommand(id, current) && !began) ? done : Effect.void))
        )
      ),
    follow: (_chat, event) =>
      Effect.suspend(() => {
        if (isBegun(event)) began = true
        return isOver(event) && pending.onEnded(event.outputs) ? done : Effect.void
      })
  }
  const print = (text: string) => void process.stderr.write(`${text}\n`)
  if (greeting !== undefined) print(greeting)
  return { channel, print }
})

/** The log, for people: on the screen above the prompt, or on stderr. */
const logger = (print: (text: string) => void) =>
  Logger.make<unknown, void>(({ logLevel, message }) => {
    const text = (Array.isArray(message) ? message : [message]).filter((part) => typeof part === "string").join(" ")
    print(logLevel === "Info" ? text : `[${logLevel.toLowerCase()}] ${text}`)
  })

const make = (
  options: Options
): Effect.Effect<{ readonly channel: Channel; readonly print: (text: string) => void }, never, Scope.Scope> => {
  const { chat = "local", greeting, input = process.stdin, output = process.stdout } = options
  return input instanceof ReadStream && output instanceof WriteStream
    ? interactive(input, output, ChatId.make(chat), greeting)
    : piped(input, output, ChatId.make(chat), greeting)
}

/**
 * The terminal.
 *
 * Provides no service, but a log that does not disturb the prompt, to what is built on it; requires the `Channels` hub. On
 * release the terminal is as it was.
 */
export const layer = (options: Options = {}): Layer.Layer<never, ChannelError, Channels> =>
  Layer.unwrap(
    Effect.gen(function* () {
      const channels = yield* Channels
      const { channel, print } = yield* make(options)
      yield* channels.register(channel)
      return Logger.layer([logger(print)])
    })
  )
