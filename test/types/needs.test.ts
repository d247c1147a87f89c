/**
 * What a claw needs, the compiler asks for: each program here compiles, or is told by name what it lacks.
 */
import { assert, beforeAll, describe, it } from "@effect/vitest"
import { compile } from "./compile.ts"

const imports = `
import { Agent, Bind, Claw } from "effect-claw"
import type { AgentRuntime, Budget, Memory, Sandbox, Scheduler, Swarm, Workspaces } from "effect-claw"
import * as ChannelTerminal from "effect-claw/layers/ChannelTerminal"
import { MemoryTools } from "effect-claw/layers/MemoryTools"
import * as ModelOffline from "effect-claw/layers/ModelOffline"
import * as SandboxVirtual from "effect-claw/layers/SandboxVirtual"
import { SchedulerTools } from "effect-claw/layers/SchedulerTools"
import { ShellTools } from "effect-claw/layers/ShellTools"
import { SwarmTools } from "effect-claw/layers/SwarmTools"
import * as Local from "effect-claw/programs/Local"
import type * as LanguageModel from "effect/ai/LanguageModel"
import * as Tool from "effect/ai/Tool"
import * as Toolkit from "effect/ai/Toolkit"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"

/** Holds when both types are the same, in both directions. */
type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : { missing: Exclude<B, A> }) : { extra: Exclude<A, B> }
const same = <A, B>(_: Same<A, B>) => {}
type Tools<T> = T extends Effect.Effect<Toolkit.WithHandler<infer Tools>, never, infer _R> ? keyof Tools : "no toolkit"

/** What every bundled claw starts with; a program adds its layers and runs it. */
const clawOf = <const A extends Agent.Any>(agent: A) => Claw.layer({ agents: [agent], bindings: [Bind.everywhere(agent)] })
const run = <E>(claw: Layer.Layer<Claw.Claw, E>) => Effect.runPromise(Claw.launch(claw))
`

const clock = `
class Clockwork extends Context.Service<Clockwork, { readonly hours: number }>()("test/Clockwork") {}
const Strike = Tool.make("strike", { description: "Strike the hour.", success: Schema.String })
const ClockTools = Agent.withHandlers(
  Toolkit.make(Strike),
  Effect.map(Clockwork, ({ hours }) => ({ strike: () => Effect.succeed("ding".repeat(hours)) }))
)
`

/** Programs that compile. */
const right = {
  "an agent without tools needs a model, and no sandbox": `
    const agent = Agent.make("a", { instructions: "" })
    same<Agent.Services<typeof agent>, LanguageModel.LanguageModel>(true)
    run(clawOf(agent).pipe(
      Layer.provide([ModelOffline.layer, ChannelTerminal.layer()]),
      Layer.provide(Local.layer({ directory: "state" }))
    ))`,
  "shell tools need a sandbox": `
    const agent = Agent.make("a", { instructions: "", toolkits: [ShellTools] })
    same<Agent.Services<typeof agent>, LanguageModel.LanguageModel | Sandbox.Sandbox>(true)
    run(clawOf(agent).pipe(
      Layer.provide([SandboxVirtual.layer, ModelOffline.layer, ChannelTerminal.layer()]),
      Layer.provide(Local.layer({ directory: "state" }))
    ))`,
  "memory, scheduler and swarm tools need what they work on": `
    const agent = Agent.make("a", { instructions: "", toolkits: [MemoryTools, SchedulerTools, SwarmTools] })
    same<Agent.Services<typeof agent>, LanguageModel.LanguageModel | Memory.Memory | Scheduler.Scheduler | Swarm.Swarm>(true)`,
  "what a team member needs, its leader needs, however deep": `
    const coder = Agent.make("coder", { instructions: "", toolkits: [ShellTools] })
    const lead = Agent.make("lead", { instructions: "", team: [coder] })
    const boss = Agent.make("boss", { instructions: "", toolkits: [MemoryTools], team: [lead] })
    same<Agent.Services<typeof lead>, LanguageModel.LanguageModel | Sandbox.Sandbox>(true)
    same<Agent.Services<typeof boss>, LanguageModel.LanguageModel | Sandbox.Sandbox | Memory.Memory>(true)`,
  "an agent with a model of its own needs no other": `
    const agent = Agent.make("a", { instructions: "", model: ModelOffline.layer })
    same<Agent.Services<typeof agent>, never>(true)`,
  "a tool's own service is asked for, and CurrentTurn is not": `
    ${clock}
    const agent = Agent.make("a", { instructions: "", toolkits: [ClockTools, ShellTools] })
    same<Agent.Services<typeof agent>, LanguageModel.LanguageModel | Sandbox.Sandbox | Clockwork>(true)`,
  "a claw is satisfied by a layer of that service": `
    ${clock}
    run(clawOf(Agent.make("a", { instructions: "", toolkits: [ClockTools] })).pipe(
      Layer.provide([Layer.succeed(Clockwork, { hours: 3 }), ModelOffline.layer, ChannelTerminal.layer()]),
      Layer.provide(Local.layer({ directory: "state" }))
    ))`,
  "withHandlers keeps the tools' types": `
    ${clock}
    same<Tools<typeof ClockTools>, "strike">(true)
    same<Effect.Services<typeof ClockTools>, Clockwork>(true)`,
  "pick keeps what it picks and what that needs": `
    const some = Agent.pick(ShellTools, "read_file", "list_files")
    same<Tools<typeof some>, "read_file" | "list_files">(true)
    const agent = Agent.make("a", { instructions: "", toolkits: [some] })
    same<Agent.Services<typeof agent>, LanguageModel.LanguageModel | Sandbox.Sandbox>(true)`
} as const

/** How the compiler says that a layer is missing. */
const missing = (service: string) => `Type '${service}' is not assignable to type 'never'`

/** Programs that do not, and what the error says. */
const wrong: Readonly<Record<string, readonly [program: string, ...names: ReadonlyArray<string>]>> = {
  "shell tools without a sandbox": [
    `run(clawOf(Agent.make("a", { instructions: "", toolkits: [ShellTools] })).pipe(
      Layer.provide([ModelOffline.layer, ChannelTerminal.layer()]),
      Layer.provide(Local.layer({ directory: "state" }))
    ))`,
    missing("Sandbox")
  ],
  "memory tools without a memory": [
    `const agent = Agent.make("a", { instructions: "", toolkits: [MemoryTools] })
    same<Agent.Services<typeof agent>, LanguageModel.LanguageModel>(true)`,
    "Memory"
  ],
  "a team member's sandbox is missing": [
    `const coder = Agent.make("coder", { instructions: "", toolkits: [ShellTools] })
    run(clawOf(Agent.make("lead", { instructions: "", toolkits: [SwarmTools], team: [coder] })).pipe(
      Layer.provide([ModelOffline.layer, ChannelTerminal.layer()]),
      Layer.provide(Local.layer({ directory: "state" }))
    ))`,
    missing("Sandbox")
  ],
  "a tool's own service is missing": [
    `${clock}
    run(clawOf(Agent.make("a", { instructions: "", toolkits: [ClockTools] })).pipe(
      Layer.provide([ModelOffline.layer, ChannelTerminal.layer()]),
      Layer.provide(Local.layer({ directory: "state" }))
    ))`,
    missing("Clockwork")
  ],
  "no model": [
    `run(clawOf(Agent.make("a", { instructions: "" })).pipe(
      Layer.provide(ChannelTerminal.layer()),
      Layer.provide(Local.layer({ directory: "state" }))
    ))`,
    missing("LanguageModel")
  ],
  "no platform": [
    `run(clawOf(Agent.make("a", { instructions: "", model: ModelOffline.layer })))`,
    missing("ChannelState"),
    "Missing 'ChannelState | Channels | Conversations | Files | Journal | Ledger | Workspaces'",
    "Layer<Claw, AgentError | ConfigError | JournalError | TimeZoneInvalid, Platform>"
  ],
  "picking a tool that is not there": [`Agent.pick(ShellTools, "launch_rocket")`, "launch_rocket"],
  "a tool's code is missing": [
    `${clock}
    Agent.withHandlers(Toolkit.make(Strike), {})`,
    "strike"
  ],
  "a misspelt option": [
    `Agent.make("a", { instructions: "", toolkit: [ShellTools] })`,
    "toolkit is no option of an agent"
  ],
  "a budget in no currency": [`Agent.make("a", { instructions: "", budget: { perDay: "2 doubloons" } })`, "2 doubloons"]
}

let found: ReadonlyMap<string, string>
const name = (kind: string, index: number) => `${kind}-${index}`

beforeAll(async () => {
  const sources = [
    ...Object.values(right).map((program, index) => [name("right", index), program] as const),
    ...Object.values(wrong).map(([program], index) => [name("wrong", index), program] as const)
  ]
  found = await compile(Object.fromEntries(sources.map(([file, program]) => [file, imports + program])))
})

describe("compiles", () => {
  Object.keys(right).forEach((title, index) =>
    it(title, () => assert.strictEqual(found.get(name("right", index)) ?? "", ""))
  )
})

describe("does not compile", () => {
  Object.entries(wrong).forEach(([title, [, ...names]], index) =>
    it(title, () => {
      const errors = found.get(name("wrong", index)) ?? ""
      for (const named of names) assert.include(errors, named)
    })
  )
})
