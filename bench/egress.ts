/** The way out: what the proxy adds to a request, and takes of a large answer's speed. The floor is the same host asked directly. */
import * as EgressProxy from "effect-claw/layers/EgressProxy"
import * as Audit from "effect-claw/services/Audit"
import * as Egress from "effect-claw/services/Egress"
import { AgentName, ConversationId } from "effect-claw/services/Message"
import * as Vault from "effect-claw/services/Vault"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { once } from "node:events"
import * as http from "node:http"
import { join } from "node:path"
import { listen, median, millis, type Row, withFolder } from "./support.ts"

const large = Buffer.alloc(64 * 1024 * 1024, "x")

const ask = async (options: http.RequestOptions): Promise<number> => {
  const begun = performance.now()
  const request = http.request(options).end()
  const [response]: Array<http.IncomingMessage> = await once(request, "response")
  if (response?.statusCode !== 200) throw new Error(`answered ${response?.statusCode}`)
  response.resume()
  await once(response, "end")
  return performance.now() - begun
}

const times = async (count: number, options: http.RequestOptions): Promise<number> => {
  const values: Array<number> = []
  for (let index = 0; index < count; index++) values.push(await ask(options))
  return median(values)
}

const measure = (socketPath: string, port: number) =>
  Effect.promise(async (): Promise<ReadonlyArray<Row>> => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
    const direct = (path: string) => ({ agent, port, path })
    const through = (host: string, path: string) => ({ agent, socketPath, path: `http://${host}:${port}${path}` })
    await times(50, direct("/"))
    await times(50, through("plain.test", "/"))
    const [floor, ours, read] = [
      await times(500, direct("/")),
      await times(500, through("plain.test", "/")),
      await times(500, through("read.test", "/"))
    ]
    const speed = (time: number) => `${(64_000 / time).toFixed(0)} MiB/s`
    const [fast, slower, slowest] = [
      await times(9, direct("/large")),
      await times(9, through("plain.test", "/large")),
      await times(9, through("read.test", "/large"))
    ]
    agent.destroy()
    const row = (what: string, mine: number, its: number, show: (value: number) => string): Row => {
      return { what, ours: show(mine), floor: `${show(its)} directly`, ratio: mine / its, aim: "" }
    }
    return [
      row("a small request through the proxy, median", ours, floor, millis),
      row("the same, with a secret that is put in and taken out", read, floor, millis),
      row("64 MiB through the proxy", slower, fast, speed),
      row("the same, with a secret that is looked for", slowest, fast, speed)
    ]
  })

export const rows = (): Promise<ReadonlyArray<Row>> =>
  withFolder(async (directory) => {
    const server = http.createServer((request, response) => response.end(request.url === "/large" ? large : "x"))
    const port = Number(new URL(await listen(server)).port)
    const at = { ports: [port], addresses: ["127.0.0.1"] }
    const way = Effect.gen(function* () {
      const egress = yield* Egress.Egress
      const { folder } = yield* egress.open({
        agent: AgentName.make("bench"),
        conversation: ConversationId.make("bench:1"),
        rules: [Egress.allow("plain.test", at), Egress.allow("read.test", { ...at, secret: "TOKEN", insecure: true })]
      })
      return yield* measure(join(folder, "proxy.sock"), port)
    })
    const proxy = EgressProxy.layer({ directory, lookup: () => Promise.resolve(["127.0.0.1"]) }).pipe(
      Layer.provide(Layer.succeed(Vault.Vault, new Map([["TOKEN", Redacted.make("a-secret-of-the-bench")]]))),
      Layer.provide(Layer.succeed(Audit.Audit, () => Effect.void))
    )
    try {
      return await Effect.runPromise(way.pipe(Effect.scoped, Effect.provide(proxy)))
    } finally {
      server.close()
      server.closeAllConnections()
    }
  })
