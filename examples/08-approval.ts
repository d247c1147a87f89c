/**
 * A tool that needs a person's approval: the agent asks, with the exact arguments, and does nothing until it is answered.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Agent, Bind, Claw } from "effect-claw"
import * as ChannelTerminal from "effect-claw/layers/ChannelTerminal"
import * as Local from "effect-claw/programs/Local"
import { ModelScripted } from "effect-claw/testing"
import * as Tool from "effect/ai/Tool"
import * as Toolkit from "effect/ai/Toolkit"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { Readable } from "node:stream"

// Small change goes by itself; what is more is asked for.
const Pay = Tool.make("pay", {
  description: "Pay someone.",
  parameters: Schema.Struct({ to: Schema.String, euros: Schema.Finite }),
  success: Schema.String,
  needsApproval: ({ euros }) => euros > 10
})

const PayTools = Agent.withHandlers(Toolkit.make(Pay), {
  pay: ({ euros, to }) => Effect.succeed(`paid ${euros} euros to ${to}`)
})

const treasurer = Agent.make("treasurer", { instructions: "You pay bills.", toolkits: [PayTools] })

// A model that plays a part, so that this runs without a key.
const model = ModelScripted.layer([
  ModelScripted.call("pay", { to: "the baker", euros: 4 }),
  ModelScripted.text("The baker has his money."),
  ModelScripted.call("pay", { to: "the plumber", euros: 180 }),
  ModelScripted.text("The plumber has his money."),
  ModelScripted.call("pay", { to: "a prince", euros: 9000 }),
  ModelScripted.text("Then I leave the prince alone.")
])

// With a code where several wait: /approve k7fq.
const said = ["Pay the baker.", "Pay the plumber.", "/approve", "A prince has written. Pay him.", "/deny"]

const claw = Claw.layer({ agents: [treasurer], bindings: [Bind.everywhere(treasurer)] }).pipe(
  Layer.provide(model),
  Layer.provide(ChannelTerminal.layer({ input: Readable.from(said.map((line) => `${line}\n`)) })),
  Layer.provide(Local.layer({ directory: ".state/approval" }))
)

Claw.launch(claw).pipe(NodeRuntime.runMain)
