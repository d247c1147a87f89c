/**
 * The runner: one process inside a sandbox that carries all its commands over one stdin and stdout.
 *
 * An engine's own `exec` costs tens of milliseconds and a connection each; the runner forks. It needs `perl` of the image,
 * which every Debian and Ubuntu base has, and nothing else. What comes out of a sandbox is not trusted here: frames have a
 * bound, and so has what is kept of each command.
 *
 * A frame is a 32-bit length, a type byte and a 32-bit command number, big-endian, and then its content. To the runner:
 * 1 start (folder, output limit, number of arguments, arguments, environment, separated by NUL), 2 stdin, 3 end of stdin,
 * 4 kill. From it: 1 stdout, 2 stderr, 3 exit (code and dropped bytes), 4 could not start, 5 ready (nothing; or
 * `mount` and which is another than was granted, or `program` and which is not there).
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { readFileSync } from "node:fs"
import {
  type Command,
  type CommandExit,
  FileFailed,
  ProgramMissing,
  SandboxError,
  type SandboxSession,
  SessionLost,
  SpecRejected
} from "../../services/Sandbox.ts"

const read = (file: string) => readFileSync(new URL(`../../../sandbox/${file}`, import.meta.url), "utf8")

/** The runner's program, for `perl -e`, with the forwarder that it starts where there is a way out. */
export const program = read("forwarder.pl") + read("runner.pl")

/** The line to a runner. */
export interface Transport {
  readonly write: (bytes: Uint8Array) => void
  /** Calls back with what the runner writes, and once when there will be no more, with a reason for people. */
  readonly listen: (onData: (bytes: Buffer) => void, onEnd: (detail: string) => void) => void
  /** Ends the line, and the runner with it. */
  readonly close: () => void
}

/** What is to be said when a runner was killed and not by us. */
export const killed =
  "the sandbox was killed, as it is when its memory is full; files in /tmp and its home count as memory"

/** No honest frame is longer: the runner reads 64 KiB at once. */
const frameLimit = 1024 * 1024
const header = 9

interface Running {
  readonly stdout: Queue.Queue<Uint8Array, SandboxError | Cause.Done>
  readonly stderr: Queue.Queue<Uint8Array, SandboxError | Cause.Done>
  readonly exit: Deferred.Deferred<CommandExit, SandboxError>
  readonly left: { 1: number; 2: number }
  timedOut: boolean
}

/** A session over a runner, once it says that it is ready. What runs when the scope closes is killed. */
export const makeSession = Effect.fnUntraced(function* (
  id: string,
  transport: Transport
): Effect.fn.Return<SandboxSession, SandboxError, Scope.Scope> {
  const running = new Map<number, Running>()
  const ready = yield* Deferred.make<void, SandboxError>()
  let commands = 0
  let lost: SandboxError | undefined
  let received: Buffer = Buffer.alloc(0)

  const lose = (detail: string) => {
    lost ??= new SandboxError({ reason: new SessionLost({ detail }) })
    const failure = Effect.fail(lost)
    Deferred.doneUnsafe(ready, failure)
    for (const command of running.values()) {
      Deferred.doneUnsafe(command.exit, failure)
      Queue.failCauseUnsafe(command.stdout, Cause.fail(lost))
      Queue.failCauseUnsafe(command.stderr, Cause.fail(lost))
    }
    running.clear()
    transport.close()
  }

  const onFrame = (type: number, number: number, content: Buffer) => {
    if (type === 5) {
      return void Deferred.doneUnsafe(ready, content.length === 0 ? Effect.void : Effect.fail(unfit(String(content))))
    }
    const command = running.get(number)
    if (command === undefined) return
    if (type === 1 || type === 2) {
      const kept = content.subarray(0, command.left[type])
      command.left[type] -= kept.length
      if (kept.length > 0) Queue.offerUnsafe(type === 1 ? command.stdout : command.stderr, Uint8Array.from(kept))
      return
    }
    running.delete(number)
    // Whoever took the runner over may say anything.
    const [code = 126, droppedBytes = 0] =
      type === 3 ? (/^(\d{1,3}) (\d{1,15})$/.exec(content.toString("latin1"))?.slice(1).map(Number) ?? []) : []
    if (type === 4) Queue.offerUnsafe(command.stderr, Uint8Array.from(content))
    Queue.endUnsafe(command.stdout)
    Queue.endUnsafe(command.stderr)
    Deferred.doneUnsafe(
      command.exit,
      Effect.succeed({ code: command.timedOut ? 124 : code, timedOut: command.timedOut, droppedBytes })
    )
  }

  transport.listen((bytes) => {
    if (lost !== undefined) return
    received = received.length === 0 ? bytes : Buffer.concat([received, bytes])
    while (received.length >= header) {
      const length = received.readUInt32BE(0)
      if (length > frameLimit) return lose("the sandbox's runner was tampered with")
      if (received.length < header + length) return
      const frame = received.subarray(0, header + length)
      received = received.subarray(header + length)
      onFrame(frame.readUInt8(4), frame.readUInt32BE(5), frame.subarray(header))
    }
  }, lose)

  const send = (type: number, number: number, content: Uint8Array | string) => {
    const body = Buffer.from(content)
    const head = Buffer.alloc(header)
    head.writeUInt32BE(body.length, 0)
    head.writeUInt8(type, 4)
    head.writeUInt32BE(number, 5)
    transport.write(Buffer.concat([head, body]))
  }

  yield* Deferred.await(ready).pipe(
    Effect.timeoutOrElse({
      duration: "20 seconds",
      orElse: () => new SandboxError({ reason: new SessionLost({ detail: "the sandbox does not start" }) })
    })
  )

  const kill = (number: number, timedOut: boolean) =>
    Effect.suspend(() => {
      const command = running.get(number)
      if (command === undefined) return Effect.void
      command.timedOut = timedOut
      send(4, number, "")
      // What was started may have taken the line over, or stopped the runner: a session that does not obey is given up.
      return Effect.ignore(Deferred.await(command.exit)).pipe(
        Effect.timeoutOrElse({
          duration: "1 second",
          orElse: () => Effect.sync(() => lose("the sandbox did not obey, and was given up"))
        })
      )
    })

  const exec = Effect.fn("SandboxSession.exec")(function* (command: Command) {
    if (lost !== undefined) return yield* lost
    const number = ++commands
    const outputLimit = command.outputLimit ?? 1024 * 1024
    const entry: Running = {
      stdout: yield* Queue.unbounded<Uint8Array, SandboxError | Cause.Done>(),
      stderr: yield* Queue.unbounded<Uint8Array, SandboxError | Cause.Done>(),
      exit: yield* Deferred.make<CommandExit, SandboxError>(),
      left: { 1: outputLimit, 2: outputLimit },
      timedOut: false
    }
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        running.set(number, entry)
        const argv = typeof command.run === "string" ? ["bash", "-c", command.run] : command.run
        const folder = command.cwd === undefined ? "/workspace" : absolute(command.cwd)
        const environment = Object.entries(command.env ?? {}).map(([name, value]) => `${name}=${value}`)
        const fields = [folder, String(outputLimit), String(argv.length), ...argv, ...environment]
        send(1, number, fields.map((field) => field.replaceAll("\0", "")).join("\0"))
        const { stdin = new Uint8Array() } = command
        for (let at = 0; at < stdin.length; at += 65536) send(2, number, stdin.subarray(at, at + 65536))
        send(3, number, "")
      }),
      () => kill(number, false)
    )
    yield* Effect.forkScoped(Effect.delay(kill(number, true), command.deadline ?? "2 minutes"))
    return {
      stdout: Stream.fromQueue(entry.stdout),
      stderr: Stream.fromQueue(entry.stderr),
      exit: Deferred.await(entry.exit)
    }
  })

  /** A command of our own for a file: its output, or its complaint as a failure. */
  const onFile = Effect.fnUntraced(function* (path: string, limit: number, command: Command) {
    const failed = (detail: string) => new SandboxError({ reason: new FileFailed({ path, detail }) })
    if (path.includes("\0")) return yield* failed("no path has a NUL in it")
    const process = yield* exec({ ...command, outputLimit: limit })
    const [chunks, stderr, exit] = yield* Effect.all(
      [Stream.runCollect(process.stdout), Stream.mkString(Stream.decodeText(process.stderr)), process.exit],
      { concurrency: "unbounded" }
    )
    if (exit.code !== 0) return yield* failed(complaint(stderr))
    if (exit.droppedBytes > 0) return yield* failed(`is larger than ${limit} bytes`)
    return new Uint8Array(Buffer.concat(chunks))
  }, Effect.scoped)

  return {
    id,
    isLost: Effect.sync(() => lost !== undefined),
    exec,
    readFile: (path, limit = 16 * 1024 * 1024) => onFile(path, limit, { run: ["cat", "--", absolute(path)] }),
    writeFile: (path, content) =>
      Effect.asVoid(
        onFile(path, 4096, {
          // A substitution would take a line break off the folder's name.
          run: ["sh", "-c", `mkdir -p -- "\${1%/*}/" && cat > "$1"`, "sh", absolute(path)],
          stdin: content
        })
      )
  }
})

/** Why there can be no session. */
const unfit = (told: string) => {
  const [, kind, name = ""] = /^(\w+) (.*)$/.exec(told) ?? []
  return kind === "program" ? programMissing(name) : replaced(name)
}

const programMissing = (program: string) => {
  const detail = `there is no ${program} in the sandbox; it needs an image, or a machine, with bash, perl and coreutils`
  return new SandboxError({ reason: new ProgramMissing({ program, detail }) })
}

/** What whoever starts the runner says when there is no perl. */
export const perlMissing = (said: string): SandboxError | undefined =>
  /\bperl\b.*(?:not found|no such file)/i.test(said) ? programMissing("perl") : undefined

const replaced = (target: string) => {
  const detail = `what is mounted at ${target} is not what was granted: it was replaced meanwhile, or the engine shows no inodes of the host`
  return new SandboxError({ reason: new SpecRejected({ detail }) })
}

const absolute = (path: string): string => (path.startsWith("/") ? path : `/workspace/${path}`)

/** `cat: /workspace/a: No such file or directory` without what the reader knows. */
const complaint = (stderr: string): string => {
  const line = stderr.trim().split("\n").at(-1) ?? ""
  const detail = line.slice(line.lastIndexOf(": ") + 1).trim()
  return detail === "" ? "cannot be read or written" : detail.charAt(0).toLowerCase() + detail.slice(1)
}
