/**
 * Sandboxes as virtual machines of macOS, by Apple's command `container` (1.0 or later).
 *
 * Each session is a machine of its own, with a kernel of its own: no network but loopback, no capability, a read-only root, a
 * user that is not root, limits on memory, processors, processes and open files. Of the host it sees the workspace and its mounts. It
 * lives as long as the scope of its session. This was written from the command's documentation and is tested against
 * a stand-in of it; nobody has run it on a Mac yet.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { execFile } from "node:child_process"
import { randomUUID } from "node:crypto"
import { homedir } from "node:os"
import { promisify } from "node:util"
import {
  ImageMissing,
  Sandbox,
  SandboxError,
  type SandboxSpec,
  SandboxUnavailable,
  SpecRejected
} from "../services/Sandbox.ts"
import * as ChildRunner from "./internal/childRunner.ts"
import * as Inside from "./internal/inside.ts"
import * as Runner from "./internal/runner.ts"

/** How machines are started. */
export interface Options {
  /** The command. Default `container`, in one of the usual places. */
  readonly program?: string
  /** Default `effect-claw/sandbox:1`, which is to be built of the package's `sandbox` folder with `container build`. */
  readonly image?: string
}

const mebibyte = 1024 * 1024
const env = { PATH: "/usr/local/bin:/opt/homebrew/bin:/usr/bin:/bin", HOME: homedir() }

const unavailable = (said: string) =>
  new SandboxError({
    reason: new SandboxUnavailable({
      detail: /ENOENT/.test(said)
        ? "the command container is not there; install it from github.com/apple/container"
        : `the command container does not start a machine (${said}); container system start`
    })
  })

/** Runs the command to its end. */
const container = (program: string, args: ReadonlyArray<string>): Effect.Effect<void, string> =>
  Effect.tryPromise({
    try: () => promisify(execFile)(program, args, { env, timeout: 10_000 }),
    catch: (cause) => (cause instanceof Error ? cause.message : String(cause))
  }).pipe(Effect.asVoid)

/** What a machine cannot be held to. */
const unenforceable = (spec: SandboxSpec): string | undefined => {
  if (!Number.isInteger(spec.cpus) || spec.cpus < 1) {
    return `a virtual machine has whole processors, and the spec asks for ${spec.cpus}`
  }
  if (spec.memoryBytes < mebibyte) return "a virtual machine has a mebibyte of memory or more"
  if (spec.wayOut !== undefined) return "no socket reaches into a virtual machine, so a session has no way out"
  const host = spec.mounts.find((mount) => `${mount.host}${mount.target}`.includes(","))?.host
  return host === undefined ? undefined : `a folder with a comma in its path cannot be mounted: ${host}`
}

const runArguments = (
  name: string,
  image: string,
  spec: SandboxSpec,
  runnerArguments: ReadonlyArray<string>
): ReadonlyArray<string> => {
  const { gid, uid } = Inside.user()
  const limits = [
    `nofile=${Inside.openFiles}:${Inside.openFiles}`,
    "core=0:0",
    `fsize=${spec.diskBytes}:${spec.diskBytes}`,
    `nproc=${spec.processes}:${spec.processes}`
  ]
  return [
    "run",
    "--interactive",
    "--rm",
    "--progress=none",
    "--read-only",
    "--network=none",
    "--cap-drop=ALL",
    `--name=${name}`,
    "--label=effect-claw=sandbox",
    `--uid=${uid}`,
    `--gid=${gid}`,
    "--workdir=/workspace",
    `--cpus=${spec.cpus}`,
    `--memory=${Math.floor(spec.memoryBytes / mebibyte)}M`,
    // All of the machine's processes are this user's.
    ...limits.map((limit) => `--ulimit=${limit}`),
    ...["/tmp", Inside.home].map((path) => `--tmpfs=${path}`),
    ...Object.entries(Inside.environmentOf(spec)).map(([key, value]) => `--env=${key}=${value}`),
    ...Inside.mountsOf(spec).map(
      ({ host, target, write }) => `--mount=type=bind,source=${host},target=${target}${write ? "" : ",readonly"}`
    ),
    image,
    "perl",
    "-e",
    Runner.program,
    ...runnerArguments
  ]
}

const open = Effect.fn("Sandbox.open")(function* (options: Options, spec: SandboxSpec) {
  const { image: usual = "effect-claw/sandbox:1", program = "container" } = options
  const image = spec.image ?? usual
  const detail = unenforceable(spec)
  if (detail !== undefined) return yield* new SandboxError({ reason: new SpecRejected({ detail }) })
  yield* container(program, ["image", "inspect", image]).pipe(
    Effect.mapError((said) =>
      /not found/i.test(said)
        ? new SandboxError({
            reason: new ImageMissing({
              image,
              detail: `the image ${image} is missing; build it: container build --tag ${image} node_modules/effect-claw/sandbox`
            })
          })
        : unavailable(said)
    )
  )
  const runnerArguments = yield* Effect.tryPromise({
    try: () => Inside.prepare(spec),
    catch: (cause) => unavailable(cause instanceof Error ? cause.message : String(cause))
  })
  const name = `effect-claw-${randomUUID()}`
  // Gone already is what is asked for.
  yield* Effect.addFinalizer(() => Effect.ignore(container(program, ["delete", "--force", name])))
  return yield* ChildRunner.makeSession(`apple:${name}`, {
    command: [program, ...runArguments(name, image, spec, runnerArguments)],
    env,
    advice: (said) => unavailable(said).message
  })
})

/**
 * Virtual machines of macOS.
 *
 * Provides `Sandbox`, requires nothing; the command is looked for when the first session is opened. On release all machines
 * are gone. It enforces memory by the mebibyte, whole processors, processes and mounts, and rejects a part of a processor.
 * `/tmp` and the home are in the machine's memory, without limits of their own.
 */
export const layer = (options: Options = {}): Layer.Layer<Sandbox> =>
  Layer.succeed(Sandbox, { description: Effect.succeed("Apple container"), open: (spec) => open(options, spec) })
