/**
 * Measures, and writes `docs/performance.md`. Every figure stands beside what it is held against, measured in the same
 * run. `npm run bench turns latency` measures only those, and writes nothing.
 */
import { writeFileSync } from "node:fs"
import { cpus, totalmem } from "node:os"
import type { Row } from "./support.ts"

const all = ["startup", "latency", "turns", "recovery", "sandbox", "egress", "channels", "memory", "tokens"]
const named = process.argv.slice(2)

const line = ({ aim, floor, ours, ratio, what }: Row): string =>
  `| ${[what, ours, floor, ratio === undefined ? "" : ratio.toFixed(2), aim].join(" | ")} |`

const lines: Array<string> = []
for (const name of named.length === 0 ? all : named) {
  process.stderr.write(`${name}…\n`)
  const { rows }: { readonly rows: () => Promise<ReadonlyArray<Row>> } = await import(`./${name}.ts`)
  for (const row of await rows()) {
    lines.push(line(row))
    process.stdout.write(`${line(row)}\n`)
  }
}

if (named.length === 0) {
  const machine = `${cpus().length} × ${cpus()[0]?.model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.versions.node}, ${process.platform}`
  writeFileSync(
    "docs/performance.md",
    `# Performance

Measured by \`npm run bench\` (Linux, with a container engine and the sandbox image), which writes this page. Each figure
is held against a floor that is measured in the same run, because machines differ and ratios travel. Figures of other
claws are from machines of this kind, by the same stages of a message.

Machine: ${machine}.

| what | effect-claw | floor | ratio | aim |
| --- | --- | --- | --- | --- |
${lines.join("\n")}

How each is measured is the first paragraph of its file in \`bench/\`.
`
  )
}
process.exit()
