/**
 * The thread a virtual shell runs in. A shell that computes without end would hold up the claw's own thread, and no timer
 * there could stop it; a thread can be ended from outside.
 */
import { Bash, MountableFs, OverlayFs, ReadWriteFs } from "just-bash"
import { parentPort, workerData } from "node:worker_threads"
import type { Granted } from "../../services/Mount.ts"

/** What the thread is started with. */
export interface VirtualShellData {
  readonly workspace: string
  readonly mounts: ReadonlyArray<Granted>
  readonly fileLimit: number
  readonly memoryBytes: number
}

/** What it is asked. */
export type VirtualShellRequest =
  | {
      readonly type: "exec"
      readonly id: number
      readonly run: string | ReadonlyArray<string>
      readonly stdin: Uint8Array
      readonly cwd: string
      readonly env: Readonly<Record<string, string>>
      readonly outputLimit: number
    }
  | { readonly type: "kill"; readonly id: number }
  | { readonly type: "read"; readonly id: number; readonly path: string; readonly limit: number }
  | { readonly type: "write"; readonly id: number; readonly path: string; readonly content: Uint8Array }

/** What it answers, once for each request but `kill`. */
export type VirtualShellResponse =
  | {
      readonly type: "exit"
      readonly id: number
      readonly code: number
      readonly stdout: Uint8Array
      readonly stderr: Uint8Array
      readonly droppedBytes: number
    }
  | { readonly type: "content"; readonly id: number; readonly content: Uint8Array }
  | { readonly type: "failed"; readonly id: number; readonly detail: string }

const port = parentPort
if (port !== null) {
  const { fileLimit, memoryBytes, mounts, workspace }: VirtualShellData = workerData
  const fs = new MountableFs({
    base: new Bash().fs,
    mounts: [{ host: workspace, target: "/workspace", write: true }, ...mounts].map(({ host, target, write }) => ({
      mountPoint: target,
      filesystem: write
        ? new ReadWriteFs({ root: host, maxFileReadSize: fileLimit })
        : new OverlayFs({ root: host, mountPoint: "/", readOnly: true, maxFileReadSize: fileLimit })
    }))
  })
  // A command's bounds are its deadline and the thread's memory; the interpreter's counters are set out of their way.
  const counters = "maxCommandCount maxLoopIterations maxAwkIterations maxSedIterations maxWorkUnits"
  const bash = new Bash({
    fs,
    cwd: "/workspace",
    env: { HOME: "/workspace" },
    executionLimits: {
      ...Object.fromEntries(counters.split(" ").map((counter) => [counter, 1e12])),
      // A thread whose memory is full may take the process with it, so what fills it at one stroke is bounded before.
      maxJqIterations: 1e6,
      maxStringLength: memoryBytes / 16,
      maxLiveBytes: memoryBytes / 4
    }
  })
  const running = new Map<number, AbortController>()
  const encoder = new TextEncoder()
  const absolute = (path: string) => fs.resolvePath("/workspace", path)
  const answer = (response: VirtualShellResponse) => port.postMessage(response)

  const exec = async (request: Extract<VirtualShellRequest, { type: "exec" }>) => {
    const controller = new AbortController()
    running.set(request.id, controller)
    const pairs = Object.entries(request.env)
    const exports = pairs.map(([name, value]) => `export ${name}=${quote(value)}\n`).join("")
    const [script, args] =
      typeof request.run === "string"
        ? [exports + request.run, []]
        : ["env", [...pairs.map(([name, value]) => `${name}=${value}`), ...request.run]]
    const result = await bash
      .exec(script, {
        args,
        rawScript: true,
        cwd: absolute(request.cwd),
        stdin: Buffer.from(request.stdin).toString("latin1"),
        stdinKind: "bytes",
        signal: controller.signal
      })
      .finally(() => running.delete(request.id))
    const [stdout, stderr] = [encoder.encode(result.stdout), encoder.encode(result.stderr)]
    const kept = [stdout.subarray(0, request.outputLimit), stderr.subarray(0, request.outputLimit)] as const
    answer({
      type: "exit",
      id: request.id,
      code: result.exitCode,
      stdout: kept[0],
      stderr: kept[1],
      droppedBytes: stdout.length + stderr.length - kept[0].length - kept[1].length
    })
  }

  const read = async ({ id, limit, path }: Extract<VirtualShellRequest, { type: "read" }>) => {
    const { size } = await fs.stat(absolute(path))
    if (size > limit) throw new Error(`is larger than ${limit} bytes`)
    answer({ type: "content", id, content: await fs.readFileBuffer(absolute(path)) })
  }

  const write = async ({ content, id, path }: Extract<VirtualShellRequest, { type: "write" }>) => {
    const target = absolute(path)
    await fs.mkdir(target.slice(0, target.lastIndexOf("/")) || "/", { recursive: true })
    await fs.writeFile(target, content)
    answer({ type: "content", id, content: new Uint8Array() })
  }

  // The interpreter guards the process while a command runs, and two guards at once wait for each other for ever.
  let line = Promise.resolve()
  const killed = new Set<number>()
  const failed = (id: number, detail: string) => answer({ type: "failed", id, detail })

  const obey = (request: Exclude<VirtualShellRequest, { type: "kill" }>): Promise<void> => {
    if (killed.delete(request.id)) return Promise.resolve()
    const work = request.type === "exec" ? exec(request) : request.type === "read" ? read(request) : write(request)
    return work.catch((cause: unknown) => failed(request.id, cause instanceof Error ? cause.message : String(cause)))
  }

  port.on("message", (request: VirtualShellRequest) => {
    if (request.type !== "kill") return void (line = line.then(() => obey(request)))
    const command = running.get(request.id)
    if (command !== undefined) return command.abort()
    killed.add(request.id)
    failed(request.id, "killed before it began")
  })
}

/** A text as one word of a script. */
const quote = (word: string) => `'${word.replaceAll("'", `'\\''`)}'`
