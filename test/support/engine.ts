/**
 * Tests that need a container engine.
 */
import Docker from "dockerode"
import { describeUnless } from "./missing.ts"

const docker = new Docker()

const silence = (delay: number) =>
  new Promise<Error>((resolve) => setTimeout(resolve, delay, new Error("it is silent")))

/** Why there is no engine; nothing if there is one. */
const missing = await Promise.race([
  docker.ping().then(
    () => undefined,
    (cause: Error) => cause
  ),
  silence(5000)
])

/** Whether a container engine answers. */
export const engineAvailable = missing === undefined

/** `describe`, for what runs in containers, which takes its time. */
export const describeWithEngine = describeUnless(
  missing === undefined ? undefined : `No container engine answers (${missing.message})`,
  "Start Docker"
)

/** The containers whose workspace is below a folder. */
export const containersOn = async (folder: string): Promise<ReadonlyArray<string>> => {
  const all = await docker.listContainers({ all: true, filters: { label: ["effect-claw=sandbox"] } })
  return all.filter(({ Mounts }) => Mounts.some(({ Source }) => Source.startsWith(folder))).map(({ Id }) => Id)
}
