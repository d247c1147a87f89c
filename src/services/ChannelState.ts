/**
 * What a channel must know again after a restart: the keys of a login, how far it has read.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { ChannelName } from "./Message.ts"
import { StoreFailed } from "./StoreFailed.ts"

/** The state could not be read or written, for `reason`. */
export class ChannelStateError extends Schema.TaggedError<ChannelStateError>()("ChannelStateError", {
  reason: Schema.Union([StoreFailed])
}) {
  override get message(): string {
    return `channel state: ${this.reason.detail}`
  }
}

/** Texts by key, of each channel its own. */
export class ChannelState extends Context.Service<
  ChannelState,
  {
    /** The texts of those keys that have one. */
    readonly get: (
      channel: ChannelName,
      keys: ReadonlyArray<string>
    ) => Effect.Effect<ReadonlyMap<string, string>, ChannelStateError>
    /** Sets texts, removes the keys whose text is `undefined`: all of it durably, or none. */
    readonly set: (
      channel: ChannelName,
      texts: ReadonlyMap<string, string | undefined>
    ) => Effect.Effect<void, ChannelStateError>
    /** Removes everything of a channel whose key begins so. */
    readonly clear: (channel: ChannelName, prefix: string) => Effect.Effect<void, ChannelStateError>
  }
>()("effect-claw/services/ChannelState") {}
