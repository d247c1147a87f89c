/**
 * Workspaces as folders below one folder of this machine: `<directory>/<agent>/<conversation>`.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import { createHash, randomUUID } from "node:crypto"
import { lstat, mkdir, open, readdir, readFile, rename, rm, writeFile } from "node:fs/promises"
import { join, resolve, sep } from "node:path"
import type { AgentName, ConversationId } from "../services/Message.ts"
import { isFileName, WorkspaceError, Workspaces } from "../services/Workspaces.ts"

/**
 * A conversation's folder name: its id where that is a plain name, and a digest, so that no two share a folder and no id
 * leads out of it.
 */
const folderName = (conversation: ConversationId): string => {
  const plain = conversation.replace(/[^A-Za-z0-9_-]+/g, "-").slice(0, 40)
  return `${plain}-${createHash("sha256").update(conversation).digest("hex").slice(0, 12)}`
}

/** A file has no less than a block, so that files without content are bounded, too. */
const leastOf = 4096

/** What is deleted meanwhile holds nothing. */
const isGone = (cause: unknown) =>
  Predicate.hasProperty(cause, "code") && (cause.code === "ENOENT" || cause.code === "ENOTDIR")

const attempt = <A>(folder: string, use: () => Promise<A>) =>
  Effect.tryPromise({
    try: use,
    catch: (cause) => new WorkspaceError({ folder, detail: cause instanceof Error ? cause.message : String(cause) })
  })

const unlessGone = <A>(found: Promise<A>) =>
  found.catch((cause: unknown) => {
    if (!isGone(cause)) throw cause
    return undefined
  })

/** Names are bytes here: one that is no UTF-8 would not be found by its text. */
const sizeOf = Effect.fnUntraced(function* (folder: string, limit: number) {
  const found: { size: number; readonly folders: Array<Buffer> } = { size: 0, folders: [Buffer.from(folder)] }
  for (let path = found.folders.pop(); path !== undefined && found.size <= limit; path = found.folders.pop()) {
    const inside = path
    const names = (yield* attempt(folder, () => unlessGone(readdir(inside, { encoding: "buffer" })))) ?? []
    const add = async (name: Buffer) => {
      const inner = Buffer.concat([inside, Buffer.from(sep), name])
      const stat = await unlessGone(lstat(inner))
      if (stat === undefined) return
      found.size += Math.max(stat.blocks * 512, leastOf)
      if (stat.isDirectory()) found.folders.push(inner)
    }
    yield* Effect.forEach(names, (name) => (found.size > limit ? Effect.void : attempt(folder, () => add(name))), {
      concurrency: 64,
      discard: true
    })
  }
  return found.size
})

/** The name is made once, and whole or not at all. */
const clawOf = async (directory: string): Promise<string> => {
  const path = join(directory, ".claw")
  const known = await readFile(path, "utf8").catch(() => "")
  if (/^[0-9a-f-]{36}$/.test(known)) return known
  const made = randomUUID()
  await mkdir(directory, { recursive: true, mode: 0o700 })
  await writeFile(`${path}.part`, made)
  await rename(`${path}.part`, path)
  return made
}

/**
 * Workspaces.
 *
 * Provides `Workspaces`, requires nothing. Folders stay on release.
 */
export const layer = (options: { readonly directory: string }): Layer.Layer<Workspaces> => {
  const directory = resolve(options.directory)
  const folder = Effect.fn("Workspaces.folder")(function* (agent: AgentName, conversation: ConversationId) {
    const path = join(directory, agent, folderName(conversation))
    yield* attempt(path, () => mkdir(path, { recursive: true, mode: 0o700 }))
    return path
  })
  return Layer.effect(
    Workspaces,
    Effect.map(Effect.cached(attempt(directory, () => clawOf(directory))), (claw) => ({
      claw,
      folder,
      size: sizeOf,
      place: Effect.fn("Workspaces.place")(function* (agent, conversation, name, content) {
        const path = yield* folder(agent, conversation)
        if (!isFileName(name)) return yield* new WorkspaceError({ folder: path, detail: "this is no name for a file" })
        const file = join(path, name)
        // `wx` makes the file or fails: it neither follows a link nor replaces anything.
        const handle = yield* Effect.acquireRelease(
          attempt(path, () => open(file, "wx", 0o644)),
          (opened) => Effect.ignore(attempt(path, () => opened.close()))
        )
        yield* Effect.onError(
          attempt(path, () => handle.writeFile(content)),
          () => Effect.ignore(attempt(path, () => rm(file, { force: true })))
        )
        return file
      }, Effect.scoped)
    }))
  )
}
