/**
 * Markdown, as models write it, in WhatsApp's own marks: `*bold*`, `_italic_`, `~struck~`. No text gets longer by it.
 */

// What is marked is at most 1,000 characters of one line: the text is a model's, and looking further may take seconds.

/** Stands for an asterisk that is WhatsApp's, until the model's are gone. */
const bold = "\u0001"

/** Code is as it was; WhatsApp shows a fence's language as text. */
const code = /(```[^\n`]*\n[^]*?```|```[^]*?```|`[^`\n]+`)/

const marks = (text: string): string =>
  text
    .replace(/!?\[([^[\]\n]+)\]\(([^\s()]+)\)/g, (_, label: string, link: string) =>
      label === link ? link : `${label} (${link})`
    )
    .replace(/^#{1,6} +(.+?) *#*$/gm, (_, title: string) => `${bold}${title.replaceAll("**", "")}${bold}`)
    .replace(/^([ \t]*)[*+] (?=\S)/gm, "$1- ")
    .replace(/\*\*\*(?=\S)([^\n]{1,1000}?)(?<=\S)\*\*\*/g, `${bold}_$1_${bold}`)
    .replace(/\*\*(?=\S)([^\n]{1,1000}?)(?<=\S)\*\*/g, `${bold}$1${bold}`)
    .replace(/(?<![\w_])__(?=\S)([^\n]{1,1000}?)(?<=\S)__(?![\w_])/g, `${bold}$1${bold}`)
    .replace(/(?<![\w*])\*(?=\S)([^*\n]{1,1000}?)(?<=\S)\*(?![\w*])/g, "_$1_")
    .replace(/~~(?=\S)([^\n]{1,1000}?)(?<=\S)~~/g, "~$1~")
    .replaceAll(bold, "*")

/** A text as WhatsApp shows it. */
export const format = (markdown: string): string =>
  markdown
    .split(code)
    .map((piece, index) => (index % 2 === 0 ? marks(piece) : piece.replace(/^```[^\n`]+\n/, "```\n")))
    .join("")
