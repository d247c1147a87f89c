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

/** The scopes that a turn is in. */
const visible = ({ agent, conversation, sender }: CurrentTurn["Service"]): ReadonlyArray<MemoryScope> => [
  { _tag: "Claw" },
  { _tag: "Agent", agent },
  { _tag: "Conversation", conversation },
  ...(sender === undefined ? [] : [{ _tag: "Sender" as const, sender }])
]

const scopeOf = (turn: CurrentTurn["Service"], about: typeof About.Type): MemoryScope => {
  switch (about) {
    case "everyone":
      return { _tag: "Claw" }
    case "me":
      return { _tag: "Agent", agent: turn.agent }
    case "this_chat":
      return { _tag: "Conversation", conversation: turn.conversation }
    case "sender":
      return turn.sender === undefined
        ? { _tag: "Conversation", conversation: turn.conversation }
        : { _tag: "Sender", sender: turn.sender }
  }
}

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
          const { id } = yield* memory.remember(scopeOf(yield* CurrentTurn, about), text)
          return `remembered as ${id}`
        }),
      recall: ({ query }) =>
        Effect.gen(function* () {
          const scopes = visible(yield* CurrentTurn)
          return show(yield* query === undefined ? memory.list(scopes, 20) : memory.recall(scopes, query))
        }),
      forget: ({ id }) =>
        Effect.gen(function* () {
          const found = yield* memory.forget(visible(yield* CurrentTurn), id)
          return found ? `forgot ${id}` : `there is no memory ${id} here`
        })
    })
  )
)
