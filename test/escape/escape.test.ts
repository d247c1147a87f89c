/**
 * Out of a sandbox leads nothing. Each attempt is made from inside, and judged from outside: by host files, listeners,
 * another session and the host's processes, never by what the attempt says of itself.
 */
import { assert, describe, it, layer } from "@effect/vitest"
import * as EgressProxy from "effect-claw/layers/EgressProxy"
import * as SandboxBubblewrap from "effect-claw/layers/SandboxBubblewrap"
import * as SandboxDocker from "effect-claw/layers/SandboxDocker"
import * as SandboxVirtual from "effect-claw/layers/SandboxVirtual"
import * as Audit from "effect-claw/services/Audit"
import * as Egress from "effect-claw/services/Egress"
import * as Message from "effect-claw/services/Message"
import * as Sandbox from "effect-claw/services/Sandbox"
import * as Vault from "effect-claw/services/Vault"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import { once } from "node:events"
import { chmodSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { describeWithBubblewrap } from "../support/bubblewrap.ts"
import { containersOn, describeWithEngine, engineAvailable } from "../support/engine.ts"
import { origin } from "../support/Origin.ts"
import { processesWith } from "../support/processes.ts"
import { type Attempt, type Kind, kindsOf, type Opened, scriptOf, type Seen, type Stage } from "./Attempt.ts"
import { attempts } from "./attempts.ts"
import * as Table from "./table.ts"
import { makeSecret, makeWorld, openFolder, type World } from "./World.ts"

/** For the longest of attempts, on a busy machine. */
const patience = 240_000

/** Shows what each attempt saw. */
const shown = process.env["SHOW_ESCAPES"] !== undefined

/** What the attempts of one kind share. */
class Ground extends Context.Service<
  Ground,
  {
    readonly world: World
    readonly neighbour: Opened
    readonly open: Stage["open"]
    /** The session that attempts have together, with a way out or without, anew when one of them has ended it. */
    readonly shared: (wayOut: boolean) => Effect.Effect<Opened, Sandbox.SandboxError>
    readonly giveUp: Effect.Effect<void>
  }
>()("effect-claw/test/escape/escape.test/Ground") {}

const folder = Effect.acquireRelease(
  Effect.sync(() => openFolder("claw-inside-")),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true, maxRetries: 5 }))
)

/** The neighbour's secrets: in a file of its workspace, in a temporary file, in the environment of a running command. */
const furnish = (kind: Kind, world: World, { session, workspace }: Opened) =>
  Effect.gen(function* () {
    const [file, temporary, variable] = [makeSecret(), makeSecret(), makeSecret()]
    world.secrets.set(file, "another session's workspace")
    world.secrets.set(temporary, "another session's temporary file")
    world.secrets.set(variable, "another session's process")
    writeFileSync(join(workspace, "own.txt"), file)
    chmodSync(join(workspace, "own.txt"), 0o666)
    yield* Sandbox.run(session, { run: `printf %s ${temporary} > /tmp/own.txt` })
    // A virtual shell has no processes, and would be held up.
    if (kind !== "virtual shell")
      yield* session.exec({ run: "sleep 1000", env: { OTHER: variable }, deadline: "1 hour" })
  })

/** Makes ways out by a proxy whose secret, and whose authority's key, are canaries too. */
const proxy = Effect.fnUntraced(function* (world: World) {
  const { authority, lookup, vault } = world.internet
  const directory = yield* folder
  const layer = EgressProxy.layer({
    directory,
    lookup,
    authorities: [authority],
    limits: { sent: 8 * 1024 * 1024, received: 32 * 1024 * 1024, time: "5 seconds" }
  }).pipe(Layer.provide([Layer.succeed(Audit.Audit, () => Effect.void), Layer.succeed(Vault.Vault, vault)]))
  const { open } = Context.get(yield* Layer.build(layer), Egress.Egress)
  return Effect.fnUntraced(function* (rules: ReadonlyArray<Egress.Rule>) {
    const [agent, conversation] = [Message.AgentName.make("andy"), Message.ConversationId.make("test:1")]
    const way = yield* Effect.orDie(open({ agent, conversation, rules }))
    const key = /-BEGIN PRIVATE KEY-+([^-]+)/.exec(readFileSync(join(directory, "egress", "authority.pem"), "utf8"))
    // What follows is of the public half.
    for (const line of key?.[1]?.trim().split("\n").slice(0, 2) ?? []) world.secrets.set(line, "the authority's key")
    return way
  })
})

const ground = (kind: Kind, sandbox: Layer.Layer<Sandbox.Sandbox>) =>
  Layer.effect(
    Ground,
    Effect.gen(function* () {
      const world = yield* Effect.acquireRelease(
        Effect.promise(() => makeWorld()),
        (made) => Effect.promise(() => made.close())
      )
      const notes = { host: world.notes, target: "/mnt/notes", write: false }
      const { open: openSandbox } = yield* Sandbox.Sandbox
      const wayOut = yield* proxy(world)
      const open: Stage["open"] = Effect.fnUntraced(function* (options = {}, given, rules) {
        const workspace = given ?? (yield* folder)
        const way = rules === undefined ? undefined : yield* wayOut(rules)
        const session = yield* openSandbox(Sandbox.makeSpec(options, workspace, [notes], undefined, way))
        return { session, workspace, ...(way === undefined ? {} : { way }) }
      })
      const isReal = kind !== "virtual shell"
      const neighbour = yield* open({}, undefined, isReal ? world.internet.neighbourRules : undefined)
      yield* furnish(kind, world, neighbour)
      let current: { readonly opened: Opened; readonly scope: Scope.Closeable; readonly wayOut: boolean } | undefined
      const giveUp = Effect.suspend(() => {
        const given = current
        current = undefined
        return given === undefined ? Effect.void : Scope.close(given.scope, Exit.void)
      })
      yield* Effect.addFinalizer(() => giveUp)
      return {
        world,
        neighbour,
        open,
        giveUp,
        shared: Effect.fnUntraced(function* (wayOut) {
          if (current?.wayOut === wayOut) return current.opened
          yield* giveUp
          const scope = yield* Scope.make()
          const opened = yield* Scope.provide(open({}, undefined, wayOut ? world.internet.rules : undefined), scope)
          current = { opened, scope, wayOut }
          return opened
        })
      }
    })
  ).pipe(Layer.provide(sandbox))

/** Whether the neighbour answers within a second. A machine that is shared may be slow once, and not three times. */
const answers = ({ neighbour }: Pick<Stage, "neighbour">) =>
  neighbour.session.readFile("own.txt").pipe(
    Effect.map(({ length }) => length === 39),
    Effect.timeoutOrElse({ duration: "1 second", orElse: () => Effect.succeed(false) }),
    Effect.orElseSucceed(() => false),
    Effect.repeat({ until: (answered) => answered, times: 2 })
  )

const empty: Seen = { stdout: "", stderr: "", code: -1, timedOut: false, droppedBytes: 0 }

const runScript = (attempt: Attempt, kind: Kind, stage: Stage): Effect.Effect<Seen> =>
  Sandbox.run(stage.own.session, {
    run: scriptOf(attempt, kind, stage),
    deadline: attempt.deadline ?? "10 seconds"
  }).pipe(
    Effect.catch((error) => Effect.succeed({ ...empty, lost: error.message })),
    Effect.timeoutOrElse({ duration: "45 seconds", orElse: () => Effect.die(new Error("it held the claw up")) })
  )

/** Nothing of one attempt is there for the next. */
const swept = "rm -rf /tmp/* /tmp/.[!.]* /dev/shm/* ~/* ~/.[!.]*"

const emptied = (workspace: string) => {
  for (const name of readdirSync(workspace, { encoding: "buffer" })) {
    rmSync(Buffer.concat([Buffer.from(`${workspace}/`), name]), { recursive: true, force: true, maxRetries: 5 })
  }
}

/** Makes an attempt, and judges it. */
const make = Effect.fnUntraced(function* (attempt: Attempt, kind: Kind) {
  const { giveUp, neighbour, open, shared, world } = yield* Ground
  const { port, rules } = attempt.wayOut === true ? world.internet : { port: 0, rules: undefined }
  const own =
    attempt.alone === undefined ? yield* shared(rules !== undefined) : yield* open(attempt.alone, undefined, rules)
  const stage: Stage = { kind, world, neighbour, open, own, mark: `escape${randomBytes(6).toString("hex")}` }
  const before = process.memoryUsage().rss
  const watched = { answered: true, memory: before }
  const watch = Effect.gen(function* () {
    yield* Effect.sleep("200 millis")
    watched.answered &&= yield* answers(stage)
    watched.memory = Math.max(watched.memory, process.memoryUsage().rss)
  }).pipe(Effect.forever)
  const seen = yield* (
    attempt.act === undefined
      ? runScript(attempt, kind, stage)
      : Effect.map(attempt.act.by(stage, kind), (stdout): Seen => ({ ...empty, code: 0, stdout }))
  ).pipe(Effect.raceFirst(watch))
  if (shown) process.stderr.write(`${kind}: ${attempt.name}: ${JSON.stringify(seen).slice(0, 1500)}\n`)
  const reached = world.reached(`${seen.stdout}\n${seen.stderr}\n${seen.lost ?? ""}`, [own.workspace])
  assert.deepStrictEqual(reached, [], "canaries")
  assert.isTrue(watched.answered, "another session answers within a second, meanwhile")
  const allowed = Sandbox.makeSpec(attempt.alone ?? {}, "").memoryBytes + 256 * 1024 * 1024
  assert.isBelow(watched.memory - before, allowed, "the claw's memory")
  assert.isTrue(yield* answers(stage), "another session answers within a second, thereafter")
  // Where programs are real everything that an attempt needs is there. What was not made shows nothing.
  if (kind !== "virtual shell") assert.notMatch(seen.stderr, /command not found|SyntaxError|syntax error|NameError/)
  attempt.holds?.(seen, stage)
  if (attempt.alone === undefined) {
    yield* Effect.ignore(Sandbox.run(own.session, { run: swept, cwd: "/" }))
    emptied(own.workspace)
    if (seen.lost !== undefined) yield* giveUp
  }
  // What did not come by a way out was kept in by the rules, and not by its being broken.
  if (attempt.wayOut === true && attempt.alone === undefined) {
    const still = yield* Sandbox.run(own.session, { run: `curl -qsS -m 5 http://allowed.test:${port}/` })
    assert.deepInclude(still, { stdout: "hello\n", code: 0 }, `the way out, thereafter: ${still.stderr}`)
  }
  Table.tell(attempt, kind, seen)
})

const suite = (kind: Kind, sandbox: Layer.Layer<Sandbox.Sandbox>) =>
  layer(ground(kind, sandbox), { excludeTestServices: true, timeout: "60 seconds" })((it) => {
    for (const attempt of attempts.filter((candidate) => kindsOf(candidate).includes(kind))) {
      const gap = attempt.open?.[kind]
      const name = `${attempt.group}: ${attempt.name}`
      const run = () =>
        make(attempt, kind).pipe(
          Effect.tapCause((cause) =>
            Effect.sync(() => shown && process.stderr.write(`${name}: ${Cause.pretty(cause)}\n`))
          )
        )
      if (gap === undefined) it.effect(name, run, patience)
      else if (attempt.byChance !== true) it.effect.fails(`${name} (gets through: ${gap})`, run, patience)
      else it.effect(`${name} (gets through at times: ${gap})`, () => Effect.ignoreCause(run()), patience)
    }
  })

describe("out of the virtual shell leads nothing", () => suite("virtual shell", SandboxVirtual.layer))
describeWithEngine("out of a container leads nothing", () => suite("container", SandboxDocker.layer()))

describeWithBubblewrap("out of bubblewrap leads nothing", () => suite("bubblewrap", SandboxBubblewrap.layer()))

/** What a claw with a proxy is made of, for a session whose one host, and its secret, are the test's. */
const withWayOut = (directory: string, port: number) => {
  const rule = Egress.allow("a.test", { ports: [port], addresses: ["127.0.0.1"], secret: "TOKEN", insecure: true })
  const vault = new Map([["TOKEN", Redacted.make("a-secret-of-a-claw")]])
  return Effect.gen(function* () {
    const layer = EgressProxy.layer({ directory, lookup: () => Promise.resolve(["127.0.0.1"]) }).pipe(
      Layer.provide([Layer.succeed(Audit.Audit, () => Effect.void), Layer.succeed(Vault.Vault, vault)])
    )
    const egress = Context.get(yield* Layer.build(layer), Egress.Egress)
    const { open } = yield* Sandbox.Sandbox
    return Effect.fnUntraced(function* (workspace: string) {
      const [agent, conversation] = [Message.AgentName.make("andy"), Message.ConversationId.make("test:1")]
      const way = yield* egress.open({ agent, conversation, rules: [rule] })
      const session = yield* open(Sandbox.makeSpec({}, workspace, [], undefined, way))
      const asked = Sandbox.run(session, { run: `curl -sS -m 5 -H "x: $TOKEN" http://a.test:${port}/` })
      return { session, way, ask: Effect.map(asked, ({ stderr, stdout }) => stdout + stderr) }
    })
  })
}

const killed = (kind: "SandboxBubblewrap" | "SandboxDocker", sandbox: Layer.Layer<Sandbox.Sandbox>) =>
  it.live(
    "leaves nothing of twenty sessions with a way out, and leaves another claw's alone",
    () =>
      Effect.gen(function* () {
        const made = ["killed", "temporary", "state", "other", "other-state"].map((name) => openFolder(`claw-${name}-`))
        const [folder = "", temporary = "", state = "", otherFolder = "", otherState = ""] = made
        yield* Effect.addFinalizer(() =>
          Effect.sync(() => made.forEach((path) => rmSync(path, { recursive: true, force: true })))
        )
        const server = yield* origin((seen, response) => {
          if (seen.url !== "/never") response.end(seen.headers["x"] === "a-secret-of-a-claw" ? "on" : "who?")
        })
        const mark = `escape${randomBytes(6).toString("hex")}`
        const other = yield* (yield* withWayOut(otherState, server.port))(otherFolder)
        const running = yield* Effect.forkChild(Sandbox.run(other.session, { run: "sleep 8; echo on" }))
        const script = `
          import * as EgressProxy from "effect-claw/layers/EgressProxy"
          import * as Sandboxes from "effect-claw/layers/${kind}"
          import * as Egress from "effect-claw/services/Egress"
          import * as Sandbox from "effect-claw/services/Sandbox"
          import { Audit } from "effect-claw/services/Audit"
          import { Vault } from "effect-claw/services/Vault"
          import * as Effect from "effect/Effect"
          import * as Layer from "effect/Layer"
          import * as Redacted from "effect/Redacted"
          import { mkdirSync } from "node:fs"
          const rules = [Egress.allow("a.test", { ports: [${server.port}], addresses: ["127.0.0.1"], secret: "TOKEN", insecure: true })]
          const vault = Layer.succeed(Vault, new Map([["TOKEN", Redacted.make("a-secret-of-a-claw")]]))
          const audit = Layer.succeed(Audit, () => Effect.void)
          const proxy = EgressProxy.layer({
            directory: ${JSON.stringify(state)},
            lookup: () => Promise.resolve(["127.0.0.1"])
          })
          await Effect.runPromise(Effect.scoped(Effect.gen(function* () {
            const sandbox = yield* Sandbox.Sandbox
            const egress = yield* Egress.Egress
            const asked = yield* Effect.forEach(Array.from({ length: 20 }, (_, index) => index), Effect.fnUntraced(function* (index) {
              const folder = ${JSON.stringify(folder)} + "/" + index
              mkdirSync(folder)
              const way = yield* egress.open({ agent: "andy", conversation: "test:" + index, rules })
              const session = yield* sandbox.open(Sandbox.makeSpec({ memory: "64 MiB" }, folder, [], undefined, way))
              yield* Sandbox.run(session, { run: "setsid bash -c 'exec -a " + process.env.MARK + " sleep 1000' > /dev/null 2>&1 &" })
              yield* session.exec({ run: "curl -sS http://a.test:${server.port}/never", deadline: "1 hour" })
              return yield* Sandbox.run(session, { run: 'curl -sS -m 5 -H "x: $TOKEN" http://a.test:${server.port}/' })
            }), { concurrency: 4 })
            console.log(asked.map(({ stdout, stderr }) => stdout + stderr).join(" "))
            yield* Effect.never
          })).pipe(Effect.provide([Sandboxes.layer(), proxy.pipe(Layer.provide([audit, vault]))])))`
        const child = spawn(process.execPath, ["--conditions=source", "--input-type=module", "-e", script], {
          env: { ...process.env, TMPDIR: temporary, MARK: mark },
          stdio: ["ignore", "pipe", "inherit"]
        })
        yield* Effect.addFinalizer(() => Effect.sync(() => child.kill("SIGKILL")))
        const [said] = yield* Effect.promise(() => once(child.stdout, "data"))
        assert.strictEqual(String(said).trim(), Array.from({ length: 20 }, () => "on").join(" "))
        const ways = () => readdirSync(join(state, "egress")).filter((name) => name !== "authority.pem")
        const ids = yield* Effect.promise(() => containersOn(folder))
        assert.lengthOf(ids, kind === "SandboxDocker" ? 20 : 0)
        assert.strictEqual(processesWith(mark), 20)
        assert.lengthOf(ways(), 20)
        child.kill("SIGKILL")
        const left = yield* Effect.promise(async () => ({
          containers: (await containersOn(folder)).length,
          processes: processesWith(mark) + processesWith(folder),
          // Whatever the engine runs for a container has its name.
          attendants: ids.filter((id) => processesWith(id) > 0).length
        })).pipe(
          Effect.delay("250 millis"),
          Effect.repeat({
            until: ({ attendants, containers, processes }) => attendants + containers + processes === 0,
            times: 40
          })
        )
        assert.deepStrictEqual(left, { containers: 0, processes: 0, attendants: 0 })
        assert.deepStrictEqual(readdirSync(temporary), [])
        assert.strictEqual(yield* other.ask, "on")
        // The next claw finds its workspaces and its authority, and nothing else; what it has works.
        const open = yield* withWayOut(state, server.port)
        assert.deepStrictEqual(ways(), [])
        const next = yield* open(join(folder, "0"))
        assert.strictEqual(yield* next.ask, "on")
        assert.lengthOf(ways(), 1)
        assert.lengthOf(yield* Effect.promise(() => containersOn(folder)), kind === "SandboxDocker" ? 1 : 0)
        assert.isTrue(existsSync(join(other.way.folder, "proxy.sock")))
        assert.strictEqual((yield* Fiber.join(running)).stdout, "on\n")
        assert.strictEqual(yield* other.ask, "on")
      }).pipe(Effect.provide(sandbox)),
    120_000
  )

describeWithEngine("a claw that is killed, with containers", () => killed("SandboxDocker", SandboxDocker.layer()))
describeWithBubblewrap("a claw that is killed, with bubblewrap", () =>
  killed("SandboxBubblewrap", SandboxBubblewrap.layer())
)

describe("the canaries", () => {
  const onHost = Effect.fnUntraced(function* (attempt: Attempt) {
    const world = yield* Effect.acquireRelease(
      Effect.promise(() => makeWorld()),
      (made) => Effect.promise(() => made.close())
    )
    const [own, other] = [yield* folder, yield* folder]
    const secret = makeSecret()
    world.secrets.set(secret, "another session's workspace")
    writeFileSync(join(other, "own.txt"), secret)
    const place = { world, own: { workspace: own }, neighbour: { workspace: other }, mark: "host" }
    const command = ["5", "bash", "-c", scriptOf(attempt, "container", place)]
    const child = spawn("timeout", command, { cwd: own, stdio: ["ignore", "pipe", "pipe"] })
    let said = ""
    for (const output of [child.stdout, child.stderr]) output.on("data", (chunk: Buffer) => (said += chunk.toString()))
    yield* Effect.promise(() => once(child, "close"))
    assert.isAbove(world.reached(said, [own]).length, 0, attempt.name)
  }, Effect.scoped)

  it.live(
    "are reached by the same attempts on the host itself",
    () =>
      Effect.forEach(
        attempts.filter(({ onHost }) => onHost === true),
        onHost
      ),
    patience
  )
})

describe("docs/isolation.md", () => {
  const name = "names every attempt, and the kinds of sandbox that it was made in"
  if (process.env["UPDATE_ESCAPES"] === undefined) {
    it(name, () => assert.deepStrictEqual(Table.inDocs(), Table.names(attempts)))
  } else {
    it("is written anew", () => {
      assert.isTrue(engineAvailable, "outcomes of containers need an engine")
      Table.write(attempts)
    })
  }
})
