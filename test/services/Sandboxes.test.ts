import { assert, describe, it } from "@effect/vitest"
import * as SandboxMemory from "effect-claw/layers/SandboxMemory"
import { AgentName, ConversationId } from "effect-claw/services/Message"
import * as Mount from "effect-claw/services/Mount"
import { Rights } from "effect-claw/services/Rights"
import * as Sandbox from "effect-claw/services/Sandbox"
import * as Sandboxes from "effect-claw/services/Sandboxes"
import { StoreFailed } from "effect-claw/services/StoreFailed"
import { WorkspaceError, Workspaces } from "effect-claw/services/Workspaces"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"

const andy = AgentName.make("andy")
const bea = AgentName.make("bea")
const chat = ConversationId.make("memory:chat 1")

const noFolder = new WorkspaceError({
  folder: "/w",
  reason: new StoreFailed({ detail: "no space left", cause: undefined })
})

let looks = 0

/** Workspaces that are nowhere, and hold as much as `size` says. */
const workspacesOf = (size: () => number, folder?: Effect.Effect<never, WorkspaceError>) =>
  Layer.succeed(Workspaces, {
    claw: Effect.succeed("claw 1"),
    folder: (agent, conversation) => folder ?? Effect.succeed(`/w/${agent}/${conversation}`),
    // It is counted no further, and how far then is chance.
    size: (_folder, limit) => Effect.sync(() => Math.min(size(), limit + 1 + (looks++ % 2))),
    place: () => Effect.fail(noFolder)
  })
const workspaces = workspacesOf(() => 0)

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
        Sandbox.makeSpec({ cpus: 2, memory: "1 GiB" }, "/w/andy/memory:chat 1", [], "claw 1"),
        Sandbox.makeSpec({}, "/w/bea/memory:chat 1", [], "claw 1")
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

  it.effect("those that were in use at once, or had other rights, are no more than may be when they end", () =>
    Effect.gen(function* () {
      const { open } = yield* SandboxMemory.SandboxMemory
      const chats = Array.from({ length: 10 }, (_, chat) => ConversationId.make(`memory:${chat}`))
      yield* Effect.scoped(
        Effect.andThen(
          Effect.forEach(chats, (chat) => session(andy, chat)),
          Effect.sync(() => assert.strictEqual(open.size, 10))
        )
      )
      assert.strictEqual(open.size, 2)
      for (const chat of chats) {
        for (const rights of [granted, new Rights({ tools: [] })]) yield* Effect.scoped(session(andy, chat, rights))
        assert.strictEqual(open.size, 2)
      }
    }).pipe(
      Effect.provide(
        parts(SandboxMemory.layer(), { atMost: 2, optionsOf: () => ({ mounts: [Mount.readonly("~/notes")] }) })
      ),
      Effect.provideService(Mount.Mounts, { grant: ({ host, write }) => Effect.succeed({ host, target: host, write }) })
    )
  )

  it.effect("limits that are none are refused, and open nothing", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* Effect.flip(session())).reason._tag, "SpecRejected")
      assert.strictEqual((yield* Effect.flip(session(bea))).reason._tag, "SpecRejected")
      assert.deepStrictEqual((yield* SandboxMemory.SandboxMemory).opened, [])
    }).pipe(
      Effect.provide(
        parts(SandboxMemory.layer(), { optionsOf: (agent) => (agent === andy ? { cpus: 0 } : { memory: -1 }) })
      )
    )
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

  describe("paused while idle", () => {
    /** A sandbox that can pause, and what is done to it, in order. */
    const pausable = (resume: Effect.Effect<void, Sandbox.SandboxError> = Effect.void) => {
      const done: Array<string> = []
      const say = (what: string) => Effect.sync(() => void done.push(what))
      const sandbox = Layer.effect(
        Sandbox.Sandbox,
        Effect.map(Sandbox.Sandbox, (memory) => ({
          ...memory,
          open: (spec: Sandbox.SandboxSpec) =>
            Effect.map(memory.open(spec), (opened) => ({
              ...opened,
              exec: (command: Sandbox.Command) => Effect.andThen(say("command"), opened.exec(command)),
              pause: Effect.as(say("pause"), Effect.andThen(say("resume"), resume))
            }))
        }))
      ).pipe(Layer.provideMerge(SandboxMemory.layer()))
      return { done, sandbox }
    }

    it.effect("a session is paused after its last use, and resumed by the next, before its command", () => {
      const { done, sandbox } = pausable()
      return Effect.gen(function* () {
        yield* run()
        yield* TestClock.adjust("9 seconds")
        yield* run()
        yield* TestClock.adjust("9 seconds")
        assert.deepStrictEqual(done, ["command", "command"])
        yield* TestClock.adjust("1 second")
        yield* run()
        assert.deepStrictEqual(done, ["command", "command", "pause", "resume", "command"])
      }).pipe(Effect.provide(parts(sandbox, { pauseAfter: "10 seconds" })))
    })

    it.effect("not while a call uses it, and once however many come back at once", () => {
      const { done, sandbox } = pausable()
      return Effect.gen(function* () {
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* session()
            yield* run()
            yield* TestClock.adjust("1 hour")
          })
        )
        assert.deepStrictEqual(done, ["command"])
        yield* TestClock.adjust("10 seconds")
        yield* Effect.all([run(), run(), run()], { concurrency: "unbounded" })
        assert.deepStrictEqual(done, ["command", "pause", "resume", "command", "command", "command"])
      }).pipe(Effect.provide(parts(sandbox, { pauseAfter: "10 seconds" })))
    })

    it.effect("never, when nobody asked for it, or its layer cannot", () => {
      const { done, sandbox } = pausable()
      const idle = Effect.andThen(run(), TestClock.adjust("50 seconds"))
      return Effect.gen(function* () {
        yield* idle.pipe(Effect.provide(parts(sandbox)))
        yield* idle.pipe(Effect.provide(parts(SandboxMemory.layer(), { pauseAfter: "10 seconds" })))
        assert.deepStrictEqual(done, ["command"])
      })
    })

    it.effect("one that does not come back is lost, and the next call opens another", () => {
      const { sandbox } = pausable(Effect.fail(lost))
      return Effect.gen(function* () {
        yield* run()
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual(yield* Effect.flip(run()), lost)
        assert.strictEqual((yield* run()).id, "memory-2")
      }).pipe(Effect.provide(parts(sandbox, { pauseAfter: "10 seconds" })))
    })
  })

  describe("warm", () => {
    const warm = (agent: AgentName) => Sandboxes.Sandboxes.use((sandboxes) => sandboxes.warm(agent, chat, granted))

    it.effect("a session is opened before it is needed, once, for an agent that wants it so", () =>
      Effect.gen(function* () {
        const { opened } = yield* SandboxMemory.SandboxMemory
        yield* warm(bea)
        yield* warm(andy)
        yield* warm(andy)
        yield* Effect.yieldNow
        assert.lengthOf(opened, 1)
        assert.strictEqual((yield* run()).id, "memory-1")
      }).pipe(
        Effect.provide(parts(SandboxMemory.layer(), { optionsOf: (agent) => (agent === andy ? { warm: true } : {}) }))
      )
    )

    it.effect("one that cannot be opened fails nobody before it is needed", () => {
      const sandbox = Layer.succeed(Sandbox.Sandbox, {
        description: Effect.succeed("broken"),
        open: () => Effect.fail(lost)
      })
      return Effect.gen(function* () {
        yield* warm(andy)
        assert.strictEqual(yield* Effect.flip(run()), lost)
      }).pipe(Effect.provide(parts(sandbox, { optionsOf: () => ({ warm: true }) })))
    })
  })

  describe("a workspace's size", () => {
    const mebibyte = 1024 ** 2
    const bounded = (size: () => number, sandbox: Layer.Layer<Sandbox.Sandbox | SandboxMemory.SandboxMemory>) =>
      Sandboxes.layer({ optionsOf: () => ({ disk: "10 MiB" }) }).pipe(
        Layer.provideMerge(sandbox),
        Layer.provide(workspacesOf(size))
      )

    it.effect("what crosses the limit is ended within a second, is told so, and its session is gone", () => {
      let size = 9 * mebibyte
      return Effect.gen(function* () {
        const { open } = yield* SandboxMemory.SandboxMemory
        const running = yield* Effect.forkChild(Effect.flip(run()))
        yield* Effect.repeat(Effect.yieldNow, { times: 100 })
        yield* TestClock.adjust("5 seconds")
        size = 11 * mebibyte
        yield* TestClock.adjust("1 second")
        const error = yield* Fiber.join(running)
        assert(error instanceof Sandbox.SandboxError)
        assert.strictEqual(error.reason._tag, "WorkspaceFull")
        assert.include(error.message, "the workspace holds more than 10 MiB; delete files")
        assert.strictEqual(open.size, 0)
      }).pipe(
        Effect.provide(
          bounded(
            () => size,
            SandboxMemory.layer(() => Effect.never)
          )
        )
      )
    })

    it.effect("so is what no command waits for", () => {
      let size = 0
      return Effect.gen(function* () {
        const { open } = yield* SandboxMemory.SandboxMemory
        yield* run()
        size = 11 * mebibyte
        yield* TestClock.adjust("2 seconds")
        assert.strictEqual(open.size, 0)
      }).pipe(Effect.provide(bounded(() => size, SandboxMemory.layer())))
    })

    it.effect("one that was full before may not grow, either", () => {
      let size = 20 * mebibyte
      return Effect.gen(function* () {
        const { open } = yield* SandboxMemory.SandboxMemory
        yield* run()
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual(open.size, 1)
        size++
        yield* TestClock.adjust("1 second")
        assert.strictEqual(open.size, 0)
      }).pipe(Effect.provide(bounded(() => size, SandboxMemory.layer())))
    })

    it.effect("it is looked at no less than each three seconds, however long a look takes", () => {
      let looks = 0
      const slow = Layer.effect(
        Workspaces,
        Effect.map(Workspaces, (of) => ({
          ...of,
          size: () =>
            Effect.delay(
              Effect.sync(() => looks++),
              "2 seconds"
            )
        }))
      ).pipe(Layer.provide(workspaces))
      return Effect.gen(function* () {
        const opening = yield* Effect.forkChild(run())
        yield* TestClock.adjust("2 seconds")
        yield* Fiber.join(opening)
        yield* TestClock.adjust("28 seconds")
        assert.strictEqual(looks, 7)
      }).pipe(
        Effect.provide(
          Sandboxes.layer({ optionsOf: () => ({}) }).pipe(
            Layer.provideMerge(SandboxMemory.layer()),
            Layer.provide(slow)
          )
        )
      )
    })

    it.effect("in one that is full, commands can write nothing, until there is room again", () => {
      let size = 11 * mebibyte
      return Effect.gen(function* () {
        const { commands } = yield* SandboxMemory.SandboxMemory
        const opened = yield* session()
        const write = (bytes: number) => opened.writeFile("a", new Uint8Array(bytes))
        yield* Sandbox.run(opened, { run: "rm big" })
        yield* Sandbox.run(opened, { run: ["rm", "it's"] })
        assert.match(
          String(commands[0]?.command.run),
          /^{ trap .* ulimit -f 0; .*holds more than 10 MiB.*found: 11 MiB.*\nrm big$/
        )
        assert.deepStrictEqual(commands[1]?.command.run.slice(-3), ["bash", "rm", "it's"])
        assert.strictEqual((yield* Effect.flip(write(1))).reason._tag, "WorkspaceFull")
        size = 9 * mebibyte
        yield* Sandbox.run(opened, { run: "true" })
        assert.strictEqual(commands[2]?.command.run, "true")
        yield* write(mebibyte)
        assert.strictEqual((yield* Effect.flip(write(mebibyte + 1))).reason._tag, "WorkspaceFull")
      }).pipe(Effect.provide(bounded(() => size, SandboxMemory.layer())))
    })
  })

  it.effect("what earlier runs left is taken away at the start, as soon as that can be done", () => {
    const asked: Array<string> = []
    const sandbox = Layer.effect(
      Sandbox.Sandbox,
      Effect.map(Sandbox.Sandbox, (memory) => ({
        ...memory,
        reap: (claw: string) => (asked.push(claw) < 3 ? Effect.fail(lost) : Effect.void)
      }))
    ).pipe(Layer.provide(SandboxMemory.layer()))
    return Effect.gen(function* () {
      yield* TestClock.adjust("10 minutes")
      assert.deepStrictEqual(asked, ["claw 1", "claw 1", "claw 1"])
    }).pipe(Effect.provide(parts(sandbox)))
  })

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

  it.effect("a session that ended while nothing ran in it is opened anew, once", () => {
    const gone = new Set<string>()
    const sandbox = Layer.effect(
      Sandbox.Sandbox,
      Effect.map(Sandbox.Sandbox, (memory) => ({
        ...memory,
        open: (spec: Sandbox.SandboxSpec) =>
          Effect.map(memory.open(spec), (opened) => ({ ...opened, isLost: Effect.sync(() => gone.has(opened.id)) }))
      }))
    ).pipe(Layer.provideMerge(SandboxMemory.layer()))
    return Effect.gen(function* () {
      const { id } = yield* run()
      gone.add(id)
      assert.strictEqual((yield* run()).id, "memory-2")
      assert.strictEqual((yield* run()).id, "memory-2")
      assert.strictEqual((yield* SandboxMemory.SandboxMemory).open.size, 1)
    }).pipe(Effect.provide(parts(sandbox)))
  })

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
    return Effect.gen(function* () {
      const error = yield* Effect.flip(run())
      assert.strictEqual(error.reason._tag, "SandboxUnavailable")
      assert.include(error.message, "no space left")
    }).pipe(
      Effect.provide(
        Sandboxes.layer({ optionsOf: () => ({}) }).pipe(
          Layer.provide(SandboxMemory.layer()),
          Layer.provide(workspacesOf(() => 0, Effect.fail(noFolder)))
        )
      )
    )
  })
})
