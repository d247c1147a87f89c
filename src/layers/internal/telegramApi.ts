/**
 * Telegram's Bot API, called by grammy: with deadlines, and failures that say what they are and hold no token.
 */
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { Api, GrammyError, type RawApi } from "grammy"
import { type ChannelError, Misconfigured, RateLimited, Refused, Unreachable } from "../../services/Channel.ts"
import type { RemoteFile } from "./telegramUpdates.ts"

/** UTF-16 code units of a message. https://core.telegram.org/bots/api#sendmessage */
export const textLimit = 4096

// Telegram would fetch what a link leads to, and so tell its owner what the agent has written into it.
export const withoutPreview = { link_preview_options: { is_disabled: true } }

/** The most bytes of a file that a bot can fetch. https://core.telegram.org/bots/api#getfile */
export const fetchLimit = 20 * 1024 * 1024

/** A call failed. `code` is the API's, and 0 where it did not answer. */
export class Failure extends Data.TaggedError("effect-claw/layers/internal/telegramApi/Failure")<{
  readonly code: number
  readonly description: string
  /** How long it asks to wait. */
  readonly retryAfter?: Duration.Duration
  /** The supergroup that the group has become. */
  readonly migratedTo?: number
}> {
  /** Whether the API refused a call with these words. */
  says(words: RegExp): boolean {
    return this.code === 400 && words.test(this.description)
  }

  /** What it is to those who know no Telegram. */
  get reason(): ChannelError["reason"] {
    const { code, description, retryAfter } = this
    if (code === 429) return new RateLimited({ retryAfter: retryAfter ?? Duration.seconds(1) })
    if (code === 401 || code === 404) {
      return new Misconfigured({
        detail: "Telegram does not know this bot's token: copy it again from @BotFather, or have it make a new one"
      })
    }
    if (code === 409) {
      return new Unreachable({
        detail: `another program reads this bot's messages, and one must stop (${description})`
      })
    }
    return code === 0 || code >= 500 ? new Unreachable({ detail: description }) : new Refused({ detail: description })
  }
}

/** What grammy takes as a signal: the platform's will do, though the type is that of a package which is older than it. */
type Signal = AbortSignal & NonNullable<Parameters<RawApi["getUpdates"]>[1]>
const isSignal = (signal: AbortSignal): signal is Signal => "aborted" in signal

/** Calls the API. */
export interface TelegramApi {
  readonly call: <A>(
    method: (api: RawApi, signal: Signal) => Promise<A>,
    deadline?: Duration.Input
  ) => Effect.Effect<A, Failure>
  /** A file's bytes. */
  readonly download: (file: RemoteFile) => Stream.Stream<Uint8Array, Failure>
}

const tooLarge = new Failure({ code: 400, description: "Telegram lets a bot fetch files of 20 MB at most" })

const silent = Effect.fail(new Failure({ code: 0, description: "Telegram does not answer" }))

/** `root`: where the API is, without a slash at its end. */
export const make = (token: Redacted.Redacted, root: string): TelegramApi => {
  const key = Redacted.value(token)
  const { raw } = new Api(key, { apiRoot: root })

  const failureOf = (cause: unknown): Failure => {
    if (cause instanceof GrammyError) {
      const { migrate_to_chat_id: migratedTo, retry_after: seconds } = cause.parameters
      return new Failure({
        code: cause.error_code,
        description: cause.description.replaceAll(key, "[the token]"),
        ...(seconds === undefined ? {} : { retryAfter: Duration.seconds(seconds) }),
        ...(migratedTo === undefined ? {} : { migratedTo })
      })
    }
    // The cause names the address, and the address has the token.
    return new Failure({ code: 0, description: "Telegram cannot be reached" })
  }

  const call: TelegramApi["call"] = (method, deadline = "60 seconds") =>
    Effect.tryPromise({
      try: (signal) => (isSignal(signal) ? method(raw, signal) : Promise.reject(new TypeError("no signal"))),
      catch: failureOf
    }).pipe(Effect.timeoutOrElse({ duration: deadline, orElse: () => silent }))

  const fetched = Effect.fnUntraced(function* ({ id, size = 0 }: RemoteFile) {
    if (size > fetchLimit) return yield* tooLarge
    const { file_path: path } = yield* call((api, signal) => api.getFile({ file_id: id }, signal)).pipe(
      Effect.mapError((failure) => (failure.says(/file is too big/) ? tooLarge : failure))
    )
    const { body, ok, status } = yield* Effect.tryPromise({
      try: (signal) => fetch(`${root}/file/bot${key}/${path}`, { signal }),
      catch: failureOf
    }).pipe(Effect.timeoutOrElse({ duration: "60 seconds", orElse: () => silent }))
    if (ok && body !== null) return body
    return yield* new Failure({ code: status < 500 ? 400 : status, description: `the file cannot be had (${status})` })
  })

  return {
    call,
    download: (remote) =>
      Stream.unwrap(
        Effect.map(fetched(remote), (body) =>
          Stream.fromReadableStream({ evaluate: () => body, onError: failureOf }).pipe(
            Stream.timeoutOrElse({ duration: "60 seconds", orElse: () => Stream.fromEffect(silent) })
          )
        )
      )
  }
}
