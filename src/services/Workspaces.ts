/**
 * Workspaces: the folders that outlive sandbox sessions, one per agent and conversation.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { AgentName, ConversationId } from "./Message.ts"

/** A folder cannot be made. */
export class WorkspaceError extends Schema.TaggedError<WorkspaceError>(
  "effect-claw/services/Workspaces/WorkspaceError"
)("WorkspaceError", { folder: Schema.String, detail: Schema.String }) {
  override get message(): string {
    return `workspace ${this.folder}: ${this.detail}`
  }
}

/** Whether a name that somebody outside gave can be that of a file in a folder, and of nothing else. */
export const isFileName = (name: string): boolean =>
  !/[/\\\0]|^\.{0,2}$/.test(name) && name.isWellFormed() && new TextEncoder().encode(name).length <= 255

/** Finds and makes workspace folders. */
export class Workspaces extends Context.Service<
  Workspaces,
  {
    /** Names the claw that they are of: the same for every run on the same state, and no other claw's. */
    readonly claw: Effect.Effect<string, WorkspaceError>
    /** The host folder of an agent in a conversation; made when it is not there. */
    readonly folder: (agent: AgentName, conversation: ConversationId) => Effect.Effect<string, WorkspaceError>
    /**
     * Bytes on the disk that a folder holds, 4 KiB for each file at least; no link is followed. Above `limit` it is not counted
     * further. Fails when a part of it cannot be read.
     */
    readonly size: (folder: string, limit: number) => Effect.Effect<number, WorkspaceError>
    /**
     * Puts a file that came from outside into a workspace, under the name that it came with, and returns its host path. Fails on
     * a name that is none, or that is taken: by a link, too, whoever put it there and however fast.
     */
    readonly place: (
      agent: AgentName,
      conversation: ConversationId,
      name: string,
      content: Uint8Array
    ) => Effect.Effect<string, WorkspaceError>
  }
>()("effect-claw/services/Workspaces") {}
