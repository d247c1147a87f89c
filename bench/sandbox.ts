/** Commands and sessions in containers, against the least a container can cost. Needs an engine. */
import * as SandboxDocker from "effect-claw/layers/SandboxDocker"
import * as Sandbox from "effect-claw/services/Sandbox"
import Docker from "dockerode"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { once } from "node:events"
import { chownSync, mkdirSync } from "node:fs"
import { join } from "node:path"
import { median, millis, type Row, sample, withFolder } from "./support.ts"

const docker = new Docker()

const timed = async (use: () => Promise<unknown>): Promise<number> => {
  const started = performance.now()
  await use()
  return performance.now() - started
}

/** A container with nothing but no network, running a shell whose stdin and stdout are held. */
const bare = async (folder: string) => {
  const container = await docker.createContainer({
    Image: SandboxDocker.defaultImage,
    Cmd: ["bash"],
    OpenStdin: true,
    StdinOnce: true,
    NetworkDisabled: true,
    HostConfig: { NetworkMode: "none", AutoRemove: true, Binds: [`${folder}:/workspace`] }
  })
  const line = await container.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true })
  await container.start()
  return { container, line }
}

const answered = async (line: NodeJS.ReadWriteStream, command: string) => {
  line.write(`${command}\n`)
  await once(line, "data")
}

/** The engine is still taking the last container away when the next could be asked for. */
const settled = () => new Promise((resolve) => setTimeout(resolve, 500))

export const rows = (): Promise<ReadonlyArray<Row>> =>
  withFolder(async (folder) => {
    const workspace = join(folder, "workspace")
    mkdirSync(workspace)
    if (process.getuid?.() === 0) chownSync(workspace, 1000, 1000)

    const { container, line } = await bare(workspace)
    await answered(line, "echo ready")
    const inShell = await sample(100, () => timed(() => answered(line, "/bin/echo x")))
    const engineExec = await sample(20, () =>
      timed(async () => {
        const exec = await container.exec({ Cmd: ["/bin/echo", "x"], AttachStdout: true })
        const output = await exec.start({})
        output.resume()
        await once(output, "end")
      })
    )
    await container.remove({ force: true })

    const open = Effect.flatMap(Sandbox.Sandbox, (sandbox) => sandbox.open(Sandbox.makeSpec({}, workspace)))
    const milliseconds = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
      Effect.map(Effect.timed(effect), ([duration]) => Duration.toMillis(duration))
    const warm = await Effect.gen(function* () {
      const session = yield* open
      const command = milliseconds(Sandbox.run(session, { run: ["/bin/echo", "x"] }))
      yield* Effect.repeat(command, { times: 20 })
      return median(yield* Effect.forEach(Array.from({ length: 100 }), () => command))
    }).pipe(Effect.scoped, Effect.provide(SandboxDocker.layer()), Effect.runPromise)

    const colds: Array<number> = []
    const bares: Array<number> = []
    // In turns, so that what slows the machine slows both.
    for (let index = 0; index < 9; index++) {
      await settled()
      const started = performance.now()
      const { container: floor, line: shell } = await bare(workspace)
      await answered(shell, "echo ready")
      bares.push(performance.now() - started)
      await floor.remove({ force: true })
      await settled()
      colds.push(
        await Effect.flatMap(open, (session) => Sandbox.run(session, { run: ["/bin/echo", "ready"] })).pipe(
          milliseconds,
          Effect.scoped,
          Effect.provide(SandboxDocker.layer()),
          Effect.runPromise
        )
      )
    }
    const [cold, floor] = [median(colds), median(bares)]
    return [
      {
        what: "a command in a warm Docker session, p50",
        ours: millis(warm),
        floor: `${millis(inShell)} fork and exec in an attached shell; ${millis(engineExec)} one engine exec`,
        ratio: warm / inShell,
        aim: "3 ms where a fork and exec takes 0.9 (3.3)"
      },
      {
        what: "a cold Docker session to its first command's end, median",
        ours: millis(cold),
        floor: `${millis(floor)} bare create, attach, start and one command, no network`,
        ratio: cold / floor,
        aim: "within 1.25"
      }
    ]
  })
