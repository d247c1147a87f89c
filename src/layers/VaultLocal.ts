/**
 * A vault of this machine: secrets from the environment, from files, or from a command such as a keychain's.
 *
 * They are read once, when the claw starts. What the claw logs and traces is masked by them.
 */
import * as Cause from "effect/Cause"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Formatter from "effect/Formatter"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Tracer from "effect/Tracer"
import { execFile } from "node:child_process"
import { readFile } from "node:fs/promises"
import { promisify } from "node:util"
import * as Leaks from "../services/Leaks.ts"
import { isName, SecretMissing, shortest, Vault, VaultError } from "../services/Vault.ts"

/** Where a secret comes from. Line breaks at its end are no part of it. */
export type Source =
  | { readonly environment: string }
  | { readonly file: string }
  /** A program and its arguments, whose output is the secret; no shell reads them. It has 30 seconds, to ask its owner. */
  | { readonly command: readonly [program: string, ...args: ReadonlyArray<string>] }

/** The variable of the environment. */
export const environment = (name: string): Source => ({ environment: name })

/** The file, whose content is the secret. */
export const file = (path: string): Source => ({ file: path })

/** The command, such as `security find-generic-password -w -s github` or `secret-tool lookup service github`. */
export const command = (...command: readonly [program: string, ...args: ReadonlyArray<string>]): Source => ({ command })

const read = Effect.fnUntraced(function* (secret: string, source: Source) {
  const missing = (detail: string) => new VaultError({ secret, reason: new SecretMissing({ detail }) })
  if (!isName(secret)) return yield* missing("its name is none for an environment variable, such as GITHUB_TOKEN")
  const written =
    "environment" in source
      ? yield* Effect.mapError(Config.String(source.environment), () =>
          missing(`the environment has no variable ${source.environment}`)
        )
      : "file" in source
        ? yield* Effect.tryPromise({
            try: () => readFile(source.file, "utf8"),
            catch: (cause) => missing(`${source.file} cannot be read (${codeOf(cause)})`)
          })
        : yield* Effect.tryPromise({
            try: (signal) =>
              run(source.command[0], source.command.slice(1), { signal, timeout: 30_000, killSignal: "SIGKILL" }),
            // What the command printed may be of the secret.
            catch: (cause) => missing(`the command ${source.command[0]} fails (${codeOf(cause)})`)
          }).pipe(Effect.map(({ stdout }) => stdout))
  const value = written.replace(/[\r\n]+$/, "")
  if (/[\p{Cc}\ufeff]/u.test(value)) return yield* missing("it has more than one line, or a character that is none")
  if (value.trim().length < shortest) return yield* missing(`it has less than ${shortest} characters`)
  return [secret, Redacted.make(value, { label: secret })] as const
})

const run = promisify(execFile)

const codeOf = (cause: unknown): string =>
  cause instanceof Error && "code" in cause && (typeof cause.code === "string" || typeof cause.code === "number")
    ? `${cause.code}`
    : "it was ended"

/** A logger that says what another says, without secrets. */
const masked = <Output>(
  logger: Logger.Logger<unknown, Output>,
  { mask }: Leaks.Leaks
): Logger.Logger<unknown, Output> =>
  Logger.make((options) => {
    const pretty = options.cause.reasons.length === 0 ? "" : Cause.pretty(options.cause)
    const shown = mask(pretty)
    const message = hidden(options.message, mask)
    // A cause that holds a secret is told as text.
    if (shown === pretty) return logger.log({ ...options, message })
    return logger.log({ ...options, message: [message, shown].flat(), cause: Cause.empty })
  })

/** A tracer whose spans are told no secrets: by attributes, by events, by the errors that they end with. */
const maskedTracer = (tracer: Tracer.Tracer, { mask }: Leaks.Leaks): Tracer.Tracer =>
  Tracer.make({
    ...(tracer.context === undefined ? {} : { context: tracer.context }),
    span: (options) => {
      const span = tracer.span(options)
      const [attribute, event, end] = [span.attribute.bind(span), span.event.bind(span), span.end.bind(span)]
      const attributesOf = (attributes: Record<string, unknown> = {}) =>
        Object.fromEntries(Object.entries(attributes).map(([key, value]) => [key, hidden(value, mask)]))
      // It stays the span that its tracer made, which may know its own.
      return Object.assign(span, {
        attribute: (key: string, value: unknown) => attribute(key, hidden(value, mask)),
        event: (name: string, at: bigint, attributes?: Record<string, unknown>) =>
          event(mask(name), at, attributesOf(attributes)),
        end: (at: bigint, exit: Exit.Exit<unknown, unknown>) => {
          const pretty = Exit.isFailure(exit) ? Cause.pretty(exit.cause) : ""
          const shown = mask(pretty)
          end(at, shown === pretty ? exit : Exit.fail(Object.assign(new Error(shown), { stack: shown })))
        }
      })
    }
  })

/** What is no text is left as it is, unless there is a secret in it. */
const hidden = (message: unknown, mask: (text: string) => string): unknown => {
  if (Array.isArray(message)) return message.map((part) => hidden(part, mask))
  const written =
    typeof message === "string"
      ? message
      : message instanceof Error
        ? (message.stack ?? message.message)
        : Formatter.format(message)
  const shown = mask(written)
  return typeof message === "string" || shown !== written ? shown : message
}

/**
 * The vault.
 *
 * Provides `Vault`, and loggers and a tracer that mask its secrets to all that it is provided to; requires nothing. Holds
 * nothing to release.
 */
export const layer = (secrets: Readonly<Record<string, Source>>): Layer.Layer<never, VaultError> =>
  Layer.effectContext(
    Effect.gen(function* () {
      const vault = new Map(yield* Effect.forEach(Object.entries(secrets), ([name, source]) => read(name, source)))
      const leaks = Leaks.make(vault)
      const loggers = [...(yield* Logger.CurrentLoggers)].map((logger) => masked(logger, leaks))
      const tracer = yield* Tracer.Tracer
      return Context.make(Vault, vault).pipe(
        Context.add(Logger.CurrentLoggers, new Set(loggers)),
        // Its spans go nowhere, and it is known by that.
        Context.add(Tracer.Tracer, tracer === Tracer.nativeTracer ? tracer : maskedTracer(tracer, leaks))
      )
    })
  )
