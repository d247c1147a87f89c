import { assert, describe, it } from "@effect/vitest"
import * as FilesLocal from "effect-claw/layers/FilesLocal"
import { Files, type FilesError, type Kept } from "effect-claw/services/Files"
import { FileId } from "effect-claw/services/Message"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import { createHash } from "node:crypto"
import { readdirSync, utimesSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { folder } from "../contracts/store.ts"

const png = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
  "base64"
)
const bytes = (...parts: ReadonlyArray<string | Buffer>) => Stream.fromIterable(parts.map((part) => Buffer.from(part)))
const save = (content: Stream.Stream<Uint8Array>, limit = 1000) => Files.use((files) => files.save(content, { limit }))

const test = (name: string, body: (directory: string) => Effect.Effect<void, FilesError | Kept | Uint8Array, Files>) =>
  it.live(name, () =>
    Effect.flatMap(folder, (directory) => Effect.provide(body(directory), FilesLocal.layer({ directory })))
  )

describe("FilesLocal", () => {
  test("what is saved is read again, under the digest of what it holds", () =>
    Effect.gen(function* () {
      const kept = yield* save(bytes("one ", "two"))
      assert.strictEqual(kept.id, createHash("sha256").update("one two").digest("hex"))
      assert.strictEqual(kept.size, 7)
      assert.strictEqual(Buffer.from(yield* Files.use((files) => files.read(kept.id))).toString(), "one two")
    }))

  test("the same content is kept once", (directory) =>
    Effect.gen(function* () {
      yield* Effect.all([save(bytes("same")), save(bytes("sa", "me"))], { concurrency: 2 })
      assert.strictEqual(readdirSync(directory).length, 1)
    }))

  test("what a file is, its bytes say", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* save(bytes(png.subarray(0, 3), png.subarray(3)))).mediaType, "image/png")
      assert.isUndefined((yield* save(bytes("plain text"))).mediaType)
      assert.isUndefined((yield* save(bytes())).mediaType)
    }))

  test("what is too large, or ends before its end, leaves nothing", (directory) =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(save(bytes("12345", "6789"), 8))
      assert.strictEqual(error.reason._tag, "TooLarge")
      const cut = yield* Effect.forkChild(save(Stream.concat(bytes("begun"), Stream.never)), { startImmediately: true })
      yield* Effect.sleep("20 millis")
      yield* Fiber.interrupt(cut)
      assert.deepStrictEqual(readdirSync(directory), [])
    }))

  test("what is not there is missing", () =>
    Effect.gen(function* () {
      const id = FileId.make("0".repeat(64))
      assert.strictEqual((yield* Effect.flip(Files.use((files) => files.read(id)))).reason._tag, "Missing")
    }))

  it.live("files go when they are old, and parts of a run that was cut at the next start", () =>
    Effect.gen(function* () {
      const directory = yield* folder
      const start = Effect.provide(save(bytes("new")), FilesLocal.layer({ directory, retain: "2 days" }))
      const { id } = yield* start
      for (const name of ["x.part", "old", id]) writeFileSync(join(directory, name), "")
      utimesSync(join(directory, "old"), 0, 0)
      yield* start
      assert.deepStrictEqual(readdirSync(directory), [id])
    })
  )
})
