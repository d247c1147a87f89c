/**
 * A message's way in and out, with the real SDK over a real socket: from its acknowledgement to the request at the
 * model's server, and from the server's last byte to the reply handed to the channel.
 */
import { Agent, Bind, Claw } from "effect-claw"
import * as ModelAnthropic from "effect-claw/layers/ModelAnthropic"
import * as Local from "effect-claw/programs/Local"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { createServer } from "node:http"
import { join } from "node:path"
import * as BenchChannel from "./channel.ts"
import { listen, median, millis, type Row, withFolder } from "./support.ts"

const usage = { input_tokens: 10, output_tokens: 2 }
const events = [
  {
    type: "message_start",
    message: { id: "m", type: "message", role: "assistant", model: "bench", content: [], usage }
  },
  { type: "content_block_start", index: 0, content_block: { type: "text", text: "" } },
  { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "hello" } },
  { type: "content_block_stop", index: 0 },
  { type: "message_delta", delta: { stop_reason: "end_turn" }, usage },
  { type: "message_stop" }
]
const answer = events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join("")

/** A server that answers at once, and keeps when it was asked and when it had answered. */
const serve = async () => {
  const times = { asked: 0, answered: 0 }
  const server = createServer((request, response) => {
    times.asked = performance.now()
    request.resume().on("end", () => {
      response.writeHead(200, { "content-type": "text/event-stream" })
      response.end(answer, () => (times.answered = performance.now()))
    })
  })
  return { times, baseUrl: await listen(server), close: () => server.close() }
}

const andy = Agent.make("andy", { instructions: "You are Andy." })

export const rows = (): Promise<ReadonlyArray<Row>> =>
  withFolder(async (folder) => {
    const { baseUrl, close, times } = await serve()
    const program = Effect.gen(function* () {
      const channel = yield* BenchChannel.BenchChannel
      const ins: Array<number> = []
      const outs: Array<number> = []
      for (let turn = 0; turn < 220; turn++) {
        const { acknowledged, sent } = yield* channel.ask(`c${turn % 20}`, "hi")
        if (turn < 20) continue
        ins.push(times.asked - acknowledged)
        outs.push(sent - times.answered)
      }
      return [ins, outs] as const
    })
    const [ins, outs] = await program.pipe(
      Effect.provide(
        Claw.layer({ agents: [andy], bindings: [Bind.everywhere(andy)] }).pipe(
          Layer.provideMerge(BenchChannel.layer),
          Layer.provide(ModelAnthropic.layer({ apiKey: Redacted.make("none"), baseUrl, model: "bench" })),
          Layer.provide(Local.layer({ directory: join(folder, "state") }))
        )
      ),
      Effect.runPromise
    )
    close()
    return [
      {
        what: "message acknowledged (on the disk) to the request at the model's server, p50",
        ours: millis(median(ins)),
        floor: "",
        aim: "3 ms; OpenClaw 219, NanoClaw 363"
      },
      {
        what: "the server's last byte to the reply at the channel (on the disk before), p50",
        ours: millis(median(outs)),
        floor: "",
        aim: "3 ms; OpenClaw 33, NanoClaw 386"
      }
    ]
  })
