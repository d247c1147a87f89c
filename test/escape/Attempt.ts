/**
 * An attempt: one technique, tried from inside one or more kinds of sandbox.
 */
import type * as Egress from "effect-claw/services/Egress"
import type * as Sandbox from "effect-claw/services/Sandbox"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { World } from "./World.ts"

/** The kinds of sandbox that there are. */
export const kinds = ["container", "bubblewrap", "virtual shell"] as const
export type Kind = (typeof kinds)[number]
/** Those that run real programs. */
export const real = ["container", "bubblewrap"] as const satisfies ReadonlyArray<Kind>

/** An open session with its workspace, as the host sees it. */
export interface Opened {
  readonly session: Sandbox.SandboxSession
  readonly workspace: string
  /** Its way out, as the host sees it, if it has one. */
  readonly way?: Egress.WayOut
}

/** Where a script runs: in a sandbox, or to show that the canaries work, on the host. */
export interface Place {
  readonly world: World
  /** Another agent's place, which knows nothing of this. */
  readonly neighbour: Pick<Opened, "way" | "workspace">
  /** The place that is attacked from. */
  readonly own: Pick<Opened, "way" | "workspace">
  /** A word by which the host finds what the attempt started. */
  readonly mark: string
}

/** Where an attempt is made. */
export interface Stage extends Place {
  readonly kind: Kind
  readonly neighbour: Opened
  readonly own: Opened
  /** Opens one more, with a way out by rules. */
  readonly open: (
    options?: Sandbox.SandboxOptions,
    workspace?: string,
    rules?: ReadonlyArray<Egress.Rule>
  ) => Effect.Effect<Opened, Sandbox.SandboxError, Scope.Scope>
}

/** How a script ended. */
export interface Seen {
  readonly stdout: string
  readonly stderr: string
  readonly code: number
  readonly timedOut: boolean
  readonly droppedBytes: number
  /** Why there is no session any more, if there is none. */
  readonly lost?: string
}

type Script = string | ((place: Place) => string)

/** An attempt. */
export interface Attempt {
  readonly group: string
  readonly name: string
  /** What runs inside: in all kinds, or in real ones and in the virtual shell its own; in bubblewrap what containers run. */
  readonly both?: Script
  readonly container?: Script
  readonly bubblewrap?: Script
  readonly virtual?: Script
  /** Or what the host side does as well; gives the outcome, or all that was seen. */
  readonly act?: {
    readonly in: ReadonlyArray<Kind>
    readonly by: (stage: Stage, kind: Kind) => Effect.Effect<string, Sandbox.SandboxError, Scope.Scope>
  }
  /** Limits of a session of its own, which it has if it may break one. */
  readonly alone?: Sandbox.SandboxOptions
  /** It is made in a session with a way out, which, unless it is one of its own, still leads to its host thereafter. */
  readonly wayOut?: true
  readonly deadline?: Duration.Input
  /** Tried on the host itself too, where it must reach a canary; else nothing is shown by its failure inside. */
  readonly onHost?: boolean
  /** Where it gets through as things are, and what happens. Its test expects the failure, and fails when it is mended. */
  readonly open?: Partial<Readonly<Record<Kind, string>>>
  /** It gets through at times, so that its test expects nothing. */
  readonly byChance?: boolean
  /** What must be so besides the canaries. */
  readonly holds?: (seen: Seen, stage: Stage) => void
}

/** The kinds of sandbox that an attempt is made in. */
export const kindsOf = (attempt: Attempt): ReadonlyArray<Kind> =>
  attempt.act === undefined ? kinds.filter((kind) => ownScript(attempt, kind) !== undefined) : attempt.act.in

const ownScript = ({ both, bubblewrap, container, virtual }: Attempt, kind: Kind): Script | undefined => {
  const own = { container, bubblewrap: bubblewrap ?? container, "virtual shell": virtual }
  return own[kind] ?? both
}

/** The script of an attempt in a kind of sandbox. */
export const scriptOf = (attempt: Attempt, kind: Kind, place: Place): string => {
  const script = ownScript(attempt, kind) ?? ""
  return typeof script === "string" ? script : script(place)
}

/** Attempts of one group. */
export const group = (name: string, attempts: ReadonlyArray<Omit<Attempt, "group">>): ReadonlyArray<Attempt> =>
  attempts.map((attempt) => ({ group: name, ...attempt }))
