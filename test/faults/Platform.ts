/**
 * A messaging platform of our own, over a real socket: what it has not been acknowledged it delivers again to whoever
 * connects next, and it knows a message that is sent twice by the id that its sender gave it.
 */
import * as Channel from "effect-claw/services/Channel"
import { ChannelName, ChatId, MessageId, OutputId, SenderId, text } from "effect-claw/services/Message"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { connect, createServer, type Socket } from "node:net"
import { createInterface } from "node:readline"

/** Lines of JSON, both ways. */
interface Line {
  readonly type: "message" | "ack" | "send" | "accepted"
  readonly id: string
  readonly chat: string
  readonly text: string
}

const write = (socket: Socket, line: Line) => void socket.write(`${JSON.stringify(line)}\n`)
const listen = (socket: Socket, use: (line: Line) => void) =>
  createInterface({ input: socket, crlfDelay: Infinity })
    .on("line", (line) => use(JSON.parse(line)))
    .on("error", () => {})

/** A message that someone saw in a chat. */
export interface Seen {
  readonly chat: string
  readonly text: string
}

/** The platform's side: a server on a unix socket. */
export const makeServer = async (path: string) => {
  const unacknowledged = new Map<string, Line>()
  const seen: Array<Seen> = []
  const sends: Array<string> = []
  const accepted = new Set<string>()
  const waiting = new Set<() => void>()
  let client: Socket | undefined
  let messages = 0

  const server = createServer((socket) => {
    client = socket
    socket.on("error", () => {}).on("close", () => (client = client === socket ? undefined : client))
    unacknowledged.forEach((line) => write(socket, line))
    listen(socket, (line) => {
      if (line.type === "ack") unacknowledged.delete(line.id)
      if (line.type !== "send") return
      sends.push(line.id)
      if (!accepted.has(line.id)) seen.push(line)
      accepted.add(line.id)
      write(socket, { ...line, type: "accepted" })
      waiting.forEach((wake) => wake())
    })
  })
  await new Promise<void>((resolve) => server.listen(path, resolve))
  return {
    /** What was seen, each message once, in order. */
    seen: seen as ReadonlyArray<Seen>,
    /** The ids of all that was sent, resends among them. */
    sends: sends as ReadonlyArray<string>,
    unacknowledged: unacknowledged as ReadonlyMap<string, Line>,
    say: (chat: string, said: string) => {
      const line: Line = { type: "message", id: `m${++messages}`, chat, text: said }
      unacknowledged.set(line.id, line)
      if (client !== undefined) write(client, line)
    },
    /** Whether so many messages were seen, in time. */
    awaitSeen: (count: number, millis: number): Promise<boolean> =>
      new Promise((resolve) => {
        const end = (found: boolean) => {
          clearTimeout(timer)
          waiting.delete(check)
          resolve(found)
        }
        const check = () => {
          if (seen.length >= count) end(true)
        }
        const timer = setTimeout(end, millis, false)
        waiting.add(check)
        check()
      }),
    close: () => {
      client?.destroy()
      server.close()
    }
  }
}

const name = ChannelName.make("platform")
const owner = SenderId.make("owner")
const gone = new Channel.ChannelError({
  channel: name,
  reason: new Channel.Unreachable({ detail: "the platform has hung up" })
})

/** The claw's side: a channel. */
export const layer = (path: string): Layer.Layer<never, Channel.ChannelError, Channel.Channels> =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const channels = yield* Channel.Channels
      const inbound = yield* Queue.unbounded<Channel.InboundDelivery, Channel.ChannelError | Cause.Done>()
      const accepting = new Map<string, () => void>()
      const socket = yield* Effect.acquireRelease(
        Effect.sync(() => connect(path)),
        (open) => Effect.sync(() => open.destroy())
      )
      socket.on("error", () => {}).on("close", () => Queue.failCauseUnsafe(inbound, Cause.fail(gone)))
      listen(socket, (line) => {
        if (line.type === "accepted") return accepting.get(line.id)?.()
        Queue.offerUnsafe(inbound, {
          message: {
            channel: name,
            chat: ChatId.make(line.chat),
            id: MessageId.make(line.id),
            sender: owner,
            content: text(line.text),
            direct: true,
            at: 0
          },
          ack: Effect.sync(() => write(socket, { ...line, type: "ack" }))
        })
      })
      yield* channels.register({
        name,
        owner,
        capabilities: { textLimit: 4096, deduplicates: true },
        inbound: Stream.fromQueue(inbound),
        send: (chat, part) =>
          Effect.callback<void>((resume) => {
            accepting.set(part.id, () => resume(Effect.void))
            write(socket, { type: "send", id: OutputId.make(part.id), chat, text: part.text })
          })
      })
    })
  )
