/**
 * A session whose workspace keeps to a size.
 *
 * No layer can hold a folder of the host to a size without privileges, so it is measured, from outside, while the session
 * is open. What crosses the limit ends its session, with all that runs inside. In a session that is opened on a workspace
 * which is full, files can be deleted and not written to: its commands have `ulimit -f 0`, which the kernel holds.
 */
import * as ByteSize from "effect/ByteSize"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { type Command, SandboxError, type SandboxSession, WorkspaceFull } from "../Sandbox.ts"

/** How long it is left alone between two looks: ten times as long as a look takes, within these. */
const interval = Duration.clamp({ minimum: Duration.seconds(1), maximum: Duration.seconds(3) })

/** `most` is in bytes; `size` is what `measure(most)` gave. `end` closes the session. */
export interface Options {
  readonly most: number
  readonly size: number
  /** Counts no further than a limit. */
  readonly measure: (limit: number) => Effect.Effect<number>
  readonly end: Effect.Effect<void>
}

/** The session within its limit, as long as the scope is open. */
export const make = Effect.fnUntraced(function* (
  session: SandboxSession,
  options: Options
): Effect.fn.Return<SandboxSession, never, Scope.Scope> {
  const { end, measure, most } = options
  const shown = (bytes: number) => (bytes < Infinity ? ByteSize.format(ByteSize.bytes(bytes)) : "what cannot be read")
  const detail = `the workspace holds more than ${shown(most)}; delete files, nothing else can be written before`
  const full = new SandboxError({ reason: new WorkspaceFull({ detail }) })
  const crossed = yield* Deferred.make<never, SandboxError>()
  const over = Deferred.await(crossed)
  let { size } = options
  /** One that was full before may not grow either. */
  let bound = size > most ? yield* measure(Infinity) : most

  const look = Effect.suspend(() =>
    Effect.map(measure(bound), (measured) => {
      size = measured
      if (size <= most) bound = most
    })
  )
  let wait = interval(Duration.zero)
  yield* Effect.suspend(() => Effect.delay(Effect.timed(look), wait)).pipe(
    Effect.tap(([took]) => Effect.sync(() => (wait = interval(Duration.times(took, 10))))),
    Effect.repeat({ until: () => size > bound }),
    Effect.andThen(Deferred.fail(crossed, full)),
    Effect.andThen(end),
    Effect.forkScoped
  )

  /** Whether so much more has room; what is known may be old. */
  const hasRoom = (more: number) =>
    Effect.map(
      Effect.suspend(() => (size + more > most ? look : Effect.void)),
      () => size + more <= most
    )

  return {
    ...session,
    exec: Effect.fnUntraced(function* (command) {
      const began = session.exec((yield* hasRoom(0)) ? command : leashed(command, `${detail} (found: ${shown(size)})`))
      const process = yield* Effect.raceFirst(began, over)
      return {
        stdout: Stream.interruptWhen(process.stdout, over),
        stderr: Stream.interruptWhen(process.stderr, over),
        exit: Effect.raceFirst(process.exit, over)
      }
    }),
    writeFile: Effect.fnUntraced(function* (path, content) {
      if (!(yield* hasRoom(content.length))) return yield* full
      yield* Effect.raceFirst(session.writeFile(path, content), over)
    })
  }
})

/** A command whose writes fail, each with an error instead of a signal that ends it. */
const leashed = (command: Command, told: string): Command => {
  const leash = `{ trap '' XFSZ; ulimit -f 0; } 2>/dev/null; echo '${told}' >&2\n`
  const run = command.run
  return { ...command, run: typeof run === "string" ? leash + run : ["bash", "-c", `${leash}"$@"`, "bash", ...run] }
}
