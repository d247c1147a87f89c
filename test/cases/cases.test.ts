import { assert, describe, it } from "@effect/vitest"
import { existsSync, readdirSync } from "node:fs"
import { read } from "../contracts/cases.ts"

/** Where the rows come from, on the machines that have it. */
const source = new URL("../../../shared/cases/", import.meta.url)

describe.runIf(existsSync(source))("the rows here are the rows of their source", () => {
  for (const file of readdirSync(new URL(".", import.meta.url)).filter((name) => name.endsWith(".json"))) {
    it(file, () =>
      assert.includeDeepMembers([...read(new URL(file, source))], [...read(new URL(file, import.meta.url))])
    )
  }
})
