import { assert, describe, it } from "@effect/vitest"
import * as SandboxBubblewrap from "effect-claw/layers/SandboxBubblewrap"
import * as Sandbox from "effect-claw/services/Sandbox"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { memoryContract, open, realSandboxContract, sandboxContract, workspace } from "../contracts/SandboxContract.ts"
import { describeWithBubblewrap } from "../support/bubblewrap.ts"
import { findProcesses, processesBecome, processesWith } from "../support/processes.ts"

const test = (name: string, body: Effect.Effect<unknown, unknown, Sandbox.Sandbox | Scope.Scope>) =>
  it.live(name, () => body.pipe(Effect.provide(SandboxBubblewrap.layer()), Effect.asVoid))

const inside = (script: string, options?: Sandbox.SandboxOptions) =>
  Effect.flatMap(open(options), (session) => Sandbox.run(session, { run: script }))

/** Starts what belongs to no command any more, and can be found by a word. */
const orphan = (mark: string) => `setsid bash -c 'exec -a ${mark} sleep 1000' > /dev/null 2>&1 &`

describeWithBubblewrap("SandboxBubblewrap", () => {
  sandboxContract(SandboxBubblewrap.layer())
  realSandboxContract(SandboxBubblewrap.layer())
  memoryContract(SandboxBubblewrap.layer())

  test(
    "there is no network but loopback, which knows its name",
    Effect.gen(function* () {
      const { stdout } = yield* inside(
        "tail -n +3 /proc/net/dev | cut -d: -f1; curl -s -m 2 http://1.1.1.1 && echo out; python3 -c 'import socket; print(socket.gethostbyname(\"localhost\"))'"
      )
      assert.strictEqual(stdout.replaceAll(" ", ""), "lo\n127.0.0.1\n")
    })
  )

  test(
    "there is no capability, no way to gain one, and a seccomp filter",
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
    "the filter refuses namespaces, calls of other architectures and strange sockets, and threads run",
    Effect.gen(function* () {
      const { stdout } = yield* inside(`unshare -U true 2>/dev/null; echo $?; python3 - <<'PY'
import ctypes, errno, os, platform, socket, threading
libc = ctypes.CDLL(None, use_errno=True)
def call(x64, arm64, *args):
    libc.syscall(x64 if platform.machine() == 'x86_64' else arm64, *args)
    return errno.errorcode[ctypes.get_errno()]
print(call(56, 220, 0x10000000 | 17, 0, 0, 0, 0), call(435, 435, 0, 0), call(250, 219, 0, -3, 0))
print(call(0x40000000 | 39, 0x40000000 | 39))
for family in (1, 2, 10, 16, 40, 38):
    try: socket.socket(family, socket.SOCK_STREAM if family < 16 else socket.SOCK_RAW).close(); print(family, 'opened')
    except OSError as e: print(family, errno.errorcode[e.errno])
thread = threading.Thread(target=lambda: print('a thread')); thread.start(); thread.join()
PY`)
      assert.deepStrictEqual(stdout.trim().split("\n"), [
        "1",
        "EPERM ENOSYS EPERM",
        "EPERM",
        "1 opened",
        "2 opened",
        "10 opened",
        "16 opened",
        "40 EPERM",
        "38 EPERM",
        "a thread"
      ])
    })
  )

  test(
    "the root is read-only, the user is not root, and setuid programs give nothing",
    Effect.gen(function* () {
      const { stdout } = yield* inside(
        "id -u; id -un; touch /x /etc/x /usr/x /dev/x 2>/dev/null; ls /x /etc/x /usr/x /dev/x 2>/dev/null; su -c id root </dev/null 2>/dev/null | grep -c uid=0"
      )
      const [uid, ...rest] = stdout.trim().split("\n")
      assert.notStrictEqual(uid, "0")
      assert.deepStrictEqual(rest, ["claw", "0"])
    })
  )

  test(
    "of the host there are its programs and the workspace; of its settings, what programs need",
    Effect.gen(function* () {
      const lines = (script: string) => Effect.map(inside(script), ({ stdout }) => stdout.trim().split("\n"))
      const others = (all: ReadonlyArray<string>, known: string) => {
        const names = new Set(known.split(" "))
        return all.filter((name) => !names.has(name))
      }
      const root = "bin dev etc home lib lib32 lib64 libx32 proc sbin sys tmp usr workspace"
      assert.deepStrictEqual(others(yield* lines("ls -A /"), root), [])
      const settings = "alternatives ca-certificates hosts ld.so.cache passwd pki ssl"
      assert.deepStrictEqual(others(yield* lines("ls -A /etc"), settings), [])
      assert.deepStrictEqual(others(yield* lines("ls -A /etc/ssl"), "certs openssl.cnf"), [])
      assert.deepStrictEqual(others(yield* lines("cut -d: -f1 /etc/passwd"), "claw"), [])
      assert.deepStrictEqual(others(yield* lines("env | cut -d= -f1"), "HOME LANG PATH PWD SHLVL _ OLDPWD"), [])
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
    "processors are shared out: with a tenth of one, two busy seconds take a fifth of one",
    Effect.gen(function* () {
      const { stdout } = yield* inside("timeout 2 sh -c 'while :; do :; done'; times", { cpus: 0.1 })
      const seconds = [...stdout.matchAll(/0m([\d.]+)s/g)].map(([, value]) => Number(value))
      assert.lengthOf(seconds, 4)
      assert.isBelow(Math.max(...seconds), 0.6)
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
    "a session lives exactly as long as its scope, with all that left its process group",
    Effect.gen(function* () {
      const [folder, mark] = [workspace(), `claw${randomUUID()}`]
      const group = yield* Effect.scoped(
        Effect.gen(function* () {
          const session = yield* open({}, folder)
          yield* Sandbox.run(session, { run: orphan(mark) })
          assert.strictEqual(yield* processesBecome(mark, 1), 1)
          const [id = 0] = findProcesses(mark)
          const [, path = ""] = /^(?:\d+:memory|0:):(.*)$/m.exec(readFileSync(`/proc/${id}/cgroup`, "utf8")) ?? []
          return ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"]
            .map((root) => join(root, path))
            .find((at) => existsSync(at))
        })
      )
      assert.include(group, "effect-claw")
      assert.strictEqual(processesWith(mark), 0)
      assert.strictEqual(processesWith(folder), 0)
      assert.isFalse(existsSync(group ?? "/"))
    })
  )

  test(
    "a killed claw's sessions end with it, and another claw's go on",
    Effect.gen(function* () {
      const [folder, mark] = [workspace(), `claw${randomUUID()}`]
      const other = yield* open()
      const script = `
        import * as SandboxBubblewrap from "effect-claw/layers/SandboxBubblewrap"
        import * as Sandbox from "effect-claw/services/Sandbox"
        import * as Effect from "effect/Effect"
        await Effect.runPromise(Effect.scoped(Effect.gen(function* () {
          const sandbox = yield* Sandbox.Sandbox
          const session = yield* sandbox.open(Sandbox.makeSpec({}, ${JSON.stringify(folder)}))
          yield* Sandbox.run(session, { run: ${JSON.stringify(`${orphan(mark)} touch running`)} })
          yield* Effect.never
        })).pipe(Effect.provide(SandboxBubblewrap.layer())))`
      const child = spawn(process.execPath, ["--conditions=source", "--input-type=module", "-e", script])
      yield* Effect.addFinalizer(() => Effect.sync(() => child.kill("SIGKILL")))
      while (!existsSync(join(folder, "running"))) yield* Effect.sleep("100 millis")
      // The claw has the word in its own command line.
      assert.strictEqual(processesWith(mark), 2)
      child.kill("SIGKILL")
      assert.strictEqual(yield* processesBecome(mark, 0), 0)
      assert.strictEqual(yield* processesBecome(folder, 0), 0)
      assert.strictEqual((yield* Sandbox.run(other, { run: "echo on" })).stdout, "on\n")
    })
  )

  test(
    "the control groups that a killed claw left are gone at its next start, and another claw's are not",
    Effect.gen(function* () {
      const [folder, claw, another] = [workspace(), `claw ${randomUUID()}`, randomUUID()]
      const sandbox = yield* Sandbox.Sandbox
      const reap = sandbox.reap ?? assert.fail("it can reap")
      const parents = ["", "memory", "pids", "cpu"].map((name) => join("/sys/fs/cgroup", name, "effect-claw"))
      const groups = (of: string) =>
        parents
          .filter((parent) => existsSync(parent))
          .flatMap((parent) => readdirSync(parent).filter((name) => name.startsWith(encodeURIComponent(of)))).length
      const script = `
        import * as SandboxBubblewrap from "effect-claw/layers/SandboxBubblewrap"
        import * as Sandbox from "effect-claw/services/Sandbox"
        import * as Effect from "effect/Effect"
        await Effect.runPromise(Effect.scoped(Effect.gen(function* () {
          const sandbox = yield* Sandbox.Sandbox
          for (const claw of ${JSON.stringify([claw, another])}) {
            const session = yield* sandbox.open(Sandbox.makeSpec({}, ${JSON.stringify(folder)}, [], claw))
            yield* Sandbox.run(session, { run: "echo >> running" })
          }
          yield* Effect.never
        })).pipe(Effect.provide(SandboxBubblewrap.layer())))`
      const child = spawn(process.execPath, ["--conditions=source", "--input-type=module", "-e", script])
      yield* Effect.addFinalizer(() =>
        Effect.andThen(
          Effect.ignore(reap(another)),
          Effect.sync(() => child.kill("SIGKILL"))
        )
      )
      const running = join(folder, "running")
      while (!existsSync(running) || readFileSync(running).length < 2) yield* Effect.sleep("100 millis")
      const session = yield* sandbox.open(Sandbox.makeSpec({}, workspace(), [], claw))
      const [before, others] = [groups(claw), groups(another)]
      child.kill("SIGKILL")
      assert.strictEqual(yield* processesBecome(folder, 0), 0)
      yield* reap(claw)
      assert.strictEqual(groups(claw), before / 2)
      assert.strictEqual(groups(another), others)
      assert.isAbove(others, 0)
      assert.strictEqual((yield* Sandbox.run(session, { run: "echo on" })).stdout, "on\n")
    })
  )

  test(
    "the runner's memory, line and life are closed to the commands",
    Effect.gen(function* () {
      const session = yield* open()
      const script =
        "cat /proc/1/fd/0 /proc/1/environ; echo x > /proc/1/fd/1; dd if=/dev/zero of=/proc/1/mem count=1; kill -STOP 1"
      const { stderr } = yield* Sandbox.run(session, { run: `${script}; kill -9 -1` })
      assert.lengthOf(stderr.match(/Permission denied/g) ?? [], 4)
      assert.strictEqual((yield* Sandbox.run(session, { run: "echo on" })).stdout, "on\n")
    })
  )

  test(
    "a session is ended with its scope also when its runner does nothing any more",
    Effect.gen(function* () {
      const folder = workspace()
      const runner = yield* Effect.scoped(
        Effect.gen(function* () {
          yield* open({}, folder)
          const [outer = 0] = findProcesses(folder)
          const first = Number(readFileSync(`/proc/${outer}/task/${outer}/children`, "utf8"))
          assert.isAbove(first, 1)
          process.kill(first, "SIGSTOP")
          return first
        })
      )
      // Dead, but perhaps not buried.
      const status = `/proc/${runner}/status`
      assert.match(existsSync(status) ? readFileSync(status, "utf8") : "State: X", /State:\s[XZ]/)
    })
  )

  test(
    "a session whose first process is killed is lost, and says so",
    Effect.gen(function* () {
      const folder = workspace()
      const session = yield* open({}, folder)
      const running = yield* Effect.forkChild(Effect.flip(Sandbox.run(session, { run: "sleep 60" })))
      yield* Effect.sleep("300 millis")
      for (const id of findProcesses(folder)) process.kill(id, "SIGKILL")
      const error = yield* Fiber.join(running)
      assert.strictEqual(error.reason._tag, "SessionLost")
      assert.strictEqual((yield* Effect.flip(Sandbox.run(session, { run: "true" }))).reason._tag, "SessionLost")
    })
  )
})

describe("SandboxBubblewrap where it cannot work", () => {
  const failure = (program: string) => Effect.flip(open()).pipe(Effect.provide(SandboxBubblewrap.layer({ program })))
  const forbidden = join(workspace(), "bwrap")
  writeFileSync(forbidden, "#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n", {
    mode: 0o755
  })

  describeWithBubblewrap("for want of a program or a right", () => {
    it.live("a program that is not there is named, with what to install", () =>
      Effect.gen(function* () {
        const error = yield* failure("/no/such/bwrap")
        assert.strictEqual(error.reason._tag, "SandboxUnavailable")
        assert.include(error.message, "install bubblewrap")
      })
    )

    it.live("a system that forbids user namespaces is told how to allow them", () =>
      Effect.gen(function* () {
        const error = yield* failure(forbidden)
        assert.strictEqual(error.reason._tag, "SandboxUnavailable")
        assert.include(error.message, "setting up uid map: Permission denied")
        assert.include(error.message, "apparmor_restrict_unprivileged_userns")
        assert.isFalse(yield* SandboxBubblewrap.isAvailable({ program: forbidden }))
      })
    )
  })
})
