import { assert, describe, it } from "@effect/vitest"
import { Agent, Bind, Claw, Ledger } from "effect-claw"
import * as ModelAnthropic from "effect-claw/layers/ModelAnthropic"
import { ShellTools } from "effect-claw/layers/ShellTools"
import * as Local from "effect-claw/programs/Local"
import { ModelInfo } from "effect-claw/services/ModelInfo"
import { ChannelMemory, SandboxMemory } from "effect-claw/testing"
import type * as AiError from "effect/ai/AiError"
import * as LanguageModel from "effect/ai/LanguageModel"
import * as Prompt from "effect/ai/Prompt"
import type * as Response from "effect/ai/Response"
import * as Tool from "effect/ai/Tool"
import * as Toolkit from "effect/ai/Toolkit"
import * as Clock from "effect/Clock"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { mkdtempSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as MessagesServer from "../support/MessagesServer.ts"

const { answer, lastResults, redacted, refuse, silence, text, thinking, use } = MessagesServer

type Script = ReadonlyArray<MessagesServer.Step> | ((request: MessagesServer.Received) => MessagesServer.Reply)

const onServer = (options: Partial<ModelAnthropic.Options> = {}) =>
  Layer.unwrap(
    Effect.map(MessagesServer.MessagesServer, ({ url }) =>
      ModelAnthropic.layer({ apiKey: Redacted.make("sk-ant-test"), baseUrl: url, ...options })
    )
  )

/** Claude, on a server that answers from a script. */
const claude = (script: Script, options?: Partial<ModelAnthropic.Options>) =>
  onServer(options).pipe(Layer.provideMerge(MessagesServer.layer(script)))

const Weather = Toolkit.make(
  Tool.make("weather", {
    description: "The weather of a city.",
    parameters: Schema.Struct({ city: Schema.String }),
    success: Schema.String
  })
)

/** Asks, and collects what comes. Tool calls are left alone. */
const ask = (prompt: Prompt.RawInput) =>
  Stream.runCollect(
    LanguageModel.streamText({
      prompt,
      toolkit: Weather,
      disableToolCallResolution: true,
      toolCallValidation: "deferred"
    })
  )

const user = (value: string) => Prompt.userMessage({ content: [Prompt.textPart({ text: value })] })

const said = (parts: ReadonlyArray<Response.AnyPart>) =>
  parts.flatMap((part) => (part.type === "text-delta" ? [part.delta] : [])).join("")

const finish = (parts: ReadonlyArray<Response.AnyPart>) => {
  const last = parts.at(-1)
  assert(last?.type === "finish")
  return last
}

const reason = (effect: Effect.Effect<unknown, AiError.AiError, LanguageModel.LanguageModel>) =>
  Effect.map(Effect.flip(effect), (error) => error.reason)

describe("ModelAnthropic", () => {
  it.live("text streams as it comes", () =>
    Effect.gen(function* () {
      // The server says the second half only when the first has been seen.
      const seen = yield* Deferred.make<void>()
      const parts = yield* Stream.runCollect(
        Stream.tap(LanguageModel.streamText({ prompt: "hi" }), (part) =>
          part.type === "text-delta" ? Deferred.succeed(seen, undefined) : Effect.void
        )
      ).pipe(Effect.provide(claude([answer("Good morning, 世界 🌍!", { halfway: Deferred.await(seen) })])))
      assert.strictEqual(said(parts), "Good morning, 世界 🌍!")
      assert.strictEqual(finish(parts).reason, "stop")
    })
  )

  describe("thoughts", () => {
    const question = [Prompt.systemMessage({ content: "Think." }), user("weather?")]
    /** Asks, and goes on with what the tool says, under these instructions. */
    const conversation = Effect.fnUntraced(function* (instructions: string) {
      const parts = yield* ask(question)
      const results = parts.flatMap((part) =>
        part.type === "tool-call"
          ? [Prompt.toolResultPart({ ...part, result: "rain", isFailure: false, providerExecuted: false })]
          : []
      )
      const again = yield* ask([
        Prompt.systemMessage({ content: instructions }),
        user("weather?"),
        ...Prompt.fromResponseParts(parts).content,
        Prompt.toolMessage({ content: results })
      ])
      assert.strictEqual(said(again), "Rain.")
      const { requests } = yield* MessagesServer.MessagesServer
      return requests.map(({ body }) =>
        blocksOf(body.messages.find(({ role }) => role === "assistant")?.content).map(({ type }) => type)
      )
    })
    const thoughtful = answer([
      thinking("They mean Oslo, surely."),
      redacted("c2VjcmV0"),
      text("Let me look."),
      // Its text is left out, which is the API's default. Its signature is all there is.
      thinking(),
      use("weather", { city: "Oslo" })
    ])
    const all = ["thinking", "redacted_thinking", "text", "thinking", "tool_use"]

    it.live("are kept, and go back as they came", () =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* conversation("Think."), [[], all])
      }).pipe(Effect.provide(claude([thoughtful, answer("Rain.")])))
    )

    it.live("that no longer hold, since instructions have changed, are left out", () =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* conversation("Think twice."), [[], all, ["text", "tool_use"]])
      }).pipe(Effect.provide(claude([thoughtful, answer("Rain.")])))
    )

    it.live("are asked for as the options say", () =>
      Effect.gen(function* () {
        yield* ask("hi")
        const { requests } = yield* MessagesServer.MessagesServer
        assert.deepStrictEqual(requests[0]?.body.thinking, { type: "adaptive", display: "summarized" })
      }).pipe(Effect.provide(claude([answer("hi")], { thinking: { type: "adaptive", display: "summarized" } })))
    )
  })

  it.live("calls side by side come with their arguments, however they are cut", () =>
    Effect.gen(function* () {
      const parts = yield* ask("weather?")
      assert.deepStrictEqual(
        parts.flatMap((part) => (part.type === "tool-call" ? [part.params] : [])),
        [{ city: 'Ålesund "by the sea"' }, { city: "Bergen" }, {}, '{"city": "Osl']
      )
      assert.strictEqual(finish(parts).reason, "tool-calls")
      const { requests } = yield* MessagesServer.MessagesServer
      const [request] = requests
      assert.deepStrictEqual(
        request?.body.tools?.map((tool) => ("input_schema" in tool ? [tool.name, tool.input_schema.required] : [])),
        [["weather", ["city"]]]
      )
      assert.deepStrictEqual(request?.body.tool_choice, { type: "auto" })
    }).pipe(
      Effect.provide(
        claude([
          answer([
            use("weather", { city: 'Ålesund "by the sea"' }),
            use("weather", { city: "Bergen" }),
            use("weather", ""),
            use("weather", '{"city": "Osl')
          ])
        ])
      )
    )
  )

  it.live("images and documents go in as what they are, other files by name", () =>
    Effect.gen(function* () {
      yield* ask([
        Prompt.userMessage({
          content: [
            Prompt.filePart({ mediaType: "image/png", data: png }),
            Prompt.filePart({ mediaType: "image/png", data: Buffer.from(png, "base64") }),
            Prompt.filePart({ mediaType: "application/pdf", data: Buffer.from("%PDF-1.4") }),
            Prompt.filePart({ mediaType: "audio/ogg", fileName: "voice.ogg", data: new Uint8Array(4) }),
            Prompt.textPart({ text: "what is this?" })
          ]
        })
      ])
      const { requests } = yield* MessagesServer.MessagesServer
      const content = requests[0]?.body.messages[0]?.content
      assert(Array.isArray(content))
      assert.deepInclude(content[0], { type: "image", source: { type: "base64", media_type: "image/png", data: png } })
      assert.deepStrictEqual(content[1], content[0])
      assert.strictEqual(content[2]?.type, "document")
      assert.deepInclude(content[3], { type: "text", text: "[a file that cannot be shown: voice.ogg, audio/ogg]" })
    }).pipe(Effect.provide(claude([answer("a dot")])))
  )

  it.live("text that is not valid Unicode goes out as text that is", () =>
    Effect.gen(function* () {
      const halved = "half a smile: \ud83d"
      const call = Prompt.toolCallPart({
        id: "toolu_1",
        name: "weather",
        params: { city: halved },
        providerExecuted: false
      })
      const result = Prompt.toolResultPart({
        id: "toolu_1",
        name: "weather",
        result: halved,
        isFailure: false,
        providerExecuted: false
      })
      yield* ask([
        Prompt.systemMessage({ content: halved }),
        user(halved),
        Prompt.assistantMessage({ content: [Prompt.textPart({ text: halved }), call] }),
        Prompt.toolMessage({ content: [result] })
      ])
    }).pipe(Effect.provide(claude([answer("fine")])))
  )

  for (const [stop, expected] of [
    ["end_turn", "stop"],
    ["stop_sequence", "stop"],
    ["max_tokens", "length"],
    ["refusal", "content-filter"],
    ["pause_turn", "pause"]
  ] as const) {
    it.live(`stop reason ${stop} is ${expected}`, () =>
      Effect.gen(function* () {
        assert.strictEqual(finish(yield* ask("hi")).reason, expected)
      }).pipe(Effect.provide(claude([answer("well", { stop })])))
    )
  }

  describe.concurrent("what goes wrong", () => {
    for (const [status, tag, retryable, options] of [
      [400, "InvalidRequestError", false, {}],
      [400, "QuotaExhaustedError", false, { message: "Your credit balance is too low" }],
      [401, "AuthenticationError", false, {}],
      [402, "QuotaExhaustedError", false, {}],
      [403, "AuthenticationError", false, {}],
      [404, "InvalidRequestError", false, {}],
      [413, "InvalidRequestError", false, {}],
      [429, "RateLimitError", true, {}],
      [500, "InternalProviderError", true, {}],
      [504, "InternalProviderError", true, {}],
      [529, "InternalProviderError", true, {}]
    ] as const) {
      it.live(`${status}${"message" in options ? ` "${options.message}"` : ""} is ${tag}`, () =>
        Effect.gen(function* () {
          const failed = yield* reason(ask("hi"))
          assert.deepStrictEqual([failed._tag, failed.isRetryable], [tag, retryable])
          const { requests } = yield* MessagesServer.MessagesServer
          assert.lengthOf(requests, 1, "the SDK does not retry by itself")
        }).pipe(Effect.provide(claude([refuse(status, options)])))
      )
    }

    it.live("a rate limit says how long to wait", () =>
      Effect.gen(function* () {
        const failed = yield* reason(ask("hi"))
        assert(failed._tag === "RateLimitError")
        assert.deepStrictEqual(failed.retryAfter, Duration.seconds(7))
      }).pipe(Effect.provide(claude([refuse(429, { retryAfter: "7" })])))
    )

    it.live("an unknown model is known by name", () =>
      Effect.gen(function* () {
        const failed = yield* reason(ask("hi"))
        assert.deepInclude(failed, { _tag: "InvalidRequestError", parameter: "model" })
      }).pipe(Effect.provide(claude([], { model: "claude-none" })))
    )

    for (const [type, tag] of [
      ["overloaded_error", "InternalProviderError"],
      ["api_error", "InternalProviderError"],
      ["rate_limit_error", "RateLimitError"],
      ["invalid_request_error", "InvalidRequestError"]
    ] as const) {
      it.live(`${type} in the middle of a stream is ${tag}`, () =>
        Effect.gen(function* () {
          assert.strictEqual((yield* reason(ask("hi")))._tag, tag)
        }).pipe(Effect.provide(claude([answer("half an answer", { halfway: { error: type } })])))
      )
    }

    it.live("a stream that is cut off is a network error, and retryable", () =>
      Effect.gen(function* () {
        const failed = yield* reason(ask("hi"))
        assert.deepStrictEqual([failed._tag, failed.isRetryable], ["NetworkError", true])
      }).pipe(Effect.provide(claude([answer("half an answer", { halfway: "cut" })])))
    )

    it.live("so is a server that is not there", () =>
      Effect.gen(function* () {
        const failed = yield* reason(ask("hi"))
        assert.deepStrictEqual([failed._tag, failed.isRetryable], ["NetworkError", true])
      }).pipe(Effect.provide(ModelAnthropic.layer({ apiKey: Redacted.make("k"), baseUrl: "http://127.0.0.1:1" })))
    )

    for (const [name, reply] of [
      ["that says nothing", silence],
      ["that stalls halfway", answer("half an answer", { halfway: "stall" })]
    ] as const) {
      it.live(`a server ${name} is given up after the idle timeout, and the request closed`, () =>
        Effect.gen(function* () {
          const failed = yield* reason(ask("hi"))
          assert.deepStrictEqual([failed._tag, failed.isRetryable], ["NetworkError", true])
          const server = yield* MessagesServer.MessagesServer
          const request = yield* server.request(1)
          assert.strictEqual(yield* request.ended, "closed by client")
        }).pipe(Effect.provide(claude([reply], { idleTimeout: "300 millis" })))
      )
    }

    it.live("a model that takes its time is alive while the server pings", () =>
      Effect.gen(function* () {
        assert.strictEqual(said(yield* ask("hi")), "a long thought")
      }).pipe(
        Effect.provide(
          claude([answer("a long thought", { halfway: { pings: 10, every: "100 millis" } })], {
            idleTimeout: "500 millis"
          })
        )
      )
    )

    it.live("a call that is cancelled closes its request", () =>
      Effect.gen(function* () {
        const server = yield* MessagesServer.MessagesServer
        const asking = yield* Effect.forkChild(ask("hi"))
        const request = yield* server.request(1)
        yield* Fiber.interrupt(asking)
        assert.strictEqual(yield* request.ended, "closed by client")
      }).pipe(Effect.provide(claude([answer("never whole", { halfway: "stall" })])))
    )
  })

  describe("the environment", () => {
    const configured = (env: Record<string, string>, model?: string) =>
      Layer.unwrap(
        Effect.map(MessagesServer.MessagesServer, ({ url }) =>
          ModelAnthropic.layerConfig(model).pipe(
            Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env: { ANTHROPIC_BASE_URL: url, ...env } })))
          )
        )
      ).pipe(
        Layer.provideMerge(
          MessagesServer.layer([answer("hello")], {
            keys: ["sk-ant-of-the-environment"],
            models: ["claude-sonnet-5-5", "claude-haiku-4-5"]
          })
        )
      )
    const asked = Effect.gen(function* () {
      assert.strictEqual(said(yield* ask("hi")), "hello")
      const { requests } = yield* MessagesServer.MessagesServer
      assert.strictEqual(requests[0]?.body.model, (yield* ModelInfo).name)
      return requests[0]?.body.model
    })

    it.live("names the key and the server; the model has a default", () =>
      Effect.gen(function* () {
        assert.strictEqual(yield* asked, "claude-sonnet-5-5")
      }).pipe(Effect.provide(configured({ ANTHROPIC_API_KEY: "sk-ant-of-the-environment" })))
    )

    it.live("names the model", () =>
      Effect.gen(function* () {
        assert.strictEqual(yield* asked, "claude-haiku-4-5")
      }).pipe(
        Effect.provide(configured({ ANTHROPIC_API_KEY: "sk-ant-of-the-environment", CLAW_MODEL: "claude-haiku-4-5" }))
      )
    )

    it.live("and the model that code names goes first", () =>
      Effect.gen(function* () {
        assert.strictEqual(yield* asked, "claude-haiku-4-5")
      }).pipe(
        Effect.provide(
          configured({ ANTHROPIC_API_KEY: "sk-ant-of-the-environment", CLAW_MODEL: "claude-none" }, "claude-haiku-4-5")
        )
      )
    )

    it.live("the price of the default model is known", () =>
      Effect.gen(function* () {
        assert.deepStrictEqual((yield* ModelInfo).price, { input: 2, output: 10, cacheRead: 0.1, cacheWrite: 2.5 })
      }).pipe(Effect.provide(configured({ ANTHROPIC_API_KEY: "sk-ant-of-the-environment" })))
    )

    it.live("without a key there is no model, and the failure names the variable", () =>
      Effect.gen(function* () {
        const failure = yield* Effect.flip(Layer.build(configured({})))
        assert.include(failure.message, "ANTHROPIC_API_KEY")
      })
    )
  })
})

const andy = Agent.make("andy", {
  // Long enough to be worth a cache.
  instructions: `You are Andy. ${"Be brief and kind. ".repeat(50)}`,
  toolkits: [ShellTools]
})

/** A claw on Claude, whose commands all print 42. */
const claw = (script: Script, options?: Partial<ModelAnthropic.Options>) =>
  Claw.layer({ agents: [andy], bindings: [Bind.everywhere(andy)] }).pipe(
    Layer.provideMerge(ChannelMemory.layer()),
    Layer.provide(SandboxMemory.layer(() => ({ stdout: "42\n" }))),
    Layer.provide(onServer(options)),
    Layer.provideMerge(Local.layer({ directory: mkdtempSync(join(tmpdir(), "claw-")) })),
    Layer.provideMerge(MessagesServer.layer(script)),
    // What goes wrong here is meant to.
    Layer.provide(Logger.layer([]))
  )

/** Says something and returns the answer. */
const converse = Effect.fnUntraced(function* (message: string) {
  const channel = yield* ChannelMemory.ChannelMemory
  const before = yield* channel.sent
  yield* channel.say(message)
  const sent = yield* channel.awaitSent(before.length + 1)
  return sent.slice(before.length).map((part) => part.text)
})

/** A request's blocks, without the marks of the cache, which move. */
const blocks = ({ body }: MessagesServer.Received): ReadonlyArray<string> =>
  [body.tools ?? [], blocksOf(body.system), body.messages.flatMap(({ content }) => blocksOf(content))]
    .flat()
    .map((block) => JSON.stringify(block, (key, value: unknown) => (key === "cache_control" ? undefined : value)))

describe.concurrent("a claw on Claude", () => {
  it.live("asks with a stable beginning, reads it from the cache, and books what was read and written", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* converse("run it"), ["it said 42"])
      assert.deepStrictEqual(yield* converse("and now?"), ["still 42"])
      const { requests } = yield* MessagesServer.MessagesServer
      for (const [earlier, later] of [
        [0, 1],
        [1, 2]
      ] as const) {
        const [before, after] = [requests[earlier], requests[later]]
        assert(before !== undefined && after !== undefined)
        assert.deepStrictEqual(blocks(after).slice(0, blocks(before).length), blocks(before))
        assert.strictEqual(after.usage.cacheRead, before.usage.cacheRead + before.usage.cacheWrite)
      }
      // Thoughts went back as they came, through the journal.
      assert.deepStrictEqual(
        requests.map(({ fault }) => fault),
        [undefined, undefined, undefined]
      )
      const usages = requests.map(({ usage }) => usage)
      assert.strictEqual(usages[0]?.cacheRead, 0)
      const sum = (of: (usage: (typeof usages)[number]) => number) => usages.reduce((all, usage) => all + of(usage), 0)
      const ledger = yield* Ledger.Ledger
      assert.deepInclude(yield* ledger.spent({}), {
        calls: 3,
        inputTokens: sum(({ input }) => input),
        cacheReadTokens: sum(({ cacheRead }) => cacheRead),
        cacheWriteTokens: sum(({ cacheWrite }) => cacheWrite),
        outputTokens: 3 * 12,
        // One dollar per million tokens is a micro-dollar per token.
        microdollars: usages.reduce(
          (all, { cacheRead, cacheWrite, input }) =>
            all + Math.ceil(input * 3 + cacheRead * 0.3 + cacheWrite * 3.75 + 12 * 15),
          0
        )
      })
    }).pipe(
      Effect.provide(
        claw(
          [
            answer([thinking(), use("bash", { command: "echo 42" })]),
            answer([thinking(), text("it said 42")]),
            answer("still 42")
          ],
          { price: { input: 3, output: 15, cacheRead: 0.3, cacheWrite: 3.75 } }
        )
      )
    )
  )

  it.live("after 429 waits as long as it is told, and answers", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* converse("hi"), ["hello"])
      const { requests } = yield* MessagesServer.MessagesServer
      const [first = 0, second = 0] = requests.map(({ at }) => at)
      assert.isAtLeast(second - first, 3000)
    }).pipe(Effect.provide(claw([refuse(429, { retryAfter: "3" }), answer("hello")])))
  )

  // What was cut in its middle may have been paid for, and is in the books.
  for (const [name, calls, reply] of [
    ["529", 1, refuse(529)],
    ["a stream that is cut off", 2, answer("hello, this is half", { halfway: "cut" })],
    ["a stream that stalls", 2, answer("hello, this is half", { halfway: "stall" })],
    ["an error in the middle of a stream", 2, answer("hello, this is half", { halfway: { error: "overloaded_error" } })]
  ] as const) {
    it.live(`after ${name} asks again, and the chat sees one answer`, () =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* converse("hi"), ["hello"])
        const channel = yield* ChannelMemory.ChannelMemory
        assert.lengthOf(yield* channel.sent, 1)
        const { requests } = yield* MessagesServer.MessagesServer
        assert.deepStrictEqual(requests[1]?.body, requests[0]?.body)
        const ledger = yield* Ledger.Ledger
        assert.strictEqual((yield* ledger.spent({})).calls, calls)
      }).pipe(Effect.provide(claw([reply, answer("hello")], { idleTimeout: "300 millis" })))
    )
  }

  for (const [name, call, told] of [
    ["arguments that are no JSON", use("bash", '{"command": "echo 42'), /Invalid parameters/],
    ["arguments that do not fit the schema", use("bash", { command: 42 }), /command/],
    ["a tool that is not there", use("teleport", {}), /no right to call teleport/]
  ] as const) {
    it.live(`is told of ${name}, and goes on`, () =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* converse("run it"), ["sorry; it said 42"])
        const { requests } = yield* MessagesServer.MessagesServer
        const [, second, third] = requests
        assert(second !== undefined && third !== undefined)
        const [result] = lastResults(second)
        assert.isTrue(result?.isError)
        assert.match(result?.text ?? "", told)
        assert.deepStrictEqual(lastResults(third), [{ text: "42", isError: false }])
        assert.include(JSON.stringify(third.body), JSON.stringify(`<result tool="bash">42</result>`))
      }).pipe(
        Effect.provide(
          claw([answer([call]), answer([use("bash", { command: "echo 42" })]), answer("sorry; it said 42")])
        )
      )
    )
  }

  it.live("hears what is said while it answers, after what it answered", () =>
    Effect.gen(function* () {
      const channel = yield* ChannelMemory.ChannelMemory
      const server = yield* MessagesServer.MessagesServer
      const second = yield* Deferred.make<void>()
      yield* server.script(answer("one", { halfway: Deferred.await(second) }), answer("two"))
      yield* channel.say("first")
      yield* server.request(1)
      yield* channel.say("second")
      yield* Deferred.succeed(second, undefined)
      const sent = yield* channel.awaitSent(2)
      assert.deepStrictEqual(
        sent.map((part) => part.text),
        ["one", "two"]
      )
      const { messages } = (yield* server.request(2)).body
      assert.deepStrictEqual(
        messages.map(({ content, role }) => [role, /first|second|one/.exec(JSON.stringify(content))?.[0]]),
        [
          ["user", "first"],
          ["assistant", "one"],
          ["user", "second"]
        ]
      )
    }).pipe(Effect.provide(claw([])))
  )

  it.live("when it is stopped the request is closed, and the next message finds it well", () =>
    Effect.gen(function* () {
      const channel = yield* ChannelMemory.ChannelMemory
      const server = yield* MessagesServer.MessagesServer
      yield* channel.say("tell me everything")
      const request = yield* server.request(1)
      const started = yield* Clock.currentTimeMillis
      assert.deepStrictEqual(yield* converse("/stop"), ["Stopped."])
      assert.strictEqual(yield* request.ended, "closed by client")
      assert.isBelow((yield* Clock.currentTimeMillis) - started, 1000)
      assert.deepStrictEqual(yield* converse("just hi"), ["hi"])
    }).pipe(Effect.provide(claw([answer("in the beginning", { halfway: "stall" }), answer("hi")])))
  )

  for (const [reply, apology] of [
    [refuse(401), /refused the API key.*ANTHROPIC_API_KEY/],
    [refuse(404, { message: "model: claude-none" }), /no model named "claude-sonnet-5-5".*CLAW_MODEL/],
    [refuse(400, { message: "Your credit balance is too low to access the Anthropic API" }), /no credit left/],
    [answer([], { stop: "refusal" }), /declined/]
  ] as const) {
    it.live(`says it plainly: ${apology.source}`, () =>
      Effect.gen(function* () {
        const [told = ""] = yield* converse("hi")
        assert.match(told, apology)
        assert.notInclude(told, "\n")
        // Nothing is lost: the next answer knows what was asked before.
        const server = yield* MessagesServer.MessagesServer
        yield* server.script(answer("better now"))
        assert.deepStrictEqual(yield* converse("again"), ["better now"])
        assert.include(JSON.stringify(server.requests.at(-1)?.body.messages), ">hi<")
      }).pipe(Effect.provide(claw([reply])))
    )
  }
})

const blocksOf = <Block>(content: string | ReadonlyArray<Block> = []): ReadonlyArray<Block> => {
  assert(typeof content !== "string")
  return content
}

/** One dot. */
const png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
