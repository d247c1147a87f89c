/**
 * Mounts of folders on this machine, against an allowlist.
 *
 * Every path is resolved, links too, before it is judged, and compared by whole components. What lies below a folder that may be
 * written to is granted with its identity, since a session there can replace it at any time. Never mounted, whatever the list
 * says, is what is no folder or file, what belongs to the kernel or an engine, and what usually holds secrets, or holds such
 * a thing in a place that is known.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { open, readlink, realpath, stat } from "node:fs/promises"
import { homedir } from "node:os"
import { basename, isAbsolute, join, relative, sep } from "node:path"
import { type Allowed, type Granted, type Mount, MountRefused, Mounts } from "../services/Mount.ts"

/** What may be mounted. */
export interface Options {
  readonly allow: ReadonlyArray<Allowed>
  /** Never mounted, nor what is in it or holds it: the claw's own state. */
  readonly closed?: ReadonlyArray<string>
  /** What `~` stands for. Default: the home folder of whoever runs the claw. */
  readonly home?: string
}

/** The kernel's, and where engines have their sockets and what they keep. */
const system = "/proc /sys /dev /run /var/run /var/lib/docker /var/lib/containerd /var/lib/containers".split(" ")

/** Below a home folder. */
const engineFolders = ".docker .colima .lima .orbstack .rd .local/share/docker .local/share/containers".split(" ")

/** Below a home folder. */
const secretFolders = (
  ".ssh .gnupg .aws .azure .kube .password-store .mozilla snap/firefox snap/chromium .cargo .m2 .config/gcloud .config/gh " +
  ".config/rclone .config/chromium .config/google-chrome .local/share/keyrings Library/Keychains"
).split(" ")

/** A component of a path that is a secret wherever it is. */
const secretName =
  /^(\.ssh|\.gnupg|\.aws|\.azure|\.kube|\.docker|\.effect-claw|\.env(\..*)?|\.netrc|\.npmrc|\.pypirc|\.git-credentials|\.pgpass|id_(rsa|dsa|ecdsa|ed25519)|credentials(\.json)?|.*\.(pem|key|p12|pfx|kdbx)|.*\.sock)$/i

const isInside = (path: string, folder: string): boolean => {
  const way = relative(folder, path)
  return way === "" || (way !== ".." && !way.startsWith(`..${sep}`) && !isAbsolute(way))
}

const isBelow = (path: string, folder: string): boolean => path !== folder && isInside(path, folder)

/** `O_PATH` of Linux: names what is at a path without opening it. */
const pathOnly = 0o10000000

/** What is at a path, and its real path. On Linux both are of one thing, whatever is put there meanwhile. */
const lookAt = async (path: string) => {
  if (process.platform !== "linux") {
    const host = await realpath(path)
    return { host, kind: await stat(host, { bigint: true }) }
  }
  const handle = await open(path, pathOnly)
  try {
    return { host: await readlink(`/proc/self/fd/${handle.fd}`), kind: await handle.stat({ bigint: true }) }
  } finally {
    await handle.close()
  }
}

const isTarget = (target: string): boolean =>
  target.split("/").every((part) => /^[A-Za-z0-9_.-]+$/.test(part) && part !== "." && part !== "..")

/**
 * The allowlist.
 *
 * Provides `Mounts`, requires nothing, and holds nothing to release. Default: nothing is allowed.
 */
export const layer = ({ allow, closed = [], home = homedir() }: Options): Layer.Layer<never> => {
  const expand = (path: string) => (path === "~" || path.startsWith("~/") ? join(home, path.slice(1)) : path)
  // What is listed in a folder that is listed to be written to adds nothing to it, and may by now be a link to anywhere.
  const listed = allow.filter(
    ({ path }) => !allow.some((other) => other.write === true && isBelow(expand(path), expand(other.path)))
  )
  const resolve = (path: string) => Effect.tryPromise(() => realpath(expand(path)))

  const judge = Effect.fnUntraced(function* (mount: Mount): Effect.fn.Return<Granted, string> {
    const target = mount.target ?? basename(expand(mount.host))
    if (!isTarget(target)) return yield* Effect.fail(`its place inside, ${target}, is no relative path of plain names`)
    if (!isAbsolute(expand(mount.host)))
      return yield* Effect.fail("it is no absolute path, nor one that begins with ~/")
    const { host, kind } = yield* Effect.mapError(
      Effect.tryPromise(() => lookAt(expand(mount.host))),
      () => "there is no such folder"
    )
    if (!kind.isDirectory() && !kind.isFile()) return yield* Effect.fail("it is neither a folder nor a file")

    const meets = (path: string) => isInside(host, path) || isInside(path, host)
    const isMet = (paths: ReadonlyArray<string>) =>
      Effect.map(Effect.partition(paths, resolve), ([real]) => real.some(meets))
    const address = yield* Effect.orElseSucceed(Config.String("DOCKER_HOST"), () => "")
    const sockets = /^unix:\/\/(.+)/.exec(address)?.slice(1) ?? []
    const engines = [...sockets, ...engineFolders.map((name) => join(home, name))]
    if (system.some(meets)) return yield* Effect.fail("it belongs to the system, or holds what does")
    if (yield* isMet(engines)) return yield* Effect.fail("it belongs to a container engine, or holds its socket")
    if (host.split(sep).some((part) => secretName.test(part))) return yield* Effect.fail("it usually holds secrets")
    if (yield* isMet(secretFolders.map((name) => join(home, name)))) {
      return yield* Effect.fail("a folder that usually holds secrets is in it")
    }
    if (yield* isMet(closed)) return yield* Effect.fail("the claw's own state is in it")
    const [roots] = yield* Effect.partition(listed, ({ path, write = false }) =>
      Effect.map(resolve(path), (root) => ({ root, write }))
    )
    const inside = roots.filter(({ root }) => isInside(host, root))
    if (inside.length === 0) return yield* Effect.fail("it is in no folder of the allowlist")
    const granted = { host, target: `/mnt/${target}`, write: mount.write && inside.some(({ write }) => write) }
    const isFixed = !inside.some(({ root, write }) => write && root !== host)
    return isFixed ? granted : { ...granted, identity: `${kind.dev} ${kind.ino}` }
  })

  return Layer.succeed(Mounts, {
    grant: Effect.fn("Mounts.grant")((mount: Mount) =>
      Effect.mapError(judge(mount), (rule) => new MountRefused({ host: mount.host, rule }))
    )
  })
}
