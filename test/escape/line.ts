/**
 * Attempts on the line between a sandbox's runner and the claw: what is written to it is for the claw to read.
 */
import { assert } from "@effect/vitest"
import * as Sandbox from "effect-claw/services/Sandbox"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { type Attempt, group, real, type Seen } from "./Attempt.ts"
import { frame, python } from "./scripts.ts"

/** A frame for each command that a session may have by now, its own among them. */
const forgeAll = (type: number, content: string) =>
  python(`
f = os.open('/proc/1/fd/1', os.O_WRONLY)
for n in range(1, 3000): os.write(f, struct.pack('>IBI', ${content.length}, ${type}, n) + b'${content}')
time.sleep(0.2)`)

/** Frames on the runner's own line, from a session's first command. */
const forge = (...frames: ReadonlyArray<string>) => `printf '${frames.join("")}' > /proc/1/fd/1; sleep 0.3; echo after`

const whole = ({ code, droppedBytes, lost }: Seen) => {
  if (lost !== undefined) return
  assert.isTrue(Number.isInteger(code), `the exit code ${code} is a number`)
  assert.isTrue(Number.isInteger(droppedBytes) && droppedBytes >= 0, `${droppedBytes} dropped bytes are a number`)
}

const alone = {}

export const line: ReadonlyArray<Attempt> = group("The runner's line", [
  { name: "a forged end", container: forgeAll(3, "0 0"), holds: whole },
  { name: "a forged end with a code that is none", container: forgeAll(3, "nonsense"), holds: whole },
  { name: "a forged end with numbers beyond numbers", container: forgeAll(3, "1e999 -1e999"), holds: whole },
  { name: "a forged end of an unknown kind", container: forgeAll(99, "x"), holds: whole },
  { name: "a forged failure to start", container: forgeAll(4, "no process could be started"), holds: whole },
  {
    name: "forged output of another command",
    alone,
    container: forge(frame(1, 2, "evil"), frame(1, 4294967295, "evil"), frame(2, 0, "evil")),
    holds: whole
  },
  {
    name: "forged output beyond the limit",
    alone,
    container: python(
      "f = os.open('/proc/1/fd/1', os.O_WRONLY)\nfor _ in range(200): os.write(f, struct.pack('>IBI', 65536, 1, 1) + b'x' * 65536)"
    ),
    holds: ({ stdout }) => assert.isAtMost(stdout.length, 1024 * 1024),
    deadline: "3 seconds"
  },
  {
    name: "a frame that says it is larger than any",
    alone,
    container: forge(frame(1, 1, "", 0xffffffff)),
    // Bubblewrap's line cannot be opened.
    holds: ({ lost, stderr }, { kind }) =>
      kind === "bubblewrap" ? assert.include(stderr, "Permission denied") : assert.include(lost, "tampered")
  },
  { name: "a frame that never ends", alone, container: forge(frame(1, 1, "x", 1024 * 1024)), deadline: "2 seconds" },
  {
    name: "frames of nothing, without end",
    alone,
    container: python(
      "f = os.open('/proc/1/fd/1', os.O_WRONLY)\nx = struct.pack('>IBI', 0, 1, 7) * 7000\nwhile True: os.write(f, x)"
    ),
    deadline: "2 seconds"
  },
  {
    name: "large frames of nobody's, without end",
    alone,
    container: python(
      "f = os.open('/proc/1/fd/1', os.O_WRONLY)\nx = struct.pack('>IBI', 1 << 20, 1, 7) + b'x' * (1 << 20)\nwhile True: os.write(f, x)"
    ),
    deadline: "2 seconds"
  },
  {
    name: "a large frame byte by byte",
    alone,
    container: python(
      "f = os.open('/proc/1/fd/1', os.O_WRONLY)\nwhile True:\n    os.write(f, struct.pack('>IBI', 1 << 20, 1, 7))\n    for _ in range(1 << 20): os.write(f, b'x')"
    ),
    deadline: "2 seconds"
  },
  {
    name: "garbage without end",
    act: {
      in: real,
      by: ({ open }) =>
        Effect.scoped(
          Effect.gen(function* () {
            const { session } = yield* open()
            const flood = python(
              "if os.fork() > 0: time.sleep(5); os._exit(0)\nos.setsid()\nf = os.open('/proc/1/fd/1', os.O_WRONLY)\nfor _ in range(4000): os.write(f, b'\\xff' * 65536)"
            )
            const ended = yield* Effect.result(Sandbox.run(session, { run: flood }))
            // A session that is lost is open until its scope is closed, which may be a while: its line is read no more.
            const before = process.memoryUsage().arrayBuffers
            let most = before
            for (let sample = 0; sample < 25; sample++) {
              yield* Effect.sleep("100 millis")
              most = Math.max(most, process.memoryUsage().arrayBuffers)
            }
            // A quarter of what is written: what is read and dropped may wait for the garbage collector.
            assert.isBelow(most - before, 64 * 1024 * 1024, "bytes that the claw keeps")
            return Result.isFailure(ended) ? ended.failure.message : "it went on"
          })
        )
    }
  },
  {
    name: "random bytes",
    alone,
    container: "head -c 100000 /dev/urandom > /proc/1/fd/1; sleep 1",
    deadline: "3 seconds"
  },
  {
    name: "garbage in the engine's own log",
    alone,
    container: "timeout 1 yes > /proc/1/fd/2; head -c 50000000 /dev/zero > /proc/1/fd/2; echo done",
    deadline: "10 seconds"
  },
  {
    name: "a frame to oneself",
    alone,
    container: `printf '${frame(1, 9, "/\x00100\x002\x00touch\x00/x")}' > /proc/1/fd/0; sleep 0.2; ls /x`,
    deadline: "3 seconds"
  },
  {
    name: "the claw's words, taken off the line",
    act: {
      in: real,
      by: ({ open }) =>
        Effect.scoped(
          Effect.gen(function* () {
            const { session } = yield* open()
            yield* Sandbox.run(session, { run: "setsid cat /proc/1/fd/0 > /tmp/taken 2>/dev/null &" })
            return yield* Sandbox.run(session, { run: "cat /tmp/taken", deadline: "2 seconds" }).pipe(
              Effect.map(({ stdout }) => `a command goes on: ${stdout.length} bytes`),
              Effect.catch((error) => Effect.succeed(error.message))
            )
          })
        )
    }
  },
  {
    name: "the line, held full",
    alone,
    container: "kill -STOP 1; exec 3</proc/1/fd/0; sleep 100",
    deadline: "2 seconds"
  },
  {
    name: "a flood of signals to the runner",
    alone,
    container: python("end = time.time() + 2\nwhile time.time() < end: os.kill(1, signal.SIGCHLD)\nprint('nothing')"),
    deadline: "3 seconds"
  }
])
