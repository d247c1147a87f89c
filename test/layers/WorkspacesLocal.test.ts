import { assert, describe, it } from "@effect/vitest"
import * as WorkspacesLocal from "effect-claw/layers/WorkspacesLocal"
import { AgentName, ConversationId } from "effect-claw/services/Message"
import { Workspaces } from "effect-claw/services/Workspaces"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { execFileSync } from "node:child_process"
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { join, relative } from "node:path"
import names from "../cases/names.json" with { type: "json" }
import { cases } from "../contracts/cases.ts"
import { folder } from "../contracts/store.ts"

const andy = AgentName.make("andy")
const chat = ConversationId.make("memory:chat")
const content = new TextEncoder().encode("content")

const ok = Schema.Struct({ ok: Schema.Boolean })
const folders = cases(
  "names",
  Schema.Struct({ name: Schema.String, input: Schema.Struct({ folder: Schema.String }), expect: ok })
)
const files = cases(
  "names",
  Schema.Struct({
    name: Schema.String,
    input: Schema.Struct({ file: Schema.String, existsAsLinkTo: Schema.optionalKey(Schema.String) }),
    expect: ok
  })
)

/** Every file and link below a folder. */
const below = (directory: string) =>
  existsSync(directory) ? readdirSync(directory, { recursive: true }).map(String).toSorted() : []

const test = (name: string, body: (directory: string) => Effect.Effect<void, unknown, Workspaces>) =>
  it.live(name, () =>
    Effect.flatMap(folder, (directory) =>
      body(directory).pipe(Effect.provide(WorkspacesLocal.layer({ directory: join(directory, "w") })))
    )
  )

const place = (name: string) => Workspaces.use((workspaces) => workspaces.place(andy, chat, name, Stream.make(content)))
const workspace = Workspaces.use((workspaces) => workspaces.folder(andy, chat))
const size = (path: string, limit = Infinity) => Workspaces.use((workspaces) => workspaces.size(path, limit))

describe("WorkspacesLocal", () => {
  it("every row of the cases is read", () => assert.strictEqual(folders.length + files.length, names.cases.length))

  for (const { expect, input, name } of folders) {
    it(`an agent's name: ${name}`, () =>
      assert.strictEqual(Exit.isSuccess(Schema.decodeExit(AgentName)(input.folder)), expect.ok))

    test(`a conversation's folder, whatever its name: ${name}`, (directory) =>
      Effect.gen(function* () {
        const named = ConversationId.make(`memory:chat${input.folder}`)
        const path = yield* Workspaces.use((workspaces) => workspaces.folder(andy, named))
        assert.match(relative(join(directory, "w"), path), /^andy\/[A-Za-z0-9_-]+$/)
        assert.isTrue(lstatSync(path).isDirectory())
        const other = ConversationId.make(`memory:chat${input.folder}/`)
        assert.notStrictEqual(yield* Workspaces.use((workspaces) => workspaces.folder(andy, other)), path)
      }))
  }

  for (const { expect, input, name } of files) {
    test(`a file from outside: ${name}`, (directory) =>
      Effect.gen(function* () {
        const inside = yield* workspace
        const canary = join(directory, "canary")
        writeFileSync(canary, "canary")
        // What it leads to is ours to look at; the case's own is not.
        if (input.existsAsLinkTo !== undefined) symlinkSync(canary, join(inside, input.file))
        const before = below(directory)
        const placed = yield* Effect.exit(place(input.file))
        assert.strictEqual(Exit.isSuccess(placed), expect.ok)
        assert.strictEqual(readFileSync(canary, "utf8"), "canary")
        const added = below(directory).filter((path) => !before.includes(path) && !path.includes(".parts"))
        assert.deepStrictEqual(added, expect.ok ? [relative(directory, join(inside, input.file))] : [])
        if (expect.ok) assert.strictEqual(readFileSync(join(inside, input.file), "utf8"), "content")
      }))
  }

  test("a file from outside replaces nothing, and its name is one that there can be", () =>
    Effect.gen(function* () {
      const inside = yield* workspace
      writeFileSync(join(inside, "notes.txt"), "mine")
      mkdirSync(join(inside, "folder"))
      for (const name of ["notes.txt", "folder", ".", "", "x".repeat(256), "é".repeat(128), "a\ud800", "/etc/passwd"]) {
        assert.strictEqual((yield* Effect.flip(place(name)))._tag, "WorkspaceError", name)
      }
      assert.strictEqual(readFileSync(join(inside, "notes.txt"), "utf8"), "mine")
      assert.deepStrictEqual(below(inside), ["folder", "notes.txt"])
      yield* place("...")
      yield* place("line\nbreak")
    }))

  test("a file that is put again is there once; another of that name is refused", () =>
    Effect.gen(function* () {
      const inside = yield* workspace
      const path = yield* place("a")
      assert.strictEqual(yield* place("a"), path)
      writeFileSync(join(inside, "b"), "contend")
      assert.strictEqual((yield* Effect.flip(place("b"))).reason._tag, "NameTaken")
      assert.strictEqual(readFileSync(join(inside, "b"), "utf8"), "contend")
      // One that is read for ever, and one that leads to the same.
      execFileSync("mkfifo", [join(inside, "c")])
      symlinkSync(path, join(inside, "d"))
      for (const name of ["c", "d"]) assert.strictEqual((yield* Effect.flip(place(name))).reason._tag, "NameTaken")
    }))

  test("a file is there whole, or not at all", (directory) =>
    Effect.gen(function* () {
      const half = Stream.concat(Stream.make(content), Stream.fail("cut" as const))
      const error = yield* Effect.flip(Workspaces.use((workspaces) => workspaces.place(andy, chat, "a", half)))
      assert.strictEqual(error, "cut")
      assert.deepStrictEqual(below(yield* workspace), [])
      assert.deepStrictEqual(readdirSync(join(directory, "w", ".parts")), [])
      // What a claw that was killed has left.
      writeFileSync(join(directory, "w", ".parts", "half"), "half")
      yield* Effect.provide(place("a"), WorkspacesLocal.layer({ directory: join(directory, "w") }))
      assert.deepStrictEqual(readdirSync(join(directory, "w", ".parts")), [])
    }))

  test("a file is of the folder's owner, and for everybody to read, whatever the claw makes its own files", () =>
    Effect.gen(function* () {
      const inside = yield* workspace
      const isRoot = process.getuid?.() === 0
      if (isRoot) chownSync(inside, 1000, 1001)
      const before = process.umask(0o077)
      const path = yield* Effect.ensuring(
        place("a"),
        Effect.sync(() => process.umask(before))
      )
      const { gid, mode, uid } = lstatSync(path)
      assert.strictEqual(mode & 0o777, 0o644)
      if (isRoot) assert.deepStrictEqual([uid, gid], [1000, 1001])
    }))

  /** A folder on another file system, with so much room. */
  const mounted = (room: string) =>
    Effect.flatMap(workspace, (inside) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          execFileSync("mount", ["-t", "tmpfs", "-o", `size=${room}`, "tmpfs", inside])
          chownSync(inside, 1000, 1000)
          return inside
        }),
        () => Effect.sync(() => execFileSync("umount", [inside]))
      )
    )
  const mayMount = (() => {
    try {
      execFileSync("unshare", ["--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], { stdio: "ignore" })
      return process.getuid?.() === 0
    } catch {
      return false
    }
  })()

  describe.runIf(mayMount)("a conversation's folder that is mounted", () => {
    test("takes files as others do", () =>
      Effect.gen(function* () {
        const inside = yield* mounted("1M")
        const path = yield* place("a")
        assert.strictEqual(readFileSync(path, "utf8"), "content")
        const { mode, uid } = lstatSync(path)
        assert.deepStrictEqual([mode & 0o777, uid], [0o644, 1000])
        assert.strictEqual(yield* place("a"), path)
        symlinkSync("/etc/passwd", join(inside, "b"))
        assert.strictEqual((yield* Effect.flip(place("b"))).reason._tag, "NameTaken")
      }).pipe(Effect.scoped))

    test("and is full has no part of one", () =>
      Effect.gen(function* () {
        const inside = yield* mounted("64k")
        const large = Stream.make(new Uint8Array(1024 ** 2))
        const error = yield* Effect.flip(Workspaces.use((workspaces) => workspaces.place(andy, chat, "a", large)))
        assert.strictEqual(error.reason._tag, "StoreFailed")
        assert.deepStrictEqual(below(inside), [])
      }).pipe(Effect.scoped))
  })

  test("a link that comes and goes at that name is never followed", (directory) =>
    Effect.gen(function* () {
      const inside = yield* workspace
      const [canary, spare, file] = [join(directory, "canary"), join(directory, "spare"), join(inside, "a")]
      writeFileSync(canary, "canary")
      symlinkSync(canary, spare)
      const rounds = Array.from({ length: 500 }, (_, round) => round)
      yield* Effect.forEach(rounds, () =>
        Effect.all(
          [
            Effect.ignore(place("a")),
            Effect.promise(async () => {
              await Promise.resolve()
              rmSync(file, { force: true })
              renameSync(spare, file)
              symlinkSync(canary, spare)
            })
          ],
          { concurrency: 2 }
        )
      )
      assert.strictEqual(readFileSync(canary, "utf8"), "canary")
    }))

  test("a size is what is on the disk: of every file, no less than a block, and of no link's end", (directory) =>
    Effect.gen(function* () {
      const inside = yield* workspace
      assert.strictEqual(yield* size(inside), 0)
      writeFileSync(join(inside, "big"), new Uint8Array(1024 * 1024))
      mkdirSync(join(inside, "d"))
      for (let index = 0; index < 100; index++) writeFileSync(join(inside, `d/${index}`), "")
      symlinkSync("/", join(inside, "root"))
      symlinkSync(directory, join(inside, "d/up"))
      const found = yield* size(inside)
      assert.isAtLeast(found, 1024 * 1024 + 100 * 4096)
      assert.isBelow(found, 1024 * 1024 + 110 * 4096)
      writeFileSync(Buffer.concat([Buffer.from(`${inside}/d/`), Buffer.from([0xff, 0xfe])]), new Uint8Array(65536))
      assert.isAtLeast(yield* size(inside), found + 65536)
    }))

  test("it is counted no further than a limit, and one that cannot be looked at is no size", () =>
    Effect.gen(function* () {
      const inside = yield* workspace
      for (let index = 0; index < 1000; index++) writeFileSync(join(inside, `${index}`), "")
      assert.isBelow(yield* size(inside, 40_960), 500_000)
      if (process.getuid?.() === 0) return
      mkdirSync(join(inside, "closed"))
      chmodSync(join(inside, "closed"), 0)
      assert.strictEqual((yield* Effect.flip(size(inside)))._tag, "WorkspaceError")
    }))

  it.live("a claw has one name for as long as its state is there, and no other has it", () =>
    Effect.gen(function* () {
      const directory = yield* folder
      const nameOf = (state: string) =>
        Workspaces.use(({ claw }) => claw).pipe(
          Effect.provide(WorkspacesLocal.layer({ directory: join(directory, state) }))
        )
      const one = yield* nameOf("one")
      assert.strictEqual(yield* nameOf("one"), one)
      assert.notStrictEqual(yield* nameOf("two"), one)
      // What a crash may leave of it is made anew.
      writeFileSync(join(directory, "one/.claw"), "")
      assert.match(yield* nameOf("one"), /^[0-9a-f-]{36}$/)
    })
  )
})
