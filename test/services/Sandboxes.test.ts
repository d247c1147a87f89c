import { assert, describe, it } from "@effect/vitest"
import * as SandboxMemory from "effect-claw/layers/SandboxMemory"
import { AgentName, ConversationId } from "effect-claw/services/Message"
import * as Mount from "effect-claw/services/Mount"
import { Rights } from "effect-claw/services/Rights"
import * as Sandbox from "effect-claw/services/Sandbox"
import * as Sandboxes from "effect-claw/services/Sandboxes"
import { WorkspaceError, Workspaces } from "effect-claw/services/Workspaces"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"

const andy = AgentName.make("andy")
const bea = AgentName.make("bea")
const chat = ConversationId.make("memory:chat 1")

const workspaces = Layer.succeed(Workspaces, {
  folder: (agent, conversation) => Effect.succeed(`/w/${agent}/${conversation}`)
})

const lost = new Sandbox.SandboxError({ reason: new Sandbox.SessionLost({ detail: "the engine is gone" }) })

const parts = <A>(sandbox: Layer.Layer<Sandbox.Sandbox | A>, options: Partial<Sandboxes.Options> = {}) =>
  Sandboxes.layer({
    idle: "1 minute",
    optionsOf: (agent) => (agent === andy ? { cpus: 2, memory: "1 GiB" } : {}),
    ...options
  }).pipe(Layer.provideMerge(sandbox), Layer.provide(workspaces))

const granted = new Rights({ tools: [], mounts: ["~/notes", "~/.ssh"].map((host) => ({ host, write: false })) })
const session = (agent = andy, conversation = chat, rights = granted) =>
  Sandboxes.Sandboxes.use((sandboxes) => sandboxes.session(agent, conversation, rights))

/** A command in a session that is given back at once, as a tool does. */
const run = (agent?: AgentName, conversation?: ConversationId) =>
  Effect.scoped(Effect.tap(session(agent, conversation), (opened) => Sandbox.run(opened, { run: "true" })))

describe("Sandboxes", () => {
  it.effect("a session is opened by the first that needs it, with the agent's limits, on its workspace", () =>
    Effect.gen(function* () {
      const { opened } = yield* SandboxMemory.SandboxMemory
      assert.deepStrictEqual(opened, [])
      yield* session()
      yield* session(bea)
      assert.deepStrictEqual(opened, [
        Sandbox.makeSpec({ cpus: 2, memory: "1 GiB" }, "/w/andy/memory:chat 1"),
        Sandbox.makeSpec({}, "/w/bea/memory:chat 1")
      ])
    }).pipe(Effect.provide(parts(SandboxMemory.layer())))
  )

  it.effect("it is opened once, however many ask at once, for each agent and conversation", () =>
    Effect.gen(function* () {
      const ids = yield* Effect.forEach(
        Array.from({ length: 20 }, (_, index) => index),
        (index) =>
          Effect.map(session(index % 2 === 0 ? andy : bea, ConversationId.make(`memory:${index % 5}`)), ({ id }) => id),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(new Set(ids).size, 10)
      assert.strictEqual((yield* SandboxMemory.SandboxMemory).opened.length, 10)
    }).pipe(Effect.provide(parts(SandboxMemory.layer())))
  )

  it.effect("it is kept warm between calls, and closed when it was idle for long", () =>
    Effect.gen(function* () {
      const { open } = yield* SandboxMemory.SandboxMemory
      const first = yield* run()
      for (let call = 0; call < 5; call++) {
        yield* TestClock.adjust("50 seconds")
        assert.strictEqual((yield* run()).id, first.id)
      }
      yield* TestClock.adjust("59 seconds")
      assert.strictEqual(open.size, 1)
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(open.size, 0)
      assert.notStrictEqual((yield* run()).id, first.id)
    }).pipe(Effect.provide(parts(SandboxMemory.layer())))
  )

  it.effect("it is not closed while a call uses it", () =>
    Effect.gen(function* () {
      const { open } = yield* SandboxMemory.SandboxMemory
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* session()
          yield* TestClock.adjust("1 day")
          assert.strictEqual(open.size, 1)
        })
      )
      yield* TestClock.adjust("2 minutes")
      assert.strictEqual(open.size, 0)
    }).pipe(Effect.provide(parts(SandboxMemory.layer())))
  )

  it.effect("no more are open than may be: the one that was used least recently goes, and none that is in use", () =>
    Effect.gen(function* () {
      const { open } = yield* SandboxMemory.SandboxMemory
      const chats = [1, 2, 3, 4].map((chat) => ConversationId.make(`memory:${chat}`))
      const [one, two] = yield* Effect.forEach(chats.slice(0, 2), (chat) => run(andy, chat))
      assert.strictEqual((yield* run(andy, chats[0])).id, one?.id)
      yield* run(andy, chats[2])
      assert.strictEqual(open.size, 2)
      assert.isFalse(open.has(two?.id ?? ""))
      assert.strictEqual((yield* run(andy, chats[0])).id, one?.id)
      yield* Effect.scoped(
        Effect.gen(function* () {
          const [first, second] = yield* Effect.forEach(chats.slice(0, 2), (chat) => session(andy, chat))
          yield* run(andy, chats[3])
          assert.isTrue(open.has(first?.id ?? "") && open.has(second?.id ?? ""))
        })
      )
      yield* run(andy, chats[2])
      yield* run(andy, chats[3])
      assert.isAtMost(open.size, 2)
    }).pipe(Effect.provide(parts(SandboxMemory.layer(), { atMost: 2 })))
  )

  it.effect("mounts are opened with as they are granted, and refused with the rule", () =>
    Effect.gen(function* () {
      const { opened } = yield* SandboxMemory.SandboxMemory
      yield* session(andy)
      assert.deepStrictEqual(opened[0]?.mounts, [{ host: "/real/notes", target: "/mnt/notes", write: false }])
      const refused = yield* Effect.flip(session(bea))
      assert.strictEqual(refused.reason._tag, "SpecRejected")
      assert.include(refused.message, "the mount of ~/.ssh is refused: never")
    }).pipe(
      Effect.provide(
        parts(SandboxMemory.layer(), {
          optionsOf: (agent) => ({ mounts: [Mount.readonly(agent === andy ? "~/notes" : "~/.ssh")] })
        })
      ),
      Effect.provideService(Mount.Mounts, {
        grant: ({ host, write }) =>
          host === "~/notes"
            ? Effect.succeed({ host: "/real/notes", target: "/mnt/notes", write })
            : Effect.fail(new Mount.MountRefused({ host, rule: "never" }))
      })
    )
  )

  it.effect("a session has no more mounts than the turn's rights, and none is shared with a turn of others", () =>
    Effect.gen(function* () {
      const { opened } = yield* SandboxMemory.SandboxMemory
      const rights = (...mounts: Rights["mounts"]) => new Rights({ tools: ["bash"], mounts })
      const mounted = (of: Rights) =>
        Effect.map(session(andy, chat, of), ({ id }) => opened[Number(id.slice("memory-".length)) - 1]?.mounts)
      const write = { host: "~/notes", target: "~/notes", write: true }
      assert.deepStrictEqual(yield* mounted(rights({ host: "~/notes", write: true })), [write])
      assert.deepStrictEqual(yield* mounted(rights({ host: "~/notes", write: false })), [{ ...write, write: false }])
      assert.deepStrictEqual(yield* mounted(rights({ host: "~/other", write: true })), [])
      assert.deepStrictEqual(yield* mounted(rights({ host: "~/notes", write: true })), [write])
      assert.lengthOf(opened, 3)
    }).pipe(
      Effect.provide(parts(SandboxMemory.layer(), { optionsOf: () => ({ mounts: [Mount.writable("~/notes")] }) })),
      Effect.provideService(Mount.Mounts, { grant: ({ host, write }) => Effect.succeed({ host, target: host, write }) })
    )
  )

  it.effect("all are closed on release", () =>
    Effect.gen(function* () {
      const { open } = yield* Effect.gen(function* () {
        yield* run()
        yield* run(bea)
        const log = yield* SandboxMemory.SandboxMemory
        assert.strictEqual(log.open.size, 2)
        return log
      }).pipe(Effect.provide(parts(SandboxMemory.layer())))
      assert.strictEqual(open.size, 0)
    })
  )

  it.effect("a session that was lost fails its command, and the next has a new one", () => {
    let broken = true
    return Effect.gen(function* () {
      const { open } = yield* SandboxMemory.SandboxMemory
      assert.strictEqual(yield* Effect.flip(run()), lost)
      broken = false
      assert.strictEqual((yield* run()).id, "memory-2")
      assert.strictEqual((yield* run()).id, "memory-2")
      assert.deepStrictEqual([...open], ["memory-2"])
    }).pipe(Effect.provide(parts(SandboxMemory.layer(() => (broken ? Effect.fail(lost) : Effect.succeed({}))))))
  })

  it.effect("a command that fails otherwise keeps its session", () =>
    Effect.gen(function* () {
      const before = yield* session()
      assert.isTrue((yield* Effect.flip(before.readFile("none"))).reason._tag === "FileFailed")
      assert.strictEqual((yield* session()).id, before.id)
    }).pipe(Effect.provide(parts(SandboxMemory.layer())))
  )

  for (const what of ["stdout", "exit", "readFile", "writeFile"] as const) {
    it.effect(`a session that is lost in ${what} is opened anew`, () => {
      let opened = 0
      const sandbox = Layer.succeed(Sandbox.Sandbox, {
        description: Effect.succeed("breaking"),
        open: () =>
          Effect.sync((): Sandbox.SandboxSession => ({
            id: `${++opened}`,
            exec: () =>
              Effect.succeed({
                stdout: what === "stdout" ? Stream.fail(lost) : Stream.empty,
                stderr: Stream.empty,
                exit: what === "stdout" ? Effect.never : Effect.fail(lost)
              }),
            readFile: () => Effect.fail(lost),
            writeFile: () => Effect.fail(lost)
          }))
      })
      return Effect.gen(function* () {
        const one = yield* session()
        const used =
          what === "readFile"
            ? one.readFile("a")
            : what === "writeFile"
              ? one.writeFile("a", new Uint8Array())
              : Sandbox.run(one, { run: "true" })
        yield* Effect.flip(Effect.asVoid(used))
        assert.strictEqual((yield* session()).id, "2")
      }).pipe(Effect.provide(parts(sandbox)))
    })
  }

  it.effect("a session that could not be opened is tried again by the next call", () => {
    let attempts = 0
    const gone = new Sandbox.SandboxError({ reason: new Sandbox.SandboxUnavailable({ detail: "start the engine" }) })
    const sandbox = Layer.effect(
      Sandbox.Sandbox,
      Effect.map(Sandbox.Sandbox, (memory) => ({
        ...memory,
        open: (spec: Sandbox.SandboxSpec) => (++attempts === 1 ? Effect.fail(gone) : memory.open(spec))
      }))
    ).pipe(Layer.provide(SandboxMemory.layer()))
    return Effect.gen(function* () {
      assert.strictEqual(yield* Effect.flip(run()), gone)
      yield* run()
      assert.strictEqual(attempts, 2)
    }).pipe(Effect.provide(parts(sandbox)))
  })

  it.effect("a workspace that cannot be made is said to be why", () => {
    const full = new WorkspaceError({ folder: "/w", detail: "no space left" })
    return Effect.gen(function* () {
      const error = yield* Effect.flip(run())
      assert.strictEqual(error.reason._tag, "SandboxUnavailable")
      assert.include(error.message, "no space left")
    }).pipe(
      Effect.provide(
        Sandboxes.layer({ optionsOf: () => ({}) }).pipe(
          Layer.provide(SandboxMemory.layer()),
          Layer.provide(Layer.succeed(Workspaces, { folder: () => Effect.fail(full) }))
        )
      )
    )
  })
})
