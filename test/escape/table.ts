/**
 * The table of what was tried, at the end of docs/isolation.md.
 */
import { readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { type Attempt, type Kind, kinds, kindsOf, type Seen } from "./Attempt.ts"

const page = fileURLToPath(new URL("../../docs/isolation.md", import.meta.url))
const heading = "\n## What was tried\n"
const untried = "—"

const outcomes = new Map<string, string>()
const key = (attempt: Attempt, kind: Kind) => `${attempt.group}/${attempt.name}/${kind}`

/** What kernels and shells say when they refuse. */
const refusals =
  /no such file or directory|no such (?:device|process)[a-z ]*|operation not permitted|permission denied|read-only file system|connection (?:refused|timed out)|network is unreachable|couldn't connect to server|could not resolve host|command not found|command not available|cannot allocate memory|resource temporarily unavailable|cross-device link[a-z ]*|function not implemented|must be superuser[a-z ]*|hard link not allowed[a-z ]*|leads out of the workspace|resolves outside sandbox|unsafe symlink target|not supported in sandboxed environment|unable to open database|[a-z ]*(?:limit|depth|width)[a-z ]*exceeded|not a valid identifier|file name too long|name too long|authentication failure/gi

/** What happened, in a few words. */
const words = (seen: Seen): string => {
  if (seen.lost !== undefined) return seen.lost
  if (seen.timedOut) return "killed at its deadline"
  if (seen.code === 137) return "killed"
  // The end of it: some attempts print without one, and patterns take their time over that.
  const [stdout, stderr] = [seen.stdout.slice(-2000), seen.stderr.slice(-2000)]
  const refusal = `${stdout}\n${stderr}`.match(refusals)?.at(-1)
  const last = stdout.trim().split("\n").at(-1) ?? ""
  return refusal ?? (/^[a-z0-9][a-z0-9,:'-]*(?: [a-z0-9,:'()-]+)+$/i.test(last) ? last : "without effect outside")
}

/** Keeps an outcome for the table. */
export const tell = (attempt: Attempt, kind: Kind, seen: Seen): void => {
  const text = words(seen).trim().replace(/\s+/g, " ").toLowerCase().slice(0, 60)
  outcomes.set(key(attempt, kind), text)
}

type Names = Readonly<Record<string, ReadonlyArray<Kind>>>

/** The attempts with their kinds. */
export const names = (attempts: ReadonlyArray<Attempt>): Names =>
  Object.fromEntries(attempts.map((attempt) => [`${attempt.group}: ${attempt.name}`, kindsOf(attempt)]))

/** The same, as the page has it. */
export const inDocs = (): Names => {
  const section = readFileSync(page, "utf8").split(heading)[1] ?? ""
  const found: Record<string, ReadonlyArray<Kind>> = {}
  let group = ""
  for (const line of section.split("\n")) {
    if (line.startsWith("### ")) group = line.slice(4)
    const cells = line.split("|").map((cell) => cell.trim())
    if (cells.length !== kinds.length + 3 || cells[1] === "attempt" || cells[1]?.startsWith("---") === true) continue
    found[`${group}: ${cells[1] ?? ""}`] = kinds.filter((_, index) => cells[index + 2] !== untried)
  }
  return found
}

const table = (rows: ReadonlyArray<ReadonlyArray<string>>): string => {
  const width = (column: number) => Math.max(...rows.map((row) => row[column]?.length ?? 0))
  const show = (row: ReadonlyArray<string>) => `| ${row.map((cell, at) => cell.padEnd(width(at))).join(" | ")} |`
  const [head = [], ...body] = rows
  return [show(head), `| ${head.map((_, at) => "-".repeat(width(at))).join(" | ")} |`, ...body.map(show)].join("\n")
}

/** Writes the section anew, with what happened in this run. */
export const write = (attempts: ReadonlyArray<Attempt>): void => {
  const count = attempts.flatMap(kindsOf).length
  const groups = [...new Set(attempts.map(({ group }) => group))].map((group) => {
    const rows = attempts
      .filter((attempt) => attempt.group === group)
      .map((attempt) => [
        attempt.name,
        ...kinds.map((kind) => {
          if (!kindsOf(attempt).includes(kind)) return untried
          const gap = attempt.open?.[kind]
          const outcome =
            gap === undefined
              ? outcomes.get(key(attempt, kind))
              : `**gets through${attempt.byChance === true ? " at times" : ""}**: ${gap}`
          if (outcome === undefined) throw new Error(`there is no outcome of ${key(attempt, kind)}`)
          return outcome
        })
      ])
    return `### ${group}\n\n${table([["attempt", ...kinds], ...rows])}`
  })
  const before = readFileSync(page, "utf8").split(heading)[0]?.trimEnd() ?? ""
  const introduction = `\`test/escape\` makes ${count} attempts from inside, and judges each by canaries outside: host files, listeners,
another session, the host's processes. What an attempt met is in the words of the machine that this was written on; what
gets through is known, and to be mended.`
  writeFileSync(page, `${before}\n${heading}\n${introduction}\n\n${groups.join("\n\n")}\n`)
}
