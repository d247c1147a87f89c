import { assert, it } from "@effect/vitest"
import * as SandboxDocker from "effect-claw/layers/SandboxDocker"
import * as WorkspacesLocal from "effect-claw/layers/WorkspacesLocal"
import { AgentName, ConversationId } from "effect-claw/services/Message"
import * as Rights from "effect-claw/services/Rights"
import * as Sandbox from "effect-claw/services/Sandbox"
import * as Sandboxes from "effect-claw/services/Sandboxes"
import Docker from "dockerode"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { execFileSync, spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import { once } from "node:events"
import { chmodSync, existsSync, mkdtempSync, readFileSync } from "node:fs"
import { connect, createServer, type Socket } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { memoryContract, open, realSandboxContract, sandboxContract, workspace } from "../contracts/SandboxContract.ts"
import { folder } from "../contracts/store.ts"
import { containersOn, describeWithEngine } from "../support/engine.ts"

const docker = new Docker()

const test = (name: string, body: Effect.Effect<unknown, unknown, Sandbox.Sandbox | Scope.Scope>) =>
  it.live(name, () => body.pipe(Effect.provide(SandboxDocker.layer()), Effect.asVoid))

const inside = (script: string, options?: Sandbox.SandboxOptions) =>
  Effect.flatMap(open(options), (session) => Sandbox.run(session, { run: script }))

/** Containers on a folder, once there are as many as said, or after ten seconds. */
const containersBecome = (folder: string, count: number) =>
  Effect.promise(() => containersOn(folder)).pipe(
    Effect.delay("100 millis"),
    Effect.repeat({ until: (found) => found.length === count, times: 100 })
  )

/** The engine behind a socket of our own, whose connections can be cut. */
const engineBehindSocket = Effect.acquireRelease(
  Effect.promise(async () => {
    const path = join(mkdtempSync(join(tmpdir(), "engine-")), "engine.sock")
    const sockets = new Set<Socket>()
    const server = createServer((client) => {
      const engine = connect("/var/run/docker.sock")
      client.pipe(engine)
      engine.pipe(client)
      for (const socket of [client, engine]) {
        sockets.add(socket)
        socket.on("error", () => socket.destroy()).on("close", () => sockets.delete(socket))
      }
    })
    server.listen(path)
    await once(server, "listening")
    const cut = () => sockets.forEach((socket) => socket.destroy())
    return { path, cut, stop: () => (server.close(), cut()) }
  }),
  ({ stop }) => Effect.sync(stop)
)

describeWithEngine("SandboxDocker", () => {
  sandboxContract(SandboxDocker.layer())
  realSandboxContract(SandboxDocker.layer())
  memoryContract(SandboxDocker.layer())

  test(
    "there is no network but loopback (GHSA-ww6v-v748-x7g9's class)",
    Effect.gen(function* () {
      const { stdout } = yield* inside("ls /sys/class/net; curl -s -m 2 http://1.1.1.1 && echo out")
      assert.strictEqual(stdout, "lo\n")
    })
  )

  test(
    "there is no capability, no way to gain one, and the default seccomp filter",
    Effect.gen(function* () {
      const { stdout } = yield* inside("grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status")
      const status = new Map(
        stdout
          .trim()
          .split("\n")
          .map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()] as const)
      )
      for (const set of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]) {
        assert.strictEqual(status.get(set), "0000000000000000", set)
      }
      assert.strictEqual(status.get("NoNewPrivs"), "1")
      assert.strictEqual(status.get("Seccomp"), "2")
    })
  )

  test(
    "the root is read-only, the user is not root, and setuid programs give nothing",
    Effect.gen(function* () {
      const { stdout } = yield* inside(
        "id -u; touch /x /etc/x /usr/x 2>/dev/null; ls /x /etc/x /usr/x 2>/dev/null; su -c id root </dev/null 2>/dev/null | grep -c uid=0"
      )
      const [uid, ...rest] = stdout.trim().split("\n")
      assert.notStrictEqual(uid, "0")
      assert.deepStrictEqual(rest, ["0"])
    })
  )

  test(
    "of the host there is the workspace and nothing else",
    Effect.gen(function* () {
      const { stdout } = yield* inside(
        "awk '$3 !~ /^(overlay|proc|tmpfs|sysfs|cgroup2?|devpts|mqueue)$/ {print $2}' /proc/mounts; env"
      )
      const [mounts, environment] = [
        stdout.split("\n").filter((line) => line.startsWith("/")),
        stdout.split("\n").flatMap((line) => (line.includes("=") ? [line.split("=")[0]] : []))
      ]
      const engineOwn = new Set(["/etc/resolv.conf", "/etc/hostname", "/etc/hosts", "/dev/shm"])
      assert.deepStrictEqual(
        mounts.filter((mount) => !engineOwn.has(mount)),
        ["/workspace"]
      )
      const expected = new Set(["HOME", "LANG", "PATH", "HOSTNAME", "PWD", "SHLVL", "_", "OLDPWD"])
      assert.deepStrictEqual(
        environment.filter((name) => name !== undefined && !expected.has(name)),
        []
      )
    })
  )

  it.live("a seccomp profile of one's own holds, and a runtime that is not there is refused", () =>
    Effect.gen(function* () {
      const seccomp = JSON.stringify({
        defaultAction: "SCMP_ACT_ALLOW",
        syscalls: [{ names: ["mkdir", "mkdirat"], action: "SCMP_ACT_ERRNO" }]
      })
      const opened = (options: SandboxDocker.Options) =>
        Effect.provide(inside("mkdir /tmp/a"), SandboxDocker.layer(options))
      assert.include((yield* opened({ seccomp })).stderr, "Operation not permitted")
      const error = yield* Effect.flip(opened({ runtime: "no-such-runtime" }))
      assert.include(error.message, "no-such-runtime")
    })
  )

  test(
    "commands run side by side",
    Effect.gen(function* () {
      const session = yield* open()
      const [duration] = yield* Effect.timed(
        Effect.forEach(Array.from({ length: 10 }), () => Sandbox.run(session, { run: "sleep 1" }), {
          concurrency: "unbounded"
        })
      )
      assert.isBelow(Duration.toMillis(duration), 8000)
    })
  )

  test(
    "memory, processes and open files are bounded, and the session outlives an excess",
    Effect.gen(function* () {
      const session = yield* open({ memory: "64 MiB", processes: 32 })
      const run = (script: string) => Sandbox.run(session, { run: script, deadline: "20 seconds" })
      const memory = yield* run("python3 -c 'x = bytearray(256 * 1024 * 1024); print(len(x))'")
      assert.notStrictEqual(memory.code, 0)
      assert.strictEqual(memory.stdout, "")
      assert.include(memory.stderr, "the sandbox ran out of memory")
      const bomb = yield* run("for i in $(seq 100); do sleep 5 & done 2>/dev/null; jobs -r | wc -l; kill $(jobs -p)")
      assert.isBelow(Number(bomb.stdout.trim() || 0), 32)
      assert.strictEqual((yield* run("ulimit -n")).stdout, "1024\n")
      assert.strictEqual((yield* run("echo on")).stdout, "on\n")
    })
  )

  test(
    "a gigabyte of output is counted, not kept",
    Effect.gen(function* () {
      const before = process.memoryUsage().rss
      const result = yield* inside("head -c 1000000000 /dev/zero | tr '\\0' x")
      assert.strictEqual(result.stdout.length + result.droppedBytes, 1_000_000_000)
      assert.isBelow(process.memoryUsage().rss - before, 200 * 1024 * 1024)
    })
  )

  test(
    "what a command leaves running does not hold up its end",
    Effect.gen(function* () {
      const { stdout } = yield* inside("sleep 60 & echo done").pipe(Effect.timeout("10 seconds"))
      assert.strictEqual(stdout, "done\n")
    })
  )

  test(
    "an image that lacks a program which is needed is refused, with which",
    Effect.gen(function* () {
      for (const [program, path] of [
        ["bash", "/bin/bash"],
        ["perl", "/usr/bin/perl*"]
      ] as const) {
        const image = `claw-test-without-${program}`
        const dockerfile = `FROM ${SandboxDocker.defaultImage}\nUSER root\nRUN rm ${path}\nUSER claw\n`
        execFileSync("docker", ["build", "-q", "-t", image, "-"], { input: dockerfile })
        const error = yield* Effect.flip(Effect.scoped(open({ image }))).pipe(
          Effect.ensuring(Effect.sync(() => execFileSync("docker", ["rmi", image])))
        )
        assert(error.reason._tag === "ProgramMissing", error.message)
        assert.strictEqual(error.reason.program, program)
      }
    })
  )

  test(
    "a container lives exactly as long as its scope",
    Effect.gen(function* () {
      const folder = workspace()
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* open({}, folder)
          assert.lengthOf(yield* Effect.promise(() => containersOn(folder)), 1)
        })
      )
      assert.lengthOf(yield* Effect.promise(() => containersOn(folder)), 0)
    })
  )

  test(
    "a killed claw's container ends by itself",
    Effect.gen(function* () {
      const folder = workspace()
      const script = `
        import * as SandboxDocker from "effect-claw/layers/SandboxDocker"
        import * as Sandbox from "effect-claw/services/Sandbox"
        import * as Effect from "effect/Effect"
        await Effect.runPromise(Effect.scoped(Effect.gen(function* () {
          const sandbox = yield* Sandbox.Sandbox
          const session = yield* sandbox.open(Sandbox.makeSpec({}, ${JSON.stringify(folder)}))
          yield* Sandbox.run(session, { run: "echo on > running; sleep 100" })
        })).pipe(Effect.provide(SandboxDocker.layer())))`
      const child = spawn(process.execPath, ["--conditions=source", "--input-type=module", "-e", script])
      while (!existsSync(join(folder, "running"))) yield* Effect.sleep("100 millis")
      assert.lengthOf(yield* containersBecome(folder, 1), 1)
      child.kill("SIGKILL")
      assert.lengthOf(yield* containersBecome(folder, 0), 0)
    })
  )

  test(
    "a paused session does nothing, and goes on where it was; one that is gone meanwhile is lost",
    Effect.gen(function* () {
      const folder = workspace()
      chmodSync(folder, 0o777)
      const session = yield* open({}, folder)
      const pause = session.pause ?? assert.fail("it can pause")
      const count = () => readFileSync(join(folder, "ticks"), "utf8").length
      yield* Sandbox.run(session, { run: "setsid bash -c 'while sleep 0.05; do printf x >> ticks; done' & sleep 0.3" })
      const resume = yield* pause
      const before = count()
      assert.isAbove(before, 0)
      yield* Effect.sleep("500 millis")
      assert.strictEqual(count(), before)
      yield* resume
      assert.strictEqual((yield* Sandbox.run(session, { run: "sleep 0.3; echo on" })).stdout, "on\n")
      assert.isAbove(count(), before)
      const again = yield* pause
      for (const id of yield* Effect.promise(() => containersOn(folder))) {
        yield* Effect.promise(() => docker.getContainer(id).remove({ force: true }))
      }
      assert.strictEqual((yield* Effect.flip(again)).reason._tag, "SessionLost")
    })
  )

  test(
    "what a killed claw left, paused or never started, is gone at its next start, and another claw's is not",
    Effect.gen(function* () {
      const sandbox = yield* Sandbox.Sandbox
      const reap = sandbox.reap ?? assert.fail("it can reap")
      const [one, two, three] = [randomUUID(), randomUUID(), workspace()]
      const folders = { one: workspace(), two: workspace() }
      const script = (claw: string, folder: string) => `
        import * as SandboxDocker from "effect-claw/layers/SandboxDocker"
        import * as Sandbox from "effect-claw/services/Sandbox"
        import * as Effect from "effect/Effect"
        import { writeFileSync } from "node:fs"
        await Effect.runPromise(Effect.scoped(Effect.gen(function* () {
          const sandbox = yield* Sandbox.Sandbox
          const session = yield* sandbox.open(Sandbox.makeSpec({}, ${JSON.stringify(folder)}, [], "${claw}"))
          yield* session.pause
          writeFileSync(${JSON.stringify(folder)} + "/paused", "")
          yield* Effect.never
        })).pipe(Effect.provide(SandboxDocker.layer())))`
      const start = (claw: string, folder: string) =>
        spawn(process.execPath, ["--conditions=source", "--input-type=module", "-e", script(claw, folder)])
      const claws = [start(one, folders.one), start(two, folders.two)]
      for (const folder of Object.values(folders)) {
        while (!existsSync(join(folder, "paused"))) yield* Effect.sleep("100 millis")
      }
      for (const claw of claws) claw.kill("SIGKILL")
      yield* Effect.promise(() =>
        docker.createContainer({
          Image: SandboxDocker.defaultImage,
          Labels: { "effect-claw": "sandbox", "effect-claw.claw": one, "effect-claw.boot": "an earlier one" },
          HostConfig: { Binds: [`${three}:/workspace`] }
        })
      )
      const own = workspace()
      const session = yield* sandbox.open(Sandbox.makeSpec({}, own, [], one))
      yield* Effect.sleep("1 second")
      assert.lengthOf(yield* containersBecome(folders.one, 1), 1)
      yield* reap(one)
      assert.lengthOf(yield* containersBecome(folders.one, 0), 0)
      assert.lengthOf(yield* containersBecome(three, 0), 0)
      assert.lengthOf(yield* containersBecome(folders.two, 1), 1)
      assert.strictEqual((yield* Sandbox.run(session, { run: "echo on" })).stdout, "on\n")
      yield* reap(two)
      assert.lengthOf(yield* containersBecome(folders.two, 0), 0)
    })
  )

  it.live("a command that fills its workspace is ended, and what comes after can delete, and not write", () =>
    Effect.gen(function* () {
      const sandboxes = yield* Sandboxes.Sandboxes
      const run = (script: string) =>
        sandboxes.session(AgentName.make("andy"), ConversationId.make("memory:chat"), Rights.none).pipe(
          Effect.flatMap((session) => Sandbox.run(session, { run: script })),
          Effect.scoped
        )
      const error = yield* Effect.flip(
        run(
          "(while sleep 0.1; do head -c 1000000 /dev/zero >> slow; done) & while sleep 0.1; do head -c 5000000 /dev/zero >> big; done"
        )
      )
      assert(error instanceof Sandbox.SandboxError)
      assert.strictEqual(error.reason._tag, "WorkspaceFull")
      assert.include(error.message, "the workspace holds more than 10 MiB; delete files")
      const full = yield* run("echo more >> big; echo x > new; head -c 1 new | wc -c; rm big slow; ls")
      assert.match(full.stderr, /holds more than 10 MiB.*\n[^]*File too large/)
      assert.notInclude(full.stdout, "big")
      assert.strictEqual((yield* run("echo again > new; cat new")).stdout, "again\n")
    }).pipe(
      Effect.provide(
        Layer.unwrap(
          Effect.map(folder, (directory) =>
            Sandboxes.layer({ optionsOf: () => ({ disk: "10 MiB" }) }).pipe(
              Layer.provide(SandboxDocker.layer()),
              Layer.provide(WorkspacesLocal.layer({ directory }))
            )
          )
        )
      )
    )
  )

  it.effect("an engine that takes what it is asked and never answers is none after half a minute", () =>
    Effect.gen(function* () {
      const path = join(yield* folder, "engine.sock")
      const asked = Promise.withResolvers<void>()
      const server = createServer((client) => void client.on("data", () => asked.resolve()).on("error", () => {}))
      yield* Effect.addFinalizer(() => Effect.sync(() => server.close()))
      yield* Effect.promise(() => once(server.listen(path), "listening"))
      const opening = yield* Effect.forkChild(
        Effect.flip(open()).pipe(Effect.provide(SandboxDocker.layer({ socketPath: path })))
      )
      yield* Effect.promise(() => asked.promise)
      yield* TestClock.adjust("30 seconds")
      const { reason } = yield* Fiber.join(opening)
      assert.strictEqual(reason._tag, "SandboxUnavailable")
      assert.include(reason.detail, "no container engine answers (it is silent)")
    })
  )

  it.live("a session that ended while nothing ran in it fails nobody", () =>
    Effect.gen(function* () {
      const directory = yield* folder
      yield* Effect.gen(function* () {
        const sandboxes = yield* Sandboxes.Sandboxes
        const run = sandboxes.session(AgentName.make("andy"), ConversationId.make("memory:chat"), Rights.none).pipe(
          Effect.flatMap((session) => Sandbox.run(session, { run: "echo on" })),
          Effect.scoped
        )
        assert.strictEqual((yield* run).stdout, "on\n")
        for (const id of yield* Effect.promise(() => containersOn(directory))) {
          yield* Effect.promise(() => docker.getContainer(id).remove({ force: true }))
        }
        yield* Effect.sleep("500 millis")
        assert.strictEqual((yield* run).stdout, "on\n")
      }).pipe(
        Effect.provide(
          Sandboxes.layer({ optionsOf: () => ({}) }).pipe(
            Layer.provide(SandboxDocker.layer()),
            Layer.provide(WorkspacesLocal.layer({ directory }))
          )
        )
      )
    })
  )

  it.live("an engine that goes away in the middle of a command loses the session, and says so", () =>
    Effect.gen(function* () {
      const engine = yield* engineBehindSocket
      const layer = SandboxDocker.layer({ socketPath: engine.path })
      const error = yield* Effect.gen(function* () {
        const session = yield* open()
        const running = yield* Effect.forkChild(Effect.flip(Sandbox.run(session, { run: "sleep 60" })))
        yield* Effect.sleep("300 millis")
        engine.cut()
        const lost = yield* Fiber.join(running)
        const again = yield* open()
        assert.strictEqual((yield* Sandbox.run(again, { run: "echo again" })).stdout, "again\n")
        return lost
      }).pipe(Effect.provide(layer))
      assert.strictEqual(error.reason._tag, "SessionLost")
    })
  )

  test(
    "a command that takes the line over loses the session at its deadline, and holds nothing up",
    Effect.gen(function* () {
      const session = yield* open()
      const forged = "printf '\\x00\\x0f\\x00\\x00\\x01\\x00\\x00\\x00\\x63' > /proc/1/fd/1; sleep 60"
      const error = yield* Effect.flip(Sandbox.run(session, { run: forged, deadline: "1 second" })).pipe(
        Effect.timeout("10 seconds")
      )
      assert.strictEqual(error instanceof Sandbox.SandboxError && error.reason._tag, "SessionLost")
    })
  )

  it.live("an image that is not there is named", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(open({ image: "effect-claw/none:0" }))
      assert.strictEqual(error.reason._tag, "ImageMissing")
      assert.include(error.message, "effect-claw/none:0")
    }).pipe(Effect.provide(SandboxDocker.layer()))
  )

  it.live("without an engine there is an error that says what to do", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(open())
      assert.strictEqual(error.reason._tag, "SandboxUnavailable")
      assert.include(error.message, "start Docker")
    }).pipe(Effect.provide(SandboxDocker.layer({ socketPath: join(tmpdir(), "no-engine.sock") })))
  )
})
