/**
 * The rooms of the source, and what may be carried from one into another.
 *
 * `services` say what a claw is made of, `layers` are made of a technology each, `programs` put them together. The arrows
 * between them are what makes a part replaceable, so they are held here over every import of the source.
 */
import { assert, describe, it } from "@effect/vitest"
import { globSync, readFileSync } from "node:fs"
import { basename, join, posix } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))
const filesIn = (...folders: ReadonlyArray<string>) =>
  folders.flatMap((folder) => globSync(`${folder}/**/*.{ts,js}`, { cwd: root })).sort()

/** A file's lines of code: none that is blank, none that is a comment. The formatter gives comments lines of their own. */
const codeOf = (file: string): ReadonlyArray<string> => {
  let inComment = false
  return readFileSync(join(root, file), "utf8")
    .split("\n")
    .filter((line) => {
      const text = line.trim()
      if (text.startsWith("/*")) inComment = true
      const isCode = !inComment && text !== "" && !text.startsWith("//") && !text.startsWith("#!")
      if (text.endsWith("*/")) inComment = false
      return isCode
    })
}

interface Import {
  readonly from: string
  /** A file of this repository as its path from the root, or the name of a module. */
  readonly to: string
  /** `type` is gone at run time, `lazy` waits until it is called. */
  readonly kind: "static" | "type" | "lazy"
}

const importsOf = (from: string): ReadonlyArray<Import> => {
  const code = codeOf(from).join("\n")
  const resolve = (to: string) => (to.startsWith(".") ? posix.join(posix.dirname(from), to) : to)
  return [
    ...[...code.matchAll(/^(?:import|export) (type )?[^"`;]*?\bfrom "([^"]+)"/gm)].map(([, type, to = ""]): Import => {
      return { from, to: resolve(to), kind: type === undefined ? "static" : "type" }
    }),
    ...[...code.matchAll(/^import "([^"]+)"/gm)].map(([, to = ""]): Import => {
      return { from, to: resolve(to), kind: "static" }
    }),
    ...[...code.matchAll(/\bimport\("([^"]+)"\)/g)].map(([, to = ""]): Import => {
      return { from, to: resolve(to), kind: "lazy" }
    })
  ]
}

const sources = filesIn("src")
const graph = new Map(sources.map((file) => [file, importsOf(file)] as const))
const from = (folder: string) => [...graph.values()].flat().filter((edge) => edge.from.startsWith(folder))

const isEffect = (to: string) => /^effect\/[\w/-]+$/.test(to)
const isNode = (to: string) => to.startsWith("node:")
const isPackage = (to: string) => !to.startsWith("src/") && !isNode(to) && !isEffect(to)
const isService = (to: string) => to.startsWith("src/services/")
const isInternal = (to: string) => to.startsWith("src/layers/internal/")
const isLayer = (to: string) => to.startsWith("src/layers/") && !isInternal(to)
const packageOf = (to: string) => to.split("/", to.startsWith("@") ? 2 : 1).join("/")

assert.isAbove([...graph.values()].flat().length, 300, "the imports are read")

const show = (edges: ReadonlyArray<Import>) => edges.map(({ from, kind, to }) => `${from} → ${to} (${kind})`)
const none = (edges: ReadonlyArray<Import>) => assert.deepStrictEqual(show(edges), [])

/** All that a file reaches by edges that are followed. */
const reach = (start: string, follow: (edge: Import) => boolean): ReadonlyArray<Import> => {
  const seen = new Set<string>()
  const visit = (file: string): ReadonlyArray<Import> => {
    if (seen.has(file)) return []
    seen.add(file)
    return (graph.get(file) ?? []).filter(follow).flatMap((edge) => [edge, ...visit(edge.to)])
  }
  return visit(start)
}

describe("services", () => {
  it("import effect and each other, and nothing else", () =>
    none(from("src/services/").filter(({ to }) => !isEffect(to) && !isService(to))))

  it("take time, chance and settings from Effect, not from the machine", () => {
    const machine =
      /Date\.now|new Date\(\)|Math\.random|set(?:Timeout|Interval|Immediate)\(|process\.(?:env|argv|cwd)|console\./
    const taken = sources
      .filter((file) => isService(file) || file === "src/programs/Claw.ts")
      .flatMap((file) => codeOf(file).flatMap((line) => (machine.test(line) ? [`${file}: ${line.trim()}`] : [])))
    assert.deepStrictEqual(taken, [])
  })
})

describe("layers", () => {
  /** A layer that another is built on, both of one technology. Any other pair is a defect. */
  const builtOn = new Map([["src/layers/DatabaseSqlite.ts", ["src/layers/SqliteClient.ts"]]])

  it("import services, layers/internal and a technology, and no other layer", () =>
    none(
      from("src/layers/")
        .filter(({ to }) => !isService(to) && !isInternal(to) && !isEffect(to) && !isNode(to) && !isPackage(to))
        .filter(({ from, to }) => !(builtOn.get(from)?.includes(to) ?? false))
        // One that chooses between others may know them, and loads the one that it chose.
        .filter(({ from, kind }) => !(from.endsWith("Auto.ts") && kind !== "static"))
    ))

  it("have one technology each, and each technology one layer", () => {
    const layers = sources.filter(isLayer)
    const pairs = layers.flatMap((layer) => {
      const packages = reach(layer, ({ to }) => isPackage(to) || isInternal(to)).filter(({ to }) => isPackage(to))
      // What a technology asks its user to load before it is of that technology; what reads Markdown or draws a code on a screen is
      // of none.
      const apart = new Set(["reflect-metadata", "marked", "uqr"])
      const names = [...new Set(packages.map(({ to }) => packageOf(to)))].filter((name) => !apart.has(name))
      assert.isAtMost(names.length, 1, `${layer} imports ${names.join(" and ")}`)
      return names.map((name) => [name, basename(layer, ".ts")] as const)
    })
    assert.strictEqual(new Set(pairs.map(([name]) => name)).size, pairs.length, JSON.stringify(pairs))
  })

  it("that are tools use services only, so that they work with any layer of them", () =>
    none(from("src/layers/").filter(({ from, to }) => from.endsWith("Tools.ts") && !isService(to) && !isEffect(to))))

  it("keep layers/internal to themselves", () =>
    none([...graph.values()].flat().filter(({ from, to }) => isInternal(to) && !from.startsWith("src/layers/"))))

  it("say what they provide, how they fail and what they require", () => {
    const silent = sources.filter(isLayer).flatMap((file) => {
      const declarations = codeOf(file)
        .join("\n")
        .split(/\n(?=\w)/)
        .filter((declaration) => declaration.startsWith("export const layer"))
      return declarations.filter((text) => !/^export const layer\w*(: Layer\.Layer<|[^]*?\): Layer\.Layer<)/.test(text))
    })
    assert.deepStrictEqual(silent, [])
  })
})

describe("programs", () => {
  it("Claw knows services only", () =>
    none(from("src/programs/Claw.ts").filter(({ to }) => !isService(to) && !isEffect(to))))

  it("are used by nothing but programs and the package's root", () =>
    none(
      [...graph.values()]
        .flat()
        .filter(({ from, to }) => to.startsWith("src/programs/") && !/^src\/(programs\/|index\.ts)/.test(from))
    ))
})

describe("the package", () => {
  it("exports services and Claw from its root, and no layer", () =>
    none(from("src/index.ts").filter(({ to }) => !isService(to) && to !== "src/programs/Claw.ts")))

  it("reaches no technology from its root", () =>
    none(
      reach("src/index.ts", () => true).filter(
        ({ to }) => !isService(to) && !isEffect(to) && to !== "src/programs/Claw.ts"
      )
    ))

  it("exports every service from its root", () => {
    const exported = new Set((graph.get("src/index.ts") ?? []).map(({ to }) => to))
    const services = sources.filter((file) => isService(file) && !file.includes("/internal/"))
    assert.deepStrictEqual(
      services.filter((file) => !exported.has(file)),
      []
    )
  })

  it("has no circle of imports", () => {
    const circles = sources.filter((file) =>
      reach(file, ({ kind, to }) => kind !== "lazy" && to.startsWith("src/")).some(({ to }) => to === file)
    )
    assert.deepStrictEqual(circles, [])
  })

  it("imports Effect module by module", () => {
    const barrels = new Set(["effect", "@effect/platform-node"])
    none([...graph.values(), ...filesIn("examples").map(importsOf)].flat().filter(({ to }) => barrels.has(to)))
  })

  it("is imported by its name in examples and tests", () =>
    none(
      filesIn("examples", "test")
        .flatMap(importsOf)
        .filter(({ to }) => /^(src|dist)\//.test(to))
    ))

  it("names nothing a manager, a helper, utils or a handler", () => {
    const vague = /(manager|helper|util|handler)s?$/i
    // `effect/ai` joins a `Toolkit` with its handlers; there the word is its own.
    const borrowed = new Set(["withHandlers"])
    const names = sources.flatMap((file) => [
      basename(file, ".ts"),
      ...codeOf(file).flatMap(
        (line) => /^export (?:const|class|interface|type|function|namespace) (\w+)/.exec(line)?.slice(1) ?? []
      )
    ])
    assert.isAbove(names.length, 200)
    assert.deepStrictEqual(
      names.filter((name) => vague.test(name) && !borrowed.has(name)),
      []
    )
  })

  it("says of every file what it is", () => {
    const mute = sources.filter((file) => !readFileSync(join(root, file), "utf8").startsWith("/**\n * "))
    assert.deepStrictEqual(mute, [])
  })
})

describe("the core", () => {
  // Not the core: what no claw at work runs (the doubles for tests, the stand-in for a model), and the adapters to what
  // stands outside of the process and is one of several to choose from: channels, models, sandboxes, the way out. Their size is
  // told beside it.
  const standIns = new Set([
    "src/testing.ts",
    "src/layers/ModelOffline.ts",
    "src/layers/internal/replies.ts",
    "src/layers/ChannelMemory.ts",
    "src/layers/ModelScripted.ts",
    "src/layers/SandboxMemory.ts"
  ])
  const isAdapter = (file: string) => /^src\/layers\/(Channel(?!State)|Egress|Model|Sandbox)[A-Z]/.test(file)
  /** What only adapters use is of theirs. */
  const isOfAdapters = (file: string): boolean =>
    isAdapter(file) ||
    (isInternal(file) &&
      [...graph.values()].flat().every(({ from, to }) => to !== file || standIns.has(from) || isOfAdapters(from)))
  const most = 6000
  const imports = /^(?:import|export) [^"`;=]*?\bfrom "[^"]+"$/gm

  it(`is small enough to read: at most ${most.toLocaleString("en-US")} lines of code, imports aside`, () => {
    const sizes = new Map<string, number>()
    for (const file of sources) {
      const apart = standIns.has(file) ? "stand-ins" : isOfAdapters(file) ? "adapters" : undefined
      const room = apart ?? posix.dirname(file)
      const code = codeOf(file).join("\n").replace(imports, "").split("\n")
      sizes.set(room, (sizes.get(room) ?? 0) + code.filter((line) => line !== "").length)
    }
    const core = [...sizes].filter(([room]) => room.startsWith("src"))
    const total = core.reduce((sum, [, size]) => sum + size, 0)
    const rooms = [...sizes].map(([room, size]) => `${room} ${size}`).join(", ")
    process.stdout.write(`lines of code in the core: ${total} (${rooms})\n`)
    assert.isAtMost(total, most)
  })
})
