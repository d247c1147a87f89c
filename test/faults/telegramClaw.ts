/** A claw on Telegram, to be killed: `node telegramClaw.ts FOLDER [PERSON …]`, with the bot in the environment. */
import { Agent, Bind, Claw } from "effect-claw"
import * as ChannelTelegram from "effect-claw/layers/ChannelTelegram"
import * as ModelOffline from "effect-claw/layers/ModelOffline"
import * as SandboxVirtual from "effect-claw/layers/SandboxVirtual"
import { ShellTools } from "effect-claw/layers/ShellTools"
import * as Local from "effect-claw/programs/Local"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Layer from "effect/Layer"

const [directory = "", ...people] = process.argv.slice(2)
const andy = Agent.make("andy", { instructions: "You are Andy.", toolkits: [ShellTools] })

const claw = Claw.layer({
  agents: [andy],
  bindings: [Bind.everywhere(andy)],
  admitted: people.map((sender) => ({ channel: "telegram", sender }))
}).pipe(
  Layer.provide(ChannelTelegram.layerConfig()),
  Layer.provide(SandboxVirtual.layer),
  Layer.provide(ModelOffline.layer),
  Layer.provide(Local.layer({ directory }))
)

Claw.launch(claw).pipe(NodeRuntime.runMain)
