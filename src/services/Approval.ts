/**
 * Approvals: a person's yes or no to one tool call, bound to its exact arguments.
 *
 * A tool says that it needs one as `effect/ai` has it: `Tool.make(name, { needsApproval })`. What was asked and answered is
 * journalled, and read back by `Turn.approvals`; here is what a call is known by, how it is shown, and who may answer.
 */
import type * as Prompt from "effect/ai/Prompt"
import type * as Tool from "effect/ai/Tool"
import * as Digest from "effect/crypto/Digest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type { Sender } from "./Message.ts"
import type { Approval } from "./Turn.ts"

/** The most that a person is asked to read at once, in UTF-16 code units; less where a channel carries less. */
export const questionLimit = 2000

/** JSON with the keys of objects in order: what is equal is written alike. */
const canonical = (params: unknown, space?: number): string =>
  JSON.stringify(
    params ?? null,
    (_, value: unknown) =>
      Predicate.isObject(value)
        ? Object.fromEntries(Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1)))
        : value,
    space
  )

/** What a consent is bound to: the SHA-256, in hex, of the tool's name and the arguments, whatever the order of keys. */
export const digest = (tool: string, params: unknown): Effect.Effect<string> =>
  Digest.Digest.use(({ digestHex }) =>
    digestHex(Digest.sha256, new TextEncoder().encode(canonical([tool, params])))
  ).pipe(Effect.provide(Digest.layerWebCrypto))

// Letters, marks, digits, punctuation, symbols and the plain space are shown as they are. What has no shape, changes the
// direction, breaks a line or ends the block of code that the arguments stand in is written as JSON escapes it.
const unseen = /[^\p{L}\p{M}\p{N}\p{P}\p{S} \n]|[\p{Default_Ignorable_Code_Point}\u2800`]/gu

/** Arguments as a person reads them: JSON that has all of them, and nothing that passes for what it is not. */
export const show = (params: unknown): string =>
  canonical(params, 2).replace(unseen, (one) =>
    one
      .split("")
      .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
      .join("")
  )

/** The question that is put to the chat. */
export const question = (tool: string, params: unknown, code: string): string =>
  `May I call ${show(tool)}? Answer /approve ${code} or /deny ${code} within a day.\n\`\`\`\n${show(params)}\n\`\`\``

/**
 * Whether a call needs a person's consent. Arguments that are none are not asked for: the tool will not take them. A
 * function that fails to decide has a person decide. It is told no `messages`: a call is judged by its arguments.
 */
export const isNeeded = Effect.fnUntraced(
  function* (tool: Tool.Any | undefined, { id, params }: Prompt.ToolCallPart) {
    const { needsApproval, parametersSchema } = tool ?? {}
    if (needsApproval === undefined || needsApproval === false) return false
    const decoded = Schema.isSchema(parametersSchema)
      ? yield* Effect.option(Schema.decodeUnknownEffect(parametersSchema)(params))
      : Option.some(params)
    if (Option.isNone(decoded) || needsApproval === true) return Option.isSome(decoded)
    const needed = needsApproval(decoded.value, { toolCallId: id, messages: [] })
    return Effect.isEffect(needed) ? yield* needed : needed
  },
  Effect.catchCause(() => Effect.succeed(true))
)

/** Who answers, and when: in epoch milliseconds, by the platform's clock. */
export interface By {
  readonly sender: Sender
  readonly isOwner: boolean
  /** One who is heard as a group's member only speaks for nobody. */
  readonly isAdmitted: boolean
  readonly at: number
}

/** Platforms tell the time in seconds. */
const secondsOff = 1000

/**
 * The call that an answer means, by its code, or because there is but one; or why there is none. Without a code it means none
 * that was asked about after it was written.
 */
export const meant = (approvals: Iterable<Approval>, code: string | undefined, by: By): Approval | string => {
  const pending = [...approvals].filter(({ answer }) => answer === undefined)
  if (pending.length === 0) return "There is nothing to approve."
  const named = pending.filter((one) => code === undefined || one.code === code)
  const [approval] = named
  if (approval === undefined) return "Nothing waits by that code."
  if (named.length > 1 || (code === undefined && by.at + secondsOff < approval.at)) {
    return `Which? ${named.map((one) => `${one.code}: ${show(one.tool)}`).join(", ")}`
  }
  const isTheirs = by.isAdmitted && (approval.sender === undefined || approval.sender === by.sender)
  return by.isOwner || isTheirs ? approval : "This is for the person to answer whom I asked, or for the owner."
}
