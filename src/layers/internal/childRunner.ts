/**
 * A runner behind the stdin and stdout of a program that this process starts.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { Writable } from "node:stream"
import { SandboxError, type SandboxSession, SandboxUnavailable } from "../../services/Sandbox.ts"
import * as Runner from "./runner.ts"

/** A program to start. */
export interface Program {
  /** It and its arguments. */
  readonly command: ReadonlyArray<string>
  /** All of its environment: what is not here is not there, so that nothing of the claw's can be read from it. */
  readonly env: Readonly<Record<string, string>>
  /** What it reads from its descriptors 3, 4 and so on. */
  readonly descriptors?: ReadonlyArray<string | Uint8Array>
  /** What to do when it does not come to a session; `said` is what it told, or why it was not started. */
  readonly advice: (said: string) => string
}

/** Starts a program, and is a session over it once its runner is ready. On release it is killed, and gone. */
export const makeSession = Effect.fnUntraced(function* (
  id: string,
  { advice, command: [file = "", ...args], descriptors = [], env }: Program
): Effect.fn.Return<SandboxSession, SandboxError, Scope.Scope> {
  let said = ""
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => {
      // Out of the terminal's process group: its Ctrl-C is for the claw, which ends its sandboxes itself.
      const started = spawn(file, args, {
        env: { ...env },
        detached: true,
        stdio: ["pipe", "pipe", "pipe", ...descriptors.map(() => "pipe" as const)]
      })
      started.on("error", (cause) => (said = cause.message))
      return started
    }),
    (started) =>
      Effect.tryPromise(async () => {
        if (started.pid === undefined || started.exitCode !== null || started.signalCode !== null) return
        const exited = once(started, "exit")
        started.stdin?.destroy()
        started.kill("SIGKILL")
        await exited
      }).pipe(Effect.timeoutOption("10 seconds"), Effect.ignore)
  )
  const [stdin, stdout, stderr, ...others] = child.stdio
  for (const stream of child.stdio) stream?.on("error", () => {})
  others.forEach((stream, index) => stream instanceof Writable && stream.end(descriptors[index]))
  stderr?.on("data", (bytes: Buffer) => (said = (said + bytes.toString()).slice(-1000)))
  return yield* Runner.makeSession(id, {
    write: (bytes) => void stdin?.write(bytes),
    close: () => void stdin?.end(),
    listen: (onData, onEnd) => {
      stdout?.on("data", onData)
      child.on("close", (code) =>
        onEnd(
          code === 137 ? Runner.killed : said.trim() === "" ? "the sandbox ended" : `the sandbox ended: ${said.trim()}`
        )
      )
    }
  }).pipe(
    Effect.mapError((error) => {
      if (error.reason._tag !== "SessionLost") return error
      const detail = advice(said.trim() === "" ? error.message : said.trim())
      return Runner.perlMissing(said) ?? new SandboxError({ reason: new SandboxUnavailable({ detail }) })
    })
  )
})
