/**
 * Control groups of Linux: the memory, processors and processes of all that runs in one, together.
 *
 * Root makes them itself, of either version. Another user has them from the user's own systemd, and of version 2 alone:
 * version 1 gives nothing to users.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import { existsSync } from "node:fs"
import { mkdir, readdir, readFile, rmdir, stat, writeFile } from "node:fs/promises"
import { join } from "node:path"
import type { Granted } from "../../services/Mount.ts"
import { SandboxError, type SandboxSpec, SpecRejected } from "../../services/Sandbox.ts"

/** A group. */
export interface ControlGroup {
  /** Put before a command line, it runs in the group. */
  readonly prefix: ReadonlyArray<string>
  /** The group's own files, where programs look for them. */
  readonly mounts: ReadonlyArray<Granted>
}

const mounted = "/sys/fs/cgroup"
const controllers = ["cpu", "memory", "pids"]

const rejected = (detail: string) =>
  new SandboxError({
    reason: new SpecRejected({ detail: `memory, processors and processes cannot be limited: ${detail}` })
  })

const attempt = <A>(use: () => Promise<A>): Effect.Effect<A, SandboxError> =>
  Effect.tryPromise({ try: use, catch: (cause) => rejected(cause instanceof Error ? cause.message : String(cause)) })

const isVersion2 = () => existsSync(join(mounted, "cgroup.controllers"))

/** The folders that hold groups of ours, and what limits a group there. */
const hierarchiesOf = ({ cpus, memoryBytes, processes }: SandboxSpec) => {
  const [memory, quota] = [String(memoryBytes), String(Math.round(cpus * 100_000))]
  const hierarchies = isVersion2()
    ? {
        "": [
          ["memory.max", memory],
          ["memory.swap.max", "0"],
          ["pids.max", String(processes)],
          ["cpu.max", `${quota} 100000`]
        ]
      }
    : {
        // In this order: with swap there cannot be less than without.
        memory: [
          ["memory.limit_in_bytes", memory],
          ["memory.memsw.limit_in_bytes", memory]
        ],
        pids: [["pids.max", String(processes)]],
        cpu: [
          ["cpu.cfs_period_us", "100000"],
          ["cpu.cfs_quota_us", quota]
        ]
      }
  return Object.entries(hierarchies).map(([controller, limits]) => {
    const target = join(mounted, controller)
    return { target, parent: join(target, "effect-claw"), limits }
  })
}

/** What the names of a claw's groups begin with, and those of one run of it. */
const namesOf = (claw = "", boot?: string) => `${encodeURIComponent(claw)}.${boot === undefined ? "" : `${boot}.`}`

/** Takes away those groups that are left. One with a process in it cannot be. */
const sweep = Effect.fnUntraced(function* (parent: string, isLeft: (name: string) => Promise<boolean>) {
  const groups = yield* attempt(() => readdir(parent, { withFileTypes: true }))
  yield* Effect.forEach(
    groups.filter((entry) => entry.isDirectory()),
    ({ name }) => Effect.ignore(attempt(async () => void ((await isLeft(name)) && (await rmdir(join(parent, name))))))
  )
})

/** A claw that lives starts a process in its group at once, so that an empty one is nobody's after a minute. */
const sweepOld = Effect.fnUntraced(function* (parent: string) {
  const now = yield* Clock.currentTimeMillis
  yield* sweep(parent, async (name) => (await stat(join(parent, name))).mtimeMs < now - 60_000)
})

/** Takes away the empty groups of a claw's earlier runs, and none of this one's. Only root makes any that stay. */
export const reap = (claw: string, boot: string): Effect.Effect<void> =>
  Effect.forEach(
    ["", ...controllers].map((controller) => join(mounted, controller, "effect-claw")),
    (parent) =>
      Effect.ignore(
        sweep(parent, async (name) => name.startsWith(namesOf(claw)) && !name.startsWith(namesOf(claw, boot)))
      ),
    { discard: true }
  )

const ofRoot = Effect.fnUntraced(function* (spec: SandboxSpec, boot: string) {
  const id = `${namesOf(spec.claw, boot)}${randomUUID()}`
  const groups = yield* Effect.forEach(
    hierarchiesOf(spec),
    Effect.fnUntraced(function* ({ limits, parent, target }) {
      yield* attempt(async () => {
        await mkdir(parent, { recursive: true })
        if (!isVersion2()) return
        const enabled = controllers.map((controller) => `+${controller}`).join(" ")
        await writeFile(join(mounted, "cgroup.subtree_control"), enabled)
        await writeFile(join(parent, "cgroup.subtree_control"), enabled)
      })
      yield* sweepOld(parent)
      const group = join(parent, id)
      yield* Effect.acquireRelease(
        attempt(() => mkdir(group)),
        () =>
          attempt(async () => {
            const processes = (await readFile(join(group, "cgroup.procs"), "utf8")).split("\n").filter(Boolean)
            for (const id of processes) process.kill(Number(id), "SIGKILL")
            await rmdir(group)
          }).pipe(Effect.retry({ schedule: Schedule.spaced("20 millis"), times: 250 }), Effect.ignore)
      )
      yield* Effect.forEach(limits, ([file = "", value = ""]) => attempt(() => writeFile(join(group, file), value)))
      return { host: group, target, write: false }
    })
  )
  const enter = groups.map(({ host }) => `echo $$ > ${host}/cgroup.procs && `).join("")
  return { prefix: ["sh", "-c", `${enter}exec "$@"`, "sh"], mounts: groups }
})

const ofUser = Effect.fnUntraced(function* (uid: number, { cpus, memoryBytes, processes }: SandboxSpec) {
  const service = join(mounted, `user.slice/user-${uid}.slice/user@${uid}.service`)
  if (!isVersion2()) return yield* rejected("this needs root here, because the system has control groups of version 1")
  const delegated = yield* attempt(() => readFile(join(service, "cgroup.controllers"), "utf8"))
  const missing = controllers.filter((controller) => !delegated.split(/\s/).includes(controller))
  if (missing.length > 0) {
    return yield* rejected(`the system gives users no ${missing.join(", no ")}; set Delegate=yes for user@.service`)
  }
  const unit = `effect-claw-${randomUUID()}.scope`
  const properties = [
    `MemoryMax=${memoryBytes}`,
    "MemorySwapMax=0",
    `TasksMax=${processes}`,
    `CPUQuota=${Math.round(cpus * 100)}%`
  ]
  return {
    prefix: [
      "systemd-run",
      "--user",
      "--scope",
      "--quiet",
      "--collect",
      "--slice=app.slice",
      `--unit=${unit}`,
      ...properties.map((property) => `--property=${property}`),
      "--"
    ],
    mounts: [{ host: join(service, "app.slice", unit), target: mounted, write: false }]
  }
})

/** A group with the limits of a spec. Where they cannot be held the spec is rejected. On release it is gone, and what runs in it. */
export const make = (spec: SandboxSpec, boot: string): Effect.Effect<ControlGroup, SandboxError, Scope.Scope> => {
  const uid = process.getuid?.() ?? 0
  return uid === 0 ? ofRoot(spec, boot) : ofUser(uid, spec)
}
