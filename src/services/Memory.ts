/**
 * Memory: what a claw keeps across turns and days.
 *
 * Every memory belongs to one scope. A turn sees the scopes it is in and no others; which these are is decided by the
 * turn, in the store's query, never by what a model asks for.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { AgentName, ConversationId, Sender } from "./Message.ts"
import { StoreFailed } from "./StoreFailed.ts"

/** Whose memory it is: of all agents, of one, of one conversation, of one person. */
export const MemoryScope = Schema.TaggedUnion({
  Claw: {},
  Agent: { agent: AgentName },
  Conversation: { conversation: ConversationId },
  Sender: { sender: Sender }
})
export type MemoryScope = typeof MemoryScope.Type

/** Something remembered. `at` is in epoch milliseconds. */
export interface MemoryEntry {
  readonly id: number
  readonly scope: MemoryScope
  readonly text: string
  readonly at: number
}

/** The text is empty or longer than 8,192 characters. */
export class MemoryInvalid extends Schema.TaggedError<MemoryInvalid>()("MemoryInvalid", { detail: Schema.String }) {}

/** Memory could not be read or written, for `reason`. */
export class MemoryError extends Schema.TaggedError<MemoryError>()("MemoryError", {
  reason: Schema.Union([MemoryInvalid, StoreFailed])
}) {
  override get message(): string {
    return `memory: ${this.reason.detail}`
  }
}

/** What is kept. `scopes` are always the ones that the caller may see. */
export class Memory extends Context.Service<
  Memory,
  {
    /** Keeps a text. The same text in the same scope is kept once. */
    readonly remember: (scope: MemoryScope, text: string) => Effect.Effect<MemoryEntry, MemoryError>
    /** The best matches for a query in plain words, best first. Any text is a valid query. */
    readonly recall: (
      scopes: ReadonlyArray<MemoryScope>,
      query: string,
      limit?: number
    ) => Effect.Effect<ReadonlyArray<MemoryEntry>, MemoryError>
    /** Removes a memory. `false`: there is none of this id in these scopes. */
    readonly forget: (scopes: ReadonlyArray<MemoryScope>, id: number) => Effect.Effect<boolean, MemoryError>
    /** The latest memories, newest first. */
    readonly list: (
      scopes: ReadonlyArray<MemoryScope>,
      limit?: number
    ) => Effect.Effect<ReadonlyArray<MemoryEntry>, MemoryError>
  }
>()("effect-claw/services/Memory") {}
