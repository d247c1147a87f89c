/**
 * Tools to remember. Whose memories a call sees follows from its turn.
 */
import * as Tool from "effect/ai/Tool"
import * as Toolkit from "effect/ai/Toolkit"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { withHandlers } from "../services/Agent.ts"
import { CurrentTurn } from "../services/CurrentTurn.ts"
import { Memory, type MemoryEntry, MemoryError, type MemoryScope } from "../services/Memory.ts"

const shared = { success: Schema.String, failure: MemoryError, dependencies: [CurrentTurn] }

const About = Schema.Literals(["everyone", "me", "this_chat", "sender"]).annotate({
  description: "whom it concerns: everyone, only you, only this chat, or the person you talk to (default)"
})

const Remember = Tool.make("remember", {
  ...shared,
  description: "Keep a fact for later turns and days.",
  parameters: Schema.Struct({ text: Schema.String, about: Schema.optionalKey(About) })
}).annotate(Tool.Idempotent, true)

const Recall = Tool.make("recall", {
  ...shared,
  description: "Search what you remember. Without a query: the latest memories.",
  parameters: Schema.Struct({ query: Schema.optionalKey(Schema.String) })
}).annotate(Tool.Readonly, true)

const Forget = Tool.make("forget", {
  ...shared,
  description: "Remove a memory by the id that recall shows.",
  parameters: Schema.Struct({ id: Schema.Int })
}).annotate(Tool.Idempotent, true)

const toolkit = Toolkit.make(Remember, Recall, Forget)

/** The scopes that a turn is in, by whom they concern; that of a person, where it acts for none, is the chat's. */
const scopesOf = ({
  agent,
  conversation,
  sender
}: CurrentTurn["Service"]): Readonly<Record<typeof About.Type, MemoryScope>> => ({
  everyone: { _tag: "Claw" },
  me: { _tag: "Agent", agent },
  this_chat: { _tag: "Conversation", conversation },
  sender: sender === undefined ? { _tag: "Conversation", conversation } : { _tag: "Sender", sender }
})
const visible = Effect.map(CurrentTurn, (turn) => Object.values(scopesOf(turn)))

const show = (entries: ReadonlyArray<MemoryEntry>): string =>
  entries.length === 0
    ? "[nothing]"
    : entries
        .map(({ at, id, text }) => `${id}. ${text} (${DateTime.formatIsoDateUtc(DateTime.makeUnsafe(at))})`)
        .join("\n")

/** `remember`, `recall`, `forget`. Requires `Memory`. */
export const MemoryTools = withHandlers(
  toolkit,
  Effect.map(Memory, (memory) =>
    toolkit.of({
      remember: ({ about = "sender", text }) =>
        Effect.gen(function* () {
          const { id } = yield* memory.remember(scopesOf(yield* CurrentTurn)[about], text)
          return `remembered as ${id}`
        }),
      recall: ({ query }) =>
        Effect.gen(function* () {
          const scopes = yield* visible
          return show(yield* query === undefined ? memory.list(scopes, 20) : memory.recall(scopes, query))
        }),
      forget: ({ id }) =>
        Effect.gen(function* () {
          const found = yield* memory.forget(yield* visible, id)
          return found ? `forgot ${id}` : `there is no memory ${id} here`
        })
    })
  )
)
