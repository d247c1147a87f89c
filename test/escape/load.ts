/**
 * Attempts to take the machine, or the claw, with more than one's share: processes, memory, disk, output, time. And to
 * outlive one's session.
 */
import { assert } from "@effect/vitest"
import * as Sandbox from "effect-claw/services/Sandbox"
import * as Effect from "effect/Effect"
import { type Attempt, group, real, kinds, type Seen, type Stage } from "./Attempt.ts"
import { python } from "./scripts.ts"
import { processesWith } from "../support/processes.ts"

const atMost = (bytes: number) => (seen: Seen) => assert.isAtMost(Number(seen.stdout.trim().split("\n").at(-1)), bytes)
const timedOut = (seen: Seen) => assert.isTrue(seen.timedOut || seen.lost !== undefined, "it is ended at its deadline")
const MiB = 1024 * 1024

/** Waits until no process of the host has the mark, at most for five seconds. */
const gone = (mark: string) =>
  Effect.sync(() => processesWith(mark)).pipe(
    Effect.delay("50 millis"),
    Effect.repeat({ until: (count) => count === 0, times: 100 }),
    Effect.map((count) => assert.strictEqual(count, 0, "processes of a session that is closed"))
  )

/** Runs in a session that is then closed: what it started is there before, and not after. */
const outlives = (script: (mark: string) => string) => ({
  in: real,
  by: ({ mark, open }: Stage) =>
    Effect.scoped(
      Effect.gen(function* () {
        const { session } = yield* open()
        yield* Sandbox.run(session, { run: script(mark), deadline: "3 seconds" }).pipe(Effect.ignore)
        yield* Effect.sleep("200 millis")
        return processesWith(mark)
      })
    ).pipe(
      Effect.tap((count) => Effect.sync(() => assert.isAbove(count, 0, "it was there"))),
      Effect.andThen(gone(mark)),
      Effect.as("gone with its session")
    )
})

const processes = group("Processes without end", [
  {
    name: "a fork bomb",
    alone: { processes: 64 },
    container: ({ mark }) => `f() { exec -a ${mark} sleep 1000 & f | f & }; f; f; sleep 10`,
    virtual: "f() { f | f & }; f; f",
    deadline: "1500 millis",
    holds: (_, { mark }) => assert.isAtMost(processesWith(mark), 64)
  },
  {
    name: "a fork bomb that leaves its group",
    alone: { processes: 64 },
    container: ({ mark }) =>
      python(`
while True:
    try:
        if os.fork() == 0: os.setsid(); open('/proc/self/comm', 'w').write('bomb')
    except OSError: time.sleep(0.01)
# ${mark}`),
    deadline: "1500 millis"
  },
  {
    name: "threads without end",
    alone: { processes: 64 },
    container: python(
      "import threading\nn = 0\ntry:\n    while True: threading.Thread(target=time.sleep, args=(100,), daemon=True).start(); n += 1\nexcept RuntimeError: print(n, flush=True); os._exit(0)"
    ),
    holds: atMost(64)
  },
  {
    name: "zombies without end",
    alone: { processes: 64 },
    container: python(
      "n = 0\ntry:\n    while True:\n        if os.fork() == 0: os._exit(0)\n        n += 1\nexcept OSError: print(n)"
    ),
    holds: atMost(64)
  },
  {
    name: "fifty busy loops",
    alone: {},
    container: "for i in $(seq 50); do (while :; do :; done) & done; sleep 10",
    deadline: "1500 millis",
    holds: timedOut
  },
  { name: "a busy loop", both: "while :; do :; done", deadline: "1 second", holds: timedOut },
  { name: "an endless wait", both: "sleep 1000000", deadline: "1 second", holds: timedOut },
  {
    name: "signals ignored",
    container: "trap '' TERM INT HUP QUIT USR1 ALRM XCPU; while :; do sleep 0.1; done",
    deadline: "1 second",
    holds: timedOut,
    virtual: "trap '' TERM INT HUP; while :; do :; done"
  },
  { name: "a stop of oneself", container: "kill -STOP $$; sleep 100", deadline: "1 second", holds: timedOut },
  {
    name: "reading what never comes",
    container: "cat /dev/zero > /dev/null; true",
    virtual: "cat /dev/zero > /dev/null; tail -f /dev/null; sleep 100",
    deadline: "1 second"
  },
  { name: "a pipe that the host would wait for", container: "mkfifo p; cat p", deadline: "1 second", holds: timedOut },
  {
    name: "a grandchild in its own group",
    act: outlives((mark) => `setsid bash -c 'exec -a ${mark} sleep 1000' < /dev/null > /dev/null 2>&1 &`)
  },
  {
    name: "a daemon by forking twice",
    act: outlives((mark) =>
      python(`
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.close(0); os.close(1); os.close(2)
        os.execv('/bin/sleep', ['${mark}', '1000'])
    os._exit(0)`)
    )
  },
  {
    name: "a daemon that ignores signals",
    act: outlives(
      (mark) =>
        `(trap '' TERM HUP INT; setsid nohup bash -c 'exec -a ${mark} sleep 1000' > /dev/null 2>&1 &) ; disown -a`
    )
  },
  {
    name: "a daemon that starts itself again",
    act: outlives(
      (mark) => `setsid bash -c 'while :; do (exec -a ${mark} sleep 0.3); done' < /dev/null > /dev/null 2>&1 &`
    )
  },
  {
    name: "a daemon that holds the output open",
    act: outlives((mark) => `setsid bash -c 'exec -a ${mark} sleep 1000' & sleep 0.1`)
  },
  {
    name: "a command that runs when its session closes",
    act: outlives((mark) => `bash -c 'exec -a ${mark} sleep 1000' & sleep 0.1; disown -a; trap "" TERM HUP`)
  }
])

const memory = group("Memory without end", [
  {
    name: "memory at once",
    alone: { memory: "64 MiB" },
    container: "python3 -c 'x = bytearray(512 * 1024 * 1024); print(len(x))'",
    holds: (seen) => assert.strictEqual(seen.stdout, "")
  },
  {
    name: "memory by and by",
    alone: { memory: "64 MiB" },
    container: "python3 -c 'x = []\nwhile True: x.append(bytearray(1024 * 1024))'",
    deadline: "20 seconds"
  },
  {
    name: "memory that is locked",
    alone: { memory: "64 MiB" },
    container: python("call(151, 230, 3)\nx = bytearray(512 * 1024 * 1024)\nprint(len(x))"),
    holds: (seen) => assert.notInclude(seen.stdout, "536870912")
  },
  {
    name: "memory as files in /tmp",
    alone: { memory: "64 MiB" },
    container: "dd if=/dev/zero of=/tmp/x bs=1M count=512 2>/dev/null; stat -c %s /tmp/x",
    deadline: "20 seconds"
  },
  {
    name: "memory as files in /dev/shm",
    alone: { memory: "64 MiB" },
    container: "dd if=/dev/zero of=/dev/shm/x bs=1M count=512 2>/dev/null; stat -c %s /dev/shm/x",
    deadline: "20 seconds"
  },
  {
    name: "memory of pipes and sockets",
    alone: { memory: "64 MiB" },
    container: python(
      "held = []\ntry:\n    while True:\n        a, b = socket.socketpair(); a.setblocking(False); held.append((a, b))\n        try:\n            while True: a.send(b'x' * 65536)\n        except BlockingIOError: pass\nexcept OSError as e: print(os.strerror(e.errno).lower())"
    ),
    deadline: "10 seconds"
  }
])

const disk = group("Disk without end", [
  {
    name: "a file in /tmp",
    container: "dd if=/dev/zero of=/tmp/x bs=1M count=300 2>/dev/null; stat -c %s /tmp/x",
    holds: atMost(128 * MiB)
  },
  {
    name: "a file in the home",
    container: "dd if=/dev/zero of=$HOME/x bs=1M count=300 2>/dev/null; stat -c %s $HOME/x",
    holds: atMost(128 * MiB)
  },
  {
    name: "a file in shared memory",
    container: "dd if=/dev/zero of=/dev/shm/x bs=1M count=300 2>/dev/null; stat -c %s /dev/shm/x",
    holds: atMost(128 * MiB)
  },
  {
    name: "a file in the workspace",
    alone: { disk: "64 MiB" },
    container:
      "head -c 300000000 /dev/zero > x; fallocate -l 300M y; for i in $(seq 9); do fallocate -l 60M $i; done; du -sb --apparent-size . | cut -f 1",
    holds: atMost(65 * MiB)
  },
  {
    name: "files without end in /tmp",
    alone: { memory: "128 MiB" },
    container: 'python3 -c \'\nimport itertools\nfor n in itertools.count(): open(f"/tmp/{n}", "w").close()\'',
    virtual: "for i in {1..90000}; do : > /tmp/$i; done; ls /tmp | wc -l",
    deadline: "2 seconds"
  },
  {
    name: "folders without end in depth",
    both: "cd /tmp; for i in $(seq 600); do mkdir d && cd d || break; done; cd /tmp; rm -rf d; true",
    deadline: "3 seconds"
  },
  {
    name: "a file on the root",
    container:
      "dd if=/dev/zero of=/var/tmp/x bs=1M count=10; dd if=/dev/zero of=/var/log/x bs=1M count=10; dd if=/dev/zero of=/run/x bs=1M count=10; dd if=/dev/zero of=/dev/x bs=1M count=10; ls /var/tmp/x /var/log/x /run/x /dev/x 2>/dev/null",
    holds: (seen) => assert.strictEqual(seen.stdout, "")
  }
])

const output = group("Output without end", [
  {
    name: "on stdout",
    container: "head -c 300000000 /dev/zero",
    virtual: "seq 1 900000; seq 1 900000",
    holds: (seen) => assert.isAtMost(seen.stdout.length, MiB),
    deadline: "20 seconds"
  },
  {
    name: "on stderr",
    container: "head -c 300000000 /dev/zero >&2",
    virtual: "seq 1 900000; seq 1 900000 >&2",
    holds: (seen) => assert.isAtMost(seen.stderr.length, MiB),
    deadline: "20 seconds"
  },
  { name: "without an end", container: "yes", virtual: "while :; do echo yes; done", deadline: "1 second" },
  {
    name: "from many at once",
    container: "for i in $(seq 20); do yes & done; yes; wait",
    deadline: "1500 millis",
    alone: {}
  },
  { name: "that is no text", both: "printf '\\xff\\xfe\\x00\\x1b]0;evil\\x07\\x1b[2J\\xed\\xa0\\x80'; printf '\\xc3'" },
  {
    name: "in one file that is read",
    act: {
      in: kinds,
      by: ({ own }) =>
        Sandbox.run(own.session, {
          run: "seq 1 900000 > b; cat b b b b b b > b3; wc -c b3",
          deadline: "30 seconds"
        }).pipe(
          Effect.andThen(own.session.readFile("b3")),
          Effect.map((content) => `${content.length}`),
          Effect.catch((error) =>
            Effect.succeed(error.reason._tag === "FileFailed" ? error.reason.detail : error.message)
          )
        )
    }
  },
  {
    name: "in a file without end that is read",
    act: {
      in: real,
      by: ({ open }) =>
        Effect.scoped(
          Effect.gen(function* () {
            const { session } = yield* open()
            return yield* session.readFile("/dev/zero").pipe(
              Effect.map((content) => `${content.length} bytes`),
              Effect.timeoutOrElse({
                duration: "1500 millis",
                orElse: () => Effect.succeed("read until it is given up")
              }),
              Effect.catch((error) => Effect.succeed(error.message))
            )
          })
        )
    }
  }
])

export const load: ReadonlyArray<Attempt> = [...processes, ...memory, ...disk, ...output]
