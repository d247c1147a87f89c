/**
 * Sandboxes of Linux namespaces, made by bubblewrap (`bwrap`): no engine, no image, no daemon.
 *
 * Inside are this machine's own programs, `/usr` read-only, and of `/etc` what programs cannot do without; the workspace and
 * the mounts; and nothing else of the host. A session has no network but loopback, no capability, no way to gain
 * privileges, a read-only root, a user that is not root and a seccomp filter. A control group holds its memory, processors and
 * processes. It lives as long as its scope: when this process ends, however it does, its first process does, and the kernel ends all others with that.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { existsSync, lstatSync, readlinkSync } from "node:fs"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { randomUUID } from "node:crypto"
import type { Granted } from "../services/Mount.ts"
import {
  makeSpec,
  Sandbox,
  SandboxError,
  type SandboxSpec,
  SandboxUnavailable,
  SpecRejected
} from "../services/Sandbox.ts"
import * as ChildRunner from "./internal/childRunner.ts"
import * as ControlGroup from "./internal/controlGroup.ts"
import * as Inside from "./internal/inside.ts"
import * as Runner from "./internal/runner.ts"
import * as Seccomp from "./internal/seccomp.ts"

/** How sessions are made. */
export interface Options {
  /** The program that makes sandboxes. Default `bwrap`, in one of the usual places. */
  readonly program?: string
}

/**
 * What the runner does first: it sets its `PR_SET_DUMPABLE` to 0, whereby its memory and its line are closed to the commands,
 * whose user it has. As the first process it cannot be killed or stopped by them either, so that it sees when its line is
 * closed, and ends everything with itself.
 */
const untouchable = `syscall(${process.arch === "x64" ? 157 : 167}, 4, 0, 0, 0, 0) == 0 or die "prctl: $!";\n`

const programs = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/** What programs read in `/etc`: where libraries are, which of several programs is meant, whom TLS trusts. */
const settings = [
  "/etc/alternatives",
  "/etc/ca-certificates",
  "/etc/ld.so.cache",
  "/etc/pki/ca-trust/extracted",
  "/etc/pki/tls/certs",
  "/etc/ssl/certs",
  "/etc/ssl/openssl.cnf"
]

const words = (line: string): ReadonlyArray<string> => line.split(" ")

const scratch = (path: string, mode: string, bytes = Inside.scratchBytes) =>
  words(`--perms ${mode} --size ${bytes} --tmpfs ${path}`)

/** A folder or file of the host. What bwrap makes above it of itself only root could enter. */
const bind = ({ host, target, write }: Granted): ReadonlyArray<string> => [
  ...[...target.matchAll(/(?<=.)\//g)].flatMap(({ index }) => ["--dir", target.slice(0, index)]),
  write ? "--bind" : "--ro-bind",
  host,
  target
]

const readOnly = (path: string): ReadonlyArray<string> => bind({ host: path, target: path, write: false })

/** `/bin` and the like: links into `/usr` on most systems, folders on others. */
const besideUsr = () =>
  ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"]
    .filter((path) => existsSync(path))
    .flatMap((path) => (lstatSync(path).isSymbolicLink() ? ["--symlink", readlinkSync(path), path] : readOnly(path)))

/**
 * Root needs no user namespace, in which a user's files would be root's: it becomes another user inside. For anybody else the
 * user namespace is what allows the others.
 */
const isolation = (): { readonly namespaces: ReadonlyArray<string>; readonly becomeUser: ReadonlyArray<string> } => {
  if (process.getuid?.() !== 0) return { namespaces: words("--unshare-all --cap-drop ALL"), becomeUser: [] }
  const { gid, uid } = Inside.user()
  return {
    namespaces: words(
      "--unshare-ipc --unshare-pid --unshare-net --unshare-uts --unshare-cgroup " +
        "--cap-drop ALL --cap-add CAP_SETUID --cap-add CAP_SETGID --cap-add CAP_SETPCAP"
    ),
    becomeUser: words(`setpriv --reuid=${uid} --regid=${gid} --clear-groups --inh-caps=-all --bounding-set=-all`)
  }
}

const commandLine = (
  program: string,
  spec: SandboxSpec,
  runnerArguments: ReadonlyArray<string>,
  group: ReadonlyArray<Granted>
): ReadonlyArray<string> => {
  const { becomeUser, namespaces } = isolation()
  const environment = { PATH: programs, ...Inside.environmentOf(spec) }
  return [
    program,
    ...namespaces,
    ...words("--hostname sandbox --as-pid-1 --die-with-parent --new-session --seccomp 3 --clearenv"),
    ...Object.entries(environment).flatMap(([name, value]) => ["--setenv", name, value]),
    ...readOnly("/usr"),
    ...besideUsr(),
    ...settings.filter((path) => existsSync(path)).flatMap(readOnly),
    ...words("--perms 0444 --file 4 /etc/passwd --perms 0444 --file 5 /etc/hosts --proc /proc --dev /dev"),
    ...readOnly("/proc/sys"),
    ...(existsSync("/proc/keys") ? words("--ro-bind /dev/null /proc/keys") : []),
    ...scratch("/dev/shm", "1777", 64 * 1024 * 1024),
    ...scratch("/tmp", "1777"),
    // For root it is made before the user inside is anybody.
    ...scratch(Inside.home, "0777"),
    ...[...group, ...Inside.mountsOf(spec)].flatMap(bind),
    ...words("--remount-ro /dev --remount-ro / --chdir / --"),
    ...words(`prlimit --core=0 --nofile=${Inside.openFiles} --fsize=${spec.diskBytes}`),
    ...becomeUser,
    "perl",
    "-e",
    `${untouchable}${Runner.program}`,
    ...runnerArguments
  ]
}

const unavailable = (detail: string) => new SandboxError({ reason: new SandboxUnavailable({ detail }) })

/** What to do about what bwrap, and what it was started by, say. */
const advice = (said: string): string => {
  if (/ENOENT|(?:not found|No such file or directory)$/.test(said) && !said.startsWith("bwrap:"))
    return "bwrap is not there; install bubblewrap"
  if (/namespace|uid map|Operation not permitted|Permission denied/i.test(said)) {
    return (
      `this system does not let bubblewrap make a sandbox (${said}); allow user namespaces: an AppArmor profile for bwrap, ` +
      "sysctl kernel.apparmor_restrict_unprivileged_userns=0 or kernel.unprivileged_userns_clone=1"
    )
  }
  return `bubblewrap does not start (${said}); it needs bash, perl and util-linux in /usr`
}

const open = Effect.fn("Sandbox.open")(function* ({ program = "bwrap" }: Options, spec: SandboxSpec, boot: string) {
  const rejected = (detail: string) => new SandboxError({ reason: new SpecRejected({ detail }) })
  if (spec.image !== undefined) {
    return yield* rejected(`bubblewrap runs this machine's programs and has no images; the spec asks for ${spec.image}`)
  }
  const filter = Seccomp.filter(process.arch)
  if (process.platform !== "linux" || filter === undefined) {
    return yield* unavailable(
      `bubblewrap needs Linux on x64 or arm64, and this is ${process.platform} on ${process.arch}`
    )
  }
  const runnerArguments = yield* Effect.tryPromise({
    try: () => Inside.prepare(spec),
    catch: (cause) => unavailable(`the workspace cannot be given to the sandbox's user: ${String(cause)}`)
  })
  const { mounts, prefix } = yield* ControlGroup.make(spec, boot)
  const { gid, uid } = Inside.user()
  return yield* ChildRunner.makeSession(`bubblewrap:${randomUUID()}`, {
    command: [...prefix, ...commandLine(program, spec, runnerArguments, mounts)],
    // The second is for a user's systemd.
    env: { PATH: programs, XDG_RUNTIME_DIR: `/run/user/${uid}` },
    descriptors: [filter, `claw:x:${uid}:${gid}::${Inside.home}:/bin/bash\n`, "127.0.0.1 localhost\n::1 localhost\n"],
    advice
  })
})

/** Whether a session can be opened here: one is, and is closed again. */
export const isAvailable = (options: Options = {}): Effect.Effect<boolean> =>
  Effect.acquireUseRelease(
    Effect.tryPromise(() => mkdtemp(join(tmpdir(), "claw-bubblewrap-"))),
    (folder) => Effect.scoped(open(options, makeSpec({}, folder), randomUUID())),
    (folder) => Effect.promise(() => rm(folder, { recursive: true, force: true }))
  ).pipe(
    Effect.as(true),
    Effect.orElseSucceed(() => false)
  )

/**
 * Namespaces.
 *
 * Provides `Sandbox`, requires nothing; `bwrap` is looked for when the first session is opened. On release all sessions
 * are gone. It enforces every part of a spec but the image, and rejects one that names an image. Where control groups are
 * out of reach it rejects every spec.
 */
export const layer = (options: Options = {}): Layer.Layer<Sandbox> =>
  Layer.sync(Sandbox, () => {
    const boot = randomUUID()
    return {
      description: Effect.succeed("bubblewrap"),
      open: (spec: SandboxSpec) => open(options, spec, boot),
      reap: (claw: string) => ControlGroup.reap(claw, boot)
    }
  })
