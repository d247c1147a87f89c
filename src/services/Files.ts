/**
 * Files that came with messages or go with replies: kept by the claw, out of every agent's reach, under the digest of what
 * they hold.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import type { FileId } from "./Message.ts"
import { StoreFailed } from "./StoreFailed.ts"

/** It has more bytes than `limit`; none of them are kept. */
export class TooLarge extends Schema.TaggedError<TooLarge>()("TooLarge", { limit: Schema.Int }) {}
/** No such file is kept, or not any more. */
export class Missing extends Schema.TaggedError<Missing>()("Missing", {}) {}

/** A file could not be kept or read, for `reason`. */
export class FilesError extends Schema.TaggedError<FilesError>()("FilesError", {
  reason: Schema.Union([TooLarge, Missing, StoreFailed])
}) {
  override get message(): string {
    switch (this.reason._tag) {
      case "TooLarge":
        return `the file has more than ${this.reason.limit.toLocaleString("en-US")} bytes`
      case "Missing":
        return "the file is not kept any more"
      case "StoreFailed":
        return `files: ${this.reason.detail}`
    }
  }
}

/** A file that is kept. */
export interface Kept {
  readonly id: FileId
  /** Bytes. */
  readonly size: number
  /** What its first bytes say that it is; `undefined` where they are those of no known type, such as text. */
  readonly mediaType: string | undefined
}

/** Keeps files. */
export class Files extends Context.Service<
  Files,
  {
    /** Keeps all bytes of a stream, durably, or nothing. */
    readonly save: <E, R>(
      content: Stream.Stream<Uint8Array, E, R>,
      options: { readonly limit: number }
    ) => Effect.Effect<Kept, FilesError | E, R>
    readonly read: (id: FileId) => Effect.Effect<Uint8Array, FilesError>
    /** The same in pieces. */
    readonly stream: (id: FileId) => Stream.Stream<Uint8Array, FilesError>
  }
>()("effect-claw/services/Files") {}
