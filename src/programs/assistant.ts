/**
 * The assistant: a claw at the terminal, with a shell in a sandbox, a memory, a clock and two specialists.
 *
 * With `ANTHROPIC_API_KEY` it talks with Claude; without, with a stand-in that follows rules. State is in `$CLAW_HOME`.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { homedir } from "node:os"
import { join } from "node:path"
import * as ChannelTerminal from "../layers/ChannelTerminal.ts"
import { MemoryTools } from "../layers/MemoryTools.ts"
import * as ModelAnthropic from "../layers/ModelAnthropic.ts"
import * as ModelOffline from "../layers/ModelOffline.ts"
import * as SandboxAuto from "../layers/SandboxAuto.ts"
import { SchedulerTools } from "../layers/SchedulerTools.ts"
import { ShellTools } from "../layers/ShellTools.ts"
import { SwarmTools } from "../layers/SwarmTools.ts"
import * as Agent from "../services/Agent.ts"
import * as Bind from "../services/Bind.ts"
import * as Claw from "./Claw.ts"
import * as Local from "./Local.ts"

/** Reads files and searches, and changes nothing. */
export const researcher = Agent.make("researcher", {
  description: "finds things out by reading: files, searches, memories; runs no commands",
  instructions: "You find things out by reading and searching. Report what you found, and where.",
  toolkits: [Agent.pick(ShellTools, "read_file", "list_files", "search_files"), MemoryTools]
})

/** Writes and runs code. */
export const coder = Agent.make("coder", {
  description: "writes and runs code in a shell of its own; has no memory",
  instructions: "You write small programs and run them. Report what they printed.",
  toolkits: [ShellTools]
})

const assistant = Agent.make("assistant", {
  instructions: "You are a helpful assistant. Give short answers. Use your tools instead of guessing.",
  toolkits: [ShellTools, MemoryTools, SchedulerTools, SwarmTools],
  team: [researcher, coder],
  budget: { perDay: "5000000 tokens" }
})

/** A variable of the environment; an empty one is none. */
export const set = (name: string) =>
  Effect.map(
    Config.option(Config.String(name)),
    Option.filter((value) => value !== "")
  )

/** The folder that state is in: `$CLAW_HOME`, by default `~/.effect-claw`. */
export const home = set("CLAW_HOME").pipe(Effect.map(Option.getOrElse(() => join(homedir(), ".effect-claw"))))

/** Claude if there is a key, else the stand-in; and what to say about it in one line. */
export const model = Effect.gen(function* () {
  const key = yield* set("ANTHROPIC_API_KEY")
  if (Option.isNone(key)) {
    return {
      layer: ModelOffline.layer,
      notice: "A rule-following stand-in answers, not a language model; set ANTHROPIC_API_KEY to talk to Claude.",
      isStandIn: true
    }
  }
  const name = Option.getOrElse(yield* set("CLAW_MODEL"), () => ModelAnthropic.defaultModel)
  return { layer: ModelAnthropic.layerConfig(name), notice: `This is ${name}.`, isStandIn: false }
})

/** The claw. Runs until the terminal is left, or, with stdin piped, until every line is answered. */
export const program = Effect.gen(function* () {
  const { isStandIn, layer, notice } = yield* model
  const greeting = `${notice}\n${isStandIn ? "Try: run: echo hello · " : ""}/help lists the commands · Ctrl-D leaves`
  const claw = Claw.layer({ agents: [assistant], bindings: [Bind.everywhere(assistant)] }).pipe(
    Layer.provide(SandboxAuto.layer()),
    Layer.provide(layer),
    Layer.provide(ChannelTerminal.layer({ greeting })),
    Layer.provide(Local.layer({ directory: yield* home }))
  )
  yield* Claw.launch(claw)
})
