/**
 * Warm sandbox sessions: one per agent and conversation, opened by the first tool call that needs it, closed when idle.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as FiberHandle from "effect/FiberHandle"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as RcMap from "effect/RcMap"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import { Egress, type EgressError, type Rule } from "./Egress.ts"
import * as WorkspaceLimit from "./internal/WorkspaceLimit.ts"
import type { AgentName, ConversationId } from "./Message.ts"
import { Mounts } from "./Mount.ts"
import {
  makeSpec,
  Sandbox,
  SandboxError,
  type SandboxOptions,
  type SandboxSession,
  SandboxUnavailable,
  SpecRejected
} from "./Sandbox.ts"
import * as Rights from "./Rights.ts"
import { type WorkspaceError, Workspaces } from "./Workspaces.ts"

/** How long sessions stay, and what they are opened with. */
export interface Options {
  /** The limits of an agent's sessions. */
  readonly optionsOf: (agent: AgentName) => SandboxOptions
  /** How long a session stays open unused. Default 5 minutes. */
  readonly idle?: Duration.Input
  /** Sessions that are open at the same time; one more closes the one that was used least recently. Default 16. */
  readonly atMost?: number
  /** A session that is idle for so long is paused until it is used next, where its layer can. Default: none is. */
  readonly pauseAfter?: Duration.Input
}

/** A session, and what uses it as long as a scope is open. */
interface Open {
  readonly session: SandboxSession
  readonly use: Effect.Effect<void, SandboxError, Scope.Scope>
}

/** A session's key, and how many calls use it now. */
interface Use {
  readonly key: { readonly agent: AgentName; readonly conversation: ConversationId; readonly wanted: SandboxOptions }
  calls: number
}

/**
 * Has a session paused once nobody has used it for a while. What comes back resumes it, and counts as a use as long as its scope
 * is open.
 */
const pausing = Effect.fnUntraced(function* ({ pause }: SandboxSession, after: Duration.Input | undefined) {
  const one = yield* Semaphore.make(1)
  const timer = yield* FiberHandle.make()
  let uses = 0
  let resume: Effect.Effect<void, SandboxError> = Effect.void
  if (pause === undefined || after === undefined) return { use: Effect.void }
  const rest = Effect.suspend(() => (uses > 0 ? Effect.void : Effect.map(pause, (undo) => void (resume = undo)))).pipe(
    (effect) => one.withPermit(effect),
    Effect.uninterruptible,
    Effect.catch((error) => Effect.logWarning(`a sandbox was not paused: ${error.message}`)),
    Effect.delay(after)
  )
  const use = Effect.acquireRelease(
    Effect.suspend(() => resume).pipe(
      Effect.andThen(
        Effect.sync(() => {
          resume = Effect.void
          uses++
        })
      ),
      (effect) => one.withPermit(effect)
    ),
    () => Effect.suspend(() => (--uses > 0 ? Effect.void : FiberHandle.run(timer, rest)))
  )
  return { use }
})

/**
 * The sessions of a claw's agents, kept warm in this process. On release every session is closed. A session that was lost is opened
 * anew by the next call.
 */
export class Sandboxes extends Context.Service<Sandboxes>()("effect-claw/services/Sandboxes", {
  make: (options: Options) =>
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const workspaces = yield* Workspaces
      const { grant } = yield* Mounts
      const egress = yield* Effect.serviceOption(Egress)
      const wayOut = Effect.fnUntraced(function* ({ agent, conversation }: Use["key"], rules: ReadonlyArray<Rule>) {
        if (rules.length === 0) return undefined
        if (Option.isNone(egress)) return yield* rejected({ message: "the claw has no proxy to go out by" })
        return yield* Effect.mapError(egress.value.open({ agent, conversation, rules }), unavailable)
      })
      const scope = yield* Effect.scope
      const sessions: RcMap.RcMap<Use["key"], Open, SandboxError> = yield* RcMap.make({
        lookup: (key: Use["key"]) =>
          Effect.gen(function* () {
            const { agent, conversation, wanted } = key
            const folder = yield* Effect.mapError(workspaces.folder(agent, conversation), unavailable)
            const mounts = yield* Effect.mapError(Effect.forEach(wanted.mounts ?? [], grant), rejected)
            const way = yield* wayOut(key, wanted.egress ?? [])
            const claw = yield* Effect.mapError(workspaces.claw, unavailable)
            const spec = yield* Effect.try({
              try: () => makeSpec(wanted, folder, mounts, claw, way),
              catch: (cause) => rejected({ message: cause instanceof Error ? cause.message : String(cause) })
            })
            const most = spec.diskBytes
            // What cannot be looked at may be anything.
            const measure = (limit: number) => Effect.orElseSucceed(workspaces.size(folder, limit), () => Infinity)
            const [session, size] = yield* Effect.all([sandbox.open(spec), measure(most)], { concurrency: 2 })
            const limited = yield* WorkspaceLimit.make(session, {
              most,
              size,
              measure,
              // It closes what this runs in.
              end: Effect.asVoid(Effect.forkIn(RcMap.invalidate(sessions, key), scope))
            })
            return { session: limited, ...(yield* pausing(session, options.pauseAfter)) }
          }),
        idleTimeToLive: options.idle ?? "5 minutes"
      })
      /** The least recently used first. */
      const uses: Array<Use> = []
      const most = options.atMost ?? 16

      /** Closes what nobody uses until no more are open than may be. */
      const makeRoom: Effect.Effect<void> = Effect.suspend(() => {
        const idle = uses.length > most ? uses.findIndex(({ calls }) => calls === 0) : -1
        const closed = idle < 0 ? [] : uses.splice(idle, 1)
        return Effect.forEach(closed, ({ key }) => Effect.andThen(RcMap.invalidate(sessions, key), makeRoom), {
          discard: true
        })
      })

      /** Counts a call as long as its scope is open, and makes room for its session. */
      const use = (key: Use["key"]) =>
        Effect.acquireRelease(
          Effect.sync(() => {
            const at = uses.findIndex((one) => Equal.equals(one.key, key))
            const [current = { key, calls: 0 }] = at < 0 ? [] : uses.splice(at, 1)
            current.calls++
            uses.push(current)
            return current
          }),
          (current) =>
            Effect.andThen(
              Effect.sync(() => current.calls--),
              makeRoom
            )
        ).pipe(Effect.andThen(makeRoom))

      const session = Effect.fn("Sandboxes.session")(function* (
        agent: AgentName,
        conversation: ConversationId,
        rights: Rights.Rights
      ): Effect.fn.Return<SandboxSession, SandboxError, Scope.Scope> {
        const { egress: rules = [], mounts = [], ...others } = options.optionsOf(agent)
        const wanted = {
          ...others,
          mounts: Rights.mountsWithin(rights, mounts),
          egress: rules.filter(({ host }) => Rights.allowsEgress(rights, host))
        }
        const key = { agent, conversation, wanted }
        yield* use(key)
        const forget = RcMap.invalidate(sessions, key)
        // One that could not be opened is no session to keep, nor one that ended while nothing ran in it.
        const get = Effect.tapError(RcMap.get(sessions, key), () => forget)
        const kept = yield* get
        const isGone = yield* kept.session.isLost ?? Effect.succeed(false)
        const { session, use: awake } = isGone ? yield* Effect.andThen(forget, get) : kept
        yield* Effect.tapError(awake, () => forget)
        const isLost = (error: SandboxError) => (error.reason._tag === "SessionLost" ? forget : Effect.void)
        return {
          ...session,
          exec: (command) =>
            Effect.tapError(session.exec(command), isLost).pipe(
              Effect.map(({ exit, stderr, stdout }) => ({
                stdout: Stream.tapError(stdout, isLost),
                stderr: Stream.tapError(stderr, isLost),
                exit: Effect.tapError(exit, isLost)
              }))
            ),
          readFile: (path, limit) => Effect.tapError(session.readFile(path, limit), isLost),
          writeFile: (path, content) => Effect.tapError(session.writeFile(path, content), isLost)
        }
      })

      if (sandbox.reap !== undefined) {
        yield* Effect.flatMap(workspaces.claw, sandbox.reap).pipe(
          Effect.retry(Schedule.spaced("1 minute")),
          Effect.forkScoped
        )
      }

      return {
        /**
         * The session of an agent in a conversation, with no more of what the agent asks for than the rights have. It stays open
         * at least as long as the scope.
         */
        session,
        /** Begins to open the session of an agent that wants it warm; whoever asks for it meanwhile waits for this one. */
        warm: (agent: AgentName, conversation: ConversationId, rights: Rights.Rights) =>
          options.optionsOf(agent).warm === true
            ? Effect.scoped(session(agent, conversation, rights)).pipe(
                // The first tool call that needs it is told.
                Effect.catch((error) => Effect.logDebug(`no sandbox is warm: ${error.message}`)),
                Effect.forkIn(scope),
                Effect.asVoid
              )
            : Effect.void
      }
    })
}) {}

/** The sessions. Provides `Sandboxes`; requires `Sandbox` and `Workspaces`. */
export const layer = (options: Options): Layer.Layer<Sandboxes, never, Sandbox | Workspaces> =>
  Layer.effect(Sandboxes, Sandboxes.make(options))

const rejected = ({ message }: { readonly message: string }) =>
  new SandboxError({ reason: new SpecRejected({ detail: message }) })

const unavailable = (error: WorkspaceError | EgressError) =>
  new SandboxError({ reason: new SandboxUnavailable({ detail: error.message }) })
