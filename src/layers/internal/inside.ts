/**
 * What is inside of a sandbox that runs real programs, whatever encloses it.
 */
import { lchown, readdir, stat } from "node:fs/promises"
import type { WayOut } from "../../services/Egress.ts"
import type { Granted } from "../../services/Mount.ts"
import type { SandboxSpec } from "../../services/Sandbox.ts"

export const home = "/home/claw"

/** Where the folder of a way out is. */
const wayOutFolder = "/run/claw"

/** Where a forwarder listens, for programs that know proxies by address only. */
const forwarderPort = 3128

/** What programs need to know of a way out: curl, git, Node, npm, pip, Python, cargo. */
const wayOutEnvironment = ({ environment }: WayOut): Readonly<Record<string, string>> => {
  const proxy = `http://127.0.0.1:${forwarderPort}`
  const direct = "localhost,127.0.0.1,::1"
  const names = { HTTP_PROXY: proxy, HTTPS_PROXY: proxy, NO_PROXY: direct }
  const authorities = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "npm_config_cafile"
  ]
  return {
    ...environment,
    ...names,
    ...Object.fromEntries(Object.entries(names).map(([name, value]) => [name.toLowerCase(), value])),
    NODE_USE_ENV_PROXY: "1",
    ...Object.fromEntries(authorities.map((name) => [name, `${wayOutFolder}/authorities.pem`]))
  }
}

/** The environment of its commands. */
export const environmentOf = ({ wayOut }: SandboxSpec): Readonly<Record<string, string>> => ({
  HOME: home,
  LANG: "C.UTF-8",
  ...(wayOut === undefined ? {} : wayOutEnvironment(wayOut))
})

/** Bytes of `/tmp`, and of the home, each. */
export const scratchBytes = 128 * 1024 * 1024

/** Files that a process may have open. */
export const openFiles = 1024

/** The user inside: the claw's own, or if that is root, one that is not. */
export const user = (): { readonly uid: number; readonly gid: number } => {
  const uid = process.getuid?.() ?? 1000
  return uid === 0 ? { uid: 1000, gid: 1000 } : { uid, gid: process.getgid?.() ?? 1000 }
}

/**
 * Makes the workspace that user's, with what was put there before there was a session, and tells what the runner is to find in its
 * place, as its arguments.
 */
export const prepare = async ({ mounts, workspace }: SandboxSpec): Promise<ReadonlyArray<string>> => {
  const { gid, uid } = user()
  const { dev, ino, uid: owner } = await stat(workspace, { bigint: true })
  if (process.getuid?.() === 0 && Number(owner) !== uid) {
    const names = await readdir(workspace, "buffer")
    await Promise.all(names.map((name) => lchown(Buffer.concat([Buffer.from(`${workspace}/`), name]), uid, gid)))
    await lchown(workspace, uid, gid)
  }
  // Nobody inside can replace it: by it the runner knows whether devices have the numbers here that they have outside.
  const identity = `${dev} ${ino}`
  const known = mounts.filter((mount) => mount.identity !== undefined)
  return [{ identity, target: "/workspace" }, ...known].map((mount) => `${mount.identity} ${mount.target}`)
}

/** All of the host that is inside. */
export const mountsOf = ({ mounts, wayOut, workspace }: SandboxSpec): ReadonlyArray<Granted> => [
  { host: workspace, target: "/workspace", write: true },
  ...mounts,
  ...(wayOut === undefined ? [] : [{ host: wayOut.folder, target: wayOutFolder, write: false }])
]
