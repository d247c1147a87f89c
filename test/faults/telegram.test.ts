import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { setTimeout } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { folder } from "../contracts/store.ts"
import * as TelegramServer from "../support/TelegramServer.ts"

const program = fileURLToPath(new URL("telegramClaw.ts", import.meta.url))

describe("a claw on Telegram that is killed", () => {
  it.live(
    "answers what came before, while and after it was down, in order, and at most the reply that was under way twice",
    () =>
      Effect.gen(function* () {
        const home = yield* folder
        const server = Context.get(yield* Layer.build(TelegramServer.layer), TelegramServer.TelegramServer)
        const ada = server.person("Ada")
        const replies = () =>
          server
            .read(ada.id)
            .split("\n")
            .filter((line) => line !== "")
        const env = {
          ...process.env,
          TELEGRAM_BOT_TOKEN: server.token,
          TELEGRAM_API_ROOT: server.apiRoot,
          TELEGRAM_OWNER_ID: `${ada.id}`
        }
        let log = ""
        const start = Effect.acquireRelease(
          Effect.sync(() => {
            const child = spawn(process.execPath, [program, home], { env, stdio: ["ignore", "pipe", "pipe"] })
            child.stdout.on("data", (chunk: Buffer) => (log += chunk.toString()))
            child.stderr.on("data", (chunk: Buffer) => (log += chunk.toString()))
            return child
          }),
          (child) => Effect.sync(() => child.kill("SIGKILL"))
        )
        let said = 0
        const say = () => server.say(ada, `run: echo n${++said}`)
        const answered = (number: number) => replies().includes(`n${number}`)

        const kills = 8
        for (let life = 0; life < kills; life++) {
          const asked = said
          say()
          yield* Effect.scoped(
            Effect.gen(function* () {
              const child = yield* start
              // Each is killed a little later behind its first reply, or before it.
              if (life > 0) yield* TelegramServer.until(() => answered(asked) || child.exitCode !== null)
              for (let more = 0; more < 3; more++) {
                say()
                yield* Effect.promise(() => setTimeout(life * 4))
              }
              child.kill("SIGKILL")
              yield* Effect.promise(() => once(child, "exit"))
            })
          )
        }
        yield* Effect.scoped(
          Effect.andThen(
            start,
            TelegramServer.until(() => answered(said))
          )
        )
        const seen = replies()
        const distinct = [...new Set(seen)]
        assert.deepStrictEqual(
          distinct,
          Array.from({ length: said }, (_, index) => `n${index + 1}`),
          log
        )
        assert.isAtMost(seen.length - distinct.length, kills, log)
        process.stdout.write(`${kills} kills, ${said} messages, ${seen.length - distinct.length} replies seen twice\n`)
      }),
    120_000
  )
})
