/**
 * Markdown, as models write it, in WhatsApp's own marks: `*bold*`, `_italic_`, `~struck~`. No text gets longer by it.
 */

/** Stands for an asterisk that is WhatsApp's, until the model's are gone. */
const bold = "\u0001"

/** Code is as it was; WhatsApp shows a fence's language as text. */
const code = /(```[^\n`]*\n[^]*?```|```[^]*?```|`[^`\n]+`)/

const marks = (text: string): string =>
  text
    .replace(/!?\[([^\]\n]+)\]\((\S+?)\)/g, (_, label: string, link: string) =>
      label === link ? link : `${label} (${link})`
    )
    .replace(/^#{1,6} +(.+?) *#*$/gm, (_, title: string) => `${bold}${title.replaceAll("**", "")}${bold}`)
    .replace(/^(\s*)[*+] (?=\S)/gm, "$1- ")
    .replace(/\*\*\*(?=\S)([^\n]+?)(?<=\S)\*\*\*/g, `${bold}_$1_${bold}`)
    .replace(/\*\*(?=\S)([^\n]+?)(?<=\S)\*\*/g, `${bold}$1${bold}`)
    .replace(/(?<![\w_])__(?=\S)([^\n]+?)(?<=\S)__(?![\w_])/g, `${bold}$1${bold}`)
    .replace(/(?<![\w*])\*(?=\S)([^*\n]+?)(?<=\S)\*(?![\w*])/g, "_$1_")
    .replace(/~~(?=\S)([^\n]+?)(?<=\S)~~/g, "~$1~")
    .replaceAll(bold, "*")

/** A text as WhatsApp shows it. */
export const format = (markdown: string): string =>
  markdown
    .split(code)
    .map((piece, index) => (index % 2 === 0 ? marks(piece) : piece.replace(/^```[^\n`]+\n/, "```\n")))
    .join("")
