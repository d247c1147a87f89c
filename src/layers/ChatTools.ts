/**
 * Tools for the chat itself: files and reactions. What they say is recorded with their result, and sent by the outbox.
 */
import * as Tool from "effect/ai/Tool"
import * as Toolkit from "effect/ai/Toolkit"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { withHandlers } from "../services/Agent.ts"
import { fileLimit } from "../services/Attachments.ts"
import { CurrentTurn } from "../services/CurrentTurn.ts"
import { Files, FilesError } from "../services/Files.ts"
import { FileFailed, SandboxError } from "../services/Sandbox.ts"
import { Sandboxes } from "../services/Sandboxes.ts"

/** There is no chat, or nothing in it to react to. */
export class ChatError extends Schema.TaggedError<ChatError>()("ChatError", { detail: Schema.String }) {
  override get message(): string {
    return this.detail
  }
}

const shared = {
  success: Schema.String,
  failure: Schema.Union([SandboxError, FilesError, ChatError]),
  dependencies: [CurrentTurn]
}

const SendFile = Tool.make("send_file", {
  ...shared,
  description: "Send a file of your workspace to the chat.",
  parameters: Schema.Struct({
    path: Schema.NonEmptyString.annotate({ description: "relative to /workspace" }),
    caption: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(1000)))
  })
}).annotate(Tool.Idempotent, true)

const React = Tool.make("react", {
  ...shared,
  description: "Set one emoji on the message that you answer, instead of words or beside them.",
  parameters: Schema.Struct({ emoji: Schema.NonEmptyString.check(Schema.isMaxLength(16)) })
}).annotate(Tool.Idempotent, true)

const Ask = Tool.make("ask", {
  ...shared,
  description: "Ask a question with answers to choose from. Then end your turn: the answer comes as a message.",
  parameters: Schema.Struct({
    question: Schema.NonEmptyString.check(Schema.isMaxLength(1000)),
    // What an answer says is said by the person: no command is put into a person's mouth.
    answers: Schema.Array(Schema.NonEmptyString.check(Schema.isMaxLength(30), Schema.isPattern(/^(?!\s*\/)/))).check(
      Schema.isMinLength(2),
      Schema.isMaxLength(8)
    )
  })
}).annotate(Tool.Idempotent, true)

const chat = Effect.gen(function* () {
  const turn = yield* CurrentTurn
  if (turn.depth > 0) return yield* new ChatError({ detail: "You talk to no chat. Say it in your report." })
  return turn
})

/** What a file is called where it arrives. */
const nameOf = (path: string): string => path.split("/").at(-1) ?? path

/** `send_file`, `react`, `ask`. Requires a `Sandbox` and `Files`. */
export const ChatTools = withHandlers(
  Toolkit.make(SendFile, React, Ask),
  Effect.gen(function* () {
    const sandboxes = yield* Sandboxes
    const files = yield* Files
    return {
      send_file: Effect.fnUntraced(function* ({ caption = "", path }) {
        const { agent, conversation, rights, send } = yield* chat
        const content = yield* Effect.scoped(
          Effect.flatMap(sandboxes.session(agent, conversation, rights), (open) => open.readFile(path))
        )
        if (content.length === 0) {
          return yield* new SandboxError({ reason: new FileFailed({ path, detail: "it is empty" }) })
        }
        const { id, mediaType = "application/octet-stream" } = yield* files.save(Stream.make(content), {
          limit: fileLimit
        })
        yield* send(caption, { file: { id, name: nameOf(path), mediaType } })
        return `${nameOf(path)} is on its way (${content.length.toLocaleString("en-US")} bytes)`
      }),
      react: Effect.fnUntraced(function* ({ emoji }) {
        const { message, send } = yield* chat
        if (message === undefined) return yield* new ChatError({ detail: "There is no message to react to." })
        yield* send(emoji, { reactTo: message })
        return "done"
      }),
      ask: Effect.fnUntraced(function* ({ answers, question }) {
        const { send } = yield* chat
        yield* send(question, { choices: answers.map((label: string) => ({ label, says: label })) })
        return "asked"
      })
    }
  })
)
