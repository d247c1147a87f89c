/** A channel that costs next to nothing: each chat asks, and waits for the answer. */
import * as Channel from "effect-claw/services/Channel"
import { ChannelName, ChatId, type InboundMessage, MessageId, SenderId, text } from "effect-claw/services/Message"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"

/** When each stage of a message was reached, by `performance.now()`. */
export interface Answered {
  readonly acknowledged: number
  readonly sent: number
}

export class BenchChannel extends Context.Service<
  BenchChannel,
  { readonly ask: (chat: string, message: string) => Effect.Effect<Answered> }
>()("effect-claw/bench/channel/BenchChannel") {}

export const layer: Layer.Layer<BenchChannel, Channel.ChannelError, Channel.Channels> = Layer.effect(
  BenchChannel,
  Effect.gen(function* () {
    const channels = yield* Channel.Channels
    const name = ChannelName.make("bench")
    const owner = SenderId.make("owner")
    const inbound = yield* Queue.unbounded<Channel.InboundDelivery>()
    const waiting = new Map<string, (sent: number) => void>()
    let messages = 0
    yield* channels.register({
      name,
      owner,
      capabilities: { textLimit: undefined, deduplicates: false },
      inbound: Stream.fromQueue(inbound),
      send: (chat) => Effect.sync(() => waiting.get(chat)?.(performance.now()))
    })
    return BenchChannel.of({
      ask: (chat, said) =>
        Effect.callback<Answered>((resume) => {
          let acknowledged = 0
          waiting.set(chat, (sent) => {
            waiting.delete(chat)
            resume(Effect.succeed({ acknowledged, sent }))
          })
          const message: InboundMessage = {
            channel: name,
            chat: ChatId.make(chat),
            id: MessageId.make(`m${++messages}`),
            sender: owner,
            content: text(said),
            direct: true,
            at: 0
          }
          Queue.offerUnsafe(inbound, {
            message,
            ack: Effect.sync(() => {
              acknowledged = performance.now()
            })
          })
        })
    })
  })
)
