/**
 * The assistant with its stdin piped: `npm start`, as a script would use it.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { execFileSync } from "node:child_process"
import { existsSync, globSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { cases } from "../contracts/cases.ts"
import { containersOn, describeWithEngine } from "../support/engine.ts"
import * as Program from "../support/program.ts"

/** Says some lines and returns what was answered. */
const say = Effect.fnUntraced(function* (home: string, ...lines: ReadonlyArray<string>) {
  const { code, stderr, stdout } = yield* Program.run({ home, input: lines.map((line) => `${line}\n`).join("") })
  assert.strictEqual(code, 0, stderr)
  return stdout
})

const firstPrompt = "run: echo hello > a.txt && cat a.txt\nread a.txt\n"

describe.concurrent("the assistant at a pipe", Program.slow, () => {
  it.live("answers each line, and finds its files again", () =>
    Effect.gen(function* () {
      const home = yield* Program.home
      for (const _ of [1, 2]) {
        const { code, stdout } = yield* Program.run({ home, input: firstPrompt })
        assert.deepStrictEqual([code, stdout], [0, "hello\nhello\n"])
      }
      assert.strictEqual(yield* say(home, "read a.txt"), "hello\n")
    })
  )

  it.live("does so by npm start, whatever Node the shell has", () =>
    Effect.gen(function* () {
      const { code, stderr, stdout } = yield* Program.run({
        home: yield* Program.home,
        command: ["npm", "start", "--silent"],
        input: firstPrompt
      })
      assert.deepStrictEqual([code, stdout], [0, "hello\nhello\n"], stderr)
    })
  )

  it.live("does so without a container engine too, and says what it has instead", () =>
    Effect.gen(function* () {
      const { code, stderr, stdout } = yield* Program.run({
        home: yield* Program.home,
        env: { DOCKER_HOST: "unix:///nowhere/docker.sock" },
        input: firstPrompt
      })
      assert.deepStrictEqual([code, stdout], [0, "hello\nhello\n"])
      assert.match(
        stderr,
        /^commands run in (?:a virtual shell|namespaces, with this machine.s programs): no container engine answers/m
      )
    })
  )

  for (const { input, name } of cases(
    "formatting",
    Schema.Struct({
      name: Schema.String,
      input: Schema.Struct({ timeZone: Schema.String }),
      expect: Schema.Struct({ error: Schema.Literal("TimeZone") })
    })
  )) {
    it.live(name, () =>
      Effect.gen(function* () {
        const env = { TZ: input.timeZone }
        const { code, stderr, stdout } = yield* Program.run({ home: yield* Program.home, env, input: "hi\n" })
        assert.notStrictEqual(code, 0)
        assert.strictEqual(stdout, "")
        assert.match(stderr, /the time zone is none that is known; set TZ/)
      })
    )
  }

  it.live("says in its first line that no model answers, and how to get one", () =>
    Effect.gen(function* () {
      const { stderr, stdout } = yield* Program.run({ home: yield* Program.home, input: "" })
      assert.strictEqual(stdout, "")
      assert.match(stderr.split("\n", 1)[0] ?? "", /stand-in.*set ANTHROPIC_API_KEY/)
    })
  )

  it.live("writes, reads, lists and searches files", () =>
    Effect.gen(function* () {
      const told = yield* say(
        yield* Program.home,
        "write notes.txt: buy milk",
        "read notes.txt",
        "list files",
        "search for milk",
        "read nothing.txt"
      )
      assert.deepStrictEqual(told.replaceAll("./", "").split("\n"), [
        "wrote 8 characters to notes.txt",
        "buy milk",
        "notes.txt",
        "notes.txt:1:buy milk",
        "That did not work: nothing.txt: no such file or directory",
        ""
      ])
    })
  )

  it.live("remembers, and still knows after a restart", () =>
    Effect.gen(function* () {
      const home = yield* Program.home
      yield* say(home, "remember that I like green tea")
      assert.match(yield* say(home, "what do you know about tea?"), /^1\. I like green tea/)
    })
  )

  it.live("keeps what is scheduled over a restart", () =>
    Effect.gen(function* () {
      const home = yield* Program.home
      assert.match(yield* say(home, "remind me every weekday at eight to stand up"), /"stand up", cron 0 8 \* \* 1-5/)
      assert.match(yield* say(home, "list tasks"), /"stand up", cron 0 8 \* \* 1-5/)
    })
  )

  it.live("asks two specialists at once, each with files of its own", () =>
    Effect.gen(function* () {
      const home = yield* Program.home
      const told = yield* say(
        home,
        "write a.txt: the assistant's",
        "ask coder: write a.txt: the coder's",
        "ask researcher and coder: read a.txt",
        "read a.txt"
      )
      assert.deepStrictEqual(told.split("\n").slice(2), [
        "## researcher",
        "That did not work: a.txt: no such file or directory",
        "",
        "## coder",
        "That did not work: a.txt: no such file or directory",
        "the assistant's",
        ""
      ])
    })
  )

  it.live("a specialist that is told to do what only the other may is refused", () =>
    Effect.gen(function* () {
      const told = yield* say(yield* Program.home, "ask researcher and coder: run: echo done")
      assert.match(told, /^## researcher\nThat did not work: You have no right to call bash\..*\n\n## coder\ndone\n$/)
    })
  )

  describe("takes whatever it is given:", () => {
    it.live("a message of a megabyte", () =>
      Effect.gen(function* () {
        const home = yield* Program.home
        const told = yield* say(home, `write big.txt: ${"0123456789abcdef".repeat(65_536)}`, "run: wc -c big.txt")
        assert.match(told, /^wrote [\d]+ characters to big\.txt\n[\d]+ big\.txt\n$/)
      })
    )

    it.live("bytes that are no text", () =>
      Effect.gen(function* () {
        const input = Buffer.concat([
          Buffer.from("run: echo a"),
          Buffer.from([0xff, 0xc3]),
          Buffer.from("b\nrun: echo c")
        ])
        const { code, stdout } = yield* Program.run({ home: yield* Program.home, input })
        assert.deepStrictEqual([code, stdout], [0, "a\ufffd\ufffdb\nc\n"])
      })
    )

    it.live("a reader that leaves before the end, which is no reason to leave things half done", () =>
      Effect.gen(function* () {
        const home = yield* Program.home
        const program = yield* Program.start({ home })
        yield* program.write("run: echo one\n")
        yield* program.until(/^one$/m)
        yield* program.leave
        yield* program.write("run: echo two\nwrite done.txt: all of it\n")
        yield* program.end
        assert.strictEqual((yield* program.ended).code, 0)
        assert.strictEqual(yield* say(home, "read done.txt"), "all of it\n")
      })
    )

    it.live("empty lines, carriage returns, and a last line without an end", () =>
      Effect.gen(function* () {
        const { code, stdout } = yield* Program.run({
          home: yield* Program.home,
          input: "\n  \r\nrun: echo one\r\n\nrun: echo two"
        })
        assert.deepStrictEqual([code, stdout], [0, "one\ntwo\n"])
      })
    )
  })
})

describe.concurrent("what is wrong is said in one line, and nothing is lost:", Program.slow, () => {
  /** Runs into a failure and returns what it says of it. */
  const complaint = Effect.fnUntraced(function* (options: Program.Options) {
    const { code, stderr, stdout } = yield* Program.run({ ...options, input: "run: echo hello\n" })
    assert.deepStrictEqual([code, stdout], [1, ""])
    const lines = stderr.split("\n").filter((line) => line.startsWith("effect-claw: "))
    assert.lengthOf(lines, 1, stderr)
    assert.notMatch(stderr, /\n\s+at /, "no stack trace")
    return lines[0] ?? ""
  })

  it.live("a database that is none", () =>
    Effect.gen(function* () {
      const home = yield* Program.home
      const garbage = Buffer.from("this is no database. ".repeat(1000))
      writeFileSync(join(home, "claw.db"), garbage)
      assert.match(
        yield* complaint({ home }),
        /claw\.db cannot be read \(.+\); restore a backup of it, or move it away to begin anew$/
      )
      assert.deepStrictEqual(readFileSync(join(home, "claw.db")), garbage)
    })
  )

  it.live("a database of a newer version", () =>
    Effect.gen(function* () {
      const home = yield* Program.home
      yield* say(home, "remember that I like tea")
      const database = new DatabaseSync(join(home, "claw.db"))
      database.exec("INSERT INTO migrations (migration_id, name) VALUES (9000, 'of a later time')")
      database.close()
      const before = readFileSync(join(home, "claw.db"))
      assert.match(yield* complaint({ home }), /claw\.db was written by a newer effect-claw.*; update effect-claw$/)
      assert.deepStrictEqual(readFileSync(join(home, "claw.db")), before)
    })
  )

  it.live("a folder that cannot be made", () =>
    Effect.gen(function* () {
      const file = join(yield* Program.home, "file")
      writeFileSync(file, "")
      assert.match(
        yield* complaint({ home: join(file, "claw") }),
        /state folder .*ENOTDIR.*; make it writable, or name another folder \(CLAW_HOME/
      )
      if (existsSync("/sys"))
        assert.match(yield* complaint({ home: "/sys/claw" }), /state folder \/sys\/claw: E(PERM|ACCES)/)
    })
  )

  it.live("a database that cannot be opened", () =>
    Effect.gen(function* () {
      const home = yield* Program.home
      mkdirSync(join(home, "claw.db"))
      assert.match(yield* complaint({ home }), /unable to open database file; make it writable/)
    })
  )

  it.live("a second claw on one folder", () =>
    Effect.gen(function* () {
      const home = yield* Program.home
      const first = yield* Program.start({ home })
      yield* first.write("run: echo first\n")
      yield* first.until(/^first$/m)
      assert.match(yield* complaint({ home }), /another claw is running on it; stop that one, or name another folder$/)
      yield* first.write("run: echo still here\n")
      yield* first.until(/^still here$/m)
      yield* first.end
      assert.strictEqual((yield* first.ended).code, 0)
      assert.strictEqual(yield* say(home, "run: echo second"), "second\n")
    })
  )

  it.live("a command that is none, and a question that is missing", () =>
    Effect.gen(function* () {
      const home = yield* Program.home
      assert.strictEqual(yield* complaint({ home, args: ["dance"] }), 'effect-claw: there is no command "dance"')
      assert.strictEqual(yield* complaint({ home, args: ["team"] }), "effect-claw: a question is missing")
    })
  )

  const oldNode = execFileSync("which", ["-a", "node"], { encoding: "utf8" })
    .split("\n")
    .find((node) => node !== "" && /^v(1\d|20|21)\./.test(execFileSync(node, ["--version"], { encoding: "utf8" })))
  if (oldNode === undefined) process.stderr.write("\n*** SKIPPED: an old Node. There is none on the path. ***\n\n")
  it.live.skipIf(oldNode === undefined)("an old Node", () =>
    Effect.gen(function* () {
      const home = yield* Program.home
      const { code, stderr, stdout } = yield* Program.run({ home, command: [oldNode ?? "", Program.bin] })
      assert.deepStrictEqual([code, stdout], [1, ""])
      assert.match(stderr, /^effect-claw needs Node\.js 22\.19 or newer; this is \d+\.\d+\.\d+\.\n$/)
    })
  )
})

/** Looks until it is so. */
const eventually = (look: () => boolean) =>
  Effect.repeat(Effect.delay(Effect.sync(look), "50 millis"), { until: (found) => found })

describeWithEngine("when it is told to end", () => {
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    it.live(`by ${signal}, the running command is killed, its container gone, and everything closed`, () =>
      Effect.gen(function* () {
        const home = yield* Program.home
        const program = yield* Program.start({ home })
        yield* program.write("run: echo begun > begun.txt; sleep 100; echo late > late.txt\n")
        yield* eventually(() => globSync("workspaces/assistant/*/begun.txt", { cwd: home }).length === 1)
        assert.lengthOf(yield* Effect.promise(() => containersOn(home)), 1)
        const asked = yield* Clock.currentTimeMillis
        yield* program.kill(signal)
        const { signal: killedBy, stderr } = yield* program.ended
        assert.isBelow((yield* Clock.currentTimeMillis) - asked, 3000)
        assert.isNull(killedBy)
        assert.notMatch(stderr, /\n\s+at /, "no stack trace")
        assert.deepStrictEqual(yield* Effect.promise(() => containersOn(home)), [])
        // A database that was closed has no log beside it.
        assert.isFalse(existsSync(join(home, "claw.db-wal")))
        const database = new DatabaseSync(join(home, "claw.db"), { readOnly: true })
        assert.deepStrictEqual({ ...database.prepare("PRAGMA integrity_check").get() }, { integrity_check: "ok" })
        database.close()
        // The turn goes on where it was: its command's outcome is unknown, and said to be.
        const told = yield* say(home, "run: ls")
        assert.match(told, /^That did not work: The call was interrupted and its outcome is unknown\./m)
        assert.match(told, /^begun\.txt$/m)
        assert.notMatch(told, /late\.txt/)
      })
    )
  }
})
