/**
 * Channels: the messaging surfaces a claw lives on.
 *
 * A channel's layer registers itself in the `Channels` hub, so channels compose as plain layers and several run at
 * once. The hub merges what they receive; sending goes to the channel that a conversation is on.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { ChannelName, type ChatId, type InboundMessage, type OutboundPart, type SenderId } from "./Message.ts"
import type { TurnEvent } from "./Turn.ts"

/** The platform cannot be reached now. */
export class Unreachable extends Schema.TaggedError<Unreachable>()("Unreachable", { detail: Schema.String }) {}
/** The platform asks to wait. */
export class RateLimited extends Schema.TaggedError<RateLimited>()("RateLimited", {
  retryAfter: Schema.DurationFromMillis
}) {}
/** The platform will never take this: the chat is gone, the bot was blocked, the text is not allowed. */
export class Refused extends Schema.TaggedError<Refused>()("Refused", { detail: Schema.String }) {}
/** No such channel in this claw, or a second one of the same name. */
export class Misconfigured extends Schema.TaggedError<Misconfigured>()("Misconfigured", { detail: Schema.String }) {}

/** A channel failed, for `reason`. */
export class ChannelError extends Schema.TaggedError<ChannelError>()("ChannelError", {
  channel: ChannelName,
  reason: Schema.Union([Unreachable, RateLimited, Refused, Misconfigured])
}) {
  /** Whether the same call may succeed later. */
  get isRetryable(): boolean {
    return this.reason._tag === "Unreachable" || this.reason._tag === "RateLimited"
  }
  override get message(): string {
    const detail = this.reason._tag === "RateLimited" ? "asks to wait" : this.reason.detail
    return `channel ${this.channel}: ${detail}`
  }
}

/** What a channel's platform can do. */
export interface ChannelCapabilities {
  /** The most one message carries, in UTF-16 code units. `undefined`: no limit. */
  readonly textLimit: number | undefined
  /** The platform drops a second message with the same `OutboundPart.id`, so a resend is no duplicate. */
  readonly deduplicates: boolean
  /** The largest file it carries, in bytes. Default: it carries none. */
  readonly fileLimit?: number
  /** It can set a mark on a message. Default: no. */
  readonly reactions?: boolean
  /** It shows `choices` as buttons. Default: no. */
  readonly choices?: boolean
}

/** A file that came with a message. */
export interface Attachment {
  /** As the sender named it: a wish, and no path. */
  readonly name?: string
  /** What the platform says that it is. */
  readonly mediaType?: string
  /** Bytes, as the platform says. */
  readonly size?: number
  /** The bytes, fetched when they are asked for. */
  readonly content: Stream.Stream<Uint8Array, ChannelError>
}

/** A message with its files, and the acknowledgement that tells the platform not to send it again. */
export interface InboundDelivery {
  readonly message: InboundMessage
  readonly attachments?: ReadonlyArray<Attachment>
  readonly ack: Effect.Effect<void, ChannelError>
}

/** A messaging surface. */
export interface Channel {
  readonly name: ChannelName
  readonly capabilities: ChannelCapabilities
  /**
   * Who owns this channel by its nature, as the person at the keyboard owns a terminal. Admitted without a list. Where the
   * platform says who that is, it is known before the first message.
   */
  readonly owner?: SenderId | undefined
  /** Messages in the order of arrival. Ends when the channel is closed for good. */
  readonly inbound: Stream.Stream<InboundDelivery, ChannelError>
  readonly send: (to: ChatId, part: OutboundPart) => Effect.Effect<void, ChannelError>
  /** Shows that the agent is at work, for as long as the scope is open. */
  readonly typing?: (to: ChatId) => Effect.Effect<void, never, Scope.Scope>
  /** Follows a turn live, for a surface that can show text as it is written. */
  readonly follow?: (chat: ChatId, event: TurnEvent) => Effect.Effect<void>
}

/**
 * The hub that a claw's channels register in, in this process. On release every channel's `inbound` is interrupted. A channel that
 * fails is logged and leaves the others running.
 */
export class Channels extends Context.Service<Channels>()("effect-claw/services/Channel/Channels", {
  make: Effect.gen(function* () {
    const channels = new Map<ChannelName, Channel>()
    const queue = yield* Queue.bounded<InboundDelivery, ChannelError | Cause.Done>(64)
    const failures = yield* Queue.unbounded<ChannelError>()
    let consumed = false
    let registered = 0
    let open = 0
    let failure: ChannelError | undefined

    // Before there is a consumer, more channels may register.
    const endIfLast = Effect.suspend(() => {
      if (!consumed || registered === 0 || open > 0) return Effect.void
      return failure === undefined ? Queue.end(queue) : Queue.fail(queue, failure)
    })

    const misconfigured = (channel: ChannelName, detail: string) =>
      new ChannelError({ channel, reason: new Misconfigured({ detail }) })

    return {
      /** Adds a channel for as long as the scope is open. Fails when the name is taken. */
      register: Effect.fn("Channels.register")(function* (
        channel: Channel
      ): Effect.fn.Return<void, ChannelError, Scope.Scope> {
        const { inbound, name } = channel
        if (channels.has(name)) {
          const detail = "two channels have this name; give one of them another, such as telegram.work"
          return yield* misconfigured(name, detail)
        }
        channels.set(name, channel)
        registered++
        open++
        yield* Effect.addFinalizer(() => Effect.sync(() => channels.delete(name)))
        yield* Stream.runForEach(inbound, (delivery) => Queue.offer(queue, delivery)).pipe(
          Effect.catch((error) => {
            failure = error
            Queue.offerUnsafe(failures, error)
            return Effect.logError(`${error.message}; this channel receives no more messages`)
          }),
          Effect.catchCauseIf(
            (cause) => !Cause.hasInterruptsOnly(cause),
            (cause) => Effect.logError(`channel ${name} is defect`, cause)
          ),
          Effect.andThen(Effect.sync(() => open--)),
          Effect.andThen(endIfLast),
          Effect.forkScoped
        )
      }),
      /** The channels there are now. */
      names: Effect.sync(() => [...channels.keys()]),
      get: (name: ChannelName): Effect.Effect<Channel, ChannelError> => {
        const channel = channels.get(name)
        return channel === undefined
          ? Effect.fail(misconfigured(name, "this claw has no such channel"))
          : Effect.succeed(channel)
      },
      /** Channels that failed for good, as they do. One consumer: the claw. */
      failures: Stream.fromQueue(failures),
      /**
       * What all channels receive, in order of arrival, with backpressure. One consumer: the claw. Ends when every channel's
       * `inbound` has ended, with the failure of one that failed.
       */
      inbound: Stream.unwrap(
        Effect.suspend(() => {
          consumed = true
          return Effect.as(endIfLast, Stream.fromQueue(queue))
        })
      )
    }
  })
}) {}

/** The hub. Provides `Channels`, requires nothing. */
export const layer: Layer.Layer<Channels> = Layer.effect(Channels, Channels.make)
