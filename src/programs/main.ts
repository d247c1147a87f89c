/**
 * The command `effect-claw`: runs one of the bundled programs.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"

const usage = `effect-claw              a personal agent at this terminal; with stdin piped, a message per line
effect-claw personal     the same on WhatsApp and Telegram
effect-claw team TEXT    a planner and two specialists answer one question
effect-claw backup FILE  copies the state to a new file, also while a claw runs

ANTHROPIC_API_KEY        talk to Claude; without it a rule-following stand-in answers
ANTHROPIC_BASE_URL       where the Messages API is
CLAW_MODEL               the model's name
CLAW_HOME                where state is kept (default ~/.effect-claw)

For personal:
TELEGRAM_BOT_TOKEN       the bot's, from @BotFather
TELEGRAM_OWNER_ID        the numeric id of its owner
TELEGRAM_API_ROOT        where the Bot API is
WHATSAPP_ENABLED         true: link this claw to an account by a QR code
WHATSAPP_OWNER           the owner's phone number, if the account is not the owner's
WHATSAPP_WEBSOCKET_URL   where WhatsApp is`

const [command, ...rest] = process.argv.slice(2)

const assistant = Effect.promise(() => import("./assistant.ts"))

const program = Effect.gen(function* () {
  switch (command) {
    case undefined:
      return yield* (yield* assistant).program
    case "personal":
      return yield* (yield* Effect.promise(() => import("./personal.ts"))).program
    case "team": {
      const { program } = yield* Effect.promise(() => import("./team.ts"))
      return rest.length === 0 ? yield* fail(`a question is missing\n\n${usage}`) : yield* program(rest.join(" "))
    }
    case "backup": {
      const { backup } = yield* Effect.promise(() => import("../layers/DatabaseSqlite.ts"))
      const [file] = rest
      if (file === undefined) return yield* fail(`a file is missing\n\n${usage}`)
      return yield* backup(yield* (yield* assistant).home, file)
    }
    case "help":
    case "--help":
    case "-h":
      return void process.stdout.write(`${usage}\n`)
    default:
      return yield* fail(`there is no command "${command}"\n\n${usage}`)
  }
})

const fail = (message: string) => Effect.fail({ message })

/** A failure that was foreseen is one line; anything else is shown whole, for a report. */
const report = (cause: Cause.Cause<{ readonly message: string }>) =>
  Effect.sync(() => {
    if (Cause.hasInterruptsOnly(cause)) return
    const failures = cause.reasons.filter(Cause.isFailReason)
    process.stderr.write(
      failures.length > 0
        ? failures.map(({ error }) => `effect-claw: ${error.message}\n`).join("")
        : `${Cause.pretty(cause)}\n`
    )
  })

program.pipe(
  Effect.tapCause(report),
  Effect.provide(Logger.layer([Logger.consolePretty({ mode: "tty" })])),
  Effect.provideService(Logger.LogToStderr, true),
  NodeRuntime.runMain({ disableErrorReporting: true })
)
