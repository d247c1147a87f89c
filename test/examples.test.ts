/**
 * The examples do what they say: each is run as a user runs it, without a terminal and without a key.
 */
import { assert, describe, it } from "@effect/vitest"
import { execFile } from "node:child_process"
import { globSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))
const examples = globSync("examples/*.ts", { cwd: root }).sort()

/** What each must print, in this order. */
const expected: Readonly<Record<string, ReadonlyArray<string | RegExp>>> = {
  "01-first-claw": [
    "wrote 12 characters to notes.txt",
    "5",
    "buy oat milk and bread",
    "remembered as 1",
    /^1\. I take my tea without milk \(\d{4}-\d\d-\d\d\)$/
  ],
  "02-custom-tool": ["I asked twice. The next ones leave at 08:12 and 08:27."],
  "03-custom-channel": [/^\w+\.\d+\.2\.txt: THE STARS ARE OUT$/],
  "04-scheduled-task": [
    /^water the tomatoes: once at \d{4}-/,
    "look for snails: cron 0 8 * * 1-5 (Europe/Oslo)",
    "in garden: Reminder: water the tomatoes",
    "still to come: look for snails"
  ],
  "05-team": [
    "## reader",
    "That did not work: You have no right to call bash. You may call: read_file, list_files, search_files.",
    "## coder",
    "I computed 42"
  ],
  "06-swap-a-layer": [
    "1024 bytes",
    "no processes",
    /commands in: virtual shell\. This chat is idle\.$/,
    // In CI a missing engine is a failure.
    process.env["CI"] === undefined ? /^1024 bytes$|No container engine answers here/ : "real processes"
  ],
  "08-approval": [
    "The baker has his money.",
    /^May I call "pay"\? Answer \/approve \w{4} or \/deny \w{4} within a day\.$/,
    '  "euros": 180,',
    'Approved: "pay".',
    "The plumber has his money.",
    '  "to": "a prince"',
    'Denied: "pay".',
    "Then I leave the prince alone."
  ],
  "07-under-test": [/andy looks before he answers/, /a stranger is not answered/, /pass 2$/, /fail 0$/]
}

/**
 * As installed, an example runs on `dist`, and in CI it must. While the source is worked on, `dist` may be older than it;
 * then the example runs on the source.
 */
const newest = (pattern: string) =>
  Math.max(0, ...globSync(pattern, { cwd: root }).map((file) => statSync(join(root, file)).mtimeMs))
const isBuilt = process.env["CI"] !== undefined || newest("dist/**/*.js") >= newest("src/**/*.ts")
const flags = isBuilt ? [] : ["--conditions=source"]

const run = (example: string, cwd: string) =>
  new Promise<string>((resolve, reject) => {
    const { ANTHROPIC_API_KEY: _, ...env } = process.env
    const child = execFile(
      process.execPath,
      [...flags, join(root, example)],
      { cwd, env, timeout: 60_000 },
      (error, stdout, stderr) =>
        error === null
          ? resolve(stdout)
          : reject(new Error(`${example} failed\n${stdout}\n${stderr}`, { cause: error }))
    )
    child.stdin?.end()
  })

/** The lines that are expected are found, in order; others may stand between them. */
const assertPrints = (stdout: string, lines: ReadonlyArray<string | RegExp>) => {
  let rest = stdout.split("\n")
  for (const line of lines) {
    const at = rest.findIndex((printed) => (typeof line === "string" ? printed === line : line.test(printed)))
    assert.isAtLeast(at, 0, `expected ${line} in\n${stdout}`)
    rest = rest.slice(at + 1)
  }
}

describe("the examples", () => {
  for (const example of examples) {
    const name = example.replace(/^examples\/|\.ts$/g, "")
    it(`${name} runs, twice`, { timeout: 120_000 }, async () => {
      const cwd = mkdtempSync(join(tmpdir(), "claw-example-"))
      try {
        assert.property(expected, name)
        assertPrints(await run(example, cwd), expected[name] ?? [])
        assertPrints(await run(example, cwd), expected[name] ?? [])
      } finally {
        rmSync(cwd, { recursive: true, force: true })
      }
    })
  }

  it("are under sixty lines each", () => {
    for (const example of examples) {
      assert.isBelow(readFileSync(join(root, example), "utf8").trimEnd().split("\n").length, 60, example)
    }
  })

  it("are numbered, and listed in their order", () => {
    const listed = [...readFileSync(join(root, "examples/README.md"), "utf8").matchAll(/^\| \[(.*?\.ts)\]/gm)]
    assert.deepStrictEqual(
      listed.map(([, file]) => `examples/${file}`),
      examples
    )
    examples.forEach((example, index) => assert.match(example, new RegExp(`/0${index + 1}-`)))
  })
})
