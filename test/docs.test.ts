/**
 * The documentation is true as far as a machine can tell: its programs compile, its links lead somewhere, its commands
 * exist, and its tables name what is there.
 */
import { assert, beforeAll, describe, it } from "@effect/vitest"
import { existsSync, globSync, readFileSync } from "node:fs"
import { join, posix } from "node:path"
import { fileURLToPath } from "node:url"
import { compile } from "./types/compile.ts"

const root = fileURLToPath(new URL("..", import.meta.url))
const read = (file: string) => readFileSync(join(root, file), "utf8")
const pages = [
  "README.md",
  "CONTRIBUTING.md",
  "CHANGELOG.md",
  "examples/README.md",
  ...globSync("docs/*.md", { cwd: root }).sort()
]
const readme = read("README.md")

interface Block {
  readonly page: string
  readonly line: number
  readonly language: string
  readonly text: string
}

const blocksOf = (page: string): ReadonlyArray<Block> => {
  const content = read(page)
  return [...content.matchAll(/^```(\w*)\n([^]*?)^```$/gm)].map(({ 1: language = "", 2: text = "", index }) => {
    return { page, line: content.slice(0, index).split("\n").length, language, text }
  })
}

/** A page without its code, which may have anything in it. */
const prose = (page: string) =>
  read(page)
    .replace(/^```[^]*?^```$/gm, "")
    .replace(/`[^`\n]*`/g, "")

/** A heading's anchor, as it is made by those who show Markdown. */
const anchorsOf = (page: string) =>
  new Set(
    [...read(page).matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) =>
      heading
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\s_-]/gu, "")
        .trim()
        .replaceAll(" ", "-")
    )
  )

describe("programs", () => {
  const programs = pages.flatMap(blocksOf).filter(({ language }) => language === "ts")
  const nameOf = ({ line, page }: Block) => `${page.replace(/\W/g, "-")}-${line}`
  let found: ReadonlyMap<string, string>
  beforeAll(async () => {
    found = await compile(Object.fromEntries(programs.map((block) => [nameOf(block), block.text])))
  })

  for (const block of programs) {
    it(`${block.page}:${block.line} compiles`, () => assert.strictEqual(found.get(nameOf(block)) ?? "", ""))
  }

  it("begin with one that composes a claw in about thirty lines", () => {
    const first = blocksOf("README.md").find(({ language }) => language === "ts")
    assert.include(first?.text, "Claw.layer(")
    assert.isAtMost((first?.text.split("\n") ?? []).filter((line) => line.trim() !== "").length, 34)
  })
})

describe("links", () => {
  for (const page of pages) {
    it(`of ${page} lead somewhere`, () => {
      const links = [
        ...[...prose(page).matchAll(/\]\(([^)\s]+)\)/g)].map(([, to = ""]) => to),
        ...[...prose(page).matchAll(/\b(?:src|href)="([^"]+)"/g)].map(([, to = ""]) => to)
      ].filter((to) => !/^[a-z]+:/.test(to))
      const broken = links.filter((to) => {
        const [path = "", anchor] = to.split("#")
        const target = path === "" ? page : posix.join(posix.dirname(page), path)
        if (!existsSync(join(root, target))) return true
        return anchor !== undefined && !anchorsOf(target).has(anchor)
      })
      assert.deepStrictEqual(broken, [])
    })
  }

  it("from the README reach every page and the examples", () => {
    const linked = new Set([...readme.matchAll(/\]\((?:\.\/)?([^)#\s]+)/g)].map(([, to]) => to))
    const missing = [...globSync("docs/*.md", { cwd: root }), "examples/README.md", "LICENSE"].filter(
      (page) => !linked.has(page)
    )
    assert.deepStrictEqual(missing, [])
  })
})

describe("commands", () => {
  const { scripts }: { scripts: Readonly<Record<string, string>> } = JSON.parse(read("package.json"))
  // npm's own, of which some run a script.
  const builtIn: Readonly<Record<string, string>> = {
    start: "start",
    test: "test",
    "install-test": "test",
    install: "",
    ci: ""
  }

  for (const page of ["README.md", "CONTRIBUTING.md", "examples/README.md"]) {
    it(`of ${page} exist`, () => {
      const lines = blocksOf(page)
        .filter(({ language }) => language === "bash")
        .flatMap(({ text }) => text.split("\n"))
      const missing = lines.filter((line) => {
        const named = [...line.matchAll(/\bnpm (?:run )?([\w-]+)/g)].map(([, name = ""]) => builtIn[name] ?? name)
        const files = [...line.matchAll(/\bnode (\S+\.ts)/g)].map(([, file = ""]) => file)
        return (
          named.some((name) => name !== "" && !(name in scripts)) || files.some((file) => !existsSync(join(root, file)))
        )
      })
      assert.deepStrictEqual(missing, [])
    })
  }

  it("of the README set everything up, in two lines", () => {
    const text = blocksOf("README.md")
      .map((block) => block.text)
      .join("\n")
    assert.include(text, "npm install && npm start")
    assert.include(text, "npm install-test")
  })
})

describe("the README's tables", () => {
  const layers = globSync("src/layers/*.ts", { cwd: root })
    .map((file) => posix.basename(file, ".ts"))
    .sort()

  it("name every layer, and none that is not there", () => {
    const named = [
      ...readme.matchAll(
        /`((?:Audit|Channel(?!State`)|Chat|Conversations|Database|Egress|Files|Journal|Ledger|Memory|Model|Mounts|Sandbox|Scheduler|Shell|Sqlite|Swarm|Vault|Workspaces)[A-Z]\w*)`/g
      )
    ]
    assert.sameMembers([...new Set(named.map(([, name = ""]) => name))], layers)
  })

  it("name every variable of the environment that is read, and none that is not", () => {
    const source = globSync("src/**/*.ts", { cwd: root })
      .map((file) => read(file))
      .join("\n")
    const used = [...source.matchAll(/(?:Config\.\w+|\bset)\("([A-Z][A-Z_]+)"/g)].map(([, name]) => name)
    const named = [...readme.matchAll(/^\| `([A-Z][A-Z_]+)` +\|/gm)].map(([, name]) => name)
    // Read by the engine's client.
    assert.sameMembers([...new Set(named)], [...new Set([...used, "DOCKER_HOST"])])
  })
})
