/**
 * A claw of its own for one command in the virtual shell, for what may end the whole process: its life is the canary.
 * Runs the script that it is given, then says what came of it, and whether both sessions and the claw itself go on.
 */
import * as SandboxVirtual from "effect-claw/layers/SandboxVirtual"
import * as Sandbox from "effect-claw/services/Sandbox"
import * as Effect from "effect/Effect"
import { readdirSync } from "node:fs"
import { readFile } from "node:fs/promises"
import { join } from "node:path"

const [folder = "", script = "", seconds = ""] = process.argv.slice(2)

const said = (session: Sandbox.SandboxSession, run: string) =>
  Sandbox.run(session, { run, deadline: Number(seconds) * 1000 }).pipe(
    Effect.map(({ code, stderr, stdout, timedOut }) => {
      const last = (stderr === "" ? stdout : stderr).trim().split("\n").at(-1)
      return timedOut ? "killed at its deadline" : (last ?? `code ${code}`)
    }),
    Effect.catch((error) => Effect.succeed(error.message))
  )

const program = Effect.gen(function* () {
  const { open } = yield* Sandbox.Sandbox
  const attacked = yield* open(Sandbox.makeSpec({ memory: "64 MiB" }, join(folder, "attacked")))
  const other = yield* open(Sandbox.makeSpec({ memory: "64 MiB" }, join(folder, "other")))
  yield* said(other, "true")
  const report = {
    outcome: yield* said(attacked, script),
    next: yield* said(attacked, "echo on"),
    own: yield* said(attacked, "echo on"),
    other: yield* said(other, "echo on"),
    files: (yield* Effect.promise(() => readFile("/proc/version"))).length > 0 && readdirSync(folder).length > 0,
    megabytes: Math.round(process.resourceUsage().maxRSS / 1024)
  }
  process.stdout.write(`${JSON.stringify(report)}\n`)
})

await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(SandboxVirtual.layer)))
