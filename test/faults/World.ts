/**
 * What a claw that is killed is judged by: a folder and a platform that outlive it, and the steps that it passed.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { globSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { makeServer } from "./Platform.ts"

const program = fileURLToPath(new URL("claw.ts", import.meta.url))

/** A folder, a platform, and claws on them, one after the other. */
export const makeWorld = async (sandbox: "virtual" | "docker" = "virtual") => {
  const folder = mkdtempSync(join(tmpdir(), "claw-kill-"))
  const socket = join(folder, "platform.sock")
  const server = await makeServer(socket)
  const home = join(folder, "home")
  let last = { steps: "", said: "" }
  const start = (killAt = 0): ChildProcess => {
    const child = spawn(process.execPath, [program, socket, home, sandbox, String(killAt)])
    const started = { steps: "", said: "" }
    last = started
    child.stdout?.on("data", (chunk: Buffer) => (started.steps += chunk.toString()))
    child.stderr?.on("data", (chunk: Buffer) => (started.said += chunk.toString()))
    return child
  }
  return {
    server,
    start,
    /** The steps that the last claw passed, and what it has logged. */
    steps: () => last.steps.trim().split("\n"),
    log: () => last.said,
    /** The lines of a file in the workspaces. */
    lines: (file: string): ReadonlyArray<string> =>
      globSync(`workspaces/*/*/${file}`, { cwd: home }).flatMap((path) =>
        readFileSync(join(home, path), "utf8")
          .split("\n")
          .filter((line) => line !== "")
      ),
    end: async (child: ChildProcess) => {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill("SIGTERM")
        await once(child, "exit")
      }
      server.close()
      rmSync(folder, { recursive: true, force: true })
    }
  }
}

/** Whether a claw has ended, and when it has. */
export const hasEnded = (child: ChildProcess) => child.exitCode !== null || child.signalCode !== null
export const untilEnd = (child: ChildProcess) => (hasEnded(child) ? Promise.resolve() : once(child, "exit"))

/** The passages at which something was written: where each of the calls that wrote began, and where it had ended. */
export const durable = (passed: ReadonlyArray<string>): ReadonlyArray<number> => {
  const steps = passed.map((line) => line.split(" "))
  return steps.flatMap(([number, when, name, effect], index) => {
    if (when !== "after" || effect !== "wrote") return []
    const begin = steps.slice(0, index).findLast(([, before, of]) => before === "before" && of === name)
    return [Number(begin?.[0] ?? number), Number(number)]
  })
}

/** All, a few at a time. */
export const side = async <A>(
  count: number,
  atOnce: number,
  use: (index: number) => Promise<A>
): Promise<ReadonlyArray<A>> => {
  const results: Array<A> = []
  let next = 0
  const work = async (): Promise<void> => {
    const index = next++
    if (index >= count) return
    results[index] = await use(index)
    return work()
  }
  await Promise.all(Array.from({ length: atOnce }, work))
  return results
}
