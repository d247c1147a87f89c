/**
 * A team: a planner that has two specialists with different rights work on a question from the command line.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Readable } from "node:stream"
import * as ChannelTerminal from "../layers/ChannelTerminal.ts"
import * as SandboxAuto from "../layers/SandboxAuto.ts"
import { SwarmTools } from "../layers/SwarmTools.ts"
import * as Agent from "../services/Agent.ts"
import * as Bind from "../services/Bind.ts"
import { coder, home, model, researcher } from "./assistant.ts"
import * as Claw from "./Claw.ts"
import * as Local from "./Local.ts"

const planner = Agent.make("planner", {
  instructions:
    "You plan. Split the question into briefs for your specialists, give them out at once where they do not " +
    "depend on each other, and answer from their reports.",
  toolkits: [SwarmTools],
  team: [researcher, coder],
  budget: { perTurn: "1000000 tokens" }
})

/** Answers one question, on stdout. */
export const program = (question: string) =>
  Effect.gen(function* () {
    const { isStandIn, layer, notice } = yield* model
    const terminal = ChannelTerminal.layer({
      greeting: isStandIn ? `${notice}\nTry: npm run team -- "ask researcher and coder: list files"` : notice,
      input: Readable.from([question.replace(/\s*\n\s*/g, " ")]),
      // Every question is a conversation of its own.
      chat: `team-${yield* Clock.currentTimeMillis}`
    })
    const claw = Claw.layer({ agents: [planner], bindings: [Bind.everywhere(planner)] }).pipe(
      Layer.provide(SandboxAuto.layer()),
      Layer.provide(layer),
      Layer.provide(terminal),
      Layer.provide(Local.layer({ directory: yield* home }))
    )
    yield* Claw.launch(claw)
  })
