/** A claw on WhatsApp, for its owner and its owner's groups: `node whatsappClaw.ts FOLDER URL PHONE`. It prints what its phone is to scan. */
import { Agent, Bind, Claw } from "effect-claw"
import * as ChannelWhatsApp from "effect-claw/layers/ChannelWhatsApp"
import * as ModelOffline from "effect-claw/layers/ModelOffline"
import * as SandboxVirtual from "effect-claw/layers/SandboxVirtual"
import { ShellTools } from "effect-claw/layers/ShellTools"
import * as Local from "effect-claw/programs/Local"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

const [directory = "", websocketUrl = "", owner = ""] = process.argv.slice(2)
const andy = Agent.make("andy", { instructions: "You are Andy.", toolkits: [ShellTools] })

const whatsapp = ChannelWhatsApp.layer({
  login: "qr",
  websocketUrl,
  owner,
  onLogin: (event) =>
    Effect.sync(() => void process.stdout.write(event._tag === "Qr" ? `scan ${event.text}\n` : `${event._tag}\n`))
})

const claw = Claw.layer({ agents: [andy], bindings: [Bind.everywhere(andy, { groups: true })] }).pipe(
  Layer.provide(whatsapp),
  Layer.provide(SandboxVirtual.layer),
  Layer.provide(ModelOffline.layer),
  Layer.provide(Local.layer({ directory }))
)

Claw.launch(claw).pipe(NodeRuntime.runMain)
