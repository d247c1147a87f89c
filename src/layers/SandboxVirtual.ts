/**
 * A sandbox without an engine: a bash interpreter in TypeScript (`just-bash`) over a file system of its own.
 *
 * There is no host in it to reach: its commands are the interpreter's, its files are in memory, and the one host folder
 * it sees is the workspace, through which it follows no link. There is no network and there are no real processes, hence
 * no compilers and no installed programs either. Each session is a thread with a memory limit, and runs one command at a
 * time: the others wait for it.
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { Worker } from "node:worker_threads"
import {
  type Command,
  FileFailed,
  Sandbox,
  SandboxError,
  type SandboxSession,
  type SandboxSpec,
  SessionLost,
  SpecRejected
} from "../services/Sandbox.ts"
import type { VirtualShellData, VirtualShellRequest, VirtualShellResponse } from "./internal/virtualShellWorker.ts"

const fileLimit = 16 * 1024 * 1024

/** How long a command may take to obey an interruption before its thread is ended. */
const mercy = Duration.millis(200)

type Unnumbered<T> = T extends { readonly id: number } ? Omit<T, "id"> : never

/** A thread, started by its first request and anew after it was lost. */
const makeThread = (spec: SandboxSpec) => {
  const waiting = new Map<number, Deferred.Deferred<VirtualShellResponse, SandboxError>>()
  let worker: Worker | undefined
  let requests = 0

  const lose = (lost: Worker, detail: string) => {
    if (worker !== lost) return
    worker = undefined
    const error = new SandboxError({ reason: new SessionLost({ detail }) })
    // Whoever is told asks at once again, and that request is none of the lost ones.
    const asked = [...waiting.values()]
    waiting.clear()
    for (const deferred of asked) Deferred.doneUnsafe(deferred, Effect.fail(error))
  }

  const start = (): Worker => {
    const source = import.meta.url.endsWith(".ts")
      ? "./internal/virtualShellWorker.ts"
      : "./internal/virtualShellWorker.js"
    const started = new Worker(new URL(source, import.meta.url), {
      workerData: {
        workspace: spec.workspace,
        mounts: spec.mounts,
        fileLimit,
        memoryBytes: spec.memoryBytes
      } satisfies VirtualShellData,
      resourceLimits: { maxOldGenerationSizeMb: Math.max(64, Math.floor(spec.memoryBytes / 1024 / 1024)) },
      env: {}
    })
    started.on("message", (response: VirtualShellResponse) => {
      const deferred = waiting.get(response.id)
      waiting.delete(response.id)
      if (deferred !== undefined) Deferred.doneUnsafe(deferred, Effect.succeed(response))
    })
    started.on("error", (cause: Error & { readonly code?: string }) =>
      lose(started, cause.code === "ERR_WORKER_OUT_OF_MEMORY" ? "the sandbox ran out of memory" : cause.message)
    )
    started.on("exit", () => lose(started, "the sandbox was ended"))
    return started
  }

  const end = Effect.promise(async () => {
    const ending = worker
    if (ending === undefined) return
    lose(ending, "the sandbox was closed")
    await ending.terminate()
  })

  const ask = (request: Unnumbered<VirtualShellRequest>) =>
    Effect.sync(() => {
      const id = ++requests
      const deferred = Deferred.makeUnsafe<VirtualShellResponse, SandboxError>()
      waiting.set(id, deferred)
      worker ??= start()
      worker.postMessage({ ...request, id })
      return { id, response: Deferred.await(deferred) }
    })

  /** Asks a command to stop, and ends the thread when it does not. */
  const kill = (id: number) =>
    Effect.suspend(() => {
      const deferred = waiting.get(id)
      if (deferred === undefined || worker === undefined) return Effect.void
      worker.postMessage({ type: "kill", id } satisfies VirtualShellRequest)
      return Effect.exit(Deferred.await(deferred)).pipe(
        Effect.timeoutOrElse({ duration: mercy, orElse: () => end }),
        Effect.asVoid
      )
    })

  return { ask, end, kill }
}

const open = Effect.fn("Sandbox.open")(function* (spec: SandboxSpec) {
  const lacks =
    spec.image !== undefined
      ? `has no images; the spec asks for ${spec.image}`
      : spec.cpus < 1
        ? "cannot be held to less than one processor"
        : spec.wayOut === undefined
          ? undefined
          : "has no network, and no way out"
  if (lacks !== undefined) {
    return yield* new SandboxError({ reason: new SpecRejected({ detail: `a virtual shell ${lacks}` }) })
  }
  const thread = yield* Effect.acquireRelease(
    Effect.sync(() => makeThread(spec)),
    ({ end }) => end
  )

  const exec = Effect.fn("SandboxSession.exec")(function* (command: Command) {
    const { id, response } = yield* thread.ask({
      type: "exec",
      run: command.run,
      stdin: command.stdin ?? new Uint8Array(),
      cwd: command.cwd ?? ".",
      env: command.env ?? {},
      outputLimit: command.outputLimit ?? 1024 * 1024
    })
    yield* Effect.addFinalizer(() => thread.kill(id))
    const none = { stdout: new Uint8Array(), stderr: new Uint8Array(), droppedBytes: 0 }
    const ended = yield* response.pipe(
      Effect.map((answer) =>
        answer.type === "exit"
          ? { ...answer, timedOut: false }
          : { ...none, code: 126, timedOut: false, stderr: new TextEncoder().encode(detailOf(answer)) }
      ),
      Effect.timeoutOrElse({
        duration: command.deadline ?? "2 minutes",
        orElse: () => Effect.as(thread.kill(id), { ...none, code: 124, timedOut: true })
      }),
      Effect.forkScoped
    )
    const result = Fiber.join(ended)
    const bytes = (of: "stdout" | "stderr") => Stream.fromEffect(Effect.map(result, (exit) => exit[of]))
    return {
      stdout: bytes("stdout"),
      stderr: bytes("stderr"),
      exit: Effect.map(result, ({ code, droppedBytes, timedOut }) => ({ code, droppedBytes, timedOut }))
    }
  })

  const file = Effect.fnUntraced(function* (
    path: string,
    request: Unnumbered<Extract<VirtualShellRequest, { readonly type: "read" | "write" }>>
  ) {
    const { response } = yield* thread.ask(request)
    const answer = yield* response
    return answer.type === "content"
      ? answer.content
      : yield* new SandboxError({ reason: new FileFailed({ path, detail: detailOf(answer) }) })
  })

  return {
    id: `virtual:${spec.workspace}`,
    exec,
    readFile: (path, limit = fileLimit) => file(path, { type: "read", path, limit: Math.min(limit, fileLimit) }),
    writeFile: (path, content) => Effect.asVoid(file(path, { type: "write", path, content }))
  } satisfies SandboxSession
})

const detailOf = (answer: VirtualShellResponse): string => {
  if (answer.type !== "failed") return "the shell gave no answer"
  const known = /ENOENT|EISDIR|EACCES|EFBIG|ENOTDIR/.exec(answer.detail)?.[0]
  switch (known) {
    case "ENOENT":
      return "no such file or directory"
    case "EISDIR":
      return "is a directory"
    case "EACCES":
      return "leads out of the workspace"
    case "EFBIG":
      return `is larger than ${fileLimit} bytes`
    default:
      return answer.detail
  }
}

/**
 * The virtual shell.
 *
 * Provides `Sandbox`, requires nothing. On release all threads are ended. It enforces the workspace, the memory and the
 * deadlines; it rejects specs with an image, or with less than one processor.
 */
export const layer: Layer.Layer<Sandbox> = Layer.succeed(Sandbox, {
  description: Effect.succeed("virtual shell"),
  open
})
