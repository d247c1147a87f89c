/**
 * Tests that need a container engine. In CI a missing engine is a failure; elsewhere they are skipped, loudly.
 */
import { describe, it } from "@effect/vitest"
import Docker from "dockerode"

const docker = new Docker()

const silence = (delay: number) =>
  new Promise<Error>((resolve) => setTimeout(resolve, delay, new Error("it is silent")))

/** Why there is no engine; nothing if there is one. */
const missing: unknown = await Promise.race([
  docker.ping().then(
    () => undefined,
    (cause: unknown) => cause
  ),
  silence(5000)
])

/** Whether a container engine answers. */
export const engineAvailable = missing === undefined

/** `describe`, for what runs in containers, which takes its time. */
export const describeWithEngine = (name: string, body: () => void): void => {
  if (engineAvailable) return void describe(name, { timeout: 90_000 }, body)
  const why = missing instanceof Error ? missing.message : String(missing)
  if (process.env["CI"] !== undefined) {
    return void describe(name, () => it("needs a container engine", () => Promise.reject(new Error(why))))
  }
  process.stderr.write(`\n*** SKIPPED: ${name}. No container engine answers (${why}). Start Docker to run it. ***\n\n`)
  describe.skip(name, body)
}

/** The containers whose workspace is below a folder. */
export const containersOn = async (folder: string): Promise<ReadonlyArray<string>> => {
  const all = await docker.listContainers({ all: true, filters: { label: ["effect-claw=sandbox"] } })
  return all.filter(({ Mounts }) => Mounts.some(({ Source }) => Source.startsWith(folder))).map(({ Id }) => Id)
}
