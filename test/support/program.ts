/**
 * The bundled programs as people run them: a process of their own, on a state folder of their own, at a pipe or at a
 * terminal. Whatever happens in a test, none is left behind.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
import { fileURLToPath } from "node:url"
import { makeScreen } from "./screen.ts"

export const root = fileURLToPath(new URL("../..", import.meta.url))
export const bin = join(root, "bin/effect-claw.js")

/** A fresh state folder, until the end of the test. */
export const home = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "claw-home-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }))
)

export interface Options {
  /** The state folder. */
  readonly home: string
  readonly args?: ReadonlyArray<string>
  readonly env?: Readonly<Record<string, string>>
  /** What runs it. Default: this Node on the package's command. */
  readonly command?: readonly [program: string, ...args: ReadonlyArray<string>]
}

export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** A running program. */
export interface Program {
  readonly pid: number
  readonly write: (text: string | Uint8Array) => Effect.Effect<void>
  /** Closes its stdin. */
  readonly end: Effect.Effect<void>
  /** Reads its stdout no more. */
  readonly leave: Effect.Effect<void>
  readonly kill: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** Waits until what it wrote, to stdout or stderr, matches. */
  readonly until: (pattern: RegExp) => Effect.Effect<void>
  /** What it wrote, to stdout and stderr, so far. */
  readonly seen: Effect.Effect<string>
  readonly ended: Effect.Effect<Ended>
}

/** Nothing of this environment that could lead a program elsewhere. */
const environment = ({ env, home }: Options): NodeJS.ProcessEnv => ({
  // As a person's shell has it, who may well have an older Node.
  PATH: (process.env["PATH"] ?? "")
    .split(delimiter)
    .filter((folder) => !folder.includes("node_modules"))
    .join(delimiter),
  ...(process.env["DOCKER_HOST"] === undefined ? {} : { DOCKER_HOST: process.env["DOCKER_HOST"] }),
  HOME: home,
  LANG: "C.UTF-8",
  TZ: "UTC",
  TERM: "xterm",
  CLAW_HOME: home,
  ...env
})

/** For a busy machine. */
const patience = "60 seconds"

/** How long a test may take that starts programs several times. */
export const slow = { timeout: 90_000 }

/** Follows a child's output, and ends it with the scope. */
const follow = (child: ChildProcess, onOutput: (text: string) => void, seen: () => string) =>
  Effect.gen(function* () {
    const output = { stdout: "", stderr: "" }
    let ended: Ended | undefined
    const watchers = new Set<() => void>()
    const tell = () => watchers.forEach((watcher) => watcher())
    for (const name of ["stdout", "stderr"] as const) {
      child[name]?.setEncoding("utf8").on("data", (text: string) => {
        output[name] += text
        onOutput(text)
        tell()
      })
    }
    // A program that has left reads no more.
    child.stdin?.on("error", () => {})
    child.on("close", (code, signal) => {
      ended = { code, signal, ...output }
      tell()
    })

    /** Waits for a value of what can be seen. */
    const when = <A>(what: string, look: () => A | undefined): Effect.Effect<A> =>
      Effect.callback<A>((resume) => {
        const check = () => {
          const found = look()
          if (found === undefined && ended === undefined) return
          watchers.delete(check)
          resume(
            found === undefined
              ? Effect.die(new Error(`it left with ${JSON.stringify(ended)} before ${what}`))
              : Effect.succeed(found)
          )
        }
        watchers.add(check)
        check()
        return Effect.sync(() => watchers.delete(check))
      }).pipe(
        Effect.timeoutOrElse({
          duration: patience,
          orElse: () => Effect.die(new Error(`${what} did not come; what came is:\n${seen()}\n${output.stderr}`))
        })
      )

    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        if (ended === undefined) child.kill("SIGKILL")
        return Effect.asVoid(when("its end", () => ended))
      })
    )
    const program: Program = {
      pid: child.pid ?? 0,
      write: (text) => Effect.sync(() => void child.stdin?.write(text)),
      end: Effect.sync(() => void child.stdin?.end()),
      leave: Effect.sync(() => void child.stdout?.destroy()),
      kill: (signal) => Effect.sync(() => void child.kill(signal)),
      until: (pattern) =>
        when(String(pattern), () => (pattern.test(output.stdout) || pattern.test(output.stderr) ? true : undefined)),
      seen: Effect.sync(seen),
      ended: when("its end", () => ended)
    }
    return { program, when }
  })

/** Starts the program with its stdin piped. */
export const start = (options: Options): Effect.Effect<Program, never, Scope.Scope> =>
  Effect.suspend(() => {
    const [command, ...first] = options.command ?? [process.execPath, bin]
    const child = spawn(command, [...first, ...(options.args ?? [])], { cwd: root, env: environment(options) })
    let all = ""
    const followed = follow(
      child,
      (text) => (all += text),
      () => all
    )
    return Effect.map(followed, ({ program }) => program)
  })

/** Runs the program on some input to its end. */
export const run = (options: Options & { readonly input?: string | Uint8Array }): Effect.Effect<Ended> =>
  Effect.scoped(
    Effect.gen(function* () {
      const program = yield* start(options)
      if (options.input !== undefined) yield* program.write(options.input)
      yield* program.end
      return yield* program.ended
    })
  )

/** A program at a terminal. */
export interface Terminal extends Pick<Program, "write" | "ended"> {
  /** Waits until the screen matches, and returns its lines. */
  readonly see: (pattern: RegExp) => Effect.Effect<ReadonlyArray<string>>
  readonly lines: Effect.Effect<ReadonlyArray<string>>
}

/** What keys send. */
export const key = {
  ctrlA: "\u0001",
  ctrlC: "\u0003",
  ctrlD: "\u0004",
  ctrlE: "\u0005",
  up: "\u001b[A",
  enter: "\r"
} as const

/** Whether there is a `script` that gives a program a terminal. */
export const hasTerminal = (() => {
  try {
    return execFileSync("script", ["--version"], { encoding: "utf8" }).includes("util-linux")
  } catch {
    process.stderr.write("\n*** SKIPPED: tests at a terminal. They need the command script of util-linux. ***\n\n")
    return false
  }
})()

const columns = 100

/** Starts the program at a terminal of 40 rows and 100 columns. */
export const startAtTerminal = (options: Options): Effect.Effect<Terminal, never, Scope.Scope> =>
  Effect.suspend(() => {
    const quoted = [...(options.command ?? [process.execPath, bin]), ...(options.args ?? [])]
      .map((word) => `'${word}'`)
      .join(" ")
    const command = `stty rows 40 cols ${columns}; exec ${quoted}`
    const child = spawn("script", ["-qfec", command, "/dev/null"], { env: environment(options) })
    const screen = makeScreen(columns)
    const shown = () => screen.lines().join("\n")
    return Effect.map(follow(child, screen.feed, shown), ({ program, when }): Terminal => ({
      write: program.write,
      ended: program.ended,
      see: (pattern) => when(String(pattern), () => (pattern.test(shown()) ? screen.lines() : undefined)),
      lines: Effect.sync(screen.lines)
    }))
  })
