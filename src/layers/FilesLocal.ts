/**
 * Files in a folder of this machine, each under its SHA-256; what they are is told by `file-type`.
 */
import * as Duration from "effect/Duration"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { createHash, randomUUID } from "node:crypto"
import { createReadStream } from "node:fs"
import { mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises"
import { join, resolve } from "node:path"
import { Files, FilesError, Missing, TooLarge } from "../services/Files.ts"
import { FileId } from "../services/Message.ts"
import { StoreFailed } from "../services/StoreFailed.ts"

/** Bytes from which `file-type` tells what a file is. */
const headOf = 4100

/** Most claws never see a file. */
const typeOf = async (head: Uint8Array) => {
  const { fileTypeFromBuffer } = await import("file-type")
  return (await fileTypeFromBuffer(head))?.mime
}

const failed = (cause: unknown) =>
  new FilesError({
    reason:
      Predicate.hasProperty(cause, "code") && cause.code === "ENOENT"
        ? new Missing({})
        : new StoreFailed({ detail: cause instanceof Error ? cause.message : String(cause), cause })
  })

const attempt = <A>(use: () => Promise<A>) => Effect.tryPromise({ try: use, catch: failed })

/** Where files are, and how long they stay after they were last saved. Default: for ever. */
export interface Options {
  readonly directory: string
  readonly retain?: Duration.Input | undefined
}

/**
 * Files.
 *
 * Provides `Files`, requires nothing. Files stay on release; parts of what was not saved whole are removed at the next start.
 */
export const layer = (options: Options): Layer.Layer<Files> => {
  const directory = resolve(options.directory)
  const pathOf = (name: string) => join(directory, name)

  const save = Effect.fnUntraced(function* <E, R>(content: Stream.Stream<Uint8Array, E, R>, limit: number) {
    yield* attempt(() => mkdir(directory, { recursive: true, mode: 0o700 }))
    const part = pathOf(`${randomUUID()}.part`)
    const handle = yield* Effect.acquireRelease(
      attempt(() => open(part, "wx", 0o600)),
      (opened) => Effect.ignore(attempt(() => opened.close().then(() => rm(part, { force: true }))))
    )
    const hash = createHash("sha256")
    let size = 0
    let head = Buffer.alloc(0)
    yield* Stream.runForEach(content, (bytes) => {
      size += bytes.length
      if (size > limit) return Effect.fail(new FilesError({ reason: new TooLarge({ limit }) }))
      hash.update(bytes)
      if (head.length < headOf) head = Buffer.concat([head, bytes.subarray(0, headOf - head.length)])
      return attempt(() => handle.writeFile(bytes))
    })
    const id = FileId.make(hash.digest("hex"))
    yield* attempt(() => handle.sync())
    yield* attempt(() => rename(part, pathOf(id)))
    const mediaType = yield* Effect.orElseSucceed(
      attempt(() => typeOf(head)),
      () => undefined
    )
    return { id, size, mediaType }
  }, Effect.scoped)

  const sweep = async (name: string, before: number, first: boolean) => {
    const goes = name.endsWith(".part") ? first : (await stat(pathOf(name))).mtimeMs < before
    if (goes) await rm(pathOf(name), { force: true })
  }
  /** What cannot be looked at or removed now is left for the next time. */
  const clean = Effect.fnUntraced(function* (first: boolean) {
    const before = (yield* Clock.currentTimeMillis) - Duration.toMillis(options.retain ?? Duration.infinity)
    const names = yield* attempt(() => readdir(directory))
    yield* Effect.forEach(names, (name) => Effect.ignore(attempt(() => sweep(name, before, first))), { discard: true })
  }, Effect.ignore())

  return Layer.effect(
    Files,
    Effect.gen(function* () {
      yield* clean(true)
      if (options.retain !== undefined) {
        yield* Effect.forkScoped(Effect.repeat(clean(false), Schedule.spaced("1 day")))
      }
      return Files.of({
        save: (content, { limit }) => Effect.withSpan(save(content, limit), "Files.save"),
        read: Effect.fn("Files.read")((id) => attempt(() => readFile(pathOf(id)))),
        stream: (id) => Stream.suspend(() => Stream.fromAsyncIterable(createReadStream(pathOf(id)), failed))
      })
    })
  )
}
