import { assert, describe, it } from "@effect/vitest"
import * as MountsLocal from "effect-claw/layers/MountsLocal"
import * as Mount from "effect-claw/services/Mount"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { spawn } from "node:child_process"
import { mkdirSync, statSync, symlinkSync, writeFileSync } from "node:fs"
import { basename, dirname, join } from "node:path"
import mounts from "../cases/mounts.json" with { type: "json" }
import { cases } from "../contracts/cases.ts"
import { folder } from "../contracts/store.ts"

const rows = cases(
  "mounts",
  Schema.Struct({
    name: Schema.String,
    input: Schema.Struct({
      allow: Schema.Array(Schema.Struct({ path: Schema.String, write: Schema.Boolean })),
      host: Schema.String,
      write: Schema.optionalKey(Schema.Boolean),
      target: Schema.optionalKey(Schema.String),
      linkTo: Schema.optionalKey(Schema.String)
    }),
    expect: Schema.Struct({ mode: Schema.NullOr(Schema.Literals(["ro", "rw"])) })
  })
)

/** A home with what people have in theirs. */
const furnished = Effect.map(folder, (home) => {
  for (const path of [".ssh", "projects/app", "projects/my.environment", "work", "notes"]) {
    mkdirSync(join(home, path), { recursive: true })
  }
  writeFileSync(join(home, "work/.env"), "KEY=1")
  return home
})

const grant = (options: MountsLocal.Options, mount: Mount.Mount) =>
  Effect.flatMap(Mount.Mounts, (mounts) => mounts.grant(mount)).pipe(Effect.provide(MountsLocal.layer(options)))

/** The rule by which a mount is refused. */
const rule = (options: MountsLocal.Options, mount: Mount.Mount) =>
  Effect.map(Effect.flip(grant(options, mount)), (refused) => refused.rule)

describe("MountsLocal", () => {
  it("every row of the cases is read", () => assert.lengthOf(rows, mounts.cases.length))

  for (const { expect, input, name } of rows) {
    it.effect(name, () =>
      Effect.gen(function* () {
        const home = yield* furnished
        const place = (path: string) => path.replace(/^~/, home)
        if (input.linkTo !== undefined) symlinkSync(place(input.linkTo), place(input.host))
        const asked = { host: input.host, target: input.target, write: input.write ?? false }
        const judged = grant({ allow: input.allow, home }, asked)
        if (expect.mode === null) {
          const refused = yield* Effect.flip(judged)
          assert.strictEqual(refused._tag, "MountRefused")
          assert.include(refused.message, `the mount of ${input.host} is refused: `)
        } else {
          const granted = yield* judged
          assert.strictEqual(granted.write ? "rw" : "ro", expect.mode)
          assert.strictEqual(granted.host, place(input.host))
        }
      })
    )
  }

  it.effect("what is mounted is the real folder, below /mnt, under its own name or the one that is asked for", () =>
    Effect.gen(function* () {
      const home = yield* furnished
      symlinkSync(join(home, "notes"), join(home, "projects/notes-link"))
      const allow = [{ path: "~/notes" }]
      assert.deepStrictEqual(yield* grant({ allow, home }, Mount.readonly("~/projects/notes-link")), {
        host: join(home, "notes"),
        target: "/mnt/notes-link",
        write: false
      })
      assert.deepInclude(yield* grant({ allow, home }, Mount.readonly("~/notes", "a/b")), { target: "/mnt/a/b" })
    })
  )

  it.effect("each rule has its words", () =>
    Effect.gen(function* () {
      const home = yield* furnished
      mkdirSync(join(home, "claw/state"), { recursive: true })
      const options = { allow: [{ path: "/", write: true }], closed: [join(home, "claw/state")], home }
      assert.match(yield* rule(options, Mount.readonly("notes")), /no absolute path/)
      assert.match(yield* rule(options, Mount.readonly("~/nowhere")), /there is no such folder/)
      assert.match(yield* rule(options, Mount.readonly("~/notes", "../x")), /no relative path of plain names/)
      assert.match(yield* rule(options, Mount.readonly("/dev/null")), /neither a folder nor a file/)
      assert.match(yield* rule(options, Mount.readonly("/", "root")), /belongs to the system, or holds/)
      assert.match(yield* rule(options, Mount.readonly("~/work/.env")), /usually holds secrets/)
      for (const path of ["~", dirname(home)]) {
        assert.match(yield* rule(options, Mount.readonly(path, "home")), /a folder that usually holds secrets is in it/)
      }
      for (const path of ["~/claw", "~/claw/state"]) {
        assert.match(yield* rule(options, Mount.readonly(path)), /the claw's own state/)
      }
      assert.match(
        yield* rule({ allow: [{ path: "~/work" }], home }, Mount.readonly("~/notes")),
        /no folder of the allowlist/
      )
    })
  )

  it.effect("what can be replaced is granted with what it is; what cannot, is not", () =>
    Effect.gen(function* () {
      const home = yield* furnished
      const allow = [{ path: "~/projects", write: true }, { path: "~/notes" }]
      const { dev, ino } = statSync(join(home, "projects/app"), { bigint: true })
      for (const mount of [Mount.readonly("~/projects/app"), Mount.writable("~/projects/app")]) {
        assert.strictEqual((yield* grant({ allow, home }, mount)).identity, `${dev} ${ino}`)
      }
      for (const mount of [Mount.writable("~/projects"), Mount.readonly("~/notes")]) {
        assert.isUndefined((yield* grant({ allow, home }, mount)).identity)
      }
    })
  )

  it.live("what is swapped while it is judged is granted as what it is, or not at all", () =>
    Effect.gen(function* () {
      const home = yield* furnished
      const outside = join(home, "notes")
      symlinkSync(outside, join(home, "projects/link"))
      const swap = spawn("perl", [
        "-e",
        "chdir shift; while (1) { for ([qw(app kept)], [qw(link app)], [qw(app link)], [qw(kept app)]) { rename $$_[0], $$_[1] } }",
        join(home, "projects")
      ])
      yield* Effect.addFinalizer(() => Effect.sync(() => swap.kill()))
      const allow = [{ path: "~/projects", write: true }]
      const identities = new Set<string | undefined>()
      const mount = grant({ allow, home }, Mount.readonly("~/projects/app"))
      yield* Effect.forEach(Array.from({ length: 3000 }), () =>
        Effect.map(Effect.option(mount), (granted) => Option.map(granted, ({ identity }) => identities.add(identity)))
      )
      assert.strictEqual(identities.size, 1)
      const { dev, ino } = statSync(outside, { bigint: true })
      assert.isFalse(identities.has(`${dev} ${ino}`))
    })
  )

  it.effect("an entry of the list that lies where another lets be written adds nothing", () =>
    Effect.gen(function* () {
      const home = yield* furnished
      symlinkSync(join(home, "notes"), join(home, "projects/link"))
      const allow = [{ path: "~/projects", write: true }, { path: "~/projects/link" }, { path: "~/projects/app" }]
      assert.match(yield* rule({ allow, home }, Mount.readonly("~/projects/link")), /no folder of the allowlist/)
      assert.isTrue((yield* grant({ allow, home }, Mount.writable("~/projects/app"))).write)
    })
  )

  it.effect("what holds an engine's socket, or usually holds secrets, is not mounted, nor what is in it", () =>
    Effect.gen(function* () {
      const home = yield* furnished
      const socket = join(home, "engines/my.engine")
      const engines = ".docker .colima .orbstack .rd .local/share/containers".split(" ")
      const secrets = ".config/rclone .config/chromium .config/google-chrome .mozilla snap/firefox .cargo .m2".split(
        " "
      )
      for (const path of ["engines", ...engines, ...secrets]) mkdirSync(join(home, path, "inner"), { recursive: true })
      writeFileSync(socket, "")
      const options = { allow: [{ path: "~", write: true }], home }
      for (const path of ["engines", "engines/my.engine", ...engines, ".local/share", ".colima/inner"]) {
        const refused = rule(options, Mount.readonly(`~/${path}`, "x")).pipe(
          Effect.provideService(
            ConfigProvider.ConfigProvider,
            ConfigProvider.fromEnv({ env: { DOCKER_HOST: `unix://${socket}` } })
          )
        )
        assert.match(yield* refused, /container engine|usually holds/, path)
      }
      for (const path of [...secrets, ".config", "snap", ".cargo/inner"]) {
        assert.match(yield* rule(options, Mount.readonly(`~/${path}`, "x")), /usually holds secrets/, path)
      }
    })
  )

  it.effect("a home folder has the name that it has on the host", () =>
    Effect.gen(function* () {
      const home = yield* folder
      const granted = yield* grant({ allow: [{ path: "~" }], home }, Mount.readonly("~"))
      assert.strictEqual(granted.target, `/mnt/${basename(home)}`)
    })
  )

  it.effect("without an allowlist nothing is granted", () =>
    Effect.gen(function* () {
      const refused = yield* Effect.flip((yield* Mount.Mounts).grant(Mount.readonly("~/notes")))
      assert.include(refused.message, "this claw allows no mounts")
    })
  )
})
