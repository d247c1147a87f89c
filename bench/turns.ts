import { Agent, Bind, Claw } from "effect-claw"
import * as Local from "effect-claw/programs/Local"
import { ChannelMemory, ModelScripted } from "effect-claw/testing"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { mkdtempSync, rmSync } from "node:fs"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"

const dir = mkdtempSync(join("/work", "bench-"))
const raw = () => {
  const db = new DatabaseSync(join(dir, "raw.db"))
  db.exec("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; create table if not exists t(id integer primary key, a text)")
  const s = db.prepare("insert into t(a) values (?)")
  const n = 3000, t = performance.now()
  for (let i = 0; i < n; i++) s.run("hello " + i)
  const r = n / (performance.now() - t) * 1000
  db.close()
  return r
}
const andy = Agent.make("andy", { instructions: "You are Andy." })
const N = Number(process.argv[2] ?? 2000), C = 100
const program = Effect.gen(function*() {
  const channel = yield* ChannelMemory.ChannelMemory
  const go = (n: number, off: number) => Effect.gen(function*() {
    const t = performance.now()
    yield* Effect.forEach(Array.from({ length: n }, (_, i) => i), (i) => channel.say({ text: "hi " + i, chat: `c${i % C}` }), { concurrency: 100, discard: true })
    yield* channel.awaitSent(off + n)
    return n / (performance.now() - t) * 1000
  })
  yield* go(500, 0)
  const r = raw()
  const rate = yield* go(N, 500)
  console.log({ turns: rate.toFixed(0), commits: r.toFixed(0), ratio: (rate / r).toFixed(3) })
})
await Effect.runPromise(program.pipe(Effect.provide(
  Claw.layer({ agents: [andy], bindings: [Bind.everywhere(andy)] }).pipe(
    Layer.provideMerge(ChannelMemory.layer()),
    Layer.provide(ModelScripted.layer(() => ModelScripted.text("hello"))),
    Layer.provide(Local.layer({ directory: join(dir, "s") }))
  )
)))
rmSync(dir, { recursive: true })
for (const [k, [n, ms, r]] of [...(globalThis as any).__sql ?? []].sort((a: any, b: any) => b[1][1] - a[1][1])) console.log(n, ms.toFixed(0) + "ms", (ms / n * 1000).toFixed(0) + "us", (r / n).toFixed(1), k.replace(/\s+/g, " ").slice(0, 110))
