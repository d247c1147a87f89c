/**
 * A sandbox in memory that runs nothing: commands are answered by a function, files are a map, and everything asked of it
 * is logged. For tests.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { type Command, FileFailed, Sandbox, SandboxError, type SandboxSpec } from "../services/Sandbox.ts"

/** What a command comes to. */
export interface Scripted {
  readonly stdout?: string
  readonly stderr?: string
  readonly code?: number
}

/** The log. */
export class SandboxMemory extends Context.Service<
  SandboxMemory,
  {
    /** Every command, oldest first, with the session it ran in. */
    readonly commands: ReadonlyArray<{ readonly session: string; readonly command: Command }>
    /** The specs of all sessions ever opened. */
    readonly opened: ReadonlyArray<SandboxSpec>
    /** Sessions open now. */
    readonly open: ReadonlySet<string>
    /** Files by workspace and absolute path: `<workspace>:/workspace/a.txt`. */
    readonly files: Map<string, Uint8Array>
  }
>()("effect-claw/layers/SandboxMemory") {}

/**
 * The sandbox.
 *
 * Provides `Sandbox` and `SandboxMemory`, its log; requires nothing. `exec` answers commands; default: no output, exit
 * code 0.
 */
export const layer = (
  exec: (command: Command) => Scripted | Effect.Effect<Scripted, SandboxError> = () => ({})
): Layer.Layer<Sandbox | SandboxMemory> =>
  Layer.effectContext(
    Effect.sync(() => {
      const log = {
        commands: new Array<{ readonly session: string; readonly command: Command }>(),
        opened: new Array<SandboxSpec>(),
        open: new Set<string>(),
        files: new Map<string, Uint8Array>()
      }
      const sandbox = Sandbox.of({
        description: Effect.succeed("in memory"),
        open: Effect.fn("Sandbox.open")(function* (spec) {
          const id = `memory-${log.opened.push(spec)}`
          yield* Effect.acquireRelease(
            Effect.sync(() => log.open.add(id)),
            () => Effect.sync(() => log.open.delete(id))
          )
          const key = (path: string) => `${spec.workspace}:${path.startsWith("/") ? path : `/workspace/${path}`}`
          return {
            id,
            exec: Effect.fnUntraced(function* (command) {
              log.commands.push({ session: id, command })
              const answer = exec(command)
              const result = yield* Effect.isEffect(answer) ? answer : Effect.succeed(answer)
              return {
                stdout: Stream.make(new TextEncoder().encode(result.stdout ?? "")),
                stderr: Stream.make(new TextEncoder().encode(result.stderr ?? "")),
                exit: Effect.succeed({ code: result.code ?? 0, timedOut: false, droppedBytes: 0 })
              }
            }),
            readFile: (path, limit = Infinity) => {
              const content = log.files.get(key(path))
              if (content !== undefined && content.length <= limit) return Effect.succeed(content)
              const detail = content === undefined ? "no such file or directory" : `is larger than ${limit} bytes`
              return Effect.fail(new SandboxError({ reason: new FileFailed({ path, detail }) }))
            },
            writeFile: (path, content) => Effect.sync(() => void log.files.set(key(path), content))
          }
        })
      })
      return Context.make(Sandbox, sandbox).pipe(Context.add(SandboxMemory, log))
    })
  )
