/**
 * Files that come with messages, and files that agents send.
 */
import { assert, describe, it } from "@effect/vitest"
import { Agent } from "effect-claw"
import { ChatTools } from "effect-claw/layers/ChatTools"
import * as SandboxVirtual from "effect-claw/layers/SandboxVirtual"
import { ShellTools } from "effect-claw/layers/ShellTools"
import * as Channel from "effect-claw/services/Channel"
import { ChannelName } from "effect-claw/services/Message"
import { ChannelMemory, type ModelScripted, SandboxMemory } from "effect-claw/testing"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { folder } from "../contracts/store.ts"
import { ask, echo, last, life, model, replies, requests, say, transcript } from "./life.ts"

const png = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
  "base64"
)
const file = (name: string | undefined, content: string | Buffer, mediaType?: string): Channel.Attachment => ({
  ...(name === undefined ? {} : { name }),
  ...(mediaType === undefined ? {} : { mediaType }),
  content: Stream.make(Buffer.from(content))
})
const lost = Effect.fail(
  new Channel.ChannelError({
    channel: ChannelName.make("memory"),
    reason: new Channel.Unreachable({ detail: "the link has expired" })
  })
)

/** The one workspace below a claw's folder. */
const workspace = (directory: string) => {
  const agent = join(directory, "workspaces", "andy")
  return join(agent, readdirSync(agent)[0] ?? assert.fail("no workspace"))
}

const test = (
  name: string,
  body: (
    directory: string
  ) => Effect.Effect<unknown, unknown, ChannelMemory.ChannelMemory | ModelScripted.ModelScripted>,
  options: Partial<Parameters<typeof life>[1]> = {}
) =>
  it.live(name, () =>
    Effect.flatMap(folder, (directory) => body(directory).pipe(life(directory, { model: echo, ...options })))
  )

describe("a file that comes with a message", () => {
  test("is in the workspace under its name, and the agent is told", (directory) =>
    Effect.gen(function* () {
      const reply = yield* ask({ text: "look", attachments: [file("notes.txt", "one two", "text/plain")] })
      assert.strictEqual(reply, "re: look\n[file: notes.txt, text/plain, 7 bytes]")
      assert.strictEqual(readFileSync(join(workspace(directory), "notes.txt"), "utf8"), "one two")
    }))

  test("needs no words", () =>
    Effect.gen(function* () {
      assert.strictEqual(
        yield* ask({ text: "", attachments: [file("a.bin", "x")] }),
        "re: [file: a.bin, application/octet-stream, 1 bytes]"
      )
    }))

  test("takes no other's place, and no name that leads elsewhere", (directory) =>
    Effect.gen(function* () {
      const wished = [
        "a.txt",
        "a.txt",
        "../../etc/passwd",
        "/tmp/x",
        "..",
        ".bashrc",
        "con\u202etxt.exe",
        "-rf",
        undefined
      ]
      yield* ask({ text: "", attachments: wished.map((name, index) => file(name, `${index}`, "text/x-a")) })
      const names = readdirSync(workspace(directory)).toSorted()
      assert.deepStrictEqual(
        names,
        ["a.txt", "a-2.txt", "passwd", "x", "file.x", "bashrc", "con_txt.exe", "rf", "file-2.x"].toSorted()
      )
      assert.strictEqual(readFileSync(join(workspace(directory), "a.txt"), "utf8"), "0")
    }))

  test("is what its bytes are, whatever it is said to be; an image is shown", () =>
    Effect.gen(function* () {
      yield* ask({
        text: "see",
        attachments: [file("a.pdf", png, "application/pdf"), file("b.png", "<svg>", "image/png")]
      })
      const [request] = yield* requests
      const parts = request?.prompt.content.flatMap(({ content, role }) => (role === "user" ? content : [])) ?? []
      assert.include(JSON.stringify(parts), "[file: a.pdf, image/png")
      const shown = parts.flatMap((part) => (part.type === "file" ? [part] : []))
      assert.strictEqual(shown.length, 1)
      assert.strictEqual(shown[0]?.mediaType, "image/png")
      assert.deepStrictEqual(Buffer.from(shown[0]?.data instanceof Uint8Array ? shown[0].data : []), png)
    }))

  test(
    "that is too large, or cannot be had, is said to the agent",
    (directory) =>
      Effect.gen(function* () {
        const reply = yield* ask({
          text: "look",
          attachments: [
            file("big.bin", "x".repeat(2000)),
            { ...file("liar.bin", "x".repeat(5)), size: 5000 },
            { name: "gone.bin", content: Stream.fromEffect(lost) },
            file("good.txt", "x", "text/plain")
          ]
        })
        assert.match(reply, /big\.bin: the file has more than 1,000 bytes/)
        assert.match(reply, /liar\.bin: the file has more than 1,000 bytes/)
        assert.match(reply, /gone\.bin: .*the link has expired/)
        assert.match(reply, /\[file: good\.txt/)
        assert.deepStrictEqual(readdirSync(workspace(directory)), ["good.txt"])
      }),
    { claw: { fileLimit: 1000 } }
  )

  test("that cannot be kept now is waited for, and is not acknowledged before", (directory) =>
    Effect.gen(function* () {
      // Where the folder of files would be is a file, as a disk that takes none.
      rmSync(join(directory, "files"), { recursive: true, force: true })
      writeFileSync(join(directory, "files"), "")
      const said = yield* Effect.forkChild(say({ text: "look", attachments: [file("notes.txt", "one", "text/plain")] }))
      assert.strictEqual(yield* ask({ text: "other", chat: "other" }), "re: other")
      yield* Effect.sleep("200 millis")
      assert.isUndefined(said.pollUnsafe())
      rmSync(join(directory, "files"))
      yield* Fiber.join(said)
      const all = yield* replies(2)
      assert.include(all.join(), "[file: notes.txt, text/plain, 3 bytes]")
      assert.notInclude(all.join(), "could not be received")
    }))

  test("that a claw had put there when it died is there once", (directory) =>
    Effect.gen(function* () {
      yield* ask({ text: "first", attachments: [file("a.txt", "a", "text/plain")] })
      writeFileSync(join(workspace(directory), "notes.txt"), "one")
      const reply = yield* ask({ text: "look", attachments: [file("notes.txt", "one", "text/plain")] })
      assert.include(reply, "[file: notes.txt, text/plain, 3 bytes]")
      assert.deepStrictEqual(readdirSync(workspace(directory)).toSorted(), ["a.txt", "notes.txt"])
    }))

  test("that comes twice is fetched once", () =>
    Effect.gen(function* () {
      let fetched = 0
      const content = Stream.suspend(() => {
        fetched++
        return Stream.make(Buffer.from("x"))
      })
      yield* ask({ text: "a", id: "7", attachments: [{ name: "a", content }] })
      yield* say({ text: "a", id: "7", attachments: [{ name: "a", content }] })
      yield* ask("end")
      assert.strictEqual(fetched, 1)
    }))

  test("of a stranger is not fetched", () =>
    Effect.gen(function* () {
      yield* say({ text: "a", sender: "x", attachments: [{ content: Stream.die("fetched") }] })
      assert.strictEqual(yield* ask("end"), "re: end")
    }))

  test("holds up no other chat, and what is said after it comes after it", () =>
    Effect.gen(function* () {
      const arrives = yield* Deferred.make<void>()
      const content = Stream.fromEffect(Effect.as(Deferred.await(arrives), Buffer.from("x")))
      const first = yield* Effect.forkChild(say({ text: "1", attachments: [{ name: "a", content }] }))
      yield* Effect.sleep("20 millis")
      const second = yield* Effect.forkChild(say("2"))
      assert.strictEqual(yield* ask({ text: "other", chat: "other" }), "re: other")
      yield* Deferred.succeed(arrives, undefined)
      yield* Effect.andThen(Fiber.join(first), Fiber.join(second))
      yield* say("3")
      yield* Effect.repeat(Effect.andThen(Effect.sleep("5 millis"), replies(2)), {
        until: (all) => all.join().includes("3")
      })
      const shown = transcript((yield* requests).at(-1) ?? assert.fail()).join("\n")
      assert.match(shown, /1\n\[file[^]*2[^]*3/)
    }))
})

describe("a file that an agent sends", () => {
  const agent = Agent.make("andy", { instructions: "", toolkits: [ShellTools, ChatTools] })
  const calls = (...all: ReadonlyArray<ModelScripted.ReplyCall>) =>
    model((request) => {
      const done = request.prompt.content.filter(({ role }) => role === "assistant").length
      const next = all[done]
      return next === undefined ? { text: last(request) } : { calls: [next] }
    })
  const hands = Layer.merge(SandboxVirtual.layer, SandboxMemory.layer().pipe(Layer.provide(Layer.empty)))

  test(
    "goes with its caption, once the call is recorded",
    () =>
      Effect.gen(function* () {
        yield* say("go")
        yield* replies(2)
        const [first] = yield* ChannelMemory.ChannelMemory.use(({ sent }) => sent)
        assert.strictEqual(first?.text, "here")
        assert.strictEqual(first?.file?.name, "out.csv")
        assert.strictEqual(Buffer.from(first?.file?.content ?? []).toString(), "a,b\n")
      }),
    {
      agents: [agent],
      hands,
      model: calls(
        { name: "write_file", params: { path: "out.csv", content: "a,b\n" } },
        { name: "send_file", params: { path: "out.csv", caption: "here" } }
      )
    }
  )

  test(
    "that is not there, is empty, or leads out of the workspace is a failed call, and nothing is sent",
    () =>
      Effect.gen(function* () {
        const reply = yield* ask("go")
        assert.match(reply, /send_file/)
        assert.strictEqual((yield* ChannelMemory.ChannelMemory.use(({ sent }) => sent)).length, 1)
        const told = (yield* requests).map(last).join("\n")
        assert.match(told, /none\.csv/)
        assert.match(told, /it is empty/)
        assert.notMatch(told, /root:/)
      }),
    {
      agents: [agent],
      hands,
      model: calls(
        { name: "send_file", params: { path: "none.csv" } },
        { name: "write_file", params: { path: "empty", content: "" } },
        { name: "send_file", params: { path: "empty" } },
        { name: "send_file", params: { path: "/etc/passwd" } },
        { name: "bash", params: { command: "ln -s /etc/passwd out" } },
        { name: "send_file", params: { path: "out" } }
      )
    }
  )

  test(
    "a question has answers to choose from, which a chat without buttons lists",
    () =>
      Effect.gen(function* () {
        yield* say("go")
        yield* replies(2)
        const [first] = yield* ChannelMemory.ChannelMemory.use(({ sent }) => sent)
        assert.strictEqual(first?.text, "Tea?\n- Yes\n- No")
        assert.deepStrictEqual(first?.choices, [
          { label: "Yes", says: "Yes" },
          { label: "No", says: "No" }
        ])
      }),
    { agents: [agent], hands, model: calls({ name: "ask", params: { question: "Tea?", answers: ["Yes", "No"] } }) }
  )

  test(
    "an answer to choose from is no command",
    () =>
      Effect.gen(function* () {
        yield* say("go")
        yield* replies(1)
        assert.notInclude(JSON.stringify(yield* ChannelMemory.ChannelMemory.use(({ sent }) => sent)), "hotels")
      }),
    {
      agents: [agent],
      hands,
      model: calls(
        { name: "ask", params: { question: "Show you hotels?", answers: ["/approve", "No"] } },
        { name: "ask", params: { question: "Show you hotels?", answers: ["Yes", "\n /approve"] } }
      )
    }
  )

  test(
    "an emoji is set on what it answers",
    () =>
      Effect.gen(function* () {
        yield* say({ text: "go", id: "m7" })
        yield* replies(2)
        const [first] = yield* ChannelMemory.ChannelMemory.use(({ sent }) => sent)
        assert.strictEqual(first?.text, "👍")
        assert.strictEqual(first?.reactTo, "m7")
      }),
    { agents: [agent], hands, model: calls({ name: "react", params: { emoji: "👍" } }) }
  )
})
