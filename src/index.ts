/**
 * effect-claw: claws, personal AI agents for messaging apps, composed from typed Effect services.
 *
 * The services and `Claw` are here. Layers, and the programs that are assembled from them, are imported by their own
 * paths (`effect-claw/layers/SandboxDocker`), so that what is not used is not loaded.
 */
export * as Claw from "./programs/Claw.ts"
export * as Agent from "./services/Agent.ts"
export * as AgentRuntime from "./services/AgentRuntime.ts"
export * as Bind from "./services/Bind.ts"
export * as Budget from "./services/Budget.ts"
export * as Channel from "./services/Channel.ts"
export * as Conversations from "./services/Conversations.ts"
export * as CurrentTurn from "./services/CurrentTurn.ts"
export * as Gate from "./services/Gate.ts"
export * as HomeZone from "./services/HomeZone.ts"
export * as Journal from "./services/Journal.ts"
export * as Ledger from "./services/Ledger.ts"
export * as Memory from "./services/Memory.ts"
export * as Message from "./services/Message.ts"
export * as ModelInfo from "./services/ModelInfo.ts"
export * as Outbox from "./services/Outbox.ts"
export * as PromptBorder from "./services/PromptBorder.ts"
export * as Rights from "./services/Rights.ts"
export * as Sandbox from "./services/Sandbox.ts"
export * as Sandboxes from "./services/Sandboxes.ts"
export * as Scheduler from "./services/Scheduler.ts"
export * as StoreFailed from "./services/StoreFailed.ts"
export * as Swarm from "./services/Swarm.ts"
export * as ToolGuard from "./services/ToolGuard.ts"
export * as Transcript from "./services/Transcript.ts"
export * as Turn from "./services/Turn.ts"
export * as When from "./services/When.ts"
export * as Workspaces from "./services/Workspaces.ts"
