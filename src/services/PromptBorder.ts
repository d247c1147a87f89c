/**
 * The prompt's border: whatever comes from outside is wrapped once, the same way, with its origin.
 *
 * Inside the wrapper nothing can close it or pass for a control token of a model. In what people and agents say, markup is
 * escaped, and the bars of `<|…|>` tokens, plain or fullwidth, are taken apart. What a tool returned is often a file that is
 * edited next, so there only what could forge is taken apart, and `unmark` gives it back as it was.
 */
import * as Prompt from "effect/ai/Prompt"

/** What wrappers are named. */
const tags = "message|task|brief|result|notice|summary|transcript"

/** Between a mark and what it takes apart. */
const space = "\u200b"

/** Escapes what could end a wrapper or an attribute. */
export const escape = (value: string): string =>
  value
    .toWellFormed()
    .replace(/&/g, "&amp;")
    .replace(/</g, "&lt;")
    .replace(/>/g, "&gt;")
    .replace(/"/g, "&quot;")
    .replace(/[<＜]\s*[|｜]|[|｜]\s*[>＞]/g, (token) => token.split("").join(space))

/** Undoes `escape`, for a reader that is no model. */
export const unescape = (value: string): string =>
  value
    .replace(/&quot;/g, '"')
    .replace(/&gt;/g, ">")
    .replace(/&lt;/g, "<")
    .replace(/&amp;/g, "&")

/** The beginning of a wrapper's tag or of a control token, and the end of such a token; `mark` is what stands in between. */
const forged = (mark: string) =>
  new RegExp(
    `([<＜])${mark}(?=${space}*\\s*(?:[|｜]|[/／]?\\s*(?:${tags})\\b))|([|｜])${mark}(?=${space}*\\s*[>＞])`,
    "gi"
  )

/** Takes apart what could close a wrapper, open one, or be a control token. Everything else stays as it is. */
export const mark = (value: string): string => value.replace(forged(""), `$1$2${space}`)

/** Undoes `mark`, wholly: a model that has read a file writes it as it was. */
export const unmark = (value: string): string => value.replace(forged(space), "$1$2")

/** What the claw itself tells a model. */
export const fromClaw = (tag: "notice" | "summary" | "transcript", told: string): Prompt.UserMessage =>
  Prompt.userMessage({ content: [Prompt.textPart({ text: wrap(tag, {}, told) })] })

/** `<tag name="value">text</tag>`. Attributes without a value are left out. */
export const wrap = (
  tag: string,
  attributes: Readonly<Record<string, string | undefined>>,
  content: string
): string => {
  const written = Object.entries(attributes).flatMap(([name, value]) =>
    value === undefined ? [] : [` ${name}="${escape(value)}"`]
  )
  return `<${tag}${written.join("")}>${escape(content)}</${tag}>`
}

/** What a tool returned: `<result tool="bash">…</result>`. What is no text is its JSON. */
export const wrapResult = (tool: string, result: unknown): string =>
  `<result tool="${escape(tool)}">${mark(typeof result === "string" ? result : (JSON.stringify(result) ?? "null"))}</result>`

/** What `wrapResult` was given, as text, and what stands behind the wrapper. */
export const unwrapResult = (shown: string): string =>
  shown.replace(/^<result tool="[^"]*">(.*)<\/result>/s, (_, inside: string) => unmark(inside))
