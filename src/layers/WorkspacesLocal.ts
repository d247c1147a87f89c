/**
 * Workspaces as folders below one folder of this machine: `<directory>/<agent>/<conversation>`.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import { createHash, randomUUID } from "node:crypto"
import { constants } from "node:fs"
import {
  type FileHandle,
  link,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  writeFile
} from "node:fs/promises"
import { dirname, join, resolve, sep } from "node:path"
import type { AgentName, ConversationId } from "../services/Message.ts"
import { StoreFailed } from "../services/StoreFailed.ts"
import { FolderClosed, isFileName, NameInvalid, NameTaken, WorkspaceError, Workspaces } from "../services/Workspaces.ts"

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

const hasCode = (cause: unknown, ...codes: ReadonlyArray<string>) =>
  Predicate.hasProperty(cause, "code") && codes.some((code) => cause.code === code)

/** What is deleted meanwhile holds nothing. */
const isGone = (cause: unknown) => hasCode(cause, "ENOENT", "ENOTDIR")

const messageOf = (cause: unknown) => (cause instanceof Error ? cause.message : String(cause))

const attempt = <A>(folder: string, use: () => Promise<A>) =>
  Effect.tryPromise({
    try: use,
    catch: (cause) => new WorkspaceError({ folder, reason: new StoreFailed({ detail: messageOf(cause), cause }) })
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

/** Gives a file to whoever a folder is of, where this user may, for everybody to read, whatever the claw's own files are. */
const give = async (handle: FileHandle, folder: string): Promise<void> => {
  const [{ gid, uid }, own] = [await stat(folder), await handle.stat()]
  await handle.chmod(0o644)
  if (uid !== own.uid || gid !== own.gid) await handle.chown(uid, gid).catch(() => {})
}

interface Part {
  readonly path: string
  readonly handle: FileHandle
}

/** Puts a part at its place: what has that name is neither followed nor replaced. In a folder that is mounted it is copied. */
const putAt = async (file: string, part: Part): Promise<void> => {
  try {
    return await link(part.path, file)
  } catch (cause) {
    if (!hasCode(cause, "EXDEV")) throw cause
  }
  const copy = await open(file, "wx")
  try {
    await copy.writeFile(part.handle.createReadStream({ start: 0, autoClose: false }))
    await give(copy, dirname(file))
    await copy.sync()
  } catch (cause) {
    await rm(file, { force: true })
    throw cause
  } finally {
    await copy.close()
  }
}

const notPut = (cause: unknown) => {
  const detail = messageOf(cause)
  if (hasCode(cause, "EEXIST")) return new NameTaken()
  const isDisk = hasCode(cause, "ENOSPC", "EDQUOT", "EIO", "EROFS")
  return isDisk ? new StoreFailed({ detail, cause }) : new FolderClosed({ detail })
}

/** No more of a file than these bytes. */
const head = async (handle: FileHandle, size: number) => (await handle.read(Buffer.alloc(size), 0, size, 0)).buffer

/** Whether a plain file of a workspace holds the same as another. What is at that path may change while it is looked at. */
const holdsTheSame = async (path: string, other: FileHandle): Promise<boolean> => {
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    const [found, { size }] = [await handle.stat(), await other.stat()]
    return found.isFile() && found.size === size && (await head(handle, size)).equals(await head(other, size))
  } finally {
    await handle.close()
  }
}

/**
 * Workspaces.
 *
 * Provides `Workspaces`, requires nothing. Folders stay on release; parts of what was not placed whole are removed at the next
 * start.
 */
export const layer = (options: { readonly directory: string }): Layer.Layer<Workspaces> => {
  const directory = resolve(options.directory)
  const parts = join(directory, ".parts")
  const folder = Effect.fn("Workspaces.folder")(function* (agent: AgentName, conversation: ConversationId) {
    const path = join(directory, agent, folderName(conversation))
    yield* attempt(path, () => mkdir(path, { recursive: true, mode: 0o700 }))
    return path
  })

  /** A file where nothing that is inside of a workspace reaches it. */
  const makePart = Effect.acquireRelease(
    attempt(directory, async () => {
      await mkdir(parts, { recursive: true, mode: 0o700 })
      const path = join(parts, randomUUID())
      return { path, handle: await open(path, "wx+", 0o644) }
    }),
    ({ handle, path }) => Effect.ignore(attempt(directory, () => handle.close().then(() => rm(path, { force: true }))))
  )

  const place: Workspaces["Service"]["place"] = Effect.fn("Workspaces.place")(function* (
    agent,
    conversation,
    name,
    content
  ) {
    const path = yield* folder(agent, conversation)
    if (!isFileName(name)) return yield* new WorkspaceError({ folder: path, reason: new NameInvalid() })
    const file = join(path, name)
    const part = yield* makePart
    yield* Stream.runForEach(content, (bytes) => attempt(path, () => part.handle.writeFile(bytes)))
    yield* attempt(path, () => give(part.handle, path).then(() => part.handle.sync()))
    const made = yield* Effect.result(Effect.tryPromise({ try: () => putAt(file, part), catch: notPut }))
    if (Result.isSuccess(made)) return file
    const refused = new WorkspaceError({ folder: path, reason: made.failure })
    if (made.failure._tag !== "NameTaken") return yield* refused
    const isSame = yield* Effect.orElseSucceed(
      attempt(path, () => holdsTheSame(file, part.handle)),
      () => false
    )
    return isSame ? file : yield* refused
  }, Effect.scoped)

  return Layer.effect(
    Workspaces,
    Effect.gen(function* () {
      yield* Effect.ignore(attempt(parts, () => rm(parts, { recursive: true, force: true })))
      const claw = yield* Effect.cached(attempt(directory, () => clawOf(directory)))
      return Workspaces.of({ claw, folder, size: sizeOf, place })
    })
  )
}
