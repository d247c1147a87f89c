/** From `npm start` to the prompt, at a real terminal. */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { join } from "node:path"
import { atPrompt, millis, type Row, sample, withFolder } from "./support.ts"

const times = 7

export const rows = (): Promise<ReadonlyArray<Row>> =>
  withFolder(async (folder) => {
    const bare = await sample(times, async () => {
      const started = performance.now()
      await once(spawn(process.execPath, ["-e", "0"]), "exit")
      return performance.now() - started
    })
    const toPrompt = (command: string) =>
      sample(times, () => {
        const started = performance.now()
        return atPrompt(command, join(folder, "state"), () => Promise.resolve(performance.now() - started))
      })
    await toPrompt("node bin/effect-claw.js")
    const direct = await toPrompt("node bin/effect-claw.js")
    const npm = await toPrompt("npm start --silent")
    const floor = `${millis(bare)} bare node -e 0`
    return [
      {
        what: "npm start to its prompt",
        ours: millis(npm),
        floor,
        ratio: npm / bare,
        aim: "400 ms where node takes 34 (11.8)"
      },
      { what: "the same without npm", ours: millis(direct), floor, ratio: direct / bare, aim: "" }
    ]
  })
