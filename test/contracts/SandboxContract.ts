/**
 * What every sandbox promises, whatever it is made of.
 */
import { assert, it } from "@effect/vitest"
import * as Sandbox from "effect-claw/services/Sandbox"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

export const workspace = () => mkdtempSync(join(tmpdir(), "claw-workspace-"))

const bytes = (text: string) => new TextEncoder().encode(text)
const text = (content: Uint8Array) => new TextDecoder().decode(content)

/** Opens a session on a fresh workspace. */
export const open = (options: Sandbox.SandboxOptions = {}, folder = workspace()) =>
  Effect.flatMap(Sandbox.Sandbox, (sandbox) => sandbox.open(Sandbox.makeSpec(options, folder)))

const testWith =
  (layer: Layer.Layer<Sandbox.Sandbox>) =>
  (name: string, body: Effect.Effect<unknown, unknown, Sandbox.Sandbox | Scope.Scope>) =>
    it.live(name, () => body.pipe(Effect.provide(layer), Effect.asVoid))

/** What those promise, besides, whose memory a control group holds. */
export const memoryContract = (layer: Layer.Layer<Sandbox.Sandbox>) => {
  const test = testWith(layer)

  test(
    "many small processes that fill the memory are told so, and the session goes on",
    Effect.gen(function* () {
      const session = yield* open({ memory: "64 MiB" })
      const small = "(x=$(head -c 400000 /dev/zero | tr '\\0' a); read -t 3 < <(sleep 4)) &"
      const filled = yield* Sandbox.run(session, { run: `ulimit -s 256; for i in $(seq 230); do ${small} done; wait` })
      assert.include(filled.stderr, "the sandbox ran out of memory")
      yield* Effect.sleep("4 seconds")
      assert.strictEqual((yield* Sandbox.run(session, { run: "echo on" })).stdout, "on\n")
    })
  )

  test(
    "one whose memory is full of files is lost, and says so",
    Effect.gen(function* () {
      const session = yield* open({ memory: "64 MiB" })
      const fill = Sandbox.run(session, { run: "head -c 100M /dev/zero > /tmp/x" })
      assert.include((yield* fill).stderr, "the sandbox ran out of memory")
      const error = yield* Effect.flip(Effect.repeat(fill, { times: 20 }))
      assert.strictEqual(error.reason._tag, "SessionLost")
      assert.include(error.message, "when its memory is full")
    })
  )
}

/** What those promise, besides, that run real programs. */
export const realSandboxContract = (layer: Layer.Layer<Sandbox.Sandbox>) => {
  const test = testWith(layer)

  test(
    "a mount that was replaced after it was granted is refused, be it by a link, another folder or another file",
    Effect.gen(function* () {
      const [base, outside] = [workspace(), workspace()]
      for (const folder of [base, outside]) chmodSync(folder, 0o755)
      const { open } = yield* Sandbox.Sandbox
      const place = join(base, "site")
      const opened = (identity: `${bigint} ${bigint}`) =>
        Effect.scoped(
          Effect.flatMap(
            open(Sandbox.makeSpec({}, workspace(), [{ host: place, target: "/mnt/site", write: false, identity }])),
            (session) => Sandbox.run(session, { run: "echo on" })
          )
        )
      const makers = [
        () => mkdirSync(place),
        () => writeFileSync(place, "one"),
        () => symlinkSync(outside, place),
        () => mkdirSync(place)
      ]
      for (const [index, make] of makers.entries()) {
        make()
        const { dev, ino } = statSync(place, { bigint: true })
        assert.strictEqual((yield* opened(`${dev} ${ino}`)).stdout, "on\n")
        renameSync(place, join(base, `${index}`))
        makers[(index + 1) % makers.length]?.()
        const error = yield* Effect.flip(opened(`${dev} ${ino}`))
        assert.strictEqual(error.reason._tag, "SpecRejected")
        assert.include(error.message, "/mnt/site is not what was granted")
        renameSync(place, join(base, `${index}+`))
      }
    })
  )
  test(
    "no file is larger than the workspace may hold, and none takes room that was not written",
    Effect.gen(function* () {
      const session = yield* open({ disk: "1 MiB" })
      const run = (script: string) => Sandbox.run(session, { run: script })
      const { stdout } = yield* run("head -c 5000000 /dev/zero > a; truncate -s 2M b; ls -l | awk '{ print $5 }'")
      assert.isBelow(Math.max(...stdout.split("\n").map(Number)), 1024 ** 2 + 1)
      assert.include((yield* run("fallocate -l 500K c; du -k c")).stdout, "0\t")
      // A file system's control, and the terminal's, which is no file system's.
      const control = (number: string) =>
        `perl -e 'open my $f, "+>", "d"; ioctl $f, ${number}, my $b = "\\0" x 48; print $!'`
      assert.match((yield* run(control("0x40305828"))).stdout, /not supported/)
      assert.match((yield* run(control("0x5401"))).stdout, /ioctl/)
    })
  )
  test(
    "what was in a workspace before its first session can be written to",
    Effect.gen(function* () {
      const folder = workspace()
      writeFileSync(join(folder, "letter"), "a tpyo", { mode: 0o644 })
      const session = yield* open({}, folder)
      yield* session.writeFile("letter", bytes("a typo"))
      assert.strictEqual(readFileSync(join(folder, "letter"), "utf8"), "a typo")
    })
  )
  test(
    "where memory runs out commands are killed before what carries them",
    Effect.gen(function* () {
      const session = yield* open()
      assert.strictEqual((yield* Sandbox.run(session, { run: "cat /proc/self/oom_score_adj" })).stdout, "1000\n")
    })
  )
}

export const sandboxContract = (layer: Layer.Layer<Sandbox.Sandbox>) => {
  const test = testWith(layer)

  test(
    "a script's output, errors and exit code come back apart",
    Effect.gen(function* () {
      const session = yield* open()
      const result = yield* Sandbox.run(session, { run: "echo out; echo err >&2; exit 3" })
      assert.deepInclude(result, { stdout: "out\n", stderr: "err\n", code: 3, timedOut: false, droppedBytes: 0 })
    })
  )

  test(
    "an argument vector is read by no shell (CVE-2026-28463's class)",
    Effect.gen(function* () {
      const session = yield* open()
      const result = yield* Sandbox.run(session, { run: ["echo", "$HOME;", "`ls`", "", "é"] })
      assert.strictEqual(result.stdout, "$HOME; `ls`  é\n")
    })
  )

  test(
    "a program that is not there is exit code 127",
    Effect.gen(function* () {
      const session = yield* open()
      assert.strictEqual((yield* Sandbox.run(session, { run: ["no-such-program"] })).code, 127)
    })
  )

  test(
    "stdin, the working directory and the environment reach the command",
    Effect.gen(function* () {
      const session = yield* open()
      yield* session.writeFile("sub/a.txt", bytes("x"))
      const result = yield* Sandbox.run(session, {
        run: "cat; pwd; echo $NAME",
        stdin: bytes("in\n"),
        cwd: "sub",
        env: { NAME: "a=b c" }
      })
      assert.strictEqual(result.stdout, "in\n/workspace/sub\na=b c\n")
    })
  )

  test(
    "files are bytes, and are the workspace's",
    Effect.gen(function* () {
      const folder = workspace()
      const session = yield* open({}, folder)
      const content = Uint8Array.from({ length: 256 * 1024 }, (_, index) => index % 256)
      yield* session.writeFile("deep/er/data.bin", content)
      assert.deepStrictEqual(yield* session.readFile("/workspace/deep/er/data.bin"), content)
      assert.deepStrictEqual(new Uint8Array(readFileSync(join(folder, "deep/er/data.bin"))), content)
      writeFileSync(join(folder, "host.txt"), "from the host")
      assert.strictEqual(text(yield* session.readFile("host.txt")), "from the host")
    })
  )

  test(
    "a mount is read, and written to only where it is writable; nothing beside it is there, and no link leads out of it",
    Effect.gen(function* () {
      const [outside, notes, work] = [workspace(), workspace(), workspace()]
      for (const folder of [outside, notes, work]) chmodSync(folder, 0o777)
      writeFileSync(join(outside, "canary"), "secret")
      writeFileSync(join(notes, "a.txt"), "a note")
      symlinkSync(join(outside, "canary"), join(notes, "link"))
      const sandbox = yield* Sandbox.Sandbox
      const session = yield* sandbox.open(
        Sandbox.makeSpec({}, workspace(), [
          { host: notes, target: "/mnt/notes", write: false },
          { host: work, target: "/mnt/team/work", write: true }
        ])
      )
      const run = (script: string) => Sandbox.run(session, { run: script })
      assert.deepInclude(yield* run("cat /mnt/notes/a.txt"), { stdout: "a note", code: 0 })
      assert.notInclude((yield* run("cat /mnt/notes/link; cat /mnt/notes/../canary")).stdout, "secret")
      for (const script of ["echo x > /mnt/notes/b.txt", "rm -f /mnt/notes/a.txt", "mkdir /mnt/notes/d"]) {
        yield* run(script)
        assert.deepStrictEqual(readdirSync(notes).toSorted(), ["a.txt", "link"], script)
      }
      assert.strictEqual(readFileSync(join(notes, "a.txt"), "utf8"), "a note")
      assert.strictEqual((yield* run("echo done > /mnt/team/work/b.txt")).code, 0)
      assert.strictEqual(readFileSync(join(work, "b.txt"), "utf8"), "done\n")
      assert.strictEqual(text(yield* session.readFile("/mnt/notes/a.txt")), "a note")
      assert.strictEqual((yield* Effect.flip(session.writeFile("/mnt/notes/c", bytes("x")))).reason._tag, "FileFailed")
    })
  )

  test(
    "a file's name is taken as it is, whatever is in it",
    Effect.gen(function* () {
      const session = yield* open()
      for (const name of ["line\nbreak/file", "-n", "a b'\"$(id)/`x`", "ends\n/in a break"]) {
        yield* session.writeFile(name, bytes(name))
        assert.strictEqual(text(yield* session.readFile(name)), name)
      }
      assert.strictEqual((yield* Effect.flip(session.writeFile("a\0b", bytes("x")))).reason._tag, "FileFailed")
      assert.strictEqual((yield* Effect.flip(session.readFile("ab"))).reason._tag, "FileFailed")
    })
  )

  test(
    "files outlive the session",
    Effect.gen(function* () {
      const folder = workspace()
      yield* Effect.scoped(Effect.flatMap(open({}, folder), (session) => session.writeFile("kept.txt", bytes("kept"))))
      const again = yield* open({}, folder)
      assert.strictEqual(text(yield* again.readFile("kept.txt")), "kept")
    })
  )

  test(
    "a file that is missing, a folder, or too large is said to be so",
    Effect.gen(function* () {
      const session = yield* open()
      yield* session.writeFile("d/big", new Uint8Array(2048))
      const failure = (path: string, limit?: number) =>
        Effect.map(Effect.flip(session.readFile(path, limit)), (error) => [error.reason._tag, error.message] as const)
      assert.deepStrictEqual(yield* failure("none"), ["FileFailed", "none: no such file or directory"])
      assert.deepStrictEqual(yield* failure("d"), ["FileFailed", "d: is a directory"])
      assert.deepStrictEqual(yield* failure("d/big", 1024), ["FileFailed", "d/big: is larger than 1024 bytes"])
    })
  )

  test(
    "a link in the workspace leads nowhere outside",
    Effect.gen(function* () {
      const folder = workspace()
      symlinkSync("/etc/hostname", join(folder, "link"))
      const session = yield* open({}, folder)
      const host = readFileSync("/etc/hostname", "utf8")
      const read = yield* Effect.exit(session.readFile("link"))
      if (Exit.isSuccess(read)) assert.notStrictEqual(text(read.value), host)
    })
  )

  test(
    "output beyond the limit is dropped and counted",
    Effect.gen(function* () {
      const session = yield* open()
      const result = yield* Sandbox.run(session, { run: "seq 1 20000", outputLimit: 1000 })
      assert.strictEqual(result.stdout.length, 1000)
      assert.isAbove(result.droppedBytes, 100_000)
    })
  )

  test(
    "a command is stopped at its deadline, and the session goes on",
    Effect.gen(function* () {
      const session = yield* open()
      const started = yield* Clock.currentTimeMillis
      const result = yield* Sandbox.run(session, { run: "sleep 30", deadline: "300 millis" })
      assert.deepInclude(result, { code: 124, timedOut: true })
      assert.isBelow((yield* Clock.currentTimeMillis) - started, 3000)
      assert.strictEqual((yield* Sandbox.run(session, { run: "echo on" })).stdout, "on\n")
    })
  )

  test(
    "a busy loop is stopped at its deadline",
    Effect.gen(function* () {
      const session = yield* open()
      const result = yield* Sandbox.run(session, { run: "while true; do :; done", deadline: "500 millis" })
      assert.strictEqual(result.timedOut, true)
    })
  )

  test(
    "an interrupted command is stopped",
    Effect.gen(function* () {
      const session = yield* open()
      const running = yield* Effect.forkChild(Sandbox.run(session, { run: "sleep 1; echo late > late.txt" }))
      yield* Effect.sleep("300 millis")
      yield* Fiber.interrupt(running)
      yield* Effect.sleep("1500 millis")
      const again = yield* open()
      void again
      assert.isTrue(Exit.isFailure(yield* Effect.exit(session.readFile("late.txt"))))
    })
  )

  test(
    "commands that come together all end, each with its own output and what it wrote",
    Effect.gen(function* () {
      const session = yield* open()
      const results = yield* Effect.forEach(
        Array.from({ length: 10 }, (_, index) => index),
        (index) => Sandbox.run(session, { run: `echo ${index} >> all.txt; echo ${index}` }),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(
        results.map(({ stdout }) => stdout.trim()),
        results.map((_, index) => String(index))
      )
      const written = text(yield* session.readFile("all.txt"))
      assert.sameMembers(
        written.trim().split("\n"),
        results.map((_, index) => String(index))
      )
    })
  )

  test(
    "two sessions share nothing",
    Effect.gen(function* () {
      const [one, two] = [yield* open(), yield* open()]
      yield* Sandbox.run(one, { run: "echo secret > a.txt; echo secret > /tmp/a.txt" })
      const seen = yield* Sandbox.run(two, { run: "cat a.txt /tmp/a.txt" })
      assert.notInclude(seen.stdout, "secret")
      assert.notStrictEqual(one.id, two.id)
    })
  )

  test(
    "a closed session runs nothing more",
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const session = yield* Scope.provide(open(), scope)
      yield* Sandbox.run(session, { run: "true" })
      const left = yield* Effect.forkChild(Sandbox.run(session, { run: "sleep 30" }))
      yield* Effect.sleep("200 millis")
      yield* Scope.close(scope, Exit.void)
      const exit = yield* Fiber.await(left)
      if (Exit.isSuccess(exit)) assert.notStrictEqual(exit.value.code, 0)
    })
  )

  test(
    "output streams while the command runs, or comes at its end; never later",
    Effect.gen(function* () {
      const session = yield* open()
      yield* Effect.scoped(
        Effect.gen(function* () {
          const process = yield* session.exec({ run: "echo first; sleep 0.2; echo second" })
          const all = yield* Stream.mkString(Stream.decodeText(process.stdout))
          assert.strictEqual(all, "first\nsecond\n")
          assert.strictEqual((yield* process.exit).code, 0)
        })
      )
    })
  )
}
