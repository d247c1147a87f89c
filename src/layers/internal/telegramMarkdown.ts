/**
 * Markdown, as models write it, written as Telegram's MarkdownV2, which refuses a whole message for one character that it
 * does not expect. Pure.
 *
 * What Telegram has no form for keeps its own: a table is shown as it was written, in a monospace block; HTML is text.
 * https://core.telegram.org/bots/api#markdownv2-style
 */
import { lexer, type MarkedToken, type Token, type Tokens } from "marked"

/** A piece of text in one style. */
interface Run {
  readonly text: string
  readonly bold?: true
  readonly strike?: true
  readonly italic?: true
  readonly code?: true
  readonly link?: string
  readonly quote?: true
  /** A block of code; its language, or none. */
  readonly block?: string
}

type Style = Omit<Run, "text">

const escape = (text: string): string => text.replace(/[\\_*[\]()~`>#+\-=|{}.!]/g, "\\$&")
const escapeCode = (text: string): string => text.replace(/[\\`]/g, "\\$&")
const escapeAddress = (address: string): string => address.replace(/[\\)]/g, "\\$&")

/** Addresses that Telegram makes a link of. */
const isAddress = (href: string): boolean => /^(?:https?|ftp|tg|mailto|tel):\S+$/i.test(href) && URL.canParse(href)

const endOf = (raw: string): ReadonlyArray<Run> => {
  const lines = /\n+$/.exec(raw)?.[0]
  return lines === undefined ? [] : [{ text: lines }]
}

const isMarked = (token: Token): token is MarkedToken => token.type !== "generic"

const inline = (tokens: ReadonlyArray<Token>, style: Style): ReadonlyArray<Run> =>
  tokens.filter(isMarked).flatMap((token): ReadonlyArray<Run> => {
    switch (token.type) {
      case "strong":
        return inline(token.tokens, { ...style, bold: true })
      case "em":
        return inline(token.tokens, { ...style, italic: true })
      case "del":
        return inline(token.tokens, { ...style, strike: true })
      case "codespan":
        // A link is of more use than a typeface, and code cannot be both.
        return style.link === undefined ? [{ text: token.text, code: true }] : [{ ...style, text: token.text }]
      case "br":
        return [{ ...style, text: "\n" }]
      case "escape":
        return [{ ...style, text: token.text }]
      case "text":
        return token.tokens === undefined ? [{ ...style, text: token.text }] : inline(token.tokens, style)
      case "link":
      case "image": {
        if (style.link !== undefined || !isAddress(token.href)) return [{ ...style, text: token.raw }]
        // Telegram finds a bare address by itself.
        if (token.href.endsWith(token.text) && token.text.includes(".")) return [{ ...style, text: token.text }]
        const linked = { ...style, link: token.href }
        const name = token.type === "link" ? inline(token.tokens, linked) : [{ ...linked, text: token.text }]
        return name.some(({ text }) => text.trim() !== "") ? name : [{ ...style, text: token.href }]
      }
      case "checkbox":
        return []
      default:
        return [{ ...style, text: token.raw }]
    }
  })

const signOf = (list: Tokens.List, item: Tokens.ListItem, index: number): string => {
  if (item.task) return item.checked === true ? "☑ " : "☐ "
  return list.ordered ? `${Number(list.start) + index}. ` : "• "
}

const blocks = (tokens: ReadonlyArray<Token>, depth = 0): ReadonlyArray<Run> =>
  tokens.filter(isMarked).flatMap((token): ReadonlyArray<Run> => {
    const end = endOf(token.raw)
    switch (token.type) {
      case "space":
        return end
      case "heading":
        return [...inline(token.tokens, { bold: true }), ...end]
      case "paragraph":
        return [...inline(token.tokens, {}), ...end]
      case "text":
        return [...inline(token.tokens ?? [{ ...token }], {}), ...end]
      case "code":
        return [{ text: token.text, block: /^[\w+#.-]+/.exec(token.lang ?? "")?.[0] ?? "" }, ...end]
      case "table":
        return [{ text: token.raw.trimEnd(), block: "" }, ...end]
      case "hr":
        return [{ text: "———" }, ...end]
      case "blockquote":
        return [
          ...blocks(token.tokens, depth).map((run): Run => (run.block === undefined ? { ...run, quote: true } : run)),
          ...end
        ]
      case "list":
        return [
          ...token.items.flatMap((item, index) => [
            { text: `${"  ".repeat(depth)}${signOf(token, item, index)}` },
            ...blocks(item.tokens, depth + 1),
            ...(index < token.items.length - 1 ? endOf(item.raw) : [])
          ]),
          ...end
        ]
      case "checkbox":
        return []
      default:
        return [{ text: token.raw.trimEnd() }, ...end]
    }
  })

type Mark = readonly [open: string, close: string]

/** The marks that a run stands between, outermost first. Two italics never meet: `__` would be an underline. */
const marksOf = ({ bold, code, italic, link, strike }: Run): ReadonlyArray<Mark> => {
  const marks: Array<Mark> = []
  if (link !== undefined) marks.push(["[", `](${escapeAddress(link)})`])
  if (code === true) return [...marks, ["`", "`"]]
  if (bold === true) marks.push(["*", "*"])
  if (strike === true) marks.push(["~", "~"])
  if (italic === true) marks.push(["_", "_"])
  return marks
}

const isSame = (one: Mark, other: Mark | undefined): boolean => one[0] === other?.[0] && one[1] === other[1]

const write = (runs: ReadonlyArray<Run>): string => {
  let out = ""
  let open: ReadonlyArray<Mark> = []
  /** What the last thing written was, that ends with its line. */
  let inside: "quote" | "block" | undefined
  const turnTo = (marks: ReadonlyArray<Mark>) => {
    const differs = open.findIndex((mark, index) => !isSame(mark, marks[index]))
    const kept = differs === -1 ? open.length : differs
    for (const [, close] of open.slice(kept).toReversed()) out += close
    for (const [opening] of marks.slice(kept)) out += opening
    open = marks
  }
  const newLine = () => {
    turnTo([])
    if (out !== "" && !out.endsWith("\n")) out += "\n"
  }
  for (const run of runs) {
    if (run.block !== undefined) {
      newLine()
      out += `\`\`\`${escapeCode(run.block)}\n${escapeCode(run.text)}\n\`\`\``
      inside = "block"
      continue
    }
    if (run.quote === true && inside !== "quote") {
      newLine()
      out += ">"
    } else if (run.quote !== true && inside !== undefined && !run.text.startsWith("\n")) newLine()
    inside = run.quote === true ? "quote" : undefined
    // A style ends with the line of a quotation.
    const lines = run.quote === true ? run.text.split("\n") : [run.text]
    for (const [index, line] of lines.entries()) {
      if (index > 0) {
        turnTo([])
        out += "\n>"
      }
      if (line === "") continue
      turnTo(marksOf(run))
      out += run.code === true ? escapeCode(line) : escape(line)
    }
  }
  turnTo([])
  return out
}

/** A text in MarkdownV2; nothing where no text is left, or its marks are nested too deep to be read. */
export const toMarkdownV2 = (text: string): string => {
  try {
    return write(blocks(lexer(text.toWellFormed())).filter((run) => run.text !== "" || run.block !== undefined)).trim()
  } catch {
    return ""
  }
}
