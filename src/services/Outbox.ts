/**
 * The outbox: outputs on their way from the journal to their channel.
 *
 * One sender per conversation, in the order the outputs were recorded; a conversation that is stuck holds up no other.
 * An output is sent at least once, and once where the channel recognises a resend by its id.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { type Channel, type ChannelError, Channels } from "./Channel.ts"
import * as Actors from "./internal/Actors.ts"
import { Journal, type JournalError, patiently, type PendingOutput } from "./Journal.ts"
import { channelOf, chatOf, type ConversationId } from "./Message.ts"

/** Sends what is recorded. */
export class Outbox extends Context.Service<
  Outbox,
  {
    /** Says that a conversation may have something to send. */
    readonly flush: (conversation: ConversationId) => Effect.Effect<void>
    /** Waits until nothing is being sent. */
    readonly settled: Effect.Effect<void>
  }
>()("effect-claw/services/Outbox") {}

/** Delays of a channel's retries: from half a second, doubling to five minutes, jittered; longer when the channel says. */
const delays = Schedule.min([Schedule.exponential("500 millis"), Schedule.spaced("5 minutes")]).pipe(
  Schedule.jittered,
  Schedule.setInputType<ChannelError>(),
  Schedule.modifyDelay(({ duration, input }) =>
    Effect.succeed(input.reason._tag === "RateLimited" ? Duration.max(duration, input.reason.retryAfter) : duration)
  ),
  Schedule.while(({ input }) => input.isRetryable)
)

/**
 * Senders in this process.
 *
 * Provides `Outbox`; requires `Journal` and `Channels`. What an earlier run left unsent starts at once. On release the
 * senders stop; what they had not sent stays recorded.
 */
export const layer: Layer.Layer<Outbox, JournalError, Journal | Channels> = Layer.effect(
  Outbox,
  Effect.gen(function* () {
    const journal = yield* Journal
    const channels = yield* Channels

    /** The agent learns of it at its next turn. */
    const refuse = ({ conversation, id, text }: PendingOutput, detail: string) =>
      journal.atomically(
        Effect.andThen(
          journal.settle(id, "failed"),
          journal.record({ conversation, events: [{ _tag: "OutputRefused", text: text.slice(0, 200), detail }] })
        )
      )

    const deliver = Effect.fn("Outbox.deliver")((channel: Channel, output: PendingOutput) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.suspend(() => channel.send(chatOf(output.conversation), { id: output.id, text: output.text })).pipe(
          Effect.tapError((error) =>
            error.isRetryable
              ? Effect.andThen(Effect.logWarning(error.message), Effect.ignore(journal.settle(output.id, "retry")))
              : Effect.void
          ),
          Effect.retry(delays),
          Effect.as(undefined),
          Effect.catch((error) =>
            Effect.as(Effect.logError(`an output could not be sent: ${error.message}`), error.message)
          ),
          restore,
          // Once it is accepted it is not sent again: a claw that ends records it first, a store that fails is waited for.
          Effect.flatMap((refusal) => {
            const settle = refusal === undefined ? journal.settle(output.id, "sent") : refuse(output, refusal)
            return Effect.catch(settle, (error) =>
              restore(Effect.andThen(Effect.logError(error.message), patiently(settle)))
            )
          })
        )
      )
    )

    const sendAll = (conversation: ConversationId) => (channel: Channel) =>
      journal
        .outbox(conversation)
        .pipe(
          Effect.flatMap(Effect.forEach((output) => deliver(channel, output), { discard: true })),
          patiently,
          Effect.ignore
        )

    const senders = yield* Actors.make((conversation: ConversationId) =>
      channels.get(channelOf(conversation)).pipe(
        // What was said on a channel that this claw does not have waits for one that has it.
        Effect.matchEffect({
          onFailure: (error) => Effect.logWarning(`outputs wait: ${error.message}`),
          onSuccess: sendAll(conversation)
        }),
        Effect.catchDefect((defect) => Effect.logError(`the outbox of ${conversation} is defect`, defect))
      )
    )

    yield* Effect.flatMap(journal.unsent, Effect.forEach(senders.tell, { discard: true }))
    return Outbox.of({ flush: senders.tell, settled: senders.settled() })
  })
)
