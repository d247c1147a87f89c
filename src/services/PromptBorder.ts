/**
 * The prompt's border: whatever comes from outside is wrapped once, the same way, with its origin.
 *
 * Inside the wrapper nothing can close it or pass for a control token of a model: markup is escaped, and the bars of
 * `<|…|>` tokens, plain or fullwidth, are taken apart.
 */
import * as Prompt from "effect/ai/Prompt"

/** Escapes what could end a wrapper or an attribute. */
export const escape = (value: string): string =>
  value
    .toWellFormed()
    .replace(/&/g, "&amp;")
    .replace(/</g, "&lt;")
    .replace(/>/g, "&gt;")
    .replace(/"/g, "&quot;")
    .replace(/[<＜]\s*[|｜]|[|｜]\s*[>＞]/g, (token) => token.split("").join("\u200b"))

/** Undoes `escape`, for a reader that is no model. */
export const unescape = (value: string): string =>
  value
    .replace(/&quot;/g, '"')
    .replace(/&gt;/g, ">")
    .replace(/&lt;/g, "<")
    .replace(/&amp;/g, "&")

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
