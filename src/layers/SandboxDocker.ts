/**
 * Sandboxes as containers of a Docker-compatible engine.
 *
 * A container has no network card, no capability, no way to gain privileges, a read-only root, a user that is not root,
 * and limits on memory, processors, processes and open files. Of the host it sees the workspace and its mounts. It lives as long as the
 * scope of its session: its runner reads commands from the stdin that this process holds, and ends when it closes, even
 * if this process is killed.
 */
import Docker from "dockerode"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Semaphore from "effect/Semaphore"
import { randomUUID } from "node:crypto"
import { fileURLToPath } from "node:url"
import { Duplex, Writable } from "node:stream"
import {
  ImageMissing,
  Sandbox,
  SandboxError,
  type SandboxSpec,
  SandboxUnavailable,
  SessionLost
} from "../services/Sandbox.ts"
import * as Inside from "./internal/inside.ts"
import * as Runner from "./internal/runner.ts"

/** The image that is used, and made, unless a spec names another. */
export const defaultImage = "effect-claw/sandbox:1"

/** Where the engine is. */
export interface Options {
  /** Path of the engine's socket. Default: `DOCKER_HOST`, else the engine's own default. */
  readonly socketPath?: string
  /** Default `effect-claw/sandbox:1`, which is built from the package's `sandbox/Dockerfile` when it is not there. */
  readonly image?: string
  /** Another runtime of the engine's, such as gVisor's `runsc`. Default: the engine's own. */
  readonly runtime?: string
  /** A seccomp profile, as JSON. Default: the engine's own. */
  readonly seccomp?: string
}

const statusOf = (cause: unknown): number | undefined =>
  Predicate.hasProperty(cause, "statusCode") && typeof cause.statusCode === "number" ? cause.statusCode : undefined

const messageOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause))

/** What to do about an engine that does not do as it is told. */
const unavailable = (cause: unknown): SandboxError => {
  const message = messageOf(cause)
  const detail = /ENOENT|ECONNREFUSED|ECONNRESET|EPIPE|socket hang up|it is silent/.test(message)
    ? `no container engine answers (${message}); start Docker`
    : /EACCES/.test(message)
      ? `the container engine's socket is closed to this user (${message}); add the user to the group docker`
      : `the container engine refuses: ${message}`
  return new SandboxError({ reason: new SandboxUnavailable({ detail }) })
}

const engine = <A>(use: () => Promise<A>): Effect.Effect<A, SandboxError> =>
  Effect.tryPromise({ try: use, catch: unavailable })

/** What an engine does not do in half a minute it does not do. If it does it later, it is undone like anything in a closed scope. */
const answered = <A, R>(asked: Effect.Effect<A, SandboxError, R>): Effect.Effect<A, SandboxError, R> =>
  Effect.flatMap(Effect.forkDetach(asked), (fiber) =>
    Fiber.join(fiber).pipe(
      Effect.timeoutOrElse({
        duration: "30 seconds",
        orElse: () => Effect.andThen(Effect.forkDetach(Fiber.interrupt(fiber)), unavailable("it is silent"))
      }),
      Effect.onInterrupt(() => Fiber.interrupt(fiber))
    )
  )

/** Waits until an image is built, telling each step. */
const build = (docker: Docker, image: string) =>
  Effect.gen(function* () {
    yield* Effect.logInfo(`preparing the sandbox image ${image} (once, about a minute)`)
    const context = fileURLToPath(new URL("../../sandbox", import.meta.url))
    const output = yield* Effect.tryPromise(() => docker.buildImage({ context, src: ["Dockerfile"] }, { t: image }))
    const fork = Effect.runForkWith(yield* Effect.context())
    yield* Effect.callback<void, Error>((resume) => {
      docker.modem.followProgress(
        output,
        (error) => resume(error === null ? Effect.void : Effect.fail(error)),
        (progress: { readonly stream?: string }) => {
          const step = progress.stream?.trim()
          if (step?.startsWith("Step ") === true) fork(Effect.logInfo(step))
        }
      )
    })
    yield* Effect.logInfo(`the sandbox image ${image} is ready`)
  }).pipe(
    Effect.mapError(
      (cause) =>
        new SandboxError({
          reason: new ImageMissing({
            image,
            detail:
              `the sandbox image ${image} is missing and could not be built (${messageOf("cause" in cause ? (cause.cause ?? cause) : cause)}); ` +
              `without a registry, build it with sandbox/build.sh`
          })
        })
    )
  )

/** Podman speaks Docker's language, but for how a folder in memory is given to a user. */
const isPodman = ({ Components }: Docker.DockerVersion): boolean =>
  Components.some(({ Name }) => Name === "Podman Engine")

const containerOptions = (
  spec: SandboxSpec,
  runnerArguments: ReadonlyArray<string>,
  image: string,
  boot: string,
  options: Options,
  podman: boolean
): Docker.ContainerCreateOptions => {
  const { gid, uid } = Inside.user()
  const size = `size=${Inside.scratchBytes}`
  return {
    Image: image,
    Cmd: ["perl", "-e", Runner.program, ...runnerArguments],
    User: `${uid}:${gid}`,
    WorkingDir: "/workspace",
    Hostname: "sandbox",
    Env: Object.entries(Inside.environmentOf(spec)).map(([name, value]) => `${name}=${value}`),
    Labels: {
      "effect-claw": "sandbox",
      ...(spec.claw === undefined ? {} : { "effect-claw.claw": spec.claw, "effect-claw.boot": boot })
    },
    OpenStdin: true,
    StdinOnce: true,
    Tty: false,
    NetworkDisabled: true,
    HostConfig: {
      AutoRemove: true,
      NetworkMode: "none",
      CapDrop: ["ALL"],
      SecurityOpt: ["no-new-privileges", ...(options.seccomp === undefined ? [] : [`seccomp=${options.seccomp}`])],
      ...(options.runtime === undefined ? {} : { Runtime: options.runtime }),
      ReadonlyRootfs: true,
      Tmpfs: {
        "/tmp": `rw,nosuid,nodev,${size},mode=1777`,
        [Inside.home]: `rw,nosuid,nodev,${size},mode=700,${podman ? "U" : `uid=${uid},gid=${gid}`}`
      },
      Mounts: Inside.mountsOf(spec).map(({ host, target, write }) => {
        return { Type: "bind", Source: host, Target: target, ReadOnly: !write }
      }),
      Memory: spec.memoryBytes,
      MemorySwap: spec.memoryBytes,
      NanoCpus: Math.round(spec.cpus * 1e9),
      PidsLimit: spec.processes,
      Ulimits: [
        { Name: "nofile", Soft: Inside.openFiles, Hard: Inside.openFiles },
        { Name: "core", Soft: 0, Hard: 0 },
        { Name: "fsize", Soft: spec.diskBytes, Hard: spec.diskBytes }
      ],
      IpcMode: "private",
      // What a command prints is for its agent; the engine keeps no copy.
      LogConfig: { Type: "none", Config: {} }
    }
  }
}

/**
 * The container's stdin and streams. The client's own `attach` sends its options as a body too, which Podman gives to the
 * container to read; this sends none.
 */
const attach = (docker: Docker, { id }: Docker.Container) =>
  Effect.callback<Duplex, SandboxError>((resume) =>
    docker.modem.dial(
      {
        path: `/containers/${id}/attach?`,
        method: "POST",
        isStream: true,
        hijack: true,
        file: Buffer.alloc(0),
        statusCodes: { 200: true },
        options: { stream: true, stdin: true, stdout: true, stderr: true }
      },
      (cause, line) => {
        if (line instanceof Duplex) resume(Effect.succeed(line))
        else resume(Effect.fail(unavailable(cause ?? "it does not attach to containers")))
      }
    )
  )

// A connection kept for later may be one that the engine has closed meanwhile.
const connect = ({ socketPath }: Options): Docker =>
  new Docker({ headers: { Connection: "close" }, ...(socketPath === undefined ? {} : { socketPath }) })

/** Removes a container. Gone already is what is asked for. */
const remove = (container: Docker.Container) =>
  Effect.tryPromise({
    try: () => container.remove({ force: true }),
    catch: (cause) => ({ status: statusOf(cause), error: unavailable(cause) })
  }).pipe(Effect.catch(({ error, status }) => (status === 404 || status === 409 ? Effect.void : Effect.fail(error))))

/** Takes away what a claw left that was killed: containers that were not started yet, and those that were paused. */
const reap = Effect.fnUntraced(function* (docker: Docker, claw: string, boot: string) {
  const filters = { label: [`effect-claw.claw=${claw}`] }
  const found = yield* engine(() => docker.listContainers({ all: true, filters }))
  const left = found.filter(({ Labels }) => Labels["effect-claw.boot"] !== boot)
  yield* Effect.forEach(left, ({ Id }) => remove(docker.getContainer(Id)), { concurrency: 8, discard: true })
})

/** Whether an engine answers, within ten seconds: a busy one takes a while. */
export const isAvailable = (options: Options = {}): Effect.Effect<boolean> =>
  engine(() => connect(options).ping()).pipe(
    Effect.as(true),
    Effect.timeoutOrElse({ duration: "10 seconds", orElse: () => Effect.succeed(false) }),
    Effect.orElseSucceed(() => false)
  )

/**
 * Containers.
 *
 * Provides `Sandbox`, requires nothing; the engine is looked for when the first session is opened. On release all
 * containers are gone. It enforces every part of a spec.
 */
export const layer = (options: Options = {}): Layer.Layer<Sandbox> =>
  Layer.effect(
    Sandbox,
    Effect.gen(function* () {
      const docker = connect(options)
      const building = yield* Semaphore.make(1)
      const boot = randomUUID()

      const requireImage = (image: string) =>
        Effect.tryPromise({
          try: () => docker.getImage(image).inspect(),
          catch: (cause) => ({ status: statusOf(cause), error: unavailable(cause) })
        }).pipe(
          Effect.asVoid,
          Effect.catch(({ error, status }) => {
            if (status !== 404) return Effect.fail(error)
            return image === defaultImage
              ? build(docker, image)
              : Effect.fail(
                  new SandboxError({
                    reason: new ImageMissing({ image, detail: `the image ${image} is missing; pull or build it` })
                  })
                )
          }),
          (effect) => building.withPermit(effect)
        )

      // A session is told of its end after its scope, too.
      const fork = yield* FiberSet.makeRuntime()
      const open = Effect.fn("Sandbox.open")(function* (spec: SandboxSpec) {
        const image = spec.image ?? options.image ?? defaultImage
        const podman = isPodman(yield* answered(engine(() => docker.version())))
        yield* requireImage(image)
        const runnerArguments = yield* engine(() => Inside.prepare(spec))
        const container = yield* answered(
          Effect.acquireRelease(
            engine(() => docker.createContainer(containerOptions(spec, runnerArguments, image, boot, options, podman))),
            (created) => remove(created).pipe(Effect.timeoutOption("10 seconds"), Effect.ignore)
          )
        )
        const line = yield* answered(
          Effect.acquireRelease(attach(docker, container), (attached) => Effect.sync(() => attached.end()))
        )
        // Asked before it is started: one that has ended is removed at once.
        const code = container.wait({ condition: "next-exit" }).then(
          ({ StatusCode }: { readonly StatusCode: unknown }) => StatusCode,
          () => undefined
        )
        const session = Runner.makeSession(`docker:${container.id.slice(0, 12)}`, {
          write: (bytes) => void line.write(bytes),
          close: () => line.end(),
          listen: (onData, onEnd) => {
            const sink = (use: (bytes: Buffer) => void) =>
              new Writable({
                write: (bytes: Buffer, _encoding, done) => {
                  use(bytes)
                  done()
                }
              })
            docker.modem.demuxStream(
              line,
              sink(onData),
              sink(() => {})
            )
            const ended = () =>
              fork(
                Effect.map(
                  Effect.timeoutOption(
                    Effect.promise(() => code),
                    "1 second"
                  ),
                  (told) => onEnd(Option.contains(told, 137) ? Runner.killed : "the sandbox's container ended")
                )
              )
            line.on("end", ended).on("close", ended).on("error", ended)
          }
        })
        const started = yield* Effect.forkChild(session, { startImmediately: true })
        yield* Effect.mapError(
          answered(engine(() => container.start())),
          (error) => Runner.perlMissing(error.message) ?? error
        )
        const lost = () => new SandboxError({ reason: new SessionLost({ detail: "the sandbox's container is gone" }) })
        const resume = Effect.tryPromise({ try: () => container.unpause(), catch: lost })
        return {
          ...(yield* Fiber.join(started)),
          pause: Effect.as(
            engine(() => container.pause()),
            Effect.asVoid(resume)
          )
        }
      })

      return Sandbox.of({
        description: answered(engine(() => docker.version())).pipe(
          Effect.map((version) => `${isPodman(version) ? "Podman" : "Docker"} ${version.Version}`),
          Effect.orElseSucceed(() => "Docker, which does not answer")
        ),
        open,
        reap: (claw) => reap(docker, claw, boot)
      })
    })
  )
