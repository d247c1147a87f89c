/**
 * A team: a lead that gives work to two specialists at once, each in a sandbox of its own and with rights of its own.
 *
 * What a specialist may do is what its definition says, and never more than what its lead may pass on. The reader has no
 * `bash`; told to run a command, it is refused, whatever its model tries.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Agent, Bind, Claw } from "effect-claw"
import * as ChannelTerminal from "effect-claw/layers/ChannelTerminal"
import * as ModelOffline from "effect-claw/layers/ModelOffline"
import * as SandboxAuto from "effect-claw/layers/SandboxAuto"
import { ShellTools } from "effect-claw/layers/ShellTools"
import { SwarmTools } from "effect-claw/layers/SwarmTools"
import * as Local from "effect-claw/programs/Local"
import * as Layer from "effect/Layer"
import { Readable } from "node:stream"

const reader = Agent.make("reader", {
  description: "reads files",
  instructions: "You read and search files, and report.",
  toolkits: [Agent.pick(ShellTools, "read_file", "list_files", "search_files")]
})

const coder = Agent.make("coder", {
  description: "writes and runs code",
  instructions: "You write small programs, run them, and report.",
  toolkits: [ShellTools],
  sandbox: { memory: "256 MiB", cpus: 1 }
})

const lead = Agent.make("lead", {
  instructions: "You give work to your team.",
  toolkits: [SwarmTools],
  team: [reader, coder],
  budget: { perTurn: "200000 tokens" }
})

// The team's work goes on in conversations of its own; only the lead answers here.
const input = Readable.from(["ask reader and coder: run: echo I computed $((6 * 7))\n"])

const claw = Claw.layer({ agents: [lead], bindings: [Bind.everywhere(lead)] }).pipe(
  Layer.provide(SandboxAuto.layer()),
  Layer.provide(ModelOffline.layer),
  Layer.provide(ChannelTerminal.layer({ input })),
  Layer.provide(Local.layer({ directory: ".state/team" }))
)

Claw.launch(claw).pipe(NodeRuntime.runMain)
