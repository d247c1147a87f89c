import { assert, describe, it } from "@effect/vitest"
import * as VaultLocal from "effect-claw/layers/VaultLocal"
import { Vault } from "effect-claw/services/Vault"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import { mkdtempSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const file = (content: string) => {
  const path = join(mkdtempSync(join(tmpdir(), "claw-vault-")), "secret")
  writeFileSync(path, content)
  return path
}

const read = (secrets: Readonly<Record<string, VaultLocal.Source>>) =>
  Effect.map(Effect.provide(Vault, VaultLocal.layer(secrets)), (vault) =>
    Object.fromEntries([...vault].map(([name, value]) => [name, Redacted.value(value)]))
  ).pipe(Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env: { MINE: "from-environment" } }))))

describe("VaultLocal", () => {
  it.live("takes secrets from the environment, from files and from commands", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(
        yield* read({
          A: VaultLocal.environment("MINE"),
          B: VaultLocal.file(file("from a file \n")),
          C: VaultLocal.command("printf", "%s\\n", "from a $(command)")
        }),
        { A: "from-environment", B: "from a file ", C: "from a $(command)" }
      )
    })
  )

  it.live("says what to do about one that is not there, and nothing of what it read", () =>
    Effect.gen(function* () {
      const message = (source: VaultLocal.Source, name = "KEY") =>
        Effect.map(Effect.flip(read({ [name]: source })), (error) => error.message)
      assert.strictEqual(
        yield* message(VaultLocal.environment("NONE")),
        "the secret KEY: the environment has no variable NONE"
      )
      assert.strictEqual(yield* message(VaultLocal.file("/none")), "the secret KEY: /none cannot be read (ENOENT)")
      assert.strictEqual(
        yield* message(VaultLocal.command("no-such-program")),
        "the secret KEY: the command no-such-program fails (ENOENT)"
      )
      assert.strictEqual(
        yield* message(VaultLocal.command("sh", "-c", "echo half-a-secret; exit 3")),
        "the secret KEY: the command sh fails (3)"
      )
      assert.strictEqual(
        yield* message(VaultLocal.file(file("short"))),
        "the secret KEY: it has less than 8 characters"
      )
      assert.include(yield* message(VaultLocal.file(file(" ".repeat(20)))), "less than 8 characters")
      for (const content of ["a password\nuser: ada", "\ufeffa password", "a\0password"]) {
        assert.include(
          yield* message(VaultLocal.file(file(content))),
          "more than one line, or a character that is none"
        )
      }
      assert.match(
        yield* message(VaultLocal.file(file("long enough")), "my key"),
        /its name is none for an environment variable/
      )
    })
  )

  it.live("masks what is logged: messages, what is beside them, and causes", () => {
    const lines: Array<string> = []
    const logger = Logger.map(Logger.formatSimple, (line) => void lines.push(line))
    return Effect.gen(function* () {
      yield* Effect.log("it is top-secret-value", { deep: 1 })
      yield* Effect.logError("failed", new Error("with top-secret-value"))
      yield* Effect.logWarning("plain")
    }).pipe(
      Effect.provide(
        VaultLocal.layer({ A: VaultLocal.file(file("top-secret-value")) }).pipe(Layer.provide(Logger.layer([logger])))
      ),
      Effect.andThen(
        Effect.sync(() => {
          assert.lengthOf(lines, 3)
          assert.notInclude(lines.join("\n"), "top-secret-value")
          assert.include(lines.join("\n"), "it is [REDACTED]")
          assert.include(lines[2] ?? "", "plain")
        })
      )
    )
  })
})
