/**
 * The Messages API's rules, as far as a client can break them: what a request is refused for, and what of it is read from
 * the prompt cache. They are those of API version 2026-10-21 for models with preserved thinking.
 */
import type Anthropic from "@anthropic-ai/sdk"
import * as Predicate from "effect/Predicate"
import { createHash } from "node:crypto"
import type { IncomingHttpHeaders } from "node:http"

type Body = Anthropic.MessageCreateParamsStreaming

/** The most bytes of a request. */
export const largest = 32 * 1024 * 1024

/** Tokens read: anew, from the cache, and into it. A token is four characters here. */
export interface InputUsage {
  readonly input: number
  readonly cacheRead: number
  readonly cacheWrite: number
}

const blocksOf = (content: Anthropic.MessageParam["content"]): ReadonlyArray<Anthropic.ContentBlockParam> =>
  typeof content === "string" ? [{ type: "text", text: content }] : content

/** A request in the order in which it is read: tools, instructions, messages. */
const inOrder = ({
  messages,
  system = [],
  tools = []
}: Body): ReadonlyArray<readonly [role: string, block: object]> => [
  ...tools.map((tool) => ["tool", tool] as const),
  ...(typeof system === "string" ? [{ type: "text", text: system }] : system).map(
    (block) => ["system", block] as const
  ),
  ...messages.flatMap(({ content, role }) => blocksOf(content).map((block) => [role, block] as const))
]

const isMarked = (block: object): boolean => "cache_control" in block && Predicate.isObject(block.cache_control)

/** A block as it counts: without its mark, whatever the order of its fields. */
const line = (role: string, block: object): string =>
  `${role} ${JSON.stringify(block, (key, value: unknown) => {
    if (key === "cache_control") return undefined
    return Predicate.isObject(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value
  })}\n`

/**
 * The prompt cache. A marked block writes everything up to it; what is read is the longest beginning that was written
 * before and ends at most twenty blocks before a mark.
 */
export const makeCache = () => {
  const written = new Set<string>()
  return (body: Body): InputUsage => {
    const prefixes: Array<{ readonly key: string; readonly tokens: number; readonly marked: boolean }> = []
    const hash = createHash("sha256")
    let characters = 0
    for (const [role, block] of inOrder(body)) {
      const next = line(role, block)
      characters += next.length
      const key = hash.update(next).copy().digest("hex")
      prefixes.push({ key, tokens: Math.ceil(characters / 4), marked: isMarked(block) })
    }
    let read = 0
    let write = 0
    for (const [index, { marked, tokens }] of prefixes.entries()) {
      if (!marked) continue
      const known = prefixes.slice(Math.max(0, index - 20), index + 1).filter(({ key }) => written.has(key))
      read = Math.max(read, ...known.map((prefix) => prefix.tokens))
      write = tokens
    }
    for (const { key, marked } of prefixes) if (marked) written.add(key)
    const total = prefixes.at(-1)?.tokens ?? 0
    return { input: total - Math.max(read, write), cacheRead: read, cacheWrite: Math.max(0, write - read) }
  }
}

/**
 * Signs the thoughts of an answer to a request. A signature is good for this model, this thought, and exactly what went
 * before it.
 */
export const signer = (body: Body) => {
  const hash = createHash("sha256")
  for (const [role, block] of inOrder(body)) hash.update(line(role, block))
  return {
    sign: (thinking: string) => `${body.model}.${hash.copy().update(thinking).digest("base64")}`,
    /** Another block stands before what is signed next. */
    said: (role: string, block: object) => void hash.update(line(role, block))
  }
}

/** How a refusal of thoughts from another conversation begins; the only one that a client may well provoke. */
export const boundElsewhere = "Invalid `signature` in `thinking` block. The block is bound to a different conversation"

function* signatureFaults(body: Body): Generator<string> {
  const { sign, said } = signer({ ...body, messages: [] })
  for (const [index, { content, role }] of body.messages.entries()) {
    for (const [ordinal, block] of blocksOf(content).entries()) {
      if (block.type === "thinking") {
        const [model] = block.signature.split(/\.(?=[^.]*$)/)
        const at = `messages.${index}.content.${ordinal}`
        if (block.signature === "") yield `${at}: Invalid \`signature\` in \`thinking\` block`
        // A thought that this model cannot read is ignored.
        if (model === body.model && block.signature !== sign(block.thinking)) {
          yield `${at}: ${boundElsewhere}. Remove the block.`
        }
      }
      said(role, block)
    }
  }
}

/** The first reason for which the API would refuse a request as invalid. */
export const fault = (headers: IncomingHttpHeaders, body: Body): string | undefined =>
  faults(headers, body).next().value

function* faults(headers: IncomingHttpHeaders, body: Body): Generator<string, undefined> {
  if (headers["anthropic-version"] !== "2026-10-21") yield "anthropic-version: header is required"
  if (!/^application\/json\b/.test(headers["content-type"] ?? "")) yield "content-type must be application/json"
  if (!Predicate.isObject(body)) return yield "the body is no object"
  if (typeof body.model !== "string" || body.model === "") yield "model: Field required"
  if (!Number.isInteger(body.max_tokens) || body.max_tokens < 1) yield "max_tokens: Field required"
  if (!body.stream) yield "stream: this server only streams"
  if (!isWellFormed(body)) yield "The request body is not valid JSON: no low surrogate in string"
  if (!Array.isArray(body.messages) || body.messages.length === 0) yield "messages: at least one message is required"
  yield* thinkingFaults(body)
  yield* toolFaults(body)
  const system = typeof body.system === "string" ? [] : (body.system ?? [])
  if (system.some(({ text }) => text.trim() === "")) yield "system: text content blocks must be non-empty"
  const marks = inOrder(body).filter(([, block]) => isMarked(block)).length
  if (marks > 4) yield `A maximum of 4 blocks with cache_control may be provided. Found ${marks}.`
  let expected = "user"
  for (const [index, { content, role }] of body.messages.entries()) {
    if (role !== expected) yield `messages.${index}: roles must alternate, found "${role}" where "${expected}" was due`
    expected = role === "user" ? "assistant" : "user"
    yield* contentFaults(`messages.${index}.content`, blocksOf(content), role)
    yield* pairFaults(index, body.messages)
  }
  for (const gone of ["temperature", "top_p", "top_k"])
    if (gone in body) yield `${gone}: Extra inputs are not permitted`
  if (body.messages.at(-1)?.role !== "user") yield "the conversation must end with a user message"
  yield* signatureFaults(body)
  return undefined
}

const isWellFormed = (value: unknown): boolean => {
  if (typeof value === "string") return value.isWellFormed()
  return !Predicate.isObjectOrArray(value) || Object.entries(value).every((entry) => entry.every(isWellFormed))
}

function* thinkingFaults({ max_tokens, model, thinking: mode }: Body): Generator<string> {
  if (mode?.type !== "enabled") return
  if (!/-4-[0-6]\b/.test(model)) yield "thinking.type: Input should be 'adaptive', 'between_tools' or 'disabled'"
  if (mode.budget_tokens < 1024) yield "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
  if (mode.budget_tokens >= max_tokens) yield "`max_tokens` must be greater than `thinking.budget_tokens`"
}

function* toolFaults({ messages, tool_choice, tools = [] }: Body): Generator<string> {
  const names = tools.map((tool) => ("name" in tool ? tool.name : ""))
  if (new Set(names).size < names.length) yield "tools: Tool names must be unique."
  if (tool_choice?.type === "any" || tool_choice?.type === "tool") yield "tool_choice: forced tool use is not supported"
  if (tool_choice !== undefined && tools.length === 0) yield "tool_choice may only be specified while providing tools"
  for (const [index, tool] of tools.entries()) {
    if (!("input_schema" in tool)) continue
    if (!/^[a-zA-Z0-9_-]{1,128}$/.test(tool.name)) yield `tools.${index}.custom.name: String should match pattern`
    if (tool.input_schema.type !== "object") yield `tools.${index}.custom.input_schema.type: Field required`
  }
  if (tools.length > 0) return
  for (const { content } of messages) {
    if (blocksOf(content).some(({ type }) => type === "tool_use")) {
      yield "Requests which include `tool_use` or `tool_result` blocks must define tools"
    }
  }
}

const base64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/

/** How the file of each type begins, in base64. */
const magic: Readonly<Record<string, string>> = {
  "image/png": "iVBORw0KGgo",
  "image/jpeg": "/9j/",
  "image/gif": "R0lGOD",
  "image/webp": "UklGR"
}

/** What may stand in a tool's result. */
type ResultBlock = Exclude<Anthropic.ToolResultBlockParam["content"], string | undefined>[number]

function* contentFaults(
  at: string,
  content: ReadonlyArray<Anthropic.ContentBlockParam | ResultBlock>,
  role: string
): Generator<string> {
  if (content.length === 0) yield `${at}: all messages must have non-empty content`
  for (const [index, block] of content.entries()) {
    const path = `${at}.${index}`
    switch (block.type) {
      case "text":
        if (block.text === "") yield `${path}: text content blocks must be non-empty`
        if (block.text.trim() === "") yield `${path}: text content blocks must contain non-whitespace text`
        break
      case "thinking":
        if (role !== "assistant") yield `${path}: thinking blocks may only be in assistant messages`
        if (isMarked(block)) yield `${path}.thinking.cache_control: Extra inputs are not permitted`
        break
      case "image": {
        const { source } = block
        if (role !== "user") yield `${path}: images may only be in user messages`
        if (source.type !== "base64") break
        const begin = magic[source.media_type]
        if (begin === undefined) yield `${path}.source.base64.media_type: Input should be an image's`
        if (!base64.test(source.data)) yield `${path}.source.base64: invalid base64 data`
        if (begin !== undefined && !source.data.startsWith(begin)) yield `${path}: Could not process image`
        break
      }
      case "tool_use":
        if (role !== "assistant") yield `${path}: tool_use blocks may only be in assistant messages`
        if (!/^[a-zA-Z0-9_-]+$/.test(block.id)) yield `${path}.tool_use.id: String should match pattern`
        if (!Predicate.isObject(block.input)) yield `${path}.tool_use.input: Input should be a valid dictionary`
        break
      case "tool_result":
        if (role !== "user") yield `${path}: tool_result blocks may only be in user messages`
        if (Array.isArray(block.content)) yield* contentFaults(`${path}.content`, block.content, "user")
        break
    }
  }
}

/** Every call has its result in the next message, before anything else there; every result its call. */
function* pairFaults(index: number, messages: Body["messages"]): Generator<string> {
  const [before = [], own = [], after = []] = [index - 1, index, index + 1].map((at) =>
    blocksOf(messages[at]?.content ?? [])
  )
  const calls = own.flatMap((block) => (block.type === "tool_use" ? [block.id] : []))
  if (new Set(calls).size < calls.length) yield `messages.${index}: \`tool_use\` ids must be unique`
  const leading = after.findIndex(({ type }) => type !== "tool_result")
  const results = new Set(
    (leading === -1 ? after : after.slice(0, leading)).map((block) =>
      block.type === "tool_result" ? block.tool_use_id : ""
    )
  )
  const missing = calls.filter((id) => !results.has(id))
  if (missing.length > 0) {
    yield `messages.${index}: \`tool_use\` ids were found without \`tool_result\` blocks immediately after: ${missing.join(", ")}`
  }
  const asked = new Set(before.flatMap((block) => (block.type === "tool_use" ? [block.id] : [])))
  for (const block of own) {
    if (block.type !== "tool_result") continue
    if (!asked.has(block.tool_use_id)) {
      yield `messages.${index}: unexpected \`tool_use_id\` found in \`tool_result\` blocks: ${block.tool_use_id}`
    }
  }
}
