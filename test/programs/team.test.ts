/**
 * The team: a planner and two specialists on a question from the command line.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { globSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { containersOn, describeWithEngine } from "../support/engine.ts"
import * as MessagesServer from "../support/MessagesServer.ts"
import * as Program from "../support/program.ts"

const { answer, call, lastResults } = MessagesServer

const result = (request: MessagesServer.Received) => lastResults(request)[0]

const briefs = [
  { agent: "researcher", brief: "look around" },
  { agent: "coder", brief: "compute" }
]

/** The coder computes until it is released. */
const compute = "id > begun; until [ -e release ]; do sleep 0.05; done; echo computed"

const script = (request: MessagesServer.Received): MessagesServer.Reply => {
  const came = result(request)
  const { system = "" } = request.body
  const [, name] = /You are (planner|researcher|coder)\./.exec(JSON.stringify(system)) ?? []
  switch (name) {
    case "planner":
      return came === undefined ? call("delegate_all", { briefs }) : answer(came.text)
    case "researcher":
      if (came === undefined) return call("bash", { command: "echo mine too" })
      return came.isError ? call("list_files", {}) : answer(`nothing but ${came.text}`)
    default:
      return came === undefined ? call("bash", { command: compute }) : answer(came.text)
  }
}

/** What came of a specialist's last call, once it has. */
const came = (name: string, isError: boolean) =>
  Effect.flatMap(MessagesServer.MessagesServer, ({ requests }) =>
    Effect.repeat(
      Effect.delay(
        Effect.sync(() =>
          requests
            .filter(({ body }) => JSON.stringify(body.system).includes(`You are ${name}.`))
            .map(result)
            .find((found) => found?.isError === isError)
        ),
        "50 millis"
      ),
      { until: (found) => found !== undefined }
    )
  )

describeWithEngine("the team", () => {
  it.live("works in two containers at the same time, and none does what only another may", () =>
    Effect.gen(function* () {
      const home = yield* Program.home
      const server = yield* MessagesServer.MessagesServer
      const program = yield* Program.start({
        home,
        args: ["team", "what", "is", "there?"],
        env: { ANTHROPIC_API_KEY: "sk-ant-test", ANTHROPIC_BASE_URL: server.url }
      })
      // The researcher's command has come back while the coder's still runs, so they ran at the same time.
      const refused = yield* came("researcher", true)
      assert.match(refused?.text ?? "", /^You have no right to call bash\. You may call: read_file, list_files/)
      assert.strictEqual((yield* came("researcher", false))?.text, "[no output]")
      const begun = yield* Effect.repeat(
        Effect.delay(
          Effect.sync(() => globSync("workspaces/coder/*/begun", { cwd: home })),
          "50 millis"
        ),
        { until: (found) => found.length > 0 }
      )
      assert.isUndefined(
        server.requests.map(result).find((found) => found?.text.includes("computed")),
        "the coder's command has not come back"
      )
      const containers = yield* Effect.promise(() => containersOn(home))
      assert.lengthOf(new Set(containers), 2)
      writeFileSync(join(home, dirname(begun[0] ?? ""), "release"), "")

      const { code, stdout } = yield* program.ended
      assert.deepStrictEqual([code, stdout], [0, "## researcher\nnothing but [no output]\n\n## coder\ncomputed\n"])
      assert.deepStrictEqual(yield* Effect.promise(() => containersOn(home)), [])
    }).pipe(Effect.provide(MessagesServer.layer(script)))
  )
})

describe("the team without a key", Program.slow, () => {
  it.live("answers by the stand-in's rules, each question anew", () =>
    Effect.gen(function* () {
      const home = yield* Program.home
      for (const _ of [1, 2]) {
        const { code, stdout } = yield* Program.run({ home, args: ["team", "ask researcher and coder: list files"] })
        assert.deepStrictEqual([code, stdout], [0, "## researcher\n[no output]\n\n## coder\n[no output]\n"])
      }
    })
  )
})
