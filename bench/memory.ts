/** Resident memory: the bundled assistant at its prompt, and what an idle conversation adds to a claw. */
import { Agent, Bind, Claw } from "effect-claw"
import * as Local from "effect-claw/programs/Local"
import * as ModelOffline from "effect-claw/layers/ModelOffline"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { join } from "node:path"
import * as BenchChannel from "./channel.ts"
import { atPrompt, mebibytes, resident, residentOf, type Row, withFolder } from "./support.ts"

const andy = Agent.make("andy", { instructions: "You are Andy." })

export const rows = (): Promise<ReadonlyArray<Row>> =>
  withFolder(async (folder) => {
    const idle = await atPrompt("node bin/effect-claw.js", join(folder, "assistant"), async (pid) => {
      await new Promise((resolve) => setTimeout(resolve, 3000))
      return residentOf(pid)
    })
    const conversations = 10_000
    const program = Effect.gen(function* () {
      const channel = yield* BenchChannel.BenchChannel
      const talk = (from: number, count: number) =>
        Effect.forEach(
          Array.from({ length: count }, (_, index) => `c${from + index}`),
          (chat) => channel.ask(chat, "hi"),
          { concurrency: 100, discard: true }
        )
      yield* talk(0, 2000)
      const before = yield* Effect.promise(resident)
      yield* talk(2000, conversations)
      return ((yield* Effect.promise(resident)) - before) / conversations
    })
    const each = await program.pipe(
      Effect.provide(
        Claw.layer({ agents: [andy], bindings: [Bind.everywhere(andy)] }).pipe(
          Layer.provideMerge(BenchChannel.layer),
          Layer.provide(ModelOffline.layer),
          Layer.provide(Local.layer({ directory: join(folder, "state"), synchronous: "NORMAL" }))
        )
      ),
      Effect.runPromise
    )
    return [
      {
        what: "resident memory of the assistant, idle at its prompt",
        ours: mebibytes(idle),
        floor: "",
        aim: "120 MiB"
      },
      {
        what: "resident memory each of 10,000 idle conversations adds",
        ours: `${(each / 1024).toFixed(1)} KB`,
        floor: "",
        aim: "3 KB"
      }
    ]
  })
