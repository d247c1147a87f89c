import { assert, describe, it } from "@effect/vitest"
import * as SandboxMemory from "effect-claw/layers/SandboxMemory"
import * as Sandbox from "effect-claw/services/Sandbox"
import * as Effect from "effect/Effect"

const bytes = (text: string) => new TextEncoder().encode(text)
const open = (workspace = "/w") =>
  Effect.flatMap(Sandbox.Sandbox, (sandbox) => sandbox.open(Sandbox.makeSpec({}, workspace)))
const log = SandboxMemory.SandboxMemory

describe("SandboxMemory", () => {
  it.effect("commands are answered as the test says, and logged with their session", () =>
    Effect.gen(function* () {
      const session = yield* open()
      const command = { run: "echo 42", cwd: "sub" }
      assert.deepStrictEqual(yield* Sandbox.run(session, command), {
        stdout: "42\n",
        stderr: "and more\n",
        code: 3,
        timedOut: false,
        droppedBytes: 0
      })
      assert.deepStrictEqual((yield* log).commands, [{ session: session.id, command }])
    }).pipe(Effect.provide(SandboxMemory.layer(() => ({ stdout: "42\n", stderr: "and more\n", code: 3 }))))
  )

  it.effect("a command that the test lets fail or wait fails or waits", () => {
    const lost = new Sandbox.SandboxError({ reason: new Sandbox.SessionLost({ detail: "gone" }) })
    return Effect.gen(function* () {
      assert.strictEqual(yield* Effect.flip(Sandbox.run(yield* open(), { run: "true" })), lost)
    }).pipe(Effect.provide(SandboxMemory.layer(() => Effect.fail(lost))))
  })

  it.effect("without an answer a command says nothing and succeeds", () =>
    Effect.gen(function* () {
      assert.deepInclude(yield* Sandbox.run(yield* open(), { run: "true" }), { stdout: "", stderr: "", code: 0 })
    }).pipe(Effect.provide(SandboxMemory.layer()))
  )

  it.effect("files are their workspace's, and outlive the session", () =>
    Effect.gen(function* () {
      yield* Effect.scoped(Effect.flatMap(open(), (session) => session.writeFile("sub/a.txt", bytes("kept"))))
      const again = yield* open()
      assert.deepStrictEqual(yield* again.readFile("/workspace/sub/a.txt"), bytes("kept"))
      const other = yield* open("/v")
      assert.strictEqual(
        (yield* Effect.flip(other.readFile("sub/a.txt"))).message,
        "sub/a.txt: no such file or directory"
      )
      assert.strictEqual(
        (yield* Effect.flip(again.readFile("sub/a.txt", 2))).message,
        "sub/a.txt: is larger than 2 bytes"
      )
      assert.deepStrictEqual([...(yield* log).files.keys()], ["/w:/workspace/sub/a.txt"])
    }).pipe(Effect.provide(SandboxMemory.layer()))
  )

  it.effect("it knows what was opened, and what is open still", () =>
    Effect.gen(function* () {
      const { open: openNow, opened } = yield* log
      yield* Effect.scoped(
        Effect.gen(function* () {
          const [one, two] = [yield* open(), yield* open("/v")]
          assert.deepStrictEqual([...openNow], [one.id, two.id])
        })
      )
      assert.strictEqual(openNow.size, 0)
      assert.deepStrictEqual(
        opened.map(({ workspace }) => workspace),
        ["/w", "/v"]
      )
    }).pipe(Effect.provide(SandboxMemory.layer()))
  )
})
