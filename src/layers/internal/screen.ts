/**
 * A terminal's screen, which a person types on while a claw writes on it.
 *
 * One prompt at the bottom. While it shows, what is written goes above it, and the line being typed is drawn again. While
 * a reply is written, the prompt is away; what is typed meanwhile is kept, and shows with the next prompt.
 */
import * as readline from "node:readline"
import { Writable } from "node:stream"
import type { ReadStream, WriteStream } from "node:tty"

/** Without control characters: what others wrote moves no cursor, clears no screen and sets no title. */
const printable = (text: string): string => text.replace(/(?![\n\t])\p{Cc}/gu, "")

const frames = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"]

export interface Screen {
  /** Shows the prompt, with what has been typed. */
  readonly prompt: () => void
  /** Writes whole lines: above the prompt if it shows. */
  readonly print: (text: string) => void
  /** Takes the prompt away, for text to be written. */
  readonly begin: () => void
  /** Writes text as it comes. The prompt must be away. */
  readonly write: (text: string) => void
  /** Shows what is going on, until something is written. Call again for it to turn. */
  readonly spin: (label: string) => void
  readonly close: () => void
}

/** What the person does. */
export interface Events {
  readonly onLine: (line: string) => void
  readonly onInterrupt: (typed: boolean) => void
  readonly onClose: () => void
}

export const make = (input: ReadStream, output: WriteStream, events: Events): Screen => {
  let prompting = false
  let spinning = false
  let atLineStart = true
  let frame = 0

  // What the line editor draws is let through only while the prompt shows.
  const editor = Object.assign(
    new Writable({
      write: (chunk, _encoding, done) => {
        if (prompting) output.write(chunk)
        done()
      }
    }),
    { columns: output.columns, isTTY: true }
  )
  const resize = () => {
    editor.columns = output.columns
    editor.emit("resize")
  }
  output.on("resize", resize)

  const line = readline.createInterface({ input, output: editor, terminal: true, prompt: "› ", historySize: 500 })

  const erasePrompt = () => {
    readline.moveCursor(output, 0, -line.getCursorPos().rows)
    readline.cursorTo(output, 0)
    readline.clearScreenDown(output)
  }
  const eraseSpinner = () => {
    if (!spinning) return
    readline.cursorTo(output, 0)
    readline.clearLine(output, 0)
    spinning = false
  }
  const write = (text: string) => {
    eraseSpinner()
    output.write(printable(text))
    if (text !== "") atLineStart = text.endsWith("\n")
  }
  const endLine = () => {
    if (!atLineStart) write("\n")
  }
  const prompt = () => {
    if (prompting) erasePrompt()
    eraseSpinner()
    endLine()
    prompting = true
    // The editor has drawn nothing yet of what it would go up for.
    Object.assign(line, { prevRows: 0 })
    line.prompt(true)
  }

  line.on("line", (text) => {
    // The editor has ended the line; the prompt is gone until it is asked for.
    const wasPrompting = prompting
    prompting = false
    if (!wasPrompting) {
      endLine()
      write(`› ${text}\n`)
    }
    events.onLine(text)
  })
  line.on("SIGINT", () => {
    const typed = line.line !== ""
    if (typed && prompting) {
      line.write(null, { ctrl: true, name: "e" })
      line.write(null, { ctrl: true, name: "u" })
    }
    events.onInterrupt(typed && prompting)
  })
  line.on("close", events.onClose)

  return {
    prompt,
    print: (text) => {
      const wasPrompting = prompting
      if (wasPrompting) erasePrompt()
      prompting = false
      endLine()
      write(`${text}\n`)
      if (wasPrompting) prompt()
    },
    begin: () => {
      if (!prompting) return
      erasePrompt()
      prompting = false
      atLineStart = true
    },
    write,
    spin: (label) => {
      if (prompting) return
      endLine()
      readline.cursorTo(output, 0)
      readline.clearLine(output, 0)
      const text = `${frames[frame++ % frames.length]} ${printable(label)}`.slice(
        0,
        Math.max(10, (output.columns ?? 80) - 1)
      )
      output.write(text)
      spinning = true
    },
    close: () => {
      eraseSpinner()
      if (prompting) erasePrompt()
      prompting = false
      endLine()
      output.off("resize", resize)
      line.off("close", events.onClose)
      line.close()
    }
  }
}
