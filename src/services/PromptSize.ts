/**
 * How long a prompt is, roughly, and how one that is too long is made shorter.
 *
 * Pure. What is cut says so, a wrapper that is cut is closed, and calls keep their results.
 */
import * as Prompt from "effect/ai/Prompt"
import * as Struct from "effect/Struct"
import { escape, fromClaw } from "./PromptBorder.ts"

/** Tokens that an image is counted as. */
const imageTokens = 1600

/** Tokens of text, erring upwards: one for three letters of ASCII, and for two bytes of anything else. */
const tokensOfText = (text: string): number => {
  let ascii = 0
  let bytes = 0
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index)
    if (unit < 0x80) ascii++
    // The two halves of a surrogate pair are four bytes.
    else bytes += unit < 0x800 || (unit & 0xf800) === 0xd800 ? 2 : 3
  }
  return ascii / 3 + bytes / 2
}

/** Whatever a file's format is, a page of 32 KiB has no more tokens than this. */
const tokensOfFile = ({ data, mediaType }: Prompt.FilePart): number =>
  mediaType.startsWith("image/") || data instanceof URL ? imageTokens : imageTokens * Math.ceil(data.length / 32768)

const tokensOfPart = (part: Prompt.Part): number => {
  if (part.type === "file") return tokensOfFile(part)
  if ("text" in part) return tokensOfText(part.text)
  if (part.type !== "tool-result" || part.modelOutput === undefined) return tokensOfText(JSON.stringify(part))
  return part.modelOutput.reduce((sum, output) => sum + tokensOfPart(output), tokensOfText(part.id + part.name))
}

/** A rough count of messages' tokens. */
export const tokensOf = (messages: ReadonlyArray<Prompt.Message>): number => {
  let tokens = 0
  for (const { content } of messages) {
    tokens +=
      typeof content === "string"
        ? tokensOfText(content)
        : content.reduce((sum, part: Prompt.Part) => sum + tokensOfPart(part), 0)
  }
  return Math.ceil(tokens)
}

/** A rough count of a prompt's tokens. */
export const estimateTokens = (self: Prompt.Prompt): number => tokensOf(self.content)

/** The beginning of a text that is too long, and how much is left out. */
export const clip = (text: string, limit: number): string =>
  text.length <= limit
    ? text
    : `${text.slice(0, limit).toWellFormed()}\n[${(text.length - limit).toLocaleString("en-US")} characters more were cut]`

/** The wrapper around a text is closed, however much of it is cut; what stands behind it stays. */
const clipInside = (text: string, limit: number): string => {
  if (text.length <= limit) return text
  const end = /<\/\w+>[^<>]*$/.exec(text)?.[0] ?? ""
  return clip(text.slice(0, text.length - end.length), limit) + end
}

/** A value whose JSON is too long, as the beginning of it. */
const clipValue = (value: unknown, limit: number): unknown => {
  const written = typeof value === "string" ? value : (JSON.stringify(value) ?? "")
  return written.length <= limit ? value : clip(written, limit)
}

/** The most of what an old tool call was given or returned that is shown, in characters of its JSON. */
const oldLimit = 1000

/**
 * A message without its files, and with what tools were given and returned cut to a length. When texts are cut, too, thoughts
 * and what the provider ran by itself are left out: they cannot be cut.
 */
export const trim =
  (limit = oldLimit, said = Infinity) =>
  (message: Prompt.Message): Prompt.Message => {
    switch (message.role) {
      case "user":
        return Prompt.userMessage({
          content: message.content.map((part) =>
            part.type === "text"
              ? Struct.assign(part, { text: clipInside(part.text, said) })
              : Prompt.textPart({ text: `[a file was here: ${escape(part.fileName ?? part.mediaType)}]` })
          )
        })
      case "assistant":
        return Prompt.assistantMessage({
          content: message.content.flatMap((part): ReadonlyArray<Prompt.AssistantMessagePart> => {
            if (part.type === "text") return [Struct.assign(part, { text: clip(part.text, said) })]
            if (part.type !== "tool-call" || part.providerExecuted) return said === Infinity ? [part] : []
            const given = clipValue(part.params, limit)
            const params = given === part.params ? given : { cut: given }
            return [Struct.assign(part, { params })]
          })
        })
      case "tool":
        return Prompt.toolMessage({
          content: message.content.map((part) => {
            if (part.type !== "tool-result") return part
            const { modelOutput: _, result, ...others } = part
            const shown = typeof result === "string" ? clipInside(result, limit) : clipValue(result, limit)
            return { ...others, result: shown }
          })
        })
      case "system":
        return message
    }
  }

/** What stands in place of what is not shown. */
export const left = fromClaw("notice", "What was said before this is not shown.")

/**
 * Messages that fit, out of groups of which each is shown whole or not at all: from the oldest on they are trimmed, then left
 * out; the last is cut as far as it takes.
 */
export const fit = (
  groups: ReadonlyArray<ReadonlyArray<Prompt.Message>>,
  room: number
): ReadonlyArray<Prompt.Message> => {
  const shown = groups.map((messages) => ({ messages, tokens: tokensOf(messages) }))
  let total = shown.reduce((sum, { tokens }) => sum + tokens, 0)
  if (total <= room) return groups.flat()
  total += tokensOf([left])
  const last = groups.length - 1
  const replace = (index: number, change: (message: Prompt.Message) => Prompt.Message): number => {
    const messages = (groups[index] ?? []).map(change)
    const tokens = tokensOf(messages)
    const less = (shown[index]?.tokens ?? 0) - tokens
    shown[index] = { messages, tokens }
    return less
  }
  for (let index = 0; index < last && total > room; index++) total -= replace(index, trim())
  let first = 0
  for (; first < last && total > room; first++) total -= shown[first]?.tokens ?? 0
  for (let limit = 65_536; limit > 64 && total > room; limit /= 2) total -= replace(last, trim(limit, limit))
  if (total > room) return [left]
  return [...(first > 0 ? [left] : []), ...shown.slice(first).flatMap(({ messages }) => messages)]
}
