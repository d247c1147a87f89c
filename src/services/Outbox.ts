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
import { type Channel, ChannelError, Channels, Refused, Unreachable } from "./Channel.ts"
import { Files } from "./Files.ts"
import * as Actors from "./internal/Actors.ts"
import { Journal, type JournalError, patiently, type PendingOutput } from "./Journal.ts"
import { channelOf, chatOf, type ConversationId, type OutboundPart } from "./Message.ts"

/** Delays of a channel's retries: from half a second, doubling to five minutes, jittered; longer when the channel says. */
const delays = Schedule.min([Schedule.exponential("500 millis"), Schedule.spaced("5 minutes")]).pipe(
  Schedule.jittered,
  Schedule.setInputType<ChannelError>(),
  Schedule.modifyDelay(({ duration, input }) =>
    Effect.succeed(input.reason._tag === "RateLimited" ? Duration.max(duration, input.reason.retryAfter) : duration)
  ),
  Schedule.while(({ input }) => input.isRetryable)
)

/** What a channel is to send, if it can. */
const partOf = Effect.fnUntraced(function* (
  files: Files["Service"],
  { capabilities, name }: Channel,
  { extra = {}, id, text }: PendingOutput
): Effect.fn.Return<OutboundPart, ChannelError> {
  const refused = (detail: string) => new ChannelError({ channel: name, reason: new Refused({ detail }) })
  const { file, ...rest } = extra
  if (rest.reactTo !== undefined && capabilities.reactions !== true) return yield* refused("it has no reactions")
  if (file === undefined && rest.choices !== undefined && capabilities.choices !== true) {
    // The claw's own questions say in words how they are answered.
    const listed = rest.choices.filter(({ says }) => !says.startsWith("/")).map(({ label }) => `\n- ${label}`)
    return { ...rest, id, text: text + listed.join("") }
  }
  if (file === undefined) return { ...rest, id, text }
  const { fileLimit } = capabilities
  if (fileLimit === undefined) return yield* refused("it carries no files")
  const content = yield* Effect.mapError(files.read(file.id), ({ message, reason }) =>
    reason._tag === "StoreFailed"
      ? new ChannelError({ channel: name, reason: new Unreachable({ detail: message }) })
      : refused(message)
  )
  if (content.length > fileLimit) return yield* refused(`it carries files of ${fileLimit} bytes at most`)
  return { ...rest, id, text, file: { name: file.name, mediaType: file.mediaType, content } }
})

/**
 * Sends what is recorded, in this process. What an earlier run left unsent starts at once. On release the senders stop; what they
 * had not sent stays recorded.
 */
export class Outbox extends Context.Service<Outbox>()("effect-claw/services/Outbox", {
  make: Effect.gen(function* () {
    const journal = yield* Journal
    const channels = yield* Channels
    const files = yield* Files

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
        Effect.flatMap(partOf(files, channel, output), (part) => channel.send(chatOf(output.conversation), part)).pipe(
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
    return {
      /** Says that a conversation may have something to send. */
      flush: senders.tell,
      /** Waits until nothing is being sent. */
      settled: senders.settled()
    }
  })
}) {}

/** The outbox. Provides `Outbox`; requires `Journal`, `Channels` and `Files`. */
export const layer: Layer.Layer<Outbox, JournalError, Journal | Channels | Files> = Layer.effect(Outbox, Outbox.make)
