/**
 * Tools for a shell and its files. All of them work inside the agent's sandbox, on its workspace.
 */
import * as Tool from "effect/ai/Tool"
import * as Toolkit from "effect/ai/Toolkit"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { withHandlers } from "../services/Agent.ts"
import { CurrentTurn } from "../services/CurrentTurn.ts"
import { type Command, type CommandResult, FileFailed, run, SandboxError } from "../services/Sandbox.ts"
import { Sandboxes } from "../services/Sandboxes.ts"

/** The most of an output that is shown, in characters: this much of its beginning, and half of it of its end. */
const shown = 20_000

/** Cuts the middle out of a long text, and says how much that was. */
export const clip = (text: string, limit = shown): string => {
  if (text.length <= limit * 1.5) return text
  const cut = text.length - limit * 1.5
  return `${text.slice(0, limit)}\n[… ${cut.toLocaleString("en-US")} characters cut …]\n${text.slice(text.length - limit / 2)}`
}

const path = Schema.String.annotate({ description: "relative to /workspace" })

const shared = { success: Schema.String, failure: SandboxError, dependencies: [CurrentTurn] }

const Bash = Tool.make("bash", {
  ...shared,
  description:
    "Run a bash script in your sandbox, in /workspace. Files there are kept. There is no network, or a proxy to a few hosts.",
  parameters: Schema.Struct({
    command: Schema.String,
    timeout_seconds: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 600 }))).annotate({
      description: "default 120"
    })
  })
})

const ReadFile = Tool.make("read_file", {
  ...shared,
  description: "Read a text file.",
  parameters: Schema.Struct({
    path,
    from_line: Schema.optionalKey(Schema.Int.check(Schema.isGreaterThanOrEqualTo(1))),
    lines: Schema.optionalKey(Schema.Int.check(Schema.isGreaterThanOrEqualTo(1)))
  })
}).annotate(Tool.Readonly, true)

const WriteFile = Tool.make("write_file", {
  ...shared,
  description: "Write a file, replacing what was there.",
  parameters: Schema.Struct({ path, content: Schema.String })
}).annotate(Tool.Idempotent, true)

const EditFile = Tool.make("edit_file", {
  ...shared,
  description: "Replace a text in a file. It must occur exactly once, unless replace_all is set.",
  parameters: Schema.Struct({
    path,
    old_text: Schema.NonEmptyString,
    new_text: Schema.String,
    replace_all: Schema.optionalKey(Schema.Boolean)
  })
})

const ListFiles = Tool.make("list_files", {
  ...shared,
  description: "List the files below a folder.",
  parameters: Schema.Struct({ path: Schema.optionalKey(path) })
}).annotate(Tool.Readonly, true)

const SearchFiles = Tool.make("search_files", {
  ...shared,
  description: "Search the contents of files for a regular expression (ripgrep).",
  parameters: Schema.Struct({ pattern: Schema.NonEmptyString, path: Schema.optionalKey(path) })
}).annotate(Tool.Readonly, true)

const report = ({ code, droppedBytes, stderr, stdout, timedOut }: CommandResult, timeout: string): string =>
  [
    clip(stdout.trimEnd()),
    stderr.trim() === "" ? "" : `[stderr]\n${clip(stderr.trimEnd(), shown / 4)}`,
    droppedBytes > 0 ? `[${droppedBytes.toLocaleString("en-US")} bytes of output were dropped]` : "",
    timedOut ? `[stopped after ${timeout}]` : code === 0 ? "" : `[exit code ${code}]`
  ]
    .filter((part) => part !== "")
    .join("\n") || "[no output]"

const refuse = (file: string, detail: string) => new SandboxError({ reason: new FileFailed({ path: file, detail }) })

/** `bash`, `read_file`, `write_file`, `edit_file`, `list_files`, `search_files`. Requires a `Sandbox`. */
export const ShellTools = withHandlers(
  Toolkit.make(Bash, ReadFile, WriteFile, EditFile, ListFiles, SearchFiles),
  Effect.gen(function* () {
    const sandboxes = yield* Sandboxes
    const session = Effect.flatMap(CurrentTurn, ({ agent, conversation, rights }) =>
      sandboxes.session(agent, conversation, rights)
    )
    const exec = (command: Command) => Effect.scoped(Effect.flatMap(session, (open) => run(open, command)))
    const readText = Effect.fnUntraced(function* (file: string) {
      const bytes = yield* Effect.scoped(Effect.flatMap(session, (open) => open.readFile(file)))
      if (bytes.subarray(0, 8192).includes(0)) {
        return yield* refuse(file, `is no text (${bytes.length.toLocaleString("en-US")} bytes)`)
      }
      return new TextDecoder().decode(bytes)
    })
    const writeText = (file: string, text: string) =>
      Effect.scoped(Effect.flatMap(session, (open) => open.writeFile(file, new TextEncoder().encode(text))))

    return {
      bash: ({ command, timeout_seconds = 120 }) => {
        const deadline = Duration.seconds(timeout_seconds)
        return Effect.map(exec({ run: command, deadline }), (result) => report(result, Duration.format(deadline)))
      },
      read_file: ({ from_line = 1, lines = 2000, path: file }) =>
        Effect.map(readText(file), (text) => {
          const all = text.split("\n")
          const some = all.slice(from_line - 1, from_line - 1 + lines)
          const rest = all.length - (from_line - 1) - some.length
          return (
            clip(some.join("\n")) + (rest > 0 ? `\n[${rest} more lines, from line ${from_line + some.length}]` : "")
          )
        }),
      write_file: ({ content, path: file }) =>
        Effect.as(writeText(file, content), `wrote ${content.length} characters to ${file}`),
      edit_file: Effect.fnUntraced(function* ({ new_text, old_text, path: file, replace_all = false }) {
        const text = yield* readText(file)
        const found = text.split(old_text).length - 1
        if (found === 0) return yield* refuse(file, "does not contain old_text")
        if (found > 1 && !replace_all) {
          return yield* refuse(
            file,
            `contains old_text ${found} times; give more of its surroundings, or set replace_all`
          )
        }
        yield* writeText(file, text.split(old_text).join(new_text))
        return `replaced ${found === 1 ? "1 place" : `${found} places`} in ${file}`
      }),
      list_files: ({ path: folder = "." }) => {
        const list = 'cd "$1" && find . -mindepth 1 -name .git -prune -o -mindepth 1 -print | sort | head -n 500'
        return Effect.map(exec({ run: ["bash", "-c", list, "bash", folder] }), (result) => report(result, "2m"))
      },
      search_files: ({ path: folder = ".", pattern }) =>
        // The virtual shell's `rg` knows no `--`.
        Effect.map(
          exec({ run: ["rg", "--line-number", "--max-count=50", "-e", pattern, folder.replace(/^-/, "./-")] }),
          (result) => (result.code === 1 && result.stderr === "" ? "[nothing found]" : report(result, "2m"))
        )
    }
  })
)
