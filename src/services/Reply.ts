/**
 * Replies: what of an agent's text reaches a chat, and in which pieces.
 *
 * Pure. A piece fits its channel's limit, counted in UTF-16 code units. Nothing is lost but the white space that stands
 * where a text was cut; a code fence that is cut is closed, and opened again in the next piece.
 */

/** Code, which is left alone; thoughts with their marks; marks without their other half. */
const hidden = /(```[^]*?(?:```|$)|`[^`\n]*`)|<(internal|think)>[^]*?<\/\2>|<\/?(?:internal|think)>/g

/** A text without what is not meant for the chat: `<internal>…</internal>`, `<think>…</think>`. Empty: nothing is. */
export const shown = (text: string): string => text.replace(hidden, (_, code: string | undefined) => code ?? "").trim()

/** A thought that has not ended, or what may become its mark. */
const unfinished = /<(internal|think)>(?:(?!<\/\1>)[^])*$|<\/?[a-z]{0,8}$/

/** What can be shown already of a text that is still being written. */
export const begun = (text: string): string => shown(text.slice(0, unfinished.exec(text)?.index))

const fenceLine = /^ {0,3}(`{3,}|~{3,})[^\n]*$/gm
const graphemes = new Intl.Segmenter()

/** The line that opened the fence which a text ends in. */
const openFence = (text: string): string | undefined => {
  let opened: RegExpExecArray | undefined
  for (const line of text.matchAll(fenceLine)) {
    const closes = opened !== undefined && line[0].trim().startsWith(opened[1] ?? "")
    if (opened === undefined) opened = line
    else if (closes) opened = undefined
  }
  return opened?.[0]
}

/** Where to cut, at `room` at the latest: behind a paragraph, a line, a sentence or a word; else between two graphemes. */
const cutAt = (text: string, room: number): number => {
  const window = text.slice(0, room + 1)
  for (const boundary of [/\n\n+/g, /\n/g, /(?<=[.!?…。！？])\s/g, /\s/g]) {
    const found = [...window.matchAll(boundary)].findLast(({ index }) => index > 0 && index <= room)
    if (found !== undefined) return found.index
  }
  const whole = graphemes.segment(text).containing(room)?.index ?? room
  return whole > 0 ? whole : room - (/[\uD800-\uDBFF]/.test(text.charAt(room - 1)) ? 1 : 0)
}

/** Cuts a text into pieces of at most `limit` code units. A limit below 16 counts as 16. */
export const split = (text: string, limit: number): ReadonlyArray<string> => {
  const most = Math.max(16, limit)
  const pieces: Array<string> = []
  let rest = text
  let reopen = ""
  while (reopen.length + rest.length > most) {
    const room = most - reopen.length - 5
    let cut = cutAt(rest, room)
    const fence = openFence(reopen + rest.slice(0, cut))
    // A fence is not opened only to be closed.
    const opening = fence === undefined ? -1 : rest.slice(0, cut).lastIndexOf(fence)
    if (opening > 0 && rest.slice(opening, cut).trim() === fence?.trim()) cut = opening
    const piece = reopen + rest.slice(0, cut)
    const open = openFence(piece)
    pieces.push(open === undefined ? piece.trimEnd() : `${piece}\n${open.trim().slice(0, 3)}`)
    rest = open === undefined ? rest.slice(cut).replace(/^\s+/, "") : rest.slice(cut).replace(/^\n/, "")
    reopen = open === undefined ? "" : `${open.length > most / 4 ? open.trim().slice(0, 3) : open}\n`
  }
  return [...pieces, ...(rest === "" ? [] : [reopen + rest])]
}
