/**
 * Builds the package before the tests, for some of them run its programs as people do. What is built already is left.
 */
import { execFileSync } from "node:child_process"
import { globSync, statSync } from "node:fs"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../..", import.meta.url))
const changed = (file: string) => statSync(`${root}/${file}`, { throwIfNoEntry: false })?.mtimeMs ?? 0

export default () => {
  const newest = Math.max(...globSync("src/**/*.ts", { cwd: root }).map(changed))
  const built = globSync("dist/**/*.js", { cwd: root }).map(changed)
  if (changed("dist/programs/main.js") > 0 && Math.max(...built) > newest) return
  // Types are the compiler's to judge, in `npm run check`; what does not fit is written out all the same.
  try {
    execFileSync(process.execPath, ["node_modules/.bin/tsc", "-p", "src/tsconfig.json"], {
      cwd: root,
      stdio: "inherit"
    })
  } catch (cause) {
    if (changed("dist/programs/main.js") < newest) throw cause
  }
}
