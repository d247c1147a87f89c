/**
 * What a claw traces has no secrets: of a request through the egress proxy, of tool calls that fail, of what is logged.
 */
import { assert, it } from "@effect/vitest"
import * as EgressProxy from "effect-claw/layers/EgressProxy"
import * as VaultLocal from "effect-claw/layers/VaultLocal"
import * as Egress from "effect-claw/services/Egress"
import * as Leaks from "effect-claw/services/Leaks"
import * as Message from "effect-claw/services/Message"
import * as Tool from "effect/ai/Tool"
import * as Toolkit from "effect/ai/Toolkit"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Tracer from "effect/Tracer"
import { mkdtempSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { ask, origin } from "../support/Origin.ts"

const token = "hunter2-hunter2-hunter2"
const folder = () => mkdtempSync(join(tmpdir(), "claw-traces-"))
const file = join(folder(), "secret")
writeFileSync(file, token)

/** As text has it: UTF-16 is of bodies. */
const forms = Leaks.formsOf(token).filter((form) => !form.includes("\0"))

const tools = Toolkit.make(
  Tool.make("pay", {
    parameters: Schema.Struct({ key: Schema.String }),
    success: Schema.String,
    failure: Schema.String
  })
)

/** All that is told of spans, as an exporter would write it. */
const collector = () => {
  const spans: Array<Tracer.NativeSpan> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  const written = () =>
    spans
      .map(({ attributes, events, name, status }) => {
        const errors =
          status._tag === "Ended" && status.exit._tag === "Failure"
            ? Cause.prettyErrors(status.exit.cause).map(({ message, stack }) => `${message}\n${stack}`)
            : []
        return JSON.stringify([name, [...attributes], events.map(([event, , beside]) => [event, beside]), errors])
      })
      .join("\n")
  return { spans, tracer, written }
}

class Failed extends Schema.TaggedError<Failed>()("Failed", { detail: Schema.String }) {
  override get message(): string {
    return this.detail
  }
}

/** Calls the tool with a key that it does not keep to itself. */
const call = (key: string, result: Effect.Effect<string, string>) =>
  Effect.flatMap(tools, ({ handle }) => handle("pay", { key })).pipe(
    Effect.provide(tools.toLayer({ pay: () => result })),
    Effect.withSpan("called"),
    Effect.ignoreCause
  )

it.live("spans have no secret: not in attributes, not in events, not in the errors that they end with", () => {
  const { spans, tracer, written } = collector()
  const program = Effect.gen(function* () {
    const server = yield* origin((seen, response) => response.end(JSON.stringify(seen.headers)))
    const egress = yield* Egress.Egress
    const way = yield* egress.open({
      agent: Message.AgentName.make("andy"),
      conversation: Message.ConversationId.make("test:1"),
      rules: [
        Egress.allow("a.test", { ports: [server.port], addresses: ["127.0.0.1"], secret: "TOKEN", insecure: true })
      ]
    })
    const headers = { authorization: `Bearer ${way.environment["TOKEN"]}` }
    const asked = (path: string) =>
      Effect.promise(() => ask(join(way.folder, "proxy.sock"), `http://a.test:${server.port}${path}`, { headers }))
    yield* Effect.withSpan(asked(`/?key=${token}`), "asked", { attributes: { target: `/?key=${token}` } })
    assert.strictEqual(server.seen[0]?.headers.authorization, `Bearer ${token}`)
    for (const form of forms) {
      yield* call(form, Effect.fail(`no, ${form}`))
      yield* call(form, Effect.die(new Error("no", { cause: new Error(form) })))
      yield* Effect.ignore(Effect.withSpan(Effect.fail(new Failed({ detail: form })), "failed"))
      yield* Effect.withSpan(Effect.log(`it is ${form}`), "logged")
    }
  }).pipe(
    Effect.scoped,
    Effect.provide(
      EgressProxy.layer({ directory: folder(), lookup: () => Promise.resolve(["127.0.0.1"]) }).pipe(
        Layer.provideMerge(VaultLocal.layer({ TOKEN: VaultLocal.file(file) }))
      )
    ),
    Effect.provideService(Tracer.Tracer, tracer)
  )
  return Effect.map(program, () => {
    const text = written()
    for (const name of ["Egress.open", "asked", "called", "failed", "logged"]) {
      assert.isTrue(
        spans.some((span) => span.name === name),
        name
      )
    }
    assert.match(text, /"parameters","[^\n]*\[REDACTED\]/)
    for (const form of forms) assert.notInclude(text, form)
  })
})
