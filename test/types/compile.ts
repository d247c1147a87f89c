/**
 * Compiles programs as a user's own would be: with this repository's TypeScript and settings, importing the package by
 * its name.
 */
import { execFile } from "node:child_process"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { stripVTControlCharacters } from "node:util"

const root = fileURLToPath(new URL("../..", import.meta.url))

/** Inside the repository, for the package's own name to resolve; ignored by git. */
const scratch = join(root, ".compile")

// A program shows something, so not all of it is used; a service's key is wherever its file would be.
const effect = { name: "@effect/language-service", diagnosticSeverity: { deterministicKeys: "off" } }
const settings = {
  extends: "../../tsconfig.json",
  compilerOptions: { noUnusedLocals: false, noUnusedParameters: false, plugins: [effect] },
  include: ["."]
}

/** What is wrong with each program, by its name; nothing for one that compiles. */
export const compile = async (programs: Readonly<Record<string, string>>): Promise<ReadonlyMap<string, string>> => {
  mkdirSync(scratch, { recursive: true })
  const folder = mkdtempSync(join(scratch, "programs-"))
  try {
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(settings))
    for (const [name, source] of Object.entries(programs)) {
      const file = join(folder, `${name}.ts`)
      mkdirSync(dirname(file), { recursive: true })
      writeFileSync(file, source)
    }
    const wrong = new Map<string, string>()
    let current: string | undefined
    for (const line of (await tsc(folder)).split("\n")) {
      // A finding begins with its place; the lines below it that are indented go on with it.
      const [, file, rest] = /^(\S.*?)\.ts(\(\d+,\d+\): error .*)$/.exec(line) ?? []
      if (file !== undefined) current = file
      else if (!line.startsWith(" ")) current = line.trim() === "" ? undefined : "tsc"
      if (current !== undefined) wrong.set(current, `${wrong.get(current) ?? ""}${rest ?? line}\n`)
    }
    return wrong
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const tsc = (folder: string) =>
  new Promise<string>((resolve, reject) => {
    const program = join(root, "node_modules/typescript/bin/tsc")
    const args = [program, "-p", folder, "--pretty", "false", "--noErrorTruncation"]
    execFile(process.execPath, args, { cwd: folder, maxBuffer: 1 << 26 }, (error, stdout, stderr) =>
      error !== null && typeof error.code !== "number"
        ? reject(error)
        : resolve(stripVTControlCharacters(stdout + stderr))
    )
  })
