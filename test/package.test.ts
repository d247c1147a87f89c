/**
 * The package as npm will carry it: built from this source, packed, and set up in a project that is not this one.
 */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { cpSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join, relative } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))
interface Options {
  readonly cwd?: string
  readonly env?: NodeJS.ProcessEnv
  readonly input?: string
}
const run = (file: string, args: ReadonlyArray<string>, { input = "", ...options }: Options = {}) =>
  new Promise<{ readonly stdout: string; readonly stderr: string }>((resolve, reject) => {
    const child = execFile(file, args, { maxBuffer: 1 << 26, ...options }, (error, stdout, stderr) =>
      error === null ? resolve({ stdout, stderr }) : reject(Object.assign(error, { stdout, stderr }))
    )
    child.stdin?.end(input)
  })
const npm = (args: ReadonlyArray<string>, cwd: string) => run("npm", args, { cwd })
const node = (args: ReadonlyArray<string>, options: Options = {}) =>
  run(process.execPath, args, { cwd: project, ...options })

interface Manifest {
  readonly files: ReadonlyArray<string>
  readonly dependencies: Readonly<Record<string, string>>
  readonly peerDependencies: Readonly<Record<string, string>>
}
const manifest: Manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))
const outside = Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies })

const home = mkdtempSync(join(tmpdir(), "claw-package-"))
const project = join(home, "project")
const installed = join(project, "node_modules/effect-claw")
let tarball: string
let packed: ReadonlyArray<string>

/** A clean copy is built and packed, so that what stands in this folder's `dist` does not matter. */
beforeAll(async () => {
  const copy = join(home, "copy")
  const left = /^(node_modules|dist|\.git|\.compile|\.state)(\/|$)/
  cpSync(root, copy, { recursive: true, filter: (file) => !left.test(relative(root, file)) })
  symlinkSync(join(root, "node_modules"), join(copy, "node_modules"))
  await run(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", join(copy, "src/tsconfig.json")])
  await npm(["pack", "--ignore-scripts", "--pack-destination", home], copy)
  tarball = globSync(join(home, "*.tgz"))[0] ?? ""

  // What it depends on is linked and not fetched: the test needs no network.
  mkdirSync(installed, { recursive: true })
  await run("tar", ["-xzf", tarball, "--strip-components=1", "-C", installed])
  for (const name of outside) {
    mkdirSync(dirname(join(project, "node_modules", name)), { recursive: true })
    symlinkSync(join(root, "node_modules", name), join(project, "node_modules", name))
  }
  writeFileSync(join(project, "package.json"), JSON.stringify({ type: "module", dependencies: { "effect-claw": "*" } }))
  packed = globSync("**/*", { cwd: installed, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(installed, join(entry.parentPath, entry.name)))
}, 120_000)

afterAll(() => rmSync(home, { recursive: true, force: true }))

const entries = () => {
  const of = (folder: string) =>
    globSync(`dist/${folder}/*.js`, { cwd: installed }).map((file) => file.replace(/^dist\/|\.js$/g, ""))
  return [...of("services"), ...of("layers"), ...of("programs")].sort()
}

describe("the tarball", () => {
  it("has the code, its source, the command, the sandbox's image, and what to read", () => {
    assert.sameMembers(
      [...new Set(packed.map((file) => file.split("/")[0]))],
      ["CHANGELOG.md", "LICENSE", "README.md", "bin", "dist", "docs", "examples", "package.json", "sandbox", "src"]
    )
    assert.includeMembers(
      [...packed],
      ["sandbox/Dockerfile", "sandbox/build.sh", "sandbox/runner.pl", "dist/index.js", "dist/index.d.ts"]
    )
  })

  it("has no tests", () =>
    assert.deepStrictEqual(
      packed.filter((file) => /^test|\.test\.|contracts|fixtures/.test(file)),
      []
    ))

  it("has the code of every source, and no other", () => {
    const sources = packed.filter((file) => /^src\/.*\.ts$/.test(file)).map((file) => file.slice(4, -3))
    const built = packed.filter((file) => /^dist\/.*\.js$/.test(file)).map((file) => file.slice(5, -3))
    assert.sameMembers(built, sources)
  })

  it("is as publint wants it", async () => {
    const { stdout } = await node([join(root, "node_modules/publint/src/cli.js"), "run", tarball, "--strict"])
    assert.include(stdout, "All good!")
  })

  it("has types that every resolver of ES modules finds", async () => {
    await node([
      join(root, "node_modules/@arethetypeswrong/cli/dist/index.js"),
      tarball,
      "--profile",
      "esm-only",
      "--no-definitely-typed",
      "--include-entrypoints",
      ...entries()
    ])
  })
})

describe("installed", () => {
  it("the command says what it can do", async () => {
    await npm(["rebuild", "effect-claw", "--ignore-scripts", "--offline"], project)
    const { stdout } = await run("npx", ["--no-install", "effect-claw", "--help"], { cwd: project })
    assert.match(stdout, /^effect-claw {2,}a personal agent at this terminal/)
  })

  it("the command answers a piped line from a sandbox", async () => {
    const { ANTHROPIC_API_KEY: _, ...env } = process.env
    const { stdout } = await node([join(installed, "bin/effect-claw.js")], {
      env: { ...env, CLAW_HOME: join(home, "state") },
      input: "run: echo $((6 * 7)) > a.txt && cat a.txt\n"
    })
    assert.strictEqual(stdout, "42\n")
  })

  it("the command says in one line that a Node is too old", async () => {
    const old = `Object.defineProperty(process, "versions", { value: { ...process.versions, node: "20.11.0" } })`
    const command = join(installed, "bin/effect-claw.js")
    const ended = await node(["--import", `data:text/javascript,${encodeURIComponent(old)}`, command]).then(
      () => assert.fail("it did start"),
      (error: { readonly code: number; readonly stderr: string }) => error
    )
    assert.strictEqual(ended.stderr, "effect-claw needs Node.js 22.19 or newer; this is 20.11.0.\n")
    assert.strictEqual(ended.code, 1)
  })

  it("every entry can be imported by its name", async () => {
    const names = entries().filter((entry) => entry !== "programs/main")
    assert.isAbove(names.length, 50)
    const imports = ["effect-claw", "effect-claw/testing", ...names.map((name) => `effect-claw/${name}`)]
    const program = `for (const name of ${JSON.stringify(imports)}) {
      const module = await import(name)
      if (Object.keys(module).length === 0 && !/services\\//.test(name)) throw new Error(name + " is empty")
    }`
    await node(["--input-type=module", "-e", program])
  })

  it("what is internal cannot be imported", async () => {
    const refused = `for (const name of ["layers/internal/runner", "services/internal/Actors", "dist/index.js"]) {
      const error = await import("effect-claw/" + name).then(() => undefined, (error) => error)
      if (error?.code !== "ERR_PACKAGE_PATH_NOT_EXPORTED") throw new Error(name + ": " + error)
    }`
    await node(["--input-type=module", "-e", refused])
  })
})

describe("a dependency is loaded by the layer that is made of it, and not before", () => {
  const log = join(home, "log.mjs")
  writeFileSync(
    log,
    `import { registerHooks } from "node:module"
    const urls = new Set()
    registerHooks({ resolve: (name, context, next) => { const found = next(name, context); urls.add(found.url); return found } })
    process.on("exit", () => process.stdout.write(JSON.stringify([...urls])))`
  )
  const loadedBy = async (...entries: ReadonlyArray<string>): Promise<ReadonlyArray<string>> => {
    const program = entries.map((entry) => `await import("${entry}")`).join("\n")
    const { stdout } = await node(["--import", log, "--input-type=module", "-e", program])
    return JSON.parse(stdout)
  }
  const packagesBy = async (...entries: ReadonlyArray<string>) => {
    const urls = await loadedBy(...entries)
    return outside.filter((name) => name !== "effect" && urls.some((url) => url.includes(`/node_modules/${name}/`)))
  }

  const loads: Readonly<Record<string, ReadonlyArray<string>>> = {
    "effect-claw": [],
    "effect-claw/testing": [],
    "effect-claw/programs/Local": [],
    "effect-claw/programs/assistant": [],
    "effect-claw/layers/ChannelTelegram": ["grammy", "marked"],
    "effect-claw/layers/ChannelTerminal": [],
    "effect-claw/layers/ChannelWhatsApp": ["@whiskeysockets/baileys"],
    "effect-claw/layers/ModelOffline": [],
    // Loads its SDK in the background, once it is built.
    "effect-claw/layers/ModelAnthropic": [],
    "effect-claw/layers/SandboxDocker": ["dockerode"],
    // Its interpreter is loaded by the thread of a session.
    "effect-claw/layers/SandboxVirtual": [],
    "effect-claw/layers/SandboxAuto": []
  }
  for (const [entry, packages] of Object.entries(loads)) {
    it(`${entry}: ${packages.length === 0 ? "effect alone" : packages.join(", ")}`, async () =>
      assert.deepStrictEqual(await packagesBy(entry), packages))
  }

  it("all layers but these: effect alone", async () => {
    const layers = entries().filter((entry) => entry.startsWith("layers/"))
    const others = layers.map((layer) => `effect-claw/${layer}`).filter((layer) => (loads[layer] ?? []).length === 0)
    assert.isAbove(others.length, 15)
    assert.deepStrictEqual(await packagesBy(...others), [])
  })

  it("the barrels of Effect are never loaded", async () => {
    const urls = await loadedBy("effect-claw", "effect-claw/programs/assistant")
    assert.deepStrictEqual(
      urls.filter((url) => /\/node_modules\/(effect|@effect\/platform-node)\/dist\/index\.js$/.test(url)),
      []
    )
  })
})
