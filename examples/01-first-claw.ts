/**
 * A first claw: one agent with a shell and a memory, at this terminal.
 *
 * It needs no key: `ModelOffline` follows rules ("help" lists them). Put `ModelAnthropic.layerConfig()` in its place to
 * talk to Claude. Its commands run in a container where Docker answers, and in a virtual shell where not.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Agent, Bind, Claw } from "effect-claw"
import * as ChannelTerminal from "effect-claw/layers/ChannelTerminal"
import { MemoryTools } from "effect-claw/layers/MemoryTools"
import * as ModelOffline from "effect-claw/layers/ModelOffline"
import * as SandboxAuto from "effect-claw/layers/SandboxAuto"
import { ShellTools } from "effect-claw/layers/ShellTools"
import * as Local from "effect-claw/programs/Local"
import * as Layer from "effect/Layer"
import { Readable } from "node:stream"

const andy = Agent.make("andy", { instructions: "You are Andy. Short answers.", toolkits: [ShellTools, MemoryTools] })

// Without a terminal to type at, these lines are asked.
const lines = [
  "write notes.txt: buy oat milk",
  "run: echo ' and bread' >> notes.txt; wc -w < notes.txt",
  "read notes.txt",
  "remember that I take my tea without milk",
  "what do you know about tea?"
]
const input = process.stdin.isTTY ? process.stdin : Readable.from(lines.map((line) => `${line}\n`))

const claw = Claw.layer({ agents: [andy], bindings: [Bind.everywhere(andy)] }).pipe(
  Layer.provide(SandboxAuto.layer()),
  Layer.provide(ModelOffline.layer),
  Layer.provide(ChannelTerminal.layer({ input, greeting: "Andy is here. Try: run: echo hello" })),
  // What was said, remembered and spent; the workspaces of the sandboxes too. Run it twice: it is all still there.
  Layer.provide(Local.layer({ directory: ".state/first-claw" }))
)

Claw.launch(claw).pipe(NodeRuntime.runMain)
