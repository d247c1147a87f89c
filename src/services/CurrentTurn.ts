/**
 * What a tool may know of the turn it is called in.
 *
 * Declare it as a tool's dependency (`Tool.make(name, { dependencies: [CurrentTurn] })`) and `yield*` it. Who asks, and in
 * which conversation, comes from here and never from what a model wrote.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { AgentName, ConversationId, Extra, MessageId, Sender } from "./Message.ts"
import type { Rights } from "./Rights.ts"
import type { TurnId } from "./Turn.ts"

/**
 * The turn that a tool call belongs to.
 *
 * @effect-leakable-service
 */
export class CurrentTurn extends Context.Service<
  CurrentTurn,
  {
    readonly conversation: ConversationId
    readonly turn: TurnId
    readonly agent: AgentName
    /** The person the turn acts for: who wrote, or had the task or the brief made. */
    readonly sender: Sender | undefined
    /** The message that the turn answers, if it is a person's. */
    readonly message: MessageId | undefined
    readonly rights: Rights
    /** The specialists the agent may delegate to. */
    readonly team: ReadonlyArray<AgentName>
    /** 0 for a person's conversation, 1 for an agent working for it, and so on. */
    readonly depth: number
    /** The model step that made the tool call. */
    readonly step: number
    /** The id of the tool call, unique in its step. */
    readonly call: string
    /** Says something in the chat, once the call has ended; a call that fails says nothing. There is no chat at a depth above 0. */
    readonly send: (text: string, extra?: Extra) => Effect.Effect<void>
  }
>()("effect-claw/services/CurrentTurn") {}
