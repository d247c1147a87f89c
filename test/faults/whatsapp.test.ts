import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"
import { setTimeout } from "node:timers/promises"
import { DatabaseSync } from "node:sqlite"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Program from "../support/program.ts"
import { clawPhone, person, server } from "../support/WhatsAppClaw.ts"

const program = fileURLToPath(new URL("whatsappClaw.ts", import.meta.url))
const ownerPhone = "15550101"
const chats = 50
/** How long messages come, and how many a second in all: a minute in a soak. */
const seconds = process.env["SOAK_SECONDS"] === undefined ? 5 : 60
const rate = Number(process.env["SOAK_RATE"] ?? 10)

/** Resident memory of a process, in MiB. */
const residentOf = (pid: number) =>
  Math.round(Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024)

describe("a claw on WhatsApp", () => {
  it.live(
    "takes fifty chats at ten messages a second, each in its order, and keeps no more memory for it",
    () =>
      Effect.gen(function* () {
        const home = yield* Program.home
        const on = yield* server
        const ada = yield* person(on, ownerPhone)
        const claw = yield* Program.start({
          home,
          // With little room there is little garbage: what is resident is what the claw keeps.
          command: [
            process.execPath,
            "--conditions=source",
            "--max-old-space-size=128",
            "--max-semi-space-size=8",
            program
          ],
          args: [home, on.url, ownerPhone]
        })
        yield* claw.until(/scan \S+\n/)
        on.scan(clawPhone, /scan (\S+)\n/.exec(yield* claw.seen)?.[1] ?? "")
        yield* claw.until(/LoggedIn/)
        const groups = Array.from({ length: chats }, (_, index) => on.createGroup(`${index}`, ownerPhone, clawPhone))
        const database = new DatabaseSync(join(home, "claw.db"), { readOnly: true })
        const taken = (group: string) =>
          database
            .prepare("SELECT key FROM entries WHERE conversation = ? AND key IS NOT NULL ORDER BY position")
            .all(`whatsapp:${group}`)
            .map(({ key }) => String(key).split("/")[0])
        const sent = new Map<string, Array<string>>(groups.map((group) => [group, []]))
        const memory: Array<number> = []
        /** Writes so many, each when it is due. */
        const say = async (count: number) => {
          const began = performance.now()
          for (let index = 0; index < count; index++) {
            await setTimeout(Math.max(0, began + (index * 1000) / rate - performance.now()))
            const group = groups[index % chats] ?? ""
            const { key } = await ada.send(group, { text: `message ${index}` })
            sent.get(group)?.push(key.id ?? "")
            if (index % rate === rate - 1) memory.push(residentOf(claw.pid))
          }
          return performance.now() - began
        }
        const all = () => groups.every((group) => taken(group).length === sent.get(group)?.length)
        const settled = async () => {
          while (!all()) await setTimeout(20)
        }
        // Every chat's keys are exchanged first.
        yield* Effect.promise(() => say(chats))
        yield* Effect.promise(settled)
        memory.length = 0
        const took = yield* Effect.promise(() => say(seconds * rate))
        const lag = performance.now()
        yield* Effect.promise(settled)
        const behind = performance.now() - lag
        for (const group of groups) assert.deepStrictEqual(taken(group), sent.get(group))
        database.close()
        process.stdout.write(
          `${((seconds * rate * 1000) / took).toFixed(1)} a second, the last stored ${behind.toFixed(0)} ms later; ` +
            `resident MiB by second: ${memory.join(" ")}\n`
        )
        if (seconds < 60) return
        assert.isBelow(behind, 10_000)
        const most = (from: number, to: number) => Math.max(...memory.slice(from, to))
        assert.isAtMost(most(45, 60) - most(15, 30), 16)
      }),
    seconds * 5000 + 120_000
  )
})
