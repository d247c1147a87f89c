/**
 * A channel of your own: a mailbox of files. One in `inbox/` is a message, its answer appears in `outbox/`.
 *
 * A message's id is its file's name, so a file read again after a crash is not answered again. Acknowledged, it is
 * removed, and that is when the claw has it on disk. An answer's file is named after the answer's id, so sending it again
 * changes nothing: this channel deduplicates.
 */
import { Agent, Bind, Channel, Claw, Message } from "effect-claw"
import * as ModelOffline from "effect-claw/layers/ModelOffline"
import * as SandboxVirtual from "effect-claw/layers/SandboxVirtual"
import { ShellTools } from "effect-claw/layers/ShellTools"
import * as Local from "effect-claw/programs/Local"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"

const [inbox, outbox] = [".state/mailbox/inbox", ".state/mailbox/outbox"]
const name = Message.ChannelName.make("mailbox")
const owner = Message.SenderId.make("me")

const read = (file: string): Channel.InboundDelivery => ({
  message: {
    channel: name,
    chat: Message.ChatId.make("letters"),
    id: Message.MessageId.make(file),
    sender: owner,
    content: Message.text(readFileSync(`${inbox}/${file}`, "utf8")),
    direct: true,
    at: Date.now()
  },
  ack: Effect.sync(() => rmSync(`${inbox}/${file}`))
})

const mailbox = Layer.effectDiscard(
  Channel.Channels.use(({ register }) =>
    register({
      name,
      owner,
      capabilities: { textLimit: undefined, deduplicates: true },
      // A channel that lives on would watch the folder. This one closes when all is read.
      inbound: Stream.fromIterable(readdirSync(inbox)).pipe(Stream.map(read)),
      send: (_chat, { id, text }) => Effect.sync(() => writeFileSync(`${outbox}/${id}.txt`, text))
    })
  )
)

for (const folder of [inbox, outbox]) mkdirSync(folder, { recursive: true })
writeFileSync(`${inbox}/${Date.now()}.txt`, "run: echo the stars are out | tr a-z A-Z")

const scribe = Agent.make("scribe", { instructions: "You answer letters.", toolkits: [ShellTools] })
const claw = Claw.layer({ agents: [scribe], bindings: [Bind.everywhere(scribe)] }).pipe(
  Layer.provide([mailbox, SandboxVirtual.layer, ModelOffline.layer]),
  Layer.provide(Local.layer({ directory: ".state/custom-channel" }))
)

await Effect.runPromise(Claw.launch(claw))
for (const file of readdirSync(outbox)) process.stdout.write(`${file}: ${readFileSync(`${outbox}/${file}`, "utf8")}\n`)
