/**
 * The audit: a record of what was asked of the claw's borders and whether it was granted. It has no bodies and no secrets.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { AgentName, ConversationId, Sender } from "./Message.ts"

/** A request through the egress proxy. */
export interface Request {
  readonly _tag: "Request"
  readonly agent: AgentName
  readonly conversation: ConversationId
  /** `GET`, or `CONNECT` for a tunnel. */
  readonly method: string
  /** `https://host:port`, and the path where it was read, without its query. */
  readonly target: string
  /** Why it was refused, or cut; `undefined` when it was granted. */
  readonly refusal: string | undefined
  /** Bytes of bodies, or of a tunnel. */
  readonly sent: number
  readonly received: number
}

/** A message that the gate did not admit. */
export interface Stranger {
  readonly _tag: "Stranger"
  readonly conversation: ConversationId
  readonly sender: Sender
  readonly refusal: string
}

export type AuditEntry = Request | Stranger

/** Takes what is to be recorded; never fails. Without a layer it goes to the log. */
export const Audit = Context.Reference<(entry: AuditEntry) => Effect.Effect<void>>("effect-claw/services/Audit", {
  defaultValue: () => (entry) => {
    const { conversation, refusal } = entry
    if (entry._tag === "Stranger") {
      const said = `a message of ${entry.sender} was ignored: ${refusal}`
      return Effect.annotateLogs(Effect.logDebug(said), { conversation })
    }
    const { agent, method, received, sent, target } = entry
    const said = `egress: ${method} ${target} ${refusal === undefined ? "granted" : `refused: ${refusal}`}`
    return Effect.annotateLogs(Effect.logInfo(said), { agent, conversation, sent, received })
  }
})
