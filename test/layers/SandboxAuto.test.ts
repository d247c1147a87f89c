import { assert, describe, it } from "@effect/vitest"
import * as SandboxAuto from "effect-claw/layers/SandboxAuto"
import * as Sandbox from "effect-claw/services/Sandbox"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { open } from "../contracts/SandboxContract.ts"
import { describeWithBubblewrap } from "../support/bubblewrap.ts"
import { describeWithEngine } from "../support/engine.ts"

/** What is chosen, what is said of it, and what a command there says. */
const choice = (options?: SandboxAuto.Options) => {
  const told: Array<unknown> = []
  const logger = Logger.layer([Logger.make(({ message }) => void told.push(message))])
  return Effect.gen(function* () {
    const { description } = yield* Sandbox.Sandbox
    const { stdout } = yield* Sandbox.run(yield* open(), { run: "echo here" })
    return { description: yield* description, stdout, told: told.flat().map(String) }
  }).pipe(Effect.scoped, Effect.provide(Layer.merge(SandboxAuto.layer(options), logger)))
}

const socketPath = join(tmpdir(), "no-engine.sock")

describe("SandboxAuto", () => {
  describeWithEngine("where an engine answers", () => {
    it.live("takes containers, and says so", () =>
      Effect.gen(function* () {
        const { description, stdout, told } = yield* choice()
        assert.deepStrictEqual(told, [`commands run in containers (${description})`])
        assert.match(description, /^Docker \d/)
        assert.strictEqual(stdout, "here\n")
      })
    )
  })

  describeWithBubblewrap("where no engine answers and bubblewrap works", () => {
    it.live("takes bubblewrap, and says so", () =>
      Effect.gen(function* () {
        const { description, stdout, told } = yield* choice({ socketPath })
        assert.deepStrictEqual(told, [
          "commands run in namespaces, with this machine's programs: no container engine answers (bubblewrap)"
        ])
        assert.strictEqual(description, "bubblewrap")
        assert.strictEqual(stdout, "here\n")
      })
    )
  })

  it.live("takes the virtual shell where there is neither, and says what to install", () =>
    Effect.gen(function* () {
      const { description, stdout, told } = yield* choice({ socketPath, bubblewrap: { program: "/no/such/bwrap" } })
      assert.lengthOf(told, 1)
      assert.include(told[0], "commands run in a virtual shell")
      assert.include(told[0], "Install Docker or bubblewrap")
      assert.strictEqual(description, "virtual shell")
      assert.strictEqual(stdout, "here\n")
    })
  )
})
