/**
 * `effect-claw backup FILE`, as people run it: beside a claw that is at work.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { copyFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as Program from "../support/program.ts"
import { ask, echo, life, requests, transcript } from "./life.ts"

const backup = (home: string, ...files: ReadonlyArray<string>) => Program.run({ home, args: ["backup", ...files] })

/** A state folder with a copy in the place of its database. */
const restored = Effect.fnUntraced(function* (copy: string) {
  const home = yield* Program.home
  copyFileSync(copy, join(home, "claw.db"))
  return home
})

/** Says a line to a claw that is at work, and waits for what it prints. */
const echoed = (program: Program.Program, text: string) =>
  Effect.andThen(program.write(`run: echo ${text}\n`), program.until(new RegExp(`^${text}$`, "m")))

describe.concurrent("effect-claw backup", Program.slow, () => {
  it.live("copies what a claw at work has so far, which goes on; a claw on the copy goes on from there", () =>
    Effect.gen(function* () {
      const home = yield* Program.home
      const copies = yield* Program.home
      const copy = join(copies, "monday.db")
      const first = yield* Program.start({ home })
      yield* first.write("remember that I like green tea\nremind me every weekday at eight to stand up\n")
      yield* echoed(first, "one")
      const { code, stderr, stdout } = yield* backup(home, copy)
      assert.deepStrictEqual({ code, stderr, stdout }, { code: 0, stderr: "", stdout: "" })
      assert.deepStrictEqual(readdirSync(copies), ["monday.db"])
      yield* echoed(first, "two")
      yield* first.end
      assert.strictEqual((yield* first.ended).code, 0)

      const second = yield* Program.run({
        home: yield* restored(copy),
        input: "what do you know about tea?\nlist tasks\nrun: echo three\n"
      })
      assert.strictEqual(second.code, 0, second.stderr)
      assert.match(second.stdout, /^1\. I like green tea.*\n.*"stand up", cron 0 8 \* \* 1-5.*\nthree\n$/)

      // What a model is shown of it is the conversation up to the copy.
      yield* Effect.gen(function* () {
        yield* ask({ text: "and now?", chat: "local" })
        assert.deepStrictEqual(
          (yield* requests).map((request) => transcript(request).filter((text) => /^run: |^and now/.test(text))),
          [["run: echo one", "and now?"]]
        )
      }).pipe(life(yield* restored(copy), { model: echo, channel: { name: "terminal" } }))
    })
  )

  describe("says in one line what is wrong, and makes nothing:", () => {
    /** Its one line. */
    const complaint = Effect.fnUntraced(function* (home: string, ...files: ReadonlyArray<string>) {
      const { code, stderr, stdout } = yield* backup(home, ...files)
      assert.deepStrictEqual([code, stdout], [1, ""])
      assert.notMatch(stderr, /\n\s+at /, "no stack trace")
      const [line = "", ...more] = stderr.split("\n").filter((each) => each.startsWith("effect-claw: "))
      assert.deepStrictEqual(more, [], stderr)
      return { line, stderr }
    })

    it.live("a file is missing", () =>
      Effect.gen(function* () {
        const home = yield* Program.home
        const { line, stderr } = yield* complaint(home)
        assert.strictEqual(line, "effect-claw: a file is missing")
        assert.match(stderr, /^effect-claw backup FILE /m)
        assert.deepStrictEqual(readdirSync(home), [])
      })
    )

    it.live("there is nothing to copy", () =>
      Effect.gen(function* () {
        const home = join(yield* Program.home, "none")
        const copies = yield* Program.home
        const { line } = yield* complaint(home, join(copies, "copy.db"))
        assert.include(line, home)
        assert.isFalse(existsSync(home))
        assert.deepStrictEqual(readdirSync(copies), [])
      })
    )

    it.live("a file of that name is there", () =>
      Effect.gen(function* () {
        const home = yield* Program.home
        assert.strictEqual((yield* Program.run({ home, input: "run: echo one\n" })).code, 0)
        const copies = yield* Program.home
        const copy = join(copies, "copy.db")
        writeFileSync(copy, "my notes")
        const { line } = yield* complaint(home, copy)
        assert.match(line, /no backup to .*copy\.db: there is a file of that name already$/)
        assert.strictEqual(readFileSync(copy, "utf8"), "my notes")
        assert.deepStrictEqual(readdirSync(copies), ["copy.db"])
      })
    )
  })
})
