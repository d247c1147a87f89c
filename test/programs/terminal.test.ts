/**
 * The assistant at a terminal: what a person types, and what they see.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { globSync } from "node:fs"
import { join } from "node:path"
import { containersOn, describeWithEngine } from "../support/engine.ts"
import * as MessagesServer from "../support/MessagesServer.ts"
import * as Program from "../support/program.ts"

const { ctrlA, ctrlC, ctrlD, enter, up } = Program.key
const { answer, use } = MessagesServer

/** An empty prompt at the bottom of the screen. */
const prompt = /(^|\n)›$/

/** Starts it, and waits until it has said what it has to say, and shows its prompt. */
const open = Effect.fnUntraced(function* (options: Partial<Program.Options> = {}) {
  const terminal = yield* Program.startAtTerminal({ home: yield* Program.home, ...options })
  yield* terminal.see(/commands run in [^]*\n›$/)
  return terminal
})

/** The lines from the last one that starts so. */
const from = (lines: ReadonlyArray<string>, start: string) =>
  lines.slice(lines.findLastIndex((line) => line.startsWith(start)))

const test = it.live.skipIf(!Program.hasTerminal)

describe.concurrent("the assistant at a terminal", Program.slow, () => {
  test("answers, and a reminder stands above the line that is being typed", () =>
    Effect.gen(function* () {
      const terminal = yield* open()
      yield* terminal.write(`remind me in 2 seconds to stretch${enter}`)
      yield* terminal.see(/scheduled [^]*\n›$/)
      yield* terminal.write("run: echo half")
      const seen = yield* terminal.see(/Reminder: stretch\n› run: echo half$/)
      assert.deepStrictEqual(from(seen, "Reminder"), ["Reminder: stretch", "› run: echo half"])
      yield* terminal.write(` typed${enter}`)
      assert.deepStrictEqual(from(yield* terminal.see(/\nhalf typed\n›$/), "Reminder"), [
        "Reminder: stretch",
        "› run: echo half typed",
        "half typed",
        "›"
      ])
    }))

  test("so it does when the line that is being typed is longer than the screen is wide", () =>
    Effect.gen(function* () {
      const terminal = yield* open()
      const long = `run: echo ${"long ".repeat(40)}end`
      yield* terminal.write(`${long}${enter}`)
      yield* terminal.see(/\nlong long [^]*end\n›$/)
      yield* terminal.write(`remind me in 2 seconds to stretch${enter}`)
      const before = yield* terminal.see(/scheduled [^]*\n›$/)
      yield* terminal.write(up + up)
      const seen = yield* terminal.see(/\nReminder: stretch\n› run: echo long [^]*end$/)
      assert.deepStrictEqual(seen.slice(0, before.length), [...before.slice(0, -1), "Reminder: stretch"])
      assert.strictEqual(seen.slice(before.length).join("").replaceAll(" ", ""), `›${long.replaceAll(" ", "")}`)
    }))

  test("lines can be edited and recalled", () =>
    Effect.gen(function* () {
      const terminal = yield* open()
      yield* terminal.write(`un: echo one${ctrlA}`)
      yield* terminal.see(/\n› un: echo one$/)
      yield* terminal.write("r")
      yield* terminal.see(/\n› run: echo one$/)
      yield* terminal.write(enter)
      yield* terminal.see(/\none\n›$/)
      yield* terminal.write(`run: echo two${enter}`)
      yield* terminal.see(/\ntwo\n›$/)
      yield* terminal.write(up + up)
      yield* terminal.see(/\n› run: echo one$/)
      yield* terminal.write(` more${enter}`)
      assert.deepStrictEqual(from(yield* terminal.see(/\none more\n›$/), "› run: echo one more"), [
        "› run: echo one more",
        "one more",
        "›"
      ])
    }))

  test("a line that is typed while it works is kept, and answered next", () =>
    Effect.gen(function* () {
      const terminal = yield* open()
      yield* terminal.write(`run: sleep 1; echo one${enter}`)
      yield* terminal.see(/bash: sleep 1; echo one$/)
      yield* terminal.write(`run: echo two${enter}`)
      const seen = yield* terminal.see(/\none\n([^]*\n)?two\n›$/)
      assert.include(seen, "› run: echo two")
    }))

  test("Ctrl-C clears a line, and at an empty prompt asks for a second one before it leaves", () =>
    Effect.gen(function* () {
      const terminal = yield* open()
      yield* terminal.write("never mind")
      yield* terminal.see(/\n› never mind$/)
      yield* terminal.write(ctrlC)
      yield* terminal.see(prompt)
      yield* terminal.write(ctrlC)
      yield* terminal.see(/\n\(Ctrl-C again to leave\)\n›$/)
      yield* terminal.write(ctrlC)
      assert.strictEqual((yield* terminal.ended).code, 0)
      const lines = yield* terminal.lines
      assert.notInclude(lines.at(-1), "›", "no prompt is left behind")
    }))

  test("what a command prints controls no terminal", () =>
    Effect.gen(function* () {
      const terminal = yield* open()
      const before = yield* terminal.lines
      yield* terminal.write(`run: printf 'a\\033[2J\\033[1;1Hb\\033]0;title\\007\\rc'${enter}`)
      const seen = yield* terminal.see(/\na[^]*c\n›$/)
      assert.deepStrictEqual(seen.slice(0, before.length - 1), before.slice(0, -1))
      assert.deepStrictEqual(seen.slice(-2), ["a[2J[1;1Hb]0;titlec", "›"])
    }))

  test("Ctrl-D leaves", () =>
    Effect.gen(function* () {
      const terminal = yield* open()
      yield* terminal.write(ctrlD)
      assert.strictEqual((yield* terminal.ended).code, 0)
    }))

  test("a reply streams, a spinner shows the tool that runs, and what was streamed stays once", () =>
    Effect.gen(function* () {
      const server = yield* MessagesServer.MessagesServer
      const seen = yield* Deferred.make<void>()
      yield* server.script(
        answer([MessagesServer.text("Let me look."), use("bash", { command: "sleep 1; echo 42" })]),
        answer("The answer is 42, and it has been for a long time.", { halfway: Deferred.await(seen) })
      )
      const terminal = yield* open({ env: { ANTHROPIC_API_KEY: "sk-ant-test", ANTHROPIC_BASE_URL: server.url } })
      yield* terminal.write(`what is the answer?${enter}`)
      yield* terminal.see(/\nLet me look\.\n\S bash: sleep 1; echo 42$/)
      const half = yield* terminal.see(/\nThe answer is 42/)
      assert.notInclude(half.join("\n"), "a long time")
      yield* Deferred.succeed(seen, undefined)
      assert.deepStrictEqual(from(yield* terminal.see(/long time\.\n›$/), "› what"), [
        "› what is the answer?",
        "Let me look.",
        "The answer is 42, and it has been for a long time.",
        "›"
      ])
    }).pipe(Effect.provide(MessagesServer.layer())))

  test("a reply that is cut off in the middle is marked, and written anew", () =>
    Effect.gen(function* () {
      const server = yield* MessagesServer.MessagesServer
      const seen = yield* Deferred.make<"cut">()
      yield* server.script(answer("Once upon a time", { halfway: Deferred.await(seen) }), answer("Once upon a time."))
      const terminal = yield* open({ env: { ANTHROPIC_API_KEY: "sk-ant-test", ANTHROPIC_BASE_URL: server.url } })
      yield* terminal.write(`tell me a story${enter}`)
      yield* terminal.see(/\nOnce/)
      yield* Deferred.succeed(seen, "cut")
      const told = from(yield* terminal.see(/Once upon a time\.\n›$/), "› tell")
      assert.lengthOf(
        told.filter((line) => line === "Once upon a time."),
        1
      )
      assert.match(told[1] ?? "", /^Once.* …$/)
    }).pipe(Effect.provide(MessagesServer.layer())))
})

describe("a call that needs approval, at a terminal", Program.slow, () => {
  const command = [process.execPath, "--conditions=source", join(Program.root, "test/support/careful.ts")] as const
  const question = /May I call "bash"\? Answer \/approve (\w{4}) or \/deny \1 within a day\.\n```\n[^]*```\n›$/

  test("is asked about above the prompt, and made when it is approved", () =>
    Effect.gen(function* () {
      const terminal = yield* Program.startAtTerminal({ home: yield* Program.home, command })
      yield* terminal.see(/ready\n›$/)
      yield* terminal.write(`run: sleep 1; echo paid${enter}`)
      yield* terminal.see(question)
      yield* terminal.write(`/approve${enter}`)
      // The turn goes on in sight.
      yield* terminal.see(/Approved: "bash"\.\n\S bash: sleep 1; echo paid$/)
      assert.deepStrictEqual(from(yield* terminal.see(/\npaid\n›$/), "› /approve"), [
        "› /approve",
        'Approved: "bash".',
        "paid",
        "›"
      ])
    }))

  test("is still asked about when it is started again", () =>
    Effect.gen(function* () {
      const home = yield* Program.home
      const before = yield* Program.startAtTerminal({ home, command })
      yield* before.see(/ready\n›$/)
      yield* before.write(`run: echo paid${enter}`)
      yield* before.see(question)
      yield* before.write(ctrlD)
      assert.strictEqual((yield* before.ended).code, 0)
      const terminal = yield* Program.startAtTerminal({ home, command })
      yield* terminal.see(/ready\n›$/)
      yield* terminal.write(`/deny${enter}`)
      yield* terminal.see(/Denied: "bash"\.\n[^]*The person denied this call\.\n›$/)
    }))

  it.live("at a pipe each line is answered before the next is read, a yes by what was approved", () =>
    Effect.gen(function* () {
      const input = ["run: sleep 1; echo one", "/approve", "run: echo two", "/deny", "/approve", ""].join("\n")
      const { code, stdout } = yield* Program.run({ home: yield* Program.home, command, input })
      assert.strictEqual(code, 0)
      assert.deepStrictEqual(
        stdout
          .split("\n")
          .filter((line) => /^(May|Approved|Denied|one|two|There|That)/.test(line))
          .map((line) => line.split(/[ :]/)[0]),
        ["May", "Approved", "one", "May", "Denied", "That", "There"],
        stdout
      )
    })
  )
})

describe("a reply that stalls", Program.slow, () => {
  test("is stopped by Ctrl-C, its request closed, and the next one comes", () =>
    Effect.gen(function* () {
      const server = yield* MessagesServer.MessagesServer
      const terminal = yield* open({ env: { ANTHROPIC_API_KEY: "sk-ant-test", ANTHROPIC_BASE_URL: server.url } })
      yield* terminal.write(`tell me a story${enter}`)
      yield* terminal.see(/\nOnce/)
      yield* terminal.write(ctrlC)
      yield* terminal.see(/\nOnce.*\nStopped\.\n›$/)
      assert.strictEqual(yield* (yield* server.request(1)).ended, "closed by client")
      yield* terminal.write(`a short one${enter}`)
      yield* terminal.see(/\n› a short one\nThe end\.\n›$/)
    }).pipe(
      Effect.provide(MessagesServer.layer([answer("Once upon a time", { halfway: "stall" }), answer("The end.")]))
    ))
})

describeWithEngine("Ctrl-C at a terminal, while a command runs", () => {
  const begin = Effect.fnUntraced(function* (home: string) {
    const terminal = yield* open({ home })
    yield* terminal.write(`run: touch begun; sleep 100; touch late${enter}`)
    yield* Effect.repeat(
      Effect.delay(
        Effect.sync(() => globSync("workspaces/assistant/*/begun", { cwd: home }).length),
        "50 millis"
      ),
      { until: (found) => found === 1 }
    )
    return terminal
  })

  test("stops the turn, and the prompt comes back", () =>
    Effect.gen(function* () {
      const terminal = yield* begin(yield* Program.home)
      const asked = yield* Clock.currentTimeMillis
      yield* terminal.write(ctrlC)
      yield* terminal.see(/\nStopped\.\n›$/)
      assert.isBelow((yield* Clock.currentTimeMillis) - asked, 2000)
      yield* terminal.write(`run: sleep 1; ls; grep -l sleep /proc/[0-9]*/comm${enter}`)
      assert.notInclude(yield* terminal.see(/\nbegun\n([^]*\n)?›$/), "late")
    }))

  test("twice leaves, and nothing of it is left", () =>
    Effect.gen(function* () {
      const home = yield* Program.home
      const terminal = yield* begin(home)
      assert.lengthOf(yield* Effect.promise(() => containersOn(home)), 1)
      const asked = yield* Clock.currentTimeMillis
      yield* terminal.write(ctrlC + ctrlC)
      assert.strictEqual((yield* terminal.ended).code, 0)
      assert.isBelow((yield* Clock.currentTimeMillis) - asked, 3000)
      assert.deepStrictEqual(yield* Effect.promise(() => containersOn(home)), [])
      const { code, stdout } = yield* Program.run({ home, input: "run: ls\n" })
      assert.strictEqual(code, 0)
      assert.match(stdout, /(^|\n)begun\n$/)
    }))
})
