/**
 * Mounts: folders of the host that a sandbox sees beside its workspace, below `/mnt`.
 *
 * An agent's definition asks for them; what grants them is an allowlist that no agent can reach. Both have to say write for
 * a mount to be writable.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/** A folder that is asked for. `~` is the home folder of whoever runs the claw. */
export interface Mount {
  readonly host: string
  /** Where it is, below `/mnt`. Default: the folder's own name. */
  readonly target: string | undefined
  readonly write: boolean
}

/** A folder to be read. */
export const readonly = (host: string, target?: string): Mount => ({ host, target, write: false })

/** A folder to be read and written to. */
export const writable = (host: string, target?: string): Mount => ({ host, target, write: true })

/** A folder that may be mounted, and what is in it. `write` defaults to false. */
export interface Allowed {
  readonly path: string
  readonly write?: boolean
}

/** A folder that is mounted: its real path on the host, and its path inside. */
export interface Granted {
  readonly host: string
  readonly target: string
  readonly write: boolean
  /**
   * Its device and inode, where a session that writes to a folder above it can put something else there before it is mounted.
   * A session in which it is another does not open.
   */
  readonly identity?: `${bigint} ${bigint}`
}

/** A mount is not granted. `rule` says why. */
export class MountRefused extends Schema.TaggedError<MountRefused>()("MountRefused", {
  host: Schema.String,
  rule: Schema.String
}) {
  override get message(): string {
    return `the mount of ${this.host} is refused: ${this.rule}`
  }
}

/** Judges what is asked for. Without a layer, nothing is granted. */
export const Mounts = Context.Reference<{ readonly grant: (mount: Mount) => Effect.Effect<Granted, MountRefused> }>(
  "effect-claw/services/Mount/Mounts",
  {
    defaultValue: () => ({
      grant: ({ host }) => Effect.fail(new MountRefused({ host, rule: "this claw allows no mounts" }))
    })
  }
)
