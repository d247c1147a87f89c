/**
 * A channel in memory, with a log of what was sent: for tests, and as the shortest example of a channel.
 */
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { type Attachment, type ChannelError, Channels, type InboundDelivery } from "../services/Channel.ts"
import {
  ChannelName,
  ChatId,
  type InboundMessage,
  MessageId,
  type OutboundPart,
  SenderId,
  text as content
} from "../services/Message.ts"
import type { TurnEvent } from "../services/Turn.ts"

/** What a test says in a chat. Chat, sender and message id are made up where they are left out. */
export interface Said extends Partial<
  Pick<InboundMessage, "direct" | "mentionsAgent" | "fromSelf" | "senderName" | "at" | "kind" | "quoted">
> {
  readonly text: string
  readonly chat?: string
  readonly sender?: string
  readonly id?: string
  readonly attachments?: ReadonlyArray<Attachment>
}

/** Something that was sent. */
export interface Sent extends OutboundPart {
  readonly chat: ChatId
}

/** The other end of the channel. */
export class ChannelMemory extends Context.Service<
  ChannelMemory,
  {
    /** Writes a message into a chat. Returns when the claw has acknowledged it. */
    readonly say: (message: string | Said) => Effect.Effect<void>
    /** All that was sent, oldest first. */
    readonly sent: Effect.Effect<ReadonlyArray<Sent>>
    /** Waits until this many parts were sent, and returns all. */
    readonly awaitSent: (count: number) => Effect.Effect<ReadonlyArray<Sent>>
    /** The chats that see that the agent is at work. */
    readonly typing: ReadonlySet<ChatId>
    /** Every event of every turn so far. */
    readonly events: ReadonlyArray<{ readonly chat: ChatId; readonly event: TurnEvent }>
    /** Closes the channel: there will be no more messages. */
    readonly close: Effect.Effect<void>
  }
>()("effect-claw/layers/ChannelMemory") {}

/** How the channel behaves. */
export interface Options {
  /** Default `memory`. */
  readonly name?: string
  /** Whose messages are admitted without a list; `null`: nobody's. Default `owner`. */
  readonly owner?: string | null
  /** Called before a part counts as sent; its failure is the channel's. */
  readonly onSend?: (part: Sent) => Effect.Effect<void, ChannelError>
}

/**
 * The channel.
 *
 * Provides `ChannelMemory`, its other end; requires the `Channels` hub. On release it is closed.
 */
export const layer = (options: Options = {}): Layer.Layer<ChannelMemory, ChannelError, Channels> =>
  Layer.effect(
    ChannelMemory,
    Effect.gen(function* () {
      const channels = yield* Channels
      const name = ChannelName.make(options.name ?? "memory")
      const owner = options.owner === null ? undefined : SenderId.make(options.owner ?? "owner")
      const inbound = yield* Queue.unbounded<InboundDelivery, Cause.Done>()
      const sent = yield* SubscriptionRef.make<ReadonlyArray<Sent>>([])
      const typing = new Set<ChatId>()
      const events: Array<{ readonly chat: ChatId; readonly event: TurnEvent }> = []
      // Ids differ between channels, or a claw that starts again would take a new message for one it has.
      const made = (yield* Random.nextInt).toString(36)
      let messages = 0

      yield* channels.register({
        name,
        ...(owner === undefined ? {} : { owner }),
        capabilities: { textLimit: undefined, deduplicates: false, fileLimit: Infinity, reactions: true },
        inbound: Stream.fromQueue(inbound),
        send: (chat, part) => {
          const message = { ...part, chat }
          return Effect.andThen(
            options.onSend?.(message) ?? Effect.void,
            SubscriptionRef.update(sent, (all) => [...all, message])
          )
        },
        typing: (chat) =>
          Effect.acquireRelease(
            Effect.sync(() => void typing.add(chat)),
            () => Effect.sync(() => typing.delete(chat))
          ),
        follow: (chat, event) => Effect.sync(() => void events.push({ chat, event }))
      })

      return ChannelMemory.of({
        say: Effect.fn("ChannelMemory.say")(function* (message) {
          const said = typeof message === "string" ? { text: message } : message
          const {
            attachments,
            chat = "chat",
            id = `${made}.${++messages}`,
            sender = owner ?? "someone",
            text,
            ...rest
          } = said
          const acknowledged = yield* Queue.make<void>()
          yield* Queue.offer(inbound, {
            message: {
              channel: name,
              chat: ChatId.make(chat),
              id: MessageId.make(id),
              sender: SenderId.make(sender),
              content: content(text),
              direct: true,
              at: yield* Clock.currentTimeMillis,
              ...rest
            },
            ...(attachments === undefined ? {} : { attachments }),
            ack: Effect.asVoid(Queue.offer(acknowledged, undefined))
          })
          yield* Queue.take(acknowledged)
        }),
        sent: SubscriptionRef.get(sent),
        awaitSent: (count) =>
          SubscriptionRef.changes(sent).pipe(
            Stream.filter((all) => all.length >= count),
            Stream.runHead,
            Effect.flatMap(Effect.fromOption),
            Effect.orElseSucceed(() => [])
          ),
        typing,
        events,
        close: Effect.asVoid(Queue.end(inbound))
      })
    })
  )
