/**
 * Workspaces: the folders that outlive sandbox sessions, one per agent and conversation.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import type { AgentName, ConversationId } from "./Message.ts"
import { StoreFailed } from "./StoreFailed.ts"

/** It can be no file's name. */
export class NameInvalid extends Schema.TaggedError<NameInvalid>()("NameInvalid", {}) {}
/** Something else has the name. */
export class NameTaken extends Schema.TaggedError<NameTaken>()("NameTaken", {}) {}

/** The folder takes no file: what works in it may have seen to that. */
export class FolderClosed extends Schema.TaggedError<FolderClosed>()("FolderClosed", { detail: Schema.String }) {}

/** A folder cannot be made or read, or a file not put into it, for `reason`. */
export class WorkspaceError extends Schema.TaggedError<WorkspaceError>()("WorkspaceError", {
  folder: Schema.String,
  reason: Schema.Union([NameInvalid, NameTaken, FolderClosed, StoreFailed])
}) {
  override get message(): string {
    const { reason } = this
    if ("detail" in reason) return `workspace ${this.folder}: ${reason.detail}`
    return `workspace ${this.folder}: the name ${reason._tag === "NameTaken" ? "is taken" : "can be no file's"}`
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
     * Puts a file that came from outside into a workspace, whole or not at all, under the name that it came with, and returns its
     * host path. Fails on a name that is none, or that is taken: by a link, too, whoever put it there and however fast. A file
     * of that name that holds the same is taken for this one: what is put again after a crash is there once.
     */
    readonly place: <E, R>(
      agent: AgentName,
      conversation: ConversationId,
      name: string,
      content: Stream.Stream<Uint8Array, E, R>
    ) => Effect.Effect<string, WorkspaceError | E, R>
  }
>()("effect-claw/services/Workspaces") {}
