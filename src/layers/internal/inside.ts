/**
 * What is inside of a sandbox that runs real programs, whatever encloses it.
 */
import { lchown } from "node:fs/promises"
import * as Egress from "../../services/Egress.ts"
import type { Granted } from "../../services/Mount.ts"
import type { SandboxSpec } from "../../services/Sandbox.ts"

export const home = "/home/claw"

/** The environment of its commands. */
export const environmentOf = ({ wayOut }: SandboxSpec): Readonly<Record<string, string>> => ({
  HOME: home,
  LANG: "C.UTF-8",
  ...(wayOut === undefined ? {} : Egress.environmentOf(wayOut))
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

/** Makes the workspace that user's. */
export const giveWorkspace = async ({ workspace }: SandboxSpec): Promise<void> => {
  const { gid, uid } = user()
  if (process.getuid?.() === 0) await lchown(workspace, uid, gid)
}

/** All of the host that is inside. */
export const mountsOf = ({ mounts, wayOut, workspace }: SandboxSpec): ReadonlyArray<Granted> => [
  { host: workspace, target: "/workspace", write: true },
  ...mounts,
  ...(wayOut === undefined ? [] : [{ host: wayOut.folder, target: Egress.wayOutFolder, write: false }])
]
