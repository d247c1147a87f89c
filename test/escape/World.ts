/**
 * What is outside of a sandbox and must stay as it is: canaries on the host. What an attempt said of itself counts for
 * nothing; these decide.
 */
import { createHash, randomBytes } from "node:crypto"
import { createSocket } from "node:dgram"
import { once } from "node:events"
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync
} from "node:fs"
import { createServer, type ListenOptions } from "node:net"
import { hostname, networkInterfaces, tmpdir } from "node:os"
import { join } from "node:path"
import { type Internet, makeInternet } from "./Internet.ts"

/** A folder of the host that anybody may use, so that no permission does a sandbox's work for it. */
export const openFolder = (name: string): string => {
  const folder = mkdtempSync(join(tmpdir(), name))
  chmodSync(folder, 0o777)
  return folder
}

/** The host's canaries. */
export interface World {
  /** A folder with all that is on the disk. */
  readonly folder: string
  /** A file that anybody may read and write. Its content is a secret. */
  readonly secret: string
  /** A folder that anybody may write in. */
  readonly outside: string
  /** A folder that sessions see at `/mnt/notes` and may not change. */
  readonly notes: string
  /** A variable of the claw's environment whose value is a secret. */
  readonly variable: string
  /** Listeners that must hear nothing: on the host's loopback, on all its addresses, and by name. */
  readonly loopbackPort: number
  readonly loopback6Port: number
  readonly anyPort: number
  readonly datagramPort: number
  readonly socketPath: string
  readonly abstractName: string
  /** An address of the host that others can reach. */
  readonly address: string
  readonly internet: Internet
  /** Each secret, and where it is from. Another session's can be added. */
  readonly secrets: Map<string, string>
  /** What was reached, by what was seen and by the state outside; empty when all is well. */
  readonly reached: (seen: string, workspaces: ReadonlyArray<string>) => ReadonlyArray<string>
  readonly close: () => Promise<void>
}

export const makeSecret = () => `canary-${randomBytes(16).toString("hex")}`

/** Files below a folder, links not followed. It may be deep. */
const walk = (folder: string): ReadonlyArray<string> => {
  const found: Array<string> = []
  const folders = [folder]
  for (let next = folders.pop(); next !== undefined; next = folders.pop()) {
    for (const entry of readdirSync(next, { withFileTypes: true, encoding: "buffer" })) {
      // Names inside may be no UTF-8; what cannot be named as text is looked at by nobody.
      const path = join(next, entry.name.toString())
      found.push(path)
      if (entry.isDirectory() && existsSync(path)) folders.push(path)
    }
  }
  return found
}

const contentOf = (path: string): Buffer => {
  try {
    const found = lstatSync(path)
    if (found.isSymbolicLink()) return Buffer.from(readlinkSync(path))
    return found.isFile() && found.size < 64 * 1024 * 1024 ? readFileSync(path) : Buffer.alloc(0)
  } catch {
    return Buffer.alloc(0)
  }
}

/** What a folder holds, to the mode and the content of each file. */
const stateOf = (folder: string): string =>
  [folder, ...walk(folder)]
    .map((path) => {
      const { gid, ino, mode, mtimeMs, nlink, uid } = lstatSync(path)
      const digest = createHash("sha256").update(contentOf(path)).digest("hex")
      return [path, mode, uid, gid, ino, nlink, mtimeMs, digest].join(" ")
    })
    .sort()
    .join("\n")

const kernelFile = (path: string) => (existsSync(path) ? readFileSync(path, "utf8").trim() : "")

/** What a command with enough power could change of the machine. */
const machine = (): string =>
  JSON.stringify({
    hostname: hostname(),
    core: kernelFile("/proc/sys/kernel/core_pattern"),
    modprobe: kernelFile("/proc/sys/kernel/modprobe"),
    hotplug: kernelFile("/sys/kernel/uevent_helper"),
    mounts: kernelFile("/proc/self/mounts")
      .split("\n")
      // Others mount and unmount on this machine, in places of their own.
      .filter((line) => !/docker|overlay|nsfs|containerd| \/tmp\//.test(line)),
    release: existsSync("/sys/fs/cgroup/memory/release_agent") ? kernelFile("/sys/fs/cgroup/memory/release_agent") : ""
  })

/** How far the wall clock is from where it was, by a clock that nobody can set. */
const drift = (() => {
  const start = Date.now() - performance.now()
  return () => Math.abs(Date.now() - performance.now() - start)
})()

export const makeWorld = async (): Promise<World> => {
  const folder = openFolder("claw-outside-")
  const [fileSecret, variableSecret, socketSecret] = [makeSecret(), makeSecret(), makeSecret()]
  const secret = join(folder, "secret.txt")
  const outside = join(folder, "outside")
  const notes = join(folder, "notes")
  for (const path of [outside, notes]) {
    mkdirSync(path)
    chmodSync(path, 0o777)
  }
  writeFileSync(join(notes, "a.txt"), "a note\n")
  chmodSync(join(notes, "a.txt"), 0o666)
  writeFileSync(secret, `${fileSecret}\n`)
  chmodSync(secret, 0o666)
  const variable = "ESCAPE_CANARY"
  process.env[variable] = variableSecret

  const heard: Array<string> = []
  const servers = await Promise.all(
    (
      [
        ["the host's loopback", { host: "127.0.0.1", port: 0 }],
        ["the host's loopback by IPv6", { host: "::1", port: 0 }],
        ["an address of the host", { host: "0.0.0.0", port: 0 }],
        ["a socket's path", { path: join(folder, "host.sock") }],
        ["an abstract socket", { path: `\0${folder}` }]
      ] satisfies ReadonlyArray<readonly [string, ListenOptions]>
    ).map(async ([name, options]) => {
      const server = createServer((socket) => {
        heard.push(`${name} was connected to`)
        socket
          .on("error", () => {})
          .resume()
          .end(socketSecret)
      })
      server.listen(options)
      // Where there is no IPv6 there is nobody to hear by it.
      await Promise.race([once(server, "listening"), once(server, "error")])
      return server
    })
  )
  chmodSync(join(folder, "host.sock"), 0o777)
  const portOf = (index: number): number => {
    const address = servers[index]?.address()
    return typeof address === "object" && address !== null ? address.port : 9
  }
  const datagrams = createSocket("udp4", () => heard.push("a datagram was sent"))
  datagrams.bind(0, "127.0.0.1")
  await once(datagrams, "listening")

  const address =
    Object.values(networkInterfaces())
      .flatMap((addresses) => addresses ?? [])
      .find(({ family, internal }) => family === "IPv4" && !internal)?.address ?? "172.17.0.1"
  const ports = { loopbackPort: portOf(0), loopback6Port: portOf(1), anyPort: portOf(2) }
  const internet = await makeInternet({ ...ports, address }, (what) => heard.push(what))

  const secrets = new Map([
    ...internet.secrets.map((form) => [form, "the proxy's secret"] as const),
    [fileSecret, "a host file"],
    [variableSecret, "the claw's environment"],
    [socketSecret, "a host socket"]
  ])
  const before = { files: stateOf(folder), machine: machine() }

  const reached: World["reached"] = (seen, workspaces) => {
    const contents = [Buffer.from(seen), ...workspaces.flatMap(walk).map(contentOf)]
    const leaked = [...secrets].flatMap(([value, from]) =>
      contents.some((content) => content.includes(value)) ? [`${from} was read`] : []
    )
    return [
      ...leaked,
      ...new Set(heard.splice(0)),
      ...(stateOf(folder) === before.files ? [] : ["a host file was changed"]),
      ...(machine() === before.machine ? [] : ["a setting of the machine was changed"]),
      ...(drift() < 5000 ? [] : ["the clock was set"])
    ]
  }
  return {
    folder,
    secret,
    outside,
    notes,
    variable,
    ...ports,
    datagramPort: datagrams.address().port,
    socketPath: join(folder, "host.sock"),
    abstractName: folder,
    address,
    internet,
    secrets,
    reached,
    close: async () => {
      Reflect.deleteProperty(process.env, variable)
      await internet.close()
      await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
      await new Promise<void>((resolve) => datagrams.close(resolve))
      rmSync(folder, { recursive: true, force: true })
    }
  }
}
