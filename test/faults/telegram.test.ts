import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { readFileSync } from "node:fs"
import { setTimeout } from "node:timers/promises"
import { DatabaseSync } from "node:sqlite"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { folder } from "../contracts/store.ts"
import * as TelegramServer from "../support/TelegramServer.ts"

const program = fileURLToPath(new URL("telegramClaw.ts", import.meta.url))

/** How long messages come by tens: a minute in a soak. */
const seconds = process.env["SOAK_SECONDS"] === undefined ? 5 : 60

/** Resident memory of a process, in bytes. */
const residentOf = (pid: number) =>
  Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024

/** With little room there is little garbage: what is resident is what the claw keeps. */
const littleRoom = ["--max-old-space-size=96", "--max-semi-space-size=8"]

/** A claw in a process of its own, for as long as the scope is open. */
const start = (
  server: TelegramServer.TelegramServer["Service"],
  home: string,
  people: ReadonlyArray<number>,
  flags: ReadonlyArray<string> = []
) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const env = {
        ...process.env,
        TELEGRAM_BOT_TOKEN: server.token,
        TELEGRAM_API_ROOT: server.apiRoot,
        TELEGRAM_OWNER_ID: `${people[0]}`
      }
      const child = spawn(process.execPath, [...flags, program, home, ...people.map(String)], { env, stdio: "ignore" })
      return child
    }),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )

describe("a claw on Telegram", () => {
  it.live(
    "that is killed answers what came before, while and after it was down, in order, and at most what was under way twice",
    () =>
      Effect.gen(function* () {
        const home = yield* folder
        const server = Context.get(yield* Layer.build(TelegramServer.layer), TelegramServer.TelegramServer)
        const ada = server.person("Ada")
        /** The files that the replies are about. */
        const replies = (): ReadonlyArray<string> => server.read(ada.id).match(/n\d+(?=\.txt)/g) ?? []
        let said = 0
        // Reading is done again when it was cut, and the reply names what is not there.
        const say = () => server.say(ada, `read n${++said}.txt`)
        const answered = (number: number) => replies().includes(`n${number}`)

        const kills = 8
        for (let life = 0; life < kills; life++) {
          const asked = said
          say()
          yield* Effect.scoped(
            Effect.gen(function* () {
              const child = yield* start(server, home, [ada.id])
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
            start(server, home, [ada.id]),
            TelegramServer.until(() => answered(said))
          )
        )
        const seen = replies()
        const distinct = [...new Set(seen)]
        assert.deepStrictEqual(
          distinct,
          Array.from({ length: said }, (_, index) => `n${index + 1}`)
        )
        assert.isAtMost(seen.length - distinct.length, kills)
        process.stdout.write(`${kills} kills, ${said} messages, ${seen.length - distinct.length} replies seen twice\n`)
      }),
    120_000
  )

  it.live(
    "takes fifty chats at ten messages a second, each in its order",
    () =>
      Effect.gen(function* () {
        const home = yield* folder
        const server = Context.get(yield* Layer.build(TelegramServer.layer), TelegramServer.TelegramServer)
        const people = Array.from({ length: 50 }, (_, index) => server.person(`Person ${index}`))
        const child = yield* start(
          server,
          home,
          people.map(({ id }) => id),
          littleRoom
        )
        yield* TelegramServer.until(server.isPolled)
        const memory: Array<number> = []
        const began = performance.now()
        for (let round = 0; round < seconds * 10; round++) {
          for (const person of people) server.say(person, `message ${round}`)
          if (round % 10 === 9) memory.push(residentOf(child.pid ?? 0))
          yield* Effect.promise(() => setTimeout(Math.max(0, began + (round + 1) * 100 - performance.now())))
        }
        const lag = performance.now()
        yield* TelegramServer.until(() => server.pending().length === 0)
        const behind = performance.now() - lag
        yield* TelegramServer.until(() => people.every(({ id }) => server.read(id) !== ""))
        const database = new DatabaseSync(join(home, "claw.db"), { readOnly: true })
        for (const { id } of people) {
          const keys = database
            .prepare("SELECT key FROM entries WHERE conversation = ? AND key IS NOT NULL ORDER BY position")
            .all(`telegram:${id}`)
            .map(({ key }) => String(key))
          const said = server.shown(id).flatMap((shown) => (shown.from.id === id ? [`${shown.id}`] : []))
          assert.deepStrictEqual(keys, said)
          assert.strictEqual(said.length, seconds * 10)
        }
        database.close()
        const mebibytes = memory.map((bytes) => Math.round(bytes / 2 ** 20))
        process.stdout.write(
          `the last was stored ${behind.toFixed(0)} ms later; resident MiB by second: ${mebibytes.join(" ")}\n`
        )
        if (seconds < 60) return
        assert.isBelow(behind, 10_000)
        const most = (from: number, to: number) => Math.max(...mebibytes.slice(from, to))
        // Half a minute is 15,000 messages: a kilobyte kept of each would be seen.
        assert.isAtMost(most(45, 60) - most(15, 30), 16)
      }),
    seconds * 5000 + 120_000
  )
})
