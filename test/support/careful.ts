/**
 * A claw at the terminal whose commands need a person's approval. A rule-following stand-in answers.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Agent, Bind, Claw } from "effect-claw"
import * as ChannelTerminal from "effect-claw/layers/ChannelTerminal"
import * as ModelOffline from "effect-claw/layers/ModelOffline"
import * as SandboxVirtual from "effect-claw/layers/SandboxVirtual"
import { ShellTools } from "effect-claw/layers/ShellTools"
import * as Local from "effect-claw/programs/Local"
import * as Layer from "effect/Layer"

const careful = Agent.make("careful", { instructions: "", toolkits: [ShellTools], needsApproval: ["bash"] })

const claw = Claw.layer({ agents: [careful], bindings: [Bind.everywhere(careful)] }).pipe(
  Layer.provide([SandboxVirtual.layer, ModelOffline.layer]),
  Layer.provide(ChannelTerminal.layer({ greeting: "ready" })),
  Layer.provide(Local.layer({ directory: process.env["CLAW_HOME"] ?? "" }))
)

Claw.launch(claw).pipe(NodeRuntime.runMain)
