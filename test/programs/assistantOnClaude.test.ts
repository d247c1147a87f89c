/**
 * The assistant with `ANTHROPIC_API_KEY` set: the real SDK, against a server that speaks the Messages API.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { fileURLToPath } from "node:url"
import * as MessagesServer from "../support/MessagesServer.ts"
import * as Program from "../support/program.ts"

const { answer, call, lastResults, lastText, refuse } = MessagesServer

/** What a person said last, without its border. */
const said = (request: MessagesServer.Received) => />([^<]*)<\/message>\s*$/.exec(lastText(request))?.[1] ?? ""

/** Does what it is told, as the stand-in does: "run: …" and "read …"; and says what came of it. */
const obedient = (request: MessagesServer.Received): MessagesServer.Reply => {
  const [result] = lastResults(request)
  if (result !== undefined) return answer(result.text.trimEnd())
  const [, run, read] = /^run: (.*)|^read (.*)/.exec(said(request)) ?? []
  if (run !== undefined) return call("bash", { command: run.replaceAll("&gt;", ">").replaceAll("&amp;", "&") })
  return read === undefined ? answer("Tell me more.") : call("read_file", { path: read })
}

/** Runs the assistant on this server. */
const run = Effect.fnUntraced(function* (
  home: string,
  input: string | Uint8Array,
  env: Readonly<Record<string, string>> = {}
) {
  const { url } = yield* MessagesServer.MessagesServer
  return yield* Program.run({ home, input, env: { ANTHROPIC_API_KEY: "sk-ant-test", ANTHROPIC_BASE_URL: url, ...env } })
})

const conversation = "run: echo hello > a.txt && cat a.txt\nread a.txt\n"

describe.concurrent("the assistant on Claude", Program.slow, () => {
  it.live("answers each line from its sandbox, twice, and goes on where it was", () =>
    Effect.gen(function* () {
      const home = yield* Program.home
      for (const _ of [1, 2]) {
        const { code, stderr, stdout } = yield* run(home, conversation)
        assert.deepStrictEqual([code, stdout], [0, "hello\nhello\n"])
        assert.include(stderr, "This is claude-sonnet-5-5.")
      }
      const { requests } = yield* MessagesServer.MessagesServer
      assert.lengthOf(requests, 8)
      // The second run sends all of the first one's, and the provider's cache still knows it.
      const messages = requests.map(({ body }) =>
        JSON.stringify(body.messages).replaceAll(/,"cache_control":{[^}]*}/g, "")
      )
      for (const [index, earlier] of messages.slice(0, -1).entries()) {
        assert.isTrue(messages[index + 1]?.startsWith(earlier.slice(0, -1)))
      }
      const usage = requests.map((request) => request.usage)
      assert.strictEqual(usage[4]?.cacheRead, (usage[3]?.cacheRead ?? 0) + (usage[3]?.cacheWrite ?? 0))
    }).pipe(Effect.provide(MessagesServer.layer(obedient)))
  )

  it.live("gets through whatever the network and the provider do", () =>
    Effect.gen(function* () {
      const { code, stdout } = yield* run(yield* Program.home, "one\ntwo\nthree\nfour\nfive\nsix\n", {
        NODE_OPTIONS: `--import=${fileURLToPath(new URL("../support/hurry.mjs", import.meta.url))}`
      })
      assert.deepStrictEqual([code, stdout], [0, "one!\ntwo!\nthree!\nfour!\nfive!\n42\n"])
      const { requests } = yield* MessagesServer.MessagesServer
      const [limited = 0, again = 0] = requests.map(({ at }) => at)
      assert.isAtLeast(again - limited, 2000)
      const broken = requests.find((request) => lastResults(request)[0]?.isError === true)
      assert.match(broken === undefined ? "" : (lastResults(broken)[0]?.text ?? ""), /Invalid parameters/)
    }).pipe(
      Effect.provide(
        MessagesServer.layer([
          refuse(429, { retryAfter: "2" }),
          answer("one!"),
          refuse(529),
          answer("two!"),
          answer("three, but no m", { halfway: "cut" }),
          answer("three!"),
          answer("four, but no m", { halfway: "stall" }),
          answer("four!"),
          answer("five, but no m", { halfway: { error: "overloaded_error" } }),
          answer("five!"),
          call("bash", '{"command": "echo 4'),
          call("bash", { command: "echo 42" }),
          (request) => answer(lastResults(request)[0]?.text ?? "")
        ])
      )
    )
  )

  it.live("a wrong key is said to be one, and what was asked is not lost", () =>
    Effect.gen(function* () {
      const home = yield* Program.home
      const wrong = yield* run(home, "remember the milk\n", { ANTHROPIC_API_KEY: "sk-ant-wrong" })
      assert.strictEqual(wrong.code, 0)
      assert.match(wrong.stdout, /^The model's provider refused the API key\. .*ANTHROPIC_API_KEY\.\n$/)
      assert.notInclude(wrong.stdout + wrong.stderr, "sk-ant-wrong")
      assert.strictEqual((yield* run(home, "what did I say?\n")).stdout, "Milk.\n")
      const { requests } = yield* MessagesServer.MessagesServer
      assert.include(JSON.stringify(requests.at(-1)?.body.messages), ">remember the milk<")
    }).pipe(Effect.provide(MessagesServer.layer([answer("Milk.")])))
  )

  it.live("so is an unknown model", () =>
    Effect.gen(function* () {
      const home = yield* Program.home
      const wrong = yield* run(home, "remember the milk\n", { CLAW_MODEL: "claude-none" })
      assert.strictEqual(wrong.code, 0)
      assert.match(wrong.stdout, /^The provider knows no model named "claude-none"\. .*CLAW_MODEL\.\n$/)
      assert.strictEqual((yield* run(home, "what did I say?\n")).stdout, "Milk.\n")
    }).pipe(Effect.provide(MessagesServer.layer([answer("Milk.")])))
  )

  it.live("an empty key is none", () =>
    Effect.gen(function* () {
      const { stderr, stdout } = yield* run(yield* Program.home, "run: echo hello\n", { ANTHROPIC_API_KEY: "" })
      assert.strictEqual(stdout, "hello\n")
      assert.match(stderr, /^A rule-following stand-in/)
    }).pipe(Effect.provide(MessagesServer.layer()))
  )

  it.live("a server that is not there is said to be out of reach", () =>
    Effect.gen(function* () {
      const { code, stdout } = yield* run(yield* Program.home, "hello\n", { ANTHROPIC_BASE_URL: "http://127.0.0.1:1" })
      assert.deepStrictEqual(
        [code, stdout],
        [0, "I cannot reach the model right now. I kept your message; write again in a while and I will go on.\n"]
      )
    }).pipe(Effect.provide(MessagesServer.layer()))
  )

  it.live("a message of a megabyte, with letters of every size, is cut to what a model can read", () =>
    Effect.gen(function* () {
      const home = yield* Program.home
      const { code, stdout } = yield* run(home, `a${"😀é€".repeat(120_000)}\nand now?\n`)
      assert.deepStrictEqual([code, stdout], [0, "Tell me more.\nTell me more.\n"])
      const { requests } = yield* MessagesServer.MessagesServer
      const [first] = requests
      assert(first !== undefined)
      assert.match(lastText(first), /😀é€[^]*\[[\d,]+ characters more were cut\]/)
      assert.isBelow(JSON.stringify(first.body).length, 200_000)
    }).pipe(Effect.provide(MessagesServer.layer(obedient)))
  )

  it.live("told to end while it is being answered, it closes the request, and answers once at the next start", () =>
    Effect.gen(function* () {
      const home = yield* Program.home
      const server = yield* MessagesServer.MessagesServer
      const program = yield* Program.start({
        home,
        env: { ANTHROPIC_API_KEY: "sk-ant-test", ANTHROPIC_BASE_URL: server.url }
      })
      yield* program.write("how are you?\n")
      const request = yield* server.request(1)
      const asked = yield* Clock.currentTimeMillis
      yield* program.kill("SIGTERM")
      assert.strictEqual(yield* request.ended, "closed by client")
      assert.strictEqual((yield* program.ended).stdout, "")
      assert.isBelow((yield* Clock.currentTimeMillis) - asked, 3000)
      const { code, stdout } = yield* run(home, "")
      assert.deepStrictEqual([code, stdout], [0, "Fine, thanks.\n"])
      assert.strictEqual((yield* run(home, "")).stdout, "")
    }).pipe(Effect.provide(MessagesServer.layer([answer("Fine, th", { halfway: "stall" }), answer("Fine, thanks.")])))
  )
})
