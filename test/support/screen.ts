/**
 * What a person sees on a terminal, from the bytes that a program writes to it.
 */

/** A terminal of some columns that never scrolls anything away. It knows the codes that line editors use. */
export const makeScreen = (columns: number) => {
  const rows: Array<Array<string>> = [[]]
  let row = 0
  let column = 0
  let rest = ""

  const line = (): Array<string> => {
    while (rows.length <= row) rows.push([])
    return rows[row] ?? []
  }
  const put = (letter: string) => {
    if (column >= columns) {
      row++
      column = 0
    }
    const current = line()
    while (current.length < column) current.push(" ")
    current[column++] = letter
  }
  const control = (code: string, parameter: number) => {
    switch (code) {
      case "A":
        row = Math.max(0, row - Math.max(1, parameter))
        break
      case "B":
        row += Math.max(1, parameter)
        break
      case "C":
        column = Math.min(columns - 1, column + Math.max(1, parameter))
        break
      case "D":
        column = Math.max(0, column - Math.max(1, parameter))
        break
      case "G":
        column = Math.max(1, parameter) - 1
        break
      case "J":
        line().splice(column)
        rows.splice(row + 1)
        break
      case "K":
        if (parameter === 2) line().splice(0)
        else line().splice(column)
        break
    }
  }

  return {
    feed: (text: string) => {
      // oxlint-disable-next-line eslint/no-control-regex
      const pieces = /\u001b\[([?\d;]*)([A-Za-z])|(\u001b(?:\[[?\d;]*)?$)|([\s\S])/gu
      for (const [, parameters, code, unfinished, letter] of (rest + text).matchAll(pieces)) {
        rest = unfinished ?? ""
        if (code !== undefined) control(code, Number.parseInt(parameters ?? "", 10) || 0)
        else if (letter === "\r") column = 0
        else if (letter === "\n") row++
        else if (letter === "\b") column = Math.max(0, column - 1)
        else if (letter !== undefined && letter >= " ") put(letter)
      }
      line()
    },
    /** The lines, without spaces at their ends. */
    lines: (): ReadonlyArray<string> => rows.map((cells) => cells.join("").trimEnd())
  }
}
