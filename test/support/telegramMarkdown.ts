/**
 * MarkdownV2 as the Bot API reads it: by its documented rules, and with its refusals.
 *
 * https://core.telegram.org/bots/api#markdownv2-style
 */

export type EntityType =
  | "bold"
  | "italic"
  | "underline"
  | "strikethrough"
  | "spoiler"
  | "code"
  | "pre"
  | "text_link"
  | "blockquote"
  | "expandable_blockquote"
  | "custom_emoji"

/** A part of a text that is shown in a way of its own. Offset and length are in UTF-16 code units. */
export interface Entity {
  readonly type: EntityType
  readonly offset: number
  readonly length: number
  readonly url?: string
  readonly language?: string
}

export interface Formatted {
  readonly text: string
  readonly entities: ReadonlyArray<Entity>
}

/** Why a text is refused, in the API's words. */
export class CannotParse extends Error {}

const reserved = new Set("_*[]()~`>#+-=|{}.!")

interface Open {
  type: EntityType
  readonly offset: number
  readonly at: number
  readonly language?: string
}

/** Whether a character may stand behind a backslash: those of the codes 1 to 126. */
const isEscapable = (character: string | undefined) =>
  character !== undefined && character >= "\u0001" && character <= "~"

/** Reads a text, or throws `CannotParse`. */
export const parse = (source: string): Formatted => {
  const entities: Array<Entity> = []
  const open: Array<Open> = []
  let text = ""
  let at = 0
  const bytesTo = (index: number) => Buffer.byteLength(source.slice(0, index))
  const refuse = (detail: string): never => {
    throw new CannotParse(`can't parse entities: ${detail}`)
  }
  const close = (extra: { readonly url?: string } = {}) => {
    const { language, offset, type } = open.pop() ?? refuse("nothing to close")
    if (text.length === offset) return
    entities.push({
      type,
      offset,
      length: text.length - offset,
      ...extra,
      ...(language === undefined ? {} : { language })
    })
  }
  const start = (type: EntityType, length: number, language?: string) => {
    open.push({ type, offset: text.length, at, ...(language === undefined ? {} : { language }) })
    at += length
  }
  const isOpen = (type: EntityType) => open.some((one) => one.type === type)
  const toggle = (type: EntityType, length: number) => {
    if (open.at(-1)?.type !== type) return start(type, length)
    at += length
    close()
  }
  const unfinished = ({ at, type }: Open) =>
    refuse(
      `Can't find end of ${type.replace(/^./, (first) => first.toUpperCase())} entity at byte offset ${bytesTo(at)}`
    )

  while (at < source.length) {
    const character = source.charAt(at)
    const rest = source.slice(at)
    const inside = open.at(-1)?.type
    if (character === "\\" && isEscapable(source[at + 1])) {
      text += source[at + 1]
      at += 2
    } else if (inside === "code" || inside === "pre") {
      const end = inside === "code" ? "`" : "```"
      if (rest.startsWith(end)) {
        at += end.length
        close()
      } else if (character === "`") {
        refuse("Character '`' is reserved and must be escaped with the preceding '\\'")
      } else {
        text += character
        at++
      }
    } else if (character === "\n") {
      // A quotation ends with the last line that begins with its sign.
      if (isOpen("blockquote") && source[at + 1] !== ">") {
        if (inside !== "blockquote") unfinished(open.at(-1) ?? refuse("nothing to close"))
        close()
      }
      text += character
      at++
    } else if (character === ">" && (text === "" || text.endsWith("\n"))) {
      if (isOpen("blockquote")) at++
      else if (open.length > 0) refuse("Character '>' is reserved and must be escaped with the preceding '\\'")
      else start("blockquote", 1)
    } else if (rest.startsWith("```")) {
      const [opening, language] = /^```([^\s`]+(?=\s))?(?:\r\n|\n\r|\n|\r)?/.exec(rest) ?? refuse("no code")
      start("pre", opening.length, language)
    } else if (character === "`") start("code", 1)
    else if (rest.startsWith("__")) toggle("underline", 2)
    else if (character === "_") toggle("italic", 1)
    else if (character === "*") toggle("bold", 1)
    else if (character === "~") toggle("strikethrough", 1)
    else if (inside === "blockquote" && /^\|\|(?:$|\n(?!>))/.test(rest)) {
      // The mark at the end of a quotation that can be expanded.
      const quotation = open.at(-1)
      if (quotation !== undefined) quotation.type = "expandable_blockquote"
      at += 2
      close()
    } else if (rest.startsWith("||")) toggle("spoiler", 2)
    else if (rest.startsWith("![")) start("custom_emoji", 2)
    else if (character === "[") start("text_link", 1)
    else if (character === "]" && (inside === "text_link" || inside === "custom_emoji")) {
      at++
      if (source[at] !== "(") {
        if (inside === "custom_emoji") refuse("Custom emoji entity must contain a tg://emoji URL")
        close({ url: text.slice(open.at(-1)?.offset) })
        continue
      }
      const from = ++at
      let url = ""
      while (at < source.length && source[at] !== ")") {
        if (source[at] === "\\" && isEscapable(source[at + 1])) at++
        url += source[at++]
      }
      if (at >= source.length) refuse(`Can't find end of a URL at byte offset ${bytesTo(from)}`)
      at++
      // What is no address is no link; the text stays.
      if (/^(?:[a-z][a-z0-9+.-]*:)?\S+\.\S+|^(?:https?|tg|mailto):\S/i.test(url)) close({ url })
      else open.pop()
    } else if (reserved.has(character)) {
      refuse(`Character '${character}' is reserved and must be escaped with the preceding '\\'`)
    } else {
      text += character
      at++
    }
  }
  if (open.at(-1)?.type === "blockquote") close()
  const last = open.at(-1)
  if (last !== undefined) unfinished(last)
  return { text, entities: entities.toReversed().sort((a, b) => a.offset - b.offset || b.length - a.length) }
}
