/** Commands and sessions in containers, against the least a container can cost, and what they leave. Needs an engine. */
import * as SandboxDocker from "effect-claw/layers/SandboxDocker"
import * as WorkspacesLocal from "effect-claw/layers/WorkspacesLocal"
import { AgentName, ConversationId } from "effect-claw/services/Message"
import * as Rights from "effect-claw/services/Rights"
import * as Sandbox from "effect-claw/services/Sandbox"
import * as Sandboxes from "effect-claw/services/Sandboxes"
import Docker from "dockerode"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { chownSync, mkdirSync, readdirSync } from "node:fs"
import { join } from "node:path"
import { mebibytes, median, millis, resident, type Row, sample, withFolder } from "./support.ts"

const docker = new Docker()

const timed = async (use: () => Promise<unknown>): Promise<number> => {
  const started = performance.now()
  await use()
  return performance.now() - started
}

const milliseconds = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.timed(effect), ([duration]) => Duration.toMillis(duration))

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
      ...(await work(workspace)),
      {
        what: "a cold Docker session to its first command's end, median",
        ours: millis(cold),
        floor: `${millis(floor)} bare create, attach, start and one command, no network`,
        ratio: cold / floor,
        aim: "within 1.25"
      },
      await firstCommand(folder),
      ...(await idle(folder)),
      await leaks(folder)
    ]
  })

/** A megabyte there and back, and ten commands at once, each beside the same in a bare process. */
const work = async (workspace: string): Promise<ReadonlyArray<Row>> => {
  const content = new Uint8Array(1_000_000).fill(120)
  const file = join(workspace, "floor")
  const cats = async () => {
    const writing = spawn("sh", ["-c", `cat > ${file}`])
    writing.stdin.end(content)
    await once(writing, "close")
    const reading = spawn("cat", [file])
    reading.stdout.resume()
    await once(reading, "close")
  }
  const { container, line } = await bare(workspace)
  await answered(line, "echo ready")
  const ten = "for i in 1 2 3 4 5 6 7 8 9 10; do /bin/echo x > /dev/null & done; wait; echo done"
  const [onHost, inShell] = [
    await sample(20, () => timed(cats)),
    await sample(20, () => timed(() => answered(line, ten)))
  ]
  await container.remove({ force: true })
  const [there, atOnce] = await Effect.gen(function* () {
    const session = yield* Sandbox.Sandbox.use((sandbox) => sandbox.open(Sandbox.makeSpec({}, workspace)))
    const command = Sandbox.run(session, { run: ["/bin/echo", "x"] })
    const all = Effect.all(
      Array.from({ length: 10 }, () => command),
      { concurrency: "unbounded", discard: true }
    )
    const both = Effect.andThen(session.writeFile("ours", content), session.readFile("ours"))
    yield* Effect.all([all, both])
    const times = <E>(effect: Effect.Effect<unknown, E>) =>
      Effect.map(
        Effect.forEach(Array.from({ length: 20 }), () => milliseconds(effect)),
        median
      )
    return [yield* times(both), yield* times(all)] as const
  }).pipe(Effect.scoped, Effect.provide(SandboxDocker.layer()), Effect.runPromise)
  return [
    {
      what: "writing and reading a file of 1 MB in a warm Docker session, p50",
      ours: millis(there),
      floor: `${millis(onHost)} two processes of the host, cat and cat`,
      ratio: there / onHost,
      aim: ""
    },
    {
      what: "ten commands side by side in a warm Docker session, p50",
      ours: millis(atOnce),
      floor: `${millis(inShell)} ten forks and execs in an attached shell`,
      ratio: atOnce / inShell,
      aim: ""
    }
  ]
}

const andy = AgentName.make("andy")

/** The sessions of an agent, kept warm or not, on workspaces below a folder. */
const sessionsOf = (directory: string, options: Sandbox.SandboxOptions) =>
  Sandboxes.layer({ optionsOf: () => options, atMost: 1000 }).pipe(
    Layer.provide(SandboxDocker.layer()),
    Layer.provide(WorkspacesLocal.layer({ directory }))
  )

/** What the first command of a turn waits for when its model has thought for a second. */
const firstCommand = async (folder: string): Promise<Row> => {
  const of = (warm: boolean) =>
    Effect.gen(function* () {
      const sandboxes = yield* Sandboxes.Sandboxes
      const values: Array<number> = []
      for (let index = 0; index < 9; index++) {
        const chat = ConversationId.make(`bench:${warm} ${index}`)
        yield* sandboxes.warm(andy, chat, Rights.none)
        yield* Effect.sleep("1 second")
        const command = Effect.flatMap(sandboxes.session(andy, chat, Rights.none), (session) =>
          Sandbox.run(session, { run: ["/bin/echo", "x"] })
        )
        values.push(yield* milliseconds(Effect.scoped(command)))
      }
      return median(values)
    }).pipe(Effect.provide(sessionsOf(join(folder, "first"), { warm })), Effect.runPromise)
  const [cold, warm] = [await of(false), await of(true)]
  return {
    what: "the first command of a turn, a second after it began, `warm`, median",
    ours: millis(warm),
    floor: `${millis(cold)} the same, not \`warm\``,
    ratio: warm / cold,
    aim: ""
  }
}

/** Resident memory of an idle session: that of its container's processes, without the engine's own, and of the claw. */
const idle = async (folder: string): Promise<ReadonlyArray<Row>> => {
  const memoryOf = async (id: string) => {
    const { Processes }: { readonly Processes: ReadonlyArray<ReadonlyArray<string>> } = await docker
      .getContainer(id)
      .top({ ps_args: "-eo pid,rss" })
    return Processes.reduce((sum, [, kilobytes]) => sum + Number(kilobytes) * 1024, 0)
  }
  const { container, line } = await bare(folder)
  await answered(line, "echo ready")
  const floor = await memoryOf(container.id)
  await container.remove({ force: true })
  const count = 20
  const [inside, outside] = await Effect.gen(function* () {
    const sandboxes = yield* Sandboxes.Sandboxes
    const open = (from: number) =>
      Effect.forEach(
        Array.from({ length: count }, (_, index) => ConversationId.make(`bench:${from + index}`)),
        (chat) =>
          Effect.scoped(
            Effect.tap(sandboxes.session(andy, chat, Rights.none), (session) =>
              Sandbox.run(session, { run: ["/bin/echo", "x"] })
            )
          ),
        { concurrency: 2 }
      )
    // What is taken once is taken by the first.
    yield* open(0)
    const before = yield* Effect.promise(resident)
    const opened = yield* open(count)
    const after = yield* Effect.promise(resident)
    const memories = yield* Effect.promise(() =>
      Promise.all(opened.slice(0, 5).map(({ id }) => memoryOf(id.replace("docker:", ""))))
    )
    return [median(memories), (after - before) / count] as const
  }).pipe(Effect.provide(sessionsOf(join(folder, "idle"), {})), Effect.runPromise)
  return [
    {
      what: "resident memory of the processes in an idle Docker session",
      ours: mebibytes(inside),
      floor: `${mebibytes(floor)} a container with a shell`,
      ratio: inside / floor,
      aim: ""
    },
    {
      what: "resident memory that each idle Docker session adds to the claw",
      ours: `${(outside / 1024).toFixed(1)} KB`,
      floor: "",
      aim: ""
    }
  ]
}

/** What two hundred sessions leave behind, opened and closed four at a time. */
const leaks = async (folder: string): Promise<Row> => {
  const count = 200
  const descriptors = () => readdirSync("/proc/self/fd").length
  const containers = async () => {
    const all = await docker.listContainers({ all: true, filters: { label: ["effect-claw=sandbox"] } })
    return all.filter(({ Mounts }) => Mounts.some(({ Source }) => Source.startsWith(folder))).length
  }
  const [descriptorsLeft, grown] = await Effect.gen(function* () {
    const sandbox = yield* Sandbox.Sandbox
    const cycle = (some: number) =>
      Effect.forEach(
        Array.from({ length: some }, (_, index) => index % 4),
        (index) => {
          const workspace = join(folder, `leak-${index}`)
          mkdirSync(workspace, { recursive: true })
          return Effect.scoped(
            Effect.flatMap(sandbox.open(Sandbox.makeSpec({}, workspace)), (session) =>
              Sandbox.run(session, { run: ["/bin/echo", "x"] })
            )
          )
        },
        { concurrency: 4, discard: true }
      )
    yield* cycle(20)
    const before = [descriptors(), yield* Effect.promise(resident)] as const
    yield* cycle(count)
    return [descriptors() - before[0], (yield* Effect.promise(resident)) - before[1]] as const
  }).pipe(Effect.provide(SandboxDocker.layer()), Effect.runPromise)
  await settled()
  return {
    what: `left by ${count} Docker sessions, opened and closed`,
    ours: `${await containers()} containers, ${Math.max(0, descriptorsLeft)} file descriptors, ${mebibytes(grown)}`,
    floor: "",
    aim: "0 and 0"
  }
}
