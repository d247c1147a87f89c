/**
 * A stand-in for a language model that needs no key and no network.
 *
 * It follows a handful of rules: it understands a few plain commands, calls the tool that each is for, and shows what
 * came back. It is there so that a newcomer can try every part of a claw, and knows no more than its rules.
 */
import * as LanguageModel from "effect/ai/LanguageModel"
import type * as Prompt from "effect/ai/Prompt"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { unescape, unwrapResult } from "../services/PromptBorder.ts"
import { stopped } from "../services/Transcript.ts"
import { ModelInfo } from "../services/ModelInfo.ts"
import { makeModel, type Reply, type ReplyCall } from "./internal/replies.ts"

/** What it understands, for people. */
export const help = `I am a rule-following stand-in, not a language model. I understand:
  run: echo hello            write notes.txt: some text      read notes.txt
  list files                 search for WORD                 remember that I like tea
  what do you know about tea remind me in ten seconds to stretch
  remind me every weekday at eight to stand up               list tasks, cancel ID
  ask researcher and coder: list files                       send notes.txt, react 👍
Set ANTHROPIC_API_KEY to talk to Claude instead.`

const numbers = "zero one two three four five six seven eight nine ten eleven twelve".split(" ")
const units: Readonly<Record<string, number>> = { second: 1, minute: 60, hour: 3600, day: 86_400 }
const days = "sunday monday tuesday wednesday thursday friday saturday".split(" ")

const number = (word: string): number => {
  const spelt = numbers.indexOf(word.toLowerCase())
  return spelt >= 0 ? spelt : /^an?$/i.test(word) ? 1 : Number(word)
}

const seconds = (amount: string, unit: string): number =>
  Math.round(number(amount) * (units[unit.toLowerCase()] ?? NaN))

/** None when a part of the time was not understood. */
const schedule = (task: string | undefined, when: Record<string, unknown>): ReplyCall | undefined =>
  Object.values(when).some((value) => value === undefined || Number.isNaN(value))
    ? undefined
    : { name: "schedule_task", params: { task, ...when } }

/** "weekday" and "eight", "8:30" or "8 pm" as a cron expression. */
const cron = (day: string, time: string): string | undefined => {
  const name = day.toLowerCase()
  const weekday = name === "day" ? "*" : name === "weekday" ? "1-5" : days.indexOf(name)
  const match = /^(\w+)(?::(\d\d))?(?:\s*(am|pm))?$/i.exec(time.trim())
  if (match === null || weekday === -1) return undefined
  const [, word = "", minute = "0", half = ""] = match
  const hour = number(word)
  const shift = /pm/i.test(half) && hour < 12 ? 12 : /am/i.test(half) && hour === 12 ? -12 : 0
  return Number.isInteger(hour) ? `${Number(minute)} ${hour + shift} * * ${weekday}` : undefined
}

type Rule = readonly [pattern: RegExp, call: (...groups: ReadonlyArray<string>) => ReplyCall | undefined]

const rules: ReadonlyArray<Rule> = [
  [/^(?:run:?|\$)\s+(.+)$/is, (command = "") => ({ name: "bash", params: { command } })],
  [/^write\s+(\S+?):\s*(.*)$/is, (path, content) => ({ name: "write_file", params: { path, content } })],
  [/^read\s+(\S+)$/i, (path) => ({ name: "read_file", params: { path } })],
  [/^list files(?:\s+in\s+(\S+))?$/i, (path) => ({ name: "list_files", params: path === undefined ? {} : { path } })],
  [/^search for\s+(.+)$/i, (pattern) => ({ name: "search_files", params: { pattern } })],
  [/^remember\s+(?:that\s+)?(.+)$/is, (text) => ({ name: "remember", params: { text } })],
  [
    /^(?:recall|what do you (?:know|remember)(?: about)?)\s*(.*?)\??$/is,
    (query = "") => ({ name: "recall", params: query === "" ? {} : { query } })
  ],
  [/^forget\s+(\d+)$/i, (id) => ({ name: "forget", params: { id: Number(id) } })],
  [
    /^remind me in\s+(\w+)\s+(second|minute|hour|day)s?(?:\s+(?:to|that|of))?\s+(.+)$/is,
    (amount = "", unit = "", task) => schedule(task, { in_seconds: seconds(amount, unit) })
  ],
  [
    /^remind me every\s+(\w+)\s+at\s+([\w:]+(?:\s*[ap]m)?)(?:\s+(?:to|that|of))?\s+(.+)$/is,
    (day = "", time = "", task) => schedule(task, { cron: cron(day, time) })
  ],
  [
    /^remind me every\s+(?:(\w+)\s+)?(second|minute|hour|day)s?(?:\s+(?:to|that|of))?\s+(.+)$/is,
    (amount = "one", unit = "", task) => schedule(task, { every_seconds: seconds(amount, unit) })
  ],
  [/^send\s+(\S+)$/i, (path) => ({ name: "send_file", params: { path } })],
  [/^react\s+(\S+)$/i, (emoji) => ({ name: "react", params: { emoji } })],
  [/^list (?:tasks|reminders)$/i, () => ({ name: "list_tasks", params: {} })],
  [
    /^(pause|resume|cancel)\s+(?:task\s+|reminder\s+)?(\w+)$/i,
    (change = "", id) => ({ name: "change_task", params: { change: change.toLowerCase(), id } })
  ],
  [
    /^ask\s+([\w-]+(?:(?:\s*,\s*|\s+and\s+)[\w-]+)*)\s*:\s*(.+)$/is,
    (names = "", brief) => {
      const agents = names.split(/\s*,\s*|\s+and\s+/i)
      return agents.length === 1
        ? { name: "delegate", params: { agent: agents[0], brief } }
        : { name: "delegate_all", params: { briefs: agents.map((agent) => ({ agent, brief })) } }
    }
  ]
]

/** A trigger, and what a channel says beside a person's own words. */
const aside = /^@\S+\s+|^\[in answer to: .*\]\n|\n?^\[(?:file: |a file could not).*\]$/gm

const understand = (text: string): ReplyCall | undefined => {
  for (const [pattern, make] of rules) {
    const match = pattern.exec(text.replace(aside, "").trim())
    const call = match === null ? undefined : make(...match.slice(1))
    if (call !== undefined) return call
  }
  return undefined
}

const wrapped = /^<(message|task|brief|notice|summary|transcript)[^>]*>(.*)<\/\1>$/s

/** What is new: the messages after the last answer. */
const latest = (prompt: Prompt.Prompt): ReadonlyArray<Prompt.Message> => {
  const last = prompt.content.findLastIndex(({ role }) => role === "assistant")
  return prompt.content.slice(last + 1).filter(({ role }) => role !== "system")
}

const shown = (result: unknown): string => (typeof result === "string" ? result : JSON.stringify(result))

const answerTo = (kind: string, text: string): Reply => {
  // It sums nothing up: what was said is shown as a digest then.
  if (kind === "notice" || kind === "summary" || kind === "transcript") return {}
  const call = understand(text)
  if (call !== undefined) return { calls: [call] }
  if (kind === "task") return { text: `Reminder: ${text}` }
  const [, file] = /^\[file: (.*?), /m.exec(text) ?? []
  if (file !== undefined) return { text: `I have ${file} now. Try: read ${file}` }
  if (/^(hi|hello|hey)\b/i.test(text)) return { text: `Hello! ${help}` }
  return { text: help }
}

const respond = (prompt: Prompt.Prompt): Reply => {
  const texts: Array<string> = []
  const calls: Array<ReplyCall> = []
  for (const message of latest(prompt)) {
    if (message.role === "tool") {
      for (const part of message.content) {
        // What was stopped is over; whoever stopped it asks for something else now.
        if (part.type !== "tool-result" || part.result === stopped) continue
        const result = unwrapResult(shown(part.result)).trimEnd()
        texts.push(part.isFailure ? `That did not work: ${result}` : result)
      }
    } else if (message.role === "user") {
      for (const part of message.content) {
        if (part.type !== "text") continue
        const [, kind = "message", inside = part.text] = wrapped.exec(part.text) ?? []
        const reply = answerTo(kind, unescape(inside).replaceAll("\u200b", ""))
        if (reply.text !== undefined) texts.push(reply.text)
        calls.push(...(reply.calls ?? []))
      }
    }
  }
  return { text: texts.join("\n\n"), calls }
}

/**
 * The stand-in.
 *
 * Provides `LanguageModel`, and its name and zero price as `ModelInfo`; requires nothing.
 */
export const layer: Layer.Layer<LanguageModel.LanguageModel> = Layer.merge(
  Layer.effect(
    LanguageModel.LanguageModel,
    makeModel(({ prompt }) => Effect.sync(() => respond(prompt)))
  ),
  Layer.succeed(ModelInfo, {
    name: "offline",
    contextTokens: 1_000_000,
    outputTokens: 8192,
    price: { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 }
  })
)
