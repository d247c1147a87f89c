/** Plain turns per second over 100 conversations, against raw single-row commits of `node:sqlite`. */
import { Agent, Bind, Claw } from "effect-claw"
import * as Local from "effect-claw/programs/Local"
import { ModelScripted } from "effect-claw/testing"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import * as BenchChannel from "./channel.ts"
import { type Row, withFolder } from "./support.ts"

const conversations = 100

const commitsPerSecond = (file: string): number => {
  const database = new DatabaseSync(file)
  database.exec(
    "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE rows (id INTEGER PRIMARY KEY, a TEXT)"
  )
  const insert = database.prepare("INSERT INTO rows (a) VALUES (?)")
  const count = 3000
  const started = performance.now()
  for (let index = 0; index < count; index++) insert.run(`hello ${index}`)
  const rate = (count / (performance.now() - started)) * 1000
  database.close()
  return rate
}

const andy = Agent.make("andy", { instructions: "You are Andy." })

export const rows = (): Promise<ReadonlyArray<Row>> =>
  withFolder((folder) => {
    const program = Effect.gen(function* () {
      const channel = yield* BenchChannel.BenchChannel
      const turnsPerSecond = Effect.fnUntraced(function* (each: number) {
        const started = performance.now()
        yield* Effect.forEach(
          Array.from({ length: conversations }, (_, chat) => `c${chat}`),
          (chat) => Effect.repeat(channel.ask(chat, "hi"), { times: each - 1 }),
          { concurrency: "unbounded", discard: true }
        )
        return ((each * conversations) / (performance.now() - started)) * 1000
      })
      yield* turnsPerSecond(5)
      const floors = [commitsPerSecond(join(folder, "raw1.db"))]
      const turns = yield* turnsPerSecond(20)
      floors.push(commitsPerSecond(join(folder, "raw2.db")))
      return { turns, commits: floors.reduce((sum, rate) => sum + rate, 0) / floors.length }
    })
    return program.pipe(
      Effect.map(({ commits, turns }): ReadonlyArray<Row> => [
        {
          what: "plain turns per second, 100 conversations, commits synced to the disk",
          ours: turns.toFixed(0),
          floor: `${commits.toFixed(0)} single-row commits`,
          ratio: turns / commits,
          aim: "a tenth or more; OpenClaw 3.5 and NanoClaw 19.4 turns per second"
        }
      ]),
      Effect.provide(
        Claw.layer({ agents: [andy], bindings: [Bind.everywhere(andy)] }).pipe(
          Layer.provideMerge(BenchChannel.layer),
          Layer.provide(ModelScripted.layer(() => ModelScripted.text("hello"))),
          Layer.provide(Local.layer({ directory: join(folder, "state") }))
        )
      ),
      Effect.runPromise
    )
  })
