/**
 * Egress through a proxy in the claw's process.
 *
 * Each session has a socket of its own, so the proxy knows who asks. A request is held to the session's rules; then its
 * host's name is resolved, once, all of its addresses are judged, and one of these is dialled. Redirects are not followed:
 * where they lead is asked for anew. TLS ends here for hosts whose rules make the proxy read, and for no other.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Semaphore from "effect/Semaphore"
import { lookup } from "node:dns/promises"
import { once } from "node:events"
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises"
import { connect, isIP, type Socket } from "node:net"
import { join, resolve } from "node:path"
import * as tls from "node:tls"
import { Audit } from "../services/Audit.ts"
import { admits, Egress, EgressError, isRead, ProxyFailed, type Rule, SecretUnknown } from "../services/Egress.ts"
import * as Leaks from "../services/Leaks.ts"
import { placeholder, Vault } from "../services/Vault.ts"
import * as Addresses from "./internal/addresses.ts"
import * as Credentials from "./internal/credentials.ts"
import * as InTurn from "./internal/inTurn.ts"
import * as ProxyServer from "./internal/proxyServer.ts"

/** Bounds of what a session may ask for. */
export interface Limits {
  /** Bytes of a request's body, or of what a tunnel sends. Default 64 MiB. */
  readonly sent?: number
  /** Bytes of a response's body, or of what a tunnel receives. Default 1 GiB. */
  readonly received?: number
  /** Time of a request or a tunnel. Default 10 minutes. */
  readonly time?: Duration.Input
  /** Requests and tunnels that begin in one minute. Default 3,000. */
  readonly perMinute?: number
  /** Connections at once, more of which are closed; and requests at once, more of which wait. Default 64. */
  readonly connections?: number
}

/** Where the proxy keeps its authority and its sockets, and what it trusts. */
export interface Options {
  /** The claw's state folder, in which the proxy has the folder `egress`. */
  readonly directory: string
  /** Certificates to trust beside the public ones, as PEM: by the proxy, and inside. Default none. */
  readonly authorities?: ReadonlyArray<string>
  /** The addresses of a host. Default: the system's resolver. */
  readonly lookup?: (host: string) => Promise<ReadonlyArray<string>>
  readonly limits?: Limits
}

/** The most bytes of a socket's path, by the kernels of Linux (107) and macOS (103). */
const longestPath = 103

const failed = (cause: unknown) =>
  new EgressError({ reason: new ProxyFailed({ detail: cause instanceof Error ? cause.message : String(cause) }) })

const tried = <A>(use: () => Promise<A>): Effect.Effect<A, EgressError> =>
  Effect.tryPromise({ try: use, catch: failed })

/** The address that is connected to first, in their order. */
const connected = async (addresses: ReadonlyArray<string>, port: number, signal: AbortSignal): Promise<Socket> => {
  const [host, ...others] = addresses
  const socket = connect({ host, port, noDelay: true })
  try {
    await once(socket, "connect", { signal })
    return socket
  } catch (cause) {
    socket.destroy()
    if (others.length === 0 || signal.aborted) throw cause
    return connected(others, port, signal)
  }
}

/** Removes the folders of sessions that no process listens to any more, and nothing else that may be there. */
const sweep = async (directory: string) => {
  const entries = await readdir(directory, { withFileTypes: true })
  await Promise.all(
    entries.map(async (entry) => {
      if (!entry.isDirectory() || !/^s[A-Za-z0-9]{6}$/.test(entry.name)) return
      const folder = join(directory, entry.name)
      const files = await readdir(folder)
      if (files.some((file) => file !== "proxy.sock" && file !== "authorities.pem")) return
      const socket = connect(join(folder, "proxy.sock"))
      const isAlive = await once(socket, "connect").then(
        () => true,
        () => false
      )
      socket.destroy()
      if (!isAlive) await rm(folder, { recursive: true, force: true })
    })
  )
}

/**
 * The proxy.
 *
 * Provides `Egress`; requires nothing, takes secrets from `Vault` and records with `Audit`. Removes what a claw that was
 * killed left of sockets. On release every connection is cut and every socket gone; the authority stays.
 */
export const layer = (options: Options): Layer.Layer<Egress, EgressError> =>
  Layer.effect(
    Egress,
    Effect.gen(function* () {
      const vault = yield* Vault
      const audit = yield* Audit
      const { connections = 64, perMinute = 3000, received = 1024 ** 3, sent = 64 * 1024 * 1024 } = options.limits ?? {}
      const time = Duration.fromInputUnsafe(options.limits?.time ?? "10 minutes")
      const directory = resolve(options.directory, "egress")
      const trusted = [...tls.getCACertificates("default"), ...(options.authorities ?? [])]
      // Read once: there are hundreds.
      const secureContext = tls.createSecureContext({ ca: trusted })
      const systems = (host: string) => lookup(host, { all: true }).then((all) => all.map(({ address }) => address))
      // The system's resolver has few threads, of which the claw itself needs some.
      const toResolve = InTurn.make()
      const addressesOf = (host: string, signal: AbortSignal) =>
        Promise.race([
          toResolve(() => (signal.aborted ? Promise.resolve([]) : (options.lookup ?? systems)(host))),
          once(signal, "abort").then(() => Promise.reject(signal.reason))
        ])
      const inTurn = InTurn.make()
      const leaksBut = (secret: string | undefined) =>
        Leaks.make(new Map([...vault].filter(([name]) => name !== secret)))
      const now = yield* Clock.currentTimeMillis
      yield* tried(() => mkdir(directory, { recursive: true, mode: 0o700 }))
      yield* tried(() => sweep(directory))
      // Most claws have no rule that makes the proxy read, and need no certificates.
      const authority = yield* Effect.cached(
        tried(async () => (await import("./internal/authority.ts")).open(directory, now))
      )

      const dialler =
        (rules: ReadonlyArray<Rule>): ProxyServer.Session["dial"] =>
        async (host, port, secure, given) => {
          const signal = AbortSignal.any([AbortSignal.timeout(10_000), ...(given === undefined ? [] : [given])])
          const addresses = isIP(host) === 0 ? await addressesOf(host, signal) : [host]
          const except = rules.flatMap((rule) => (admits([rule], { host, port }) === undefined ? [] : rule.addresses))
          const bad = Addresses.forbidden(addresses, except)
          if (bad !== undefined)
            throw new ProxyServer.Refused(403, `${host} has the address ${bad}, which is not public`)
          if (addresses.length === 0) throw new ProxyServer.Refused(502, `${host} has no address`)
          const socket = await connected(addresses, port, signal)
          if (!secure) return socket
          const servername = isIP(host) === 0 ? host : ""
          const secured = tls.connect({
            socket,
            host,
            servername,
            secureContext,
            ALPNProtocols: ["http/1.1"],
            rejectUnauthorized: true
          })
          try {
            await once(secured, "secureConnect", { signal })
            return secured
          } catch (cause) {
            secured.destroy()
            throw cause
          }
        }

      const secretOf = ({ secret }: Rule) => (secret === undefined ? undefined : vault.get(secret))
      const check = Effect.fnUntraced(function* (rules: ReadonlyArray<Rule>) {
        for (const { addresses, host } of rules) {
          const wrong = addresses.find((address) => !Addresses.isNetwork(address))
          if (wrong !== undefined) return yield* failed(`the rule for ${host} has the address ${wrong}, which is none`)
        }
        const rule = rules.find((rule) => rule.secret !== undefined && secretOf(rule) === undefined)
        if (rule === undefined) return
        const detail = `the rule for ${rule.host} names the secret ${rule.secret}, which the vault does not have; give it to the vault, or take it from the rule`
        return yield* new EgressError({ reason: new SecretUnknown({ detail }) })
      })

      return Egress.of({
        check,
        open: Effect.fn("Egress.open")(function* ({ agent, conversation, rules }) {
          yield* check(rules)
          const credentials = new Map<Rule, Credentials.Credential>()
          for (const rule of rules) {
            const secret = secretOf(rule)
            if (secret !== undefined) credentials.set(rule, Credentials.credential(rule, Redacted.value(secret)))
          }
          const signer = rules.some(isRead) ? yield* authority : undefined
          const folder = yield* Effect.acquireRelease(
            tried(() => mkdtemp(join(directory, "s"))),
            (folder) => Effect.promise(() => rm(folder, { recursive: true, force: true }))
          )
          const path = join(folder, "proxy.sock")
          if (Buffer.byteLength(path) > longestPath) {
            const detail = `the path ${path} is too long for a socket; give the proxy a shorter directory`
            return yield* new EgressError({ reason: new ProxyFailed({ detail }) })
          }
          const certificates = [...(signer === undefined ? [] : [signer.certificate]), ...trusted]
          yield* tried(() => writeFile(join(folder, "authorities.pem"), `${certificates.join("\n")}\n`))
          yield* tried(() => chmod(folder, 0o755))

          const fork = yield* FiberSet.makeRuntime()
          // One connection may send many requests before it reads an answer.
          const turns = yield* Semaphore.make(connections)
          const leaks = new Map([undefined, ...rules.map(({ secret }) => secret)].map((name) => [name, leaksBut(name)]))
          const { mask } = leaksBut(undefined)
          const minute = { begun: 0, requests: 0 }
          const count = Effect.gen(function* () {
            const at = Math.floor((yield* Clock.currentTimeMillis) / 60_000)
            if (at !== minute.begun) Object.assign(minute, { begun: at, requests: 0 })
            if (++minute.requests > perMinute) {
              return yield* Effect.fail(new ProxyServer.Refused(429, `more than ${perMinute} requests in a minute`))
            }
          })

          const server = ProxyServer.make({
            rules,
            limits: { sent, received },
            dial: dialler(rules),
            inTurn,
            contextFor: (host) =>
              signer === undefined ? Promise.reject(new Error("no authority")) : signer.contextFor(host),
            credentialOf: (rule) => credentials.get(rule),
            leaksOf: ({ secret }) => leaks.get(secret) ?? leaksBut(undefined),
            attend: ({ method, target }, work, refuse) => {
              const counted: ProxyServer.Count = { sent: 0, received: 0 }
              const record = (refusal: string | undefined) =>
                audit({
                  _tag: "Request",
                  agent,
                  conversation,
                  method,
                  target: mask(target.slice(0, 2000)),
                  refusal: refusal === undefined ? undefined : mask(refusal),
                  ...counted
                })
              fork(
                Effect.andThen(
                  count,
                  turns.withPermit(
                    Effect.tryPromise({
                      try: (signal) => work(counted, signal),
                      catch: (cause) =>
                        cause instanceof ProxyServer.Refused
                          ? cause
                          : new ProxyServer.Refused(502, cause instanceof Error ? cause.message : String(cause))
                    })
                  )
                ).pipe(
                  Effect.timeoutOrElse({
                    duration: time,
                    orElse: () =>
                      Effect.fail(new ProxyServer.Refused(504, `it took longer than ${Duration.format(time)}`))
                  }),
                  Effect.matchEffect({
                    onSuccess: () => record(undefined),
                    onFailure: (refused) =>
                      Effect.andThen(
                        Effect.sync(() => refuse(refused)),
                        record(refused.message)
                      )
                  }),
                  Effect.onInterrupt(() => Effect.sync(() => refuse(new ProxyServer.Refused(503, "the session ended"))))
                )
              )
            }
          })
          server.maxConnections = connections
          const sockets = new Set<Socket>()
          server.on("connection", (socket) => {
            sockets.add(socket)
            socket.once("close", () => sockets.delete(socket))
          })
          server.requestTimeout = Duration.toMillis(time)
          yield* Effect.acquireRelease(
            tried(async () => {
              server.listen(path)
              await once(server, "listening")
              // Whoever may look into the folder above may connect: the session's user is not the claw's.
              await chmod(path, 0o666)
            }),
            () =>
              Effect.sync(() => {
                server.close()
                // Tunnels, too, which a server forgets.
                sockets.forEach((socket) => socket.destroy())
              })
          )
          const environment = Object.fromEntries(
            rules.flatMap(({ secret }) => (secret === undefined ? [] : [[secret, placeholder(secret)]]))
          )
          return { folder, environment }
        })
      })
    })
  )
