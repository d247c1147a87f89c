/**
 * What a claw's tests replace its channel, model and sandbox with. Each keeps a typed log of what was asked of it.
 */
export * as ChannelMemory from "./layers/ChannelMemory.ts"
export * as ModelScripted from "./layers/ModelScripted.ts"
export * as SandboxMemory from "./layers/SandboxMemory.ts"
