/**
 * Sandboxes: where an agent's commands run.
 *
 * A session is a place with a shell, a workspace folder and nothing else: no network, no host path it was not given, no
 * secret. It lives as long as the scope that opened it. An implementation rejects a spec that it cannot enforce.
 */
import * as ByteSize from "effect/ByteSize"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Rule, WayOut } from "./Egress.ts"
import type { Granted, Mount } from "./Mount.ts"

/** There is no engine to open a session with, or it refuses. `detail` says what to do. */
export class SandboxUnavailable extends Schema.TaggedError<SandboxUnavailable>()("SandboxUnavailable", {
  detail: Schema.String
}) {}
/** The image is not there and cannot be made. `detail` says what to do. */
export class ImageMissing extends Schema.TaggedError<ImageMissing>()("ImageMissing", {
  image: Schema.String,
  detail: Schema.String
}) {}
/** The image, or this machine where there is none, lacks a program that every session needs. */
export class ProgramMissing extends Schema.TaggedError<ProgramMissing>()("ProgramMissing", {
  program: Schema.String,
  detail: Schema.String
}) {}
/** The session ended under a command: the engine went away, or the sandbox ran out of memory. */
export class SessionLost extends Schema.TaggedError<SessionLost>()("SessionLost", { detail: Schema.String }) {}
/** The spec asks for what this implementation cannot enforce. */
export class SpecRejected extends Schema.TaggedError<SpecRejected>()("SpecRejected", { detail: Schema.String }) {}
/** The workspace holds more than it may. Files in it can be deleted, and not written to. */
export class WorkspaceFull extends Schema.TaggedError<WorkspaceFull>()("WorkspaceFull", { detail: Schema.String }) {}
/** A file inside cannot be read or written. */
export class FileFailed extends Schema.TaggedError<FileFailed>()("FileFailed", {
  path: Schema.String,
  detail: Schema.String
}) {}

/** A sandbox failed, for `reason`. */
export class SandboxError extends Schema.TaggedError<SandboxError>()("SandboxError", {
  reason: Schema.Union([
    SandboxUnavailable,
    ImageMissing,
    ProgramMissing,
    SessionLost,
    SpecRejected,
    WorkspaceFull,
    FileFailed
  ])
}) {
  override get message(): string {
    return this.reason._tag === "FileFailed" ? `${this.reason.path}: ${this.reason.detail}` : this.reason.detail
  }
}

/** The limits of a session, as they are written in an agent's definition. */
export interface SandboxOptions {
  /** Container image. Default: the implementation's. */
  readonly image?: string
  /** Memory, swap included. Default `512 MiB`. */
  readonly memory?: ByteSize.Input
  /** Processor cores, a hundredth at least. Default 1. */
  readonly cpus?: number
  /** Processes and threads at once. Default 256. */
  readonly processes?: number
  /** What its workspace may hold, on the disk, and the size of a file. The first is measured by the claw. Default `1 GiB`. */
  readonly disk?: ByteSize.Input
  /** Open it when a turn begins, while the model thinks, and not by the first tool that needs it. Default false. */
  readonly warm?: boolean
  /** Folders of the host that it sees beside its workspace. Default: none. */
  readonly mounts?: ReadonlyArray<Mount>
  /** What it may reach over the network, through the claw's proxy. Default: nothing. */
  readonly egress?: ReadonlyArray<Rule>
}

/** What a session is opened with. */
export interface SandboxSpec {
  readonly image: string | undefined
  readonly memoryBytes: number
  readonly cpus: number
  readonly processes: number
  /** What the workspace may hold. An implementation holds single files to it; the whole is measured from outside. */
  readonly diskBytes: number
  /** Host folder that is the session's `/workspace`, readable and writable. It and the mounts are all of the host inside. */
  readonly workspace: string
  readonly mounts: ReadonlyArray<Granted>
  /** Whose it is, for `Sandbox.reap`. */
  readonly claw: string | undefined
  /** Its way out. `undefined`: it has none. */
  readonly wayOut: WayOut | undefined
}

const bytesOf = (size: ByteSize.Input): number => ByteSize.toNumberUnsafe(ByteSize.fromInputUnsafe(size))

/**
 * Options with their defaults filled in. Throws on a size that is none, and on a limit that is none: an engine takes zero for no
 * limit.
 */
export const makeSpec = (
  { cpus = 1, disk = "1 GiB", image, memory = "512 MiB", processes = 256 }: SandboxOptions,
  workspace: string,
  mounts: ReadonlyArray<Granted> = [],
  claw?: string,
  wayOut?: WayOut
): SandboxSpec => {
  const [memoryBytes, diskBytes] = [bytesOf(memory), bytesOf(disk)]
  const isLimited = cpus >= 0.01 && cpus < Infinity && Number.isSafeInteger(processes) && processes > 0
  if (!isLimited || memoryBytes === 0 || diskBytes === 0) {
    const detail = `no sandbox has ${memory} of memory, ${cpus} processors, ${processes} processes and ${disk} on the disk`
    throw new SandboxError({ reason: new SpecRejected({ detail }) })
  }
  return { image, memoryBytes, cpus, processes, diskBytes, workspace, mounts, claw, wayOut }
}

/** A command: a `bash` script, or an argument vector that no shell reads. */
export interface Command {
  readonly run: string | readonly [program: string, ...args: ReadonlyArray<string>]
  readonly stdin?: Uint8Array
  /** Working directory. Default `/workspace`. */
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string>>
  /** The command and its process group are killed after this. Default 2 minutes. */
  readonly deadline?: Duration.Input
  /** Bytes kept of each output stream; the rest is dropped, and counted. Default 1 MiB. */
  readonly outputLimit?: number
}

/** How a command ended. */
export interface CommandExit {
  /** The exit code; 128 and the signal's number when a signal ended it, as shells count. */
  readonly code: number
  readonly timedOut: boolean
  /** Bytes of output beyond the limit. */
  readonly droppedBytes: number
}

/** A running command. Closing its scope kills it and its process group; what left the group ends with the session. */
export interface SandboxProcess {
  readonly stdout: Stream.Stream<Uint8Array, SandboxError>
  readonly stderr: Stream.Stream<Uint8Array, SandboxError>
  readonly exit: Effect.Effect<CommandExit, SandboxError>
}

/** An open sandbox. */
export interface SandboxSession {
  readonly id: string
  /** Whether it has ended, so that it begins no command. Not there where it is opened anew by itself. */
  readonly isLost?: Effect.Effect<boolean>
  readonly exec: (command: Command) => Effect.Effect<SandboxProcess, SandboxError, Scope.Scope>
  /** A file's bytes. Relative paths start at `/workspace`. Fails above `limit` bytes (default 16 MiB). */
  readonly readFile: (path: string, limit?: number) => Effect.Effect<Uint8Array, SandboxError>
  /** Writes a file, making the folders above it. */
  readonly writeFile: (path: string, content: Uint8Array) => Effect.Effect<void, SandboxError>
  /** Halts all that runs inside, and comes back with what lets it go on. Not there where nothing runs between commands. */
  readonly pause?: Effect.Effect<Effect.Effect<void, SandboxError>, SandboxError>
}

/** Opens sessions. */
export class Sandbox extends Context.Service<
  Sandbox,
  {
    /** For people: `Docker 27.3`, `virtual shell`. */
    readonly description: Effect.Effect<string>
    readonly open: (spec: SandboxSpec) => Effect.Effect<SandboxSession, SandboxError, Scope.Scope>
    /** Takes away what earlier runs of a claw left behind, and nothing of another's. Not there where nothing can be left. */
    readonly reap?: (claw: string) => Effect.Effect<void, SandboxError>
  }
>()("effect-claw/services/Sandbox") {}

/** A finished command with what it printed. */
export interface CommandResult extends CommandExit {
  readonly stdout: string
  readonly stderr: string
}

/** Runs a command to its end. Output that is no UTF-8 is shown with replacement characters. */
export const run = Effect.fn("Sandbox.run")(function* (session: SandboxSession, command: Command) {
  const process = yield* session.exec(command)
  const [stdout, stderr, exit] = yield* Effect.all(
    [
      Stream.mkString(Stream.decodeText(process.stdout)),
      Stream.mkString(Stream.decodeText(process.stderr)),
      process.exit
    ],
    { concurrency: "unbounded" }
  )
  return { ...exit, stdout, stderr } satisfies CommandResult
}, Effect.scoped)
