/**
 * Warm sandbox sessions: one per agent and conversation, opened by the first tool call that needs it, closed when idle.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as RcMap from "effect/RcMap"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { Egress, type EgressError, type Rule } from "./Egress.ts"
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

/** The sessions of a claw's agents. */
export class Sandboxes extends Context.Service<
  Sandboxes,
  {
    /**
     * The session of an agent in a conversation, with no more of what the agent asks for than the rights have. It stays open
     * at least as long as the scope.
     */
    readonly session: (
      agent: AgentName,
      conversation: ConversationId,
      rights: Rights.Rights
    ) => Effect.Effect<SandboxSession, SandboxError, Scope.Scope>
  }
>()("effect-claw/services/Sandboxes") {}

/** How long sessions stay, and what they are opened with. */
export interface Options {
  /** The limits of an agent's sessions. */
  readonly optionsOf: (agent: AgentName) => SandboxOptions
  /** How long a session stays open unused. Default 5 minutes. */
  readonly idle?: Duration.Input
  /** Sessions that are open at the same time; one more closes the one that was used least recently. Default 16. */
  readonly atMost?: number
}

/** A session's key, and how many calls use it now. */
interface Use {
  readonly key: { readonly agent: AgentName; readonly conversation: ConversationId; readonly wanted: SandboxOptions }
  calls: number
}

/**
 * Sessions kept warm in this process.
 *
 * Provides `Sandboxes`; requires `Sandbox` and `Workspaces`. On release every session is closed. A session that was
 * lost is opened anew by the next call.
 */
export const layer = (options: Options): Layer.Layer<Sandboxes, never, Sandbox | Workspaces> =>
  Layer.effect(
    Sandboxes,
    Effect.gen(function* () {
      const sandbox = yield* Sandbox
      const workspaces = yield* Workspaces
      const { grant } = yield* Mounts
      const egress = yield* Effect.serviceOption(Egress)
      const wayOut = Effect.fnUntraced(function* ({ agent, conversation }: Omit<Use["key"], "wanted">, rules: ReadonlyArray<Rule>) {
        if (rules.length === 0) return undefined
        if (Option.isNone(egress)) return yield* rejected({ message: "the claw has no proxy to go out by" })
        return yield* Effect.mapError(egress.value.open({ agent, conversation, rules }), unavailable)
      })
      const sessions = yield* RcMap.make({
        lookup: ({ agent, conversation, wanted }: Use["key"]) =>
          Effect.gen(function* () {
            const folder = yield* Effect.mapError(workspaces.folder(agent, conversation), unavailable)
            const mounts = yield* Effect.mapError(Effect.forEach(wanted.mounts ?? [], grant), rejected)
            return yield* sandbox.open(makeSpec(wanted, folder, mounts, yield* wayOut({ agent, conversation }, wanted.egress ?? [])))
          }),
        idleTimeToLive: options.idle ?? "5 minutes"
      })
      /** The least recently used first. */
      const uses = new Map<string, Use>()

      /** Counts a call as long as its scope is open, and makes room for its session. */
      const use = Effect.fnUntraced(function* (key: Use["key"]) {
        const name = `${key.agent} ${key.conversation}`
        const current = uses.get(name) ?? { key, calls: 0 }
        yield* Effect.acquireRelease(
          Effect.sync(() => {
            current.calls++
            uses.delete(name)
            uses.set(name, current)
          }),
          () => Effect.sync(() => current.calls--)
        )
        if (uses.size <= (options.atMost ?? 16)) return
        const idle = [...uses].find(([, { calls }]) => calls === 0)
        if (idle === undefined) return
        uses.delete(idle[0])
        yield* RcMap.invalidate(sessions, idle[1].key)
      })

      return Sandboxes.of({
        session: Effect.fn("Sandboxes.session")(function* (agent, conversation, rights) {
          const { mounts = [], ...others } = options.optionsOf(agent)
          const key = { agent, conversation, wanted: { ...others, mounts: Rights.mountsWithin(rights, mounts) } }
          yield* use(key)
          const forget = RcMap.invalidate(sessions, key)
          // One that could not be opened is no session to keep.
          const session = yield* Effect.tapError(RcMap.get(sessions, key), () => forget)
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
          } satisfies SandboxSession
        })
      })
    })
  )

const rejected = ({ message }: { readonly message: string }) =>
  new SandboxError({ reason: new SpecRejected({ detail: message }) })

const unavailable = (error: WorkspaceError | EgressError) =>
  new SandboxError({ reason: new SandboxUnavailable({ detail: error.message }) })
