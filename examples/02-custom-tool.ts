/**
 * A tool of your own: its parameters are a schema, its code is an effect, and what the code needs is a service that the
 * claw asks for. Leave `Timetable.layer` out, and this file does not compile.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Agent, Bind, Claw } from "effect-claw"
import * as ChannelTerminal from "effect-claw/layers/ChannelTerminal"
import * as Local from "effect-claw/programs/Local"
import { ModelScripted } from "effect-claw/testing"
import * as Tool from "effect/ai/Tool"
import * as Toolkit from "effect/ai/Toolkit"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { Readable } from "node:stream"

class Timetable extends Context.Service<Timetable, { readonly departures: (stop: string) => Effect.Effect<string> }>()(
  "effect-claw/examples/02-custom-tool/Timetable"
) {
  static readonly layer = Layer.succeed(Timetable, {
    departures: (stop) => Effect.succeed(stop === "Harbour" ? "08:12, 08:27" : "")
  })
}

// Readonly: after a crash the call may be made again.
const NextBus = Tool.make("next_bus", {
  description: "When the next buses leave a stop.",
  parameters: Schema.Struct({ stop: Schema.String }),
  success: Schema.String,
  failure: Schema.String
}).annotate(Tool.Readonly, true)

const BusTools = Agent.withHandlers(
  Toolkit.make(NextBus),
  Effect.map(Timetable, ({ departures }) => ({
    next_bus: Effect.fnUntraced(function* ({ stop }) {
      const times = yield* departures(stop)
      return times === "" ? yield* Effect.fail(`no bus stops at "${stop}"`) : times
    })
  }))
)

const commuter = Agent.make("commuter", { instructions: "You know the buses.", toolkits: [BusTools] })

// A model that plays a part, so that this runs without a key: it misspells the stop, is told so, and asks again.
const model = ModelScripted.layer(({ prompt }) => {
  const last = JSON.stringify(prompt.content.at(-1))
  if (last.includes("08:12")) return ModelScripted.text("I asked twice. The next ones leave at 08:12 and 08:27.")
  return ModelScripted.call("next_bus", { stop: last.includes("no bus") ? "Harbour" : "Harbor" })
})

const claw = Claw.layer({ agents: [commuter], bindings: [Bind.everywhere(commuter)] }).pipe(
  Layer.provide([Timetable.layer, model]),
  Layer.provide(ChannelTerminal.layer({ input: Readable.from(["When is the next bus from the harbour?\n"]) })),
  Layer.provide(Local.layer({ directory: ".state/custom-tool" }))
)

Claw.launch(claw).pipe(NodeRuntime.runMain)
