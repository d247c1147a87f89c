/**
 * A personal claw: on WhatsApp, on Telegram, or on both, with Claude, a shell in the strongest sandbox there is, a memory, a
 * clock and two specialists. The first start leads through the login, and makes whoever sends the code of the log the owner.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { ChatTools } from "../layers/ChatTools.ts"
import { MemoryTools } from "../layers/MemoryTools.ts"
import * as SandboxAuto from "../layers/SandboxAuto.ts"
import { SchedulerTools } from "../layers/SchedulerTools.ts"
import { ShellTools } from "../layers/ShellTools.ts"
import { SwarmTools } from "../layers/SwarmTools.ts"
import * as Agent from "../services/Agent.ts"
import * as Bind from "../services/Bind.ts"
import { coder, home, model, researcher, set } from "./assistant.ts"
import * as Claw from "./Claw.ts"
import * as Local from "./Local.ts"

const agent = Agent.make("claw", {
  instructions:
    "You are a personal assistant in a messenger. Give short answers. Use your tools instead of guessing. Files that people " +
    "send are in /workspace; send what you make with send_file. Ask before anything that costs money or cannot be undone.",
  toolkits: [ShellTools, MemoryTools, SchedulerTools, SwarmTools, ChatTools],
  team: [researcher, coder],
  budget: { perDay: "5000000 tokens" }
})

/** A channel's layer, if the packages that it is made of are installed. */
const installed = <A>(packages: string, load: () => Promise<A>) =>
  Effect.tryPromise({
    try: load,
    catch: (cause) => ({ message: `a package is missing: npm install ${packages} (${String(cause)})` })
  })

const telegram = Effect.gen(function* () {
  if (Option.isNone(yield* set("TELEGRAM_BOT_TOKEN"))) return []
  const { layerConfig } = yield* installed("grammy marked", () => import("../layers/ChannelTelegram.ts"))
  return [layerConfig()]
})

const whatsapp = Effect.gen(function* () {
  if (!(yield* Config.withDefault(Config.Boolean("WHATSAPP_ENABLED"), false))) return []
  const owner = yield* set("WHATSAPP_OWNER")
  const websocketUrl = yield* set("WHATSAPP_WEBSOCKET_URL")
  const { layer } = yield* installed(
    "@whiskeysockets/baileys@7.0.0-rc14 uqr",
    () => import("../layers/ChannelWhatsApp.ts")
  )
  return [
    layer({
      login: "qr",
      // Without another number, the account is the owner's own, who talks with the claw in the chat with itself.
      ...(Option.isNone(owner) ? { selfChat: true } : { owner: owner.value }),
      ...(Option.isNone(websocketUrl) ? {} : { websocketUrl: websocketUrl.value })
    })
  ]
})

/** The claw. Runs until it is interrupted, or every channel has failed for good. */
export const program = Effect.gen(function* () {
  const [first, ...others] = [...(yield* telegram), ...(yield* whatsapp)]
  if (first === undefined) {
    return yield* Effect.fail({
      message: "there is no channel: set TELEGRAM_BOT_TOKEN, or WHATSAPP_ENABLED=true, or both; see docs/channels.md"
    })
  }
  const { layer, notice } = yield* model
  yield* Effect.logInfo(notice)
  const claw = Claw.layer({ agents: [agent], bindings: [Bind.everywhere(agent)], pairing: {} }).pipe(
    Layer.provide(Layer.mergeAll(first, ...others)),
    Layer.provide(SandboxAuto.layer()),
    Layer.provide(layer),
    Layer.provide(Local.layer({ directory: yield* home }))
  )
  yield* Claw.launch(claw)
})
