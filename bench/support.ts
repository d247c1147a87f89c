/** What the benchmarks share: rows of a table, medians, and a folder on a real disk. */
import { spawn } from "node:child_process"
import { once } from "node:events"
import type { Server } from "node:http"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { join } from "node:path"

/** A figure, what it is held against in the same run, and what is aimed at. */
export interface Row {
  readonly what: string
  readonly ours: string
  readonly floor: string
  /** Ours to the floor. */
  readonly ratio?: number
  readonly aim: string
}

export const median = (values: ReadonlyArray<number>): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN

export const millis = (value: number): string => `${value < 10 ? value.toFixed(2) : value.toFixed(0)} ms`

export const mebibytes = (bytes: number): string =>
  `${(bytes / 1024 / 1024).toFixed(bytes < 10 * 1024 * 1024 ? 1 : 0)} MiB`

/** Resident memory of a process, in bytes. */
export const residentOf = (pid: number): number =>
  Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024

/** This process's own, after all that can be let go is let go, so that what is counted is what is held. */
export const resident = async (): Promise<number> => {
  for (let round = 0; round < 5; round++) {
    globalThis.gc?.({ type: "major", execution: "sync", flavor: "last-resort" })
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  return residentOf(process.pid)
}

/** Runs a measurement, times over, and takes the median. */
export const sample = async (times: number, measure: () => Promise<number>): Promise<number> => {
  const values: Array<number> = []
  for (let index = 0; index < times; index++) values.push(await measure())
  return median(values)
}

/** A folder below the current one: a temporary folder may be in memory, where a commit costs nothing. */
export const withFolder = async <A>(use: (folder: string) => Promise<A>): Promise<A> => {
  const folder = mkdtempSync(join(process.cwd(), ".bench-"))
  try {
    return await use(folder)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Runs a command that ends in the assistant's prompt at a terminal of its own, until `use` is done with it. */
export const atPrompt = async <A>(command: string, home: string, use: (pid: number) => Promise<A>): Promise<A> => {
  const terminal = spawn("script", ["-qfec", `echo pid $$; exec ${command}`, "/dev/null"], {
    env: { ...process.env, CLAW_HOME: home, TERM: "xterm", ANTHROPIC_API_KEY: "" },
    stdio: ["pipe", "pipe", "inherit"]
  })
  const ended = once(terminal, "exit")
  let seen = ""
  for await (const chunk of terminal.stdout) {
    seen += String(chunk)
    if (seen.includes("› ")) break
  }
  if (!seen.includes("› ")) throw new Error(`${command} came to no prompt: ${seen}`)
  const result = await use(Number(/pid (\d+)/.exec(seen)?.[1]))
  terminal.stdin.write("\x04")
  await ended
  return result
}

/** Has a server listen on a free port of the loopback interface. Returns its address. */
export const listen = async (server: Server): Promise<string> => {
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const address = server.address()
  if (address === null || typeof address === "string") throw new Error("the server has no port")
  return `http://127.0.0.1:${address.port}`
}
