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

/** Finds and makes workspace folders. */
export class Workspaces extends Context.Service<
  Workspaces,
  {
    /** The host folder of an agent in a conversation; made when it is not there. */
    readonly folder: (agent: AgentName, conversation: ConversationId) => Effect.Effect<string, WorkspaceError>
  }
>()("effect-claw/services/Workspaces") {}
