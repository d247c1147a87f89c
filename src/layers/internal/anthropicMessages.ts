/**
 * The Messages API's shapes: a prompt as a request, and the events of an answer as `effect/ai`'s parts.
 */
import type Anthropic from "@anthropic-ai/sdk"
import { toCodecAnthropic } from "effect/ai/AnthropicStructuredOutput"
import type * as LanguageModel from "effect/ai/LanguageModel"
import type * as Prompt from "effect/ai/Prompt"
import type * as Response from "effect/ai/Response"
import * as Tool from "effect/ai/Tool"
import * as Predicate from "effect/Predicate"
import { escape } from "../../services/PromptBorder.ts"

type Block = Anthropic.ContentBlockParam

/** Where a provider's own data of a part is kept: a thought's signature, without which it cannot be sent back. */
const provider = "anthropic"

const cached = { cache_control: { type: "ephemeral" } } as const

const own = (options: Prompt.ProviderOptions, key: string): string | undefined => {
  const data = options[provider]
  return Predicate.hasProperty(data, key) && typeof data[key] === "string" ? data[key] : undefined
}

/** Ids of calls that came from another provider may have letters that this one refuses. */
const callId = (id: string): string => id.replace(/[^a-zA-Z0-9_-]/g, "_")

const imageTypes = ["image/jpeg", "image/png", "image/gif", "image/webp"] as const

const file = ({ data, fileName, mediaType }: Prompt.FilePart): Block => {
  const type = imageTypes.find((known) => known === mediaType)
  if (data instanceof URL) {
    return type === undefined
      ? { type: "document", source: { type: "url", url: data.href } }
      : { type: "image", source: { type: "url", url: data.href } }
  }
  const base64 = typeof data === "string" ? data.replace(/^data:[^,]*,/, "") : Buffer.from(data).toString("base64")
  if (type !== undefined) return { type: "image", source: { type: "base64", media_type: type, data: base64 } }
  if (mediaType === "application/pdf") {
    return { type: "document", source: { type: "base64", media_type: mediaType, data: base64 } }
  }
  return { type: "text", text: `[a file that cannot be shown: ${escape(`${fileName ?? "unnamed"}, ${mediaType}`)}]` }
}

// The API takes neither empty texts nor halves of a surrogate pair, which a cut may leave.
const text = (part: Prompt.TextPart): ReadonlyArray<Block> =>
  part.text.trim() === "" ? [] : [{ type: "text", text: part.text.toWellFormed() }]

const wellFormed = (value: object): unknown =>
  JSON.parse(
    JSON.stringify(value, (_key, inner: unknown) => (typeof inner === "string" ? inner.toWellFormed() : inner))
  )

const userBlock = (part: Prompt.UserMessagePart): ReadonlyArray<Block> => {
  if (part.type === "file") return [file(part)]
  return text(part)
}

const assistantBlock = (part: Prompt.AssistantMessagePart): ReadonlyArray<Block> => {
  switch (part.type) {
    case "text":
      return text(part)
    case "reasoning": {
      const signature = own(part.options, "signature")
      const redacted = own(part.options, "redacted")
      if (redacted !== undefined) return [{ type: "redacted_thinking", data: redacted }]
      return signature === undefined ? [] : [{ type: "thinking", thinking: part.text, signature }]
    }
    case "tool-call":
      // Arguments that were no object when they came cannot be sent back as they were.
      return [
        {
          type: "tool_use",
          id: callId(part.id),
          name: part.name,
          input: wellFormed(Predicate.isObject(part.params) ? part.params : { invalid: String(part.params) })
        }
      ]
    default:
      return []
  }
}

const toolBlock = (part: Prompt.ToolMessagePart): ReadonlyArray<Block> => {
  if (part.type !== "tool-result") return []
  const written = typeof part.result === "string" ? part.result : JSON.stringify(part.result)
  const shown = (part.modelOutput ?? [])
    .flatMap(userBlock)
    .filter((block) => block.type === "text" || block.type === "image")
  return [
    {
      type: "tool_result",
      tool_use_id: callId(part.id),
      content: shown.length > 0 ? shown : written === "" ? "[empty]" : written.toWellFormed(),
      ...(part.isFailure ? { is_error: true } : {})
    }
  ]
}

/** Marks the last block, so that the conversation up to here is cached for the next request. */
const cacheLast = (blocks: Array<Block>): Array<Block> =>
  blocks.map((block, index) =>
    index === blocks.length - 1 && block.type !== "thinking" && block.type !== "redacted_thinking"
      ? { ...block, ...cached }
      : block
  )

const toolChoice = (choice: LanguageModel.ToolChoice<string>): Anthropic.ToolChoice => {
  if (choice === "auto" || choice === "none") return { type: choice }
  if (choice === "required") return { type: "any" }
  if ("tool" in choice) return { type: "tool", name: choice.tool }
  return { type: choice.mode === "required" ? "any" : "auto" }
}

/** A prompt as a request. Tools and instructions come first and never change, so they are cached together. */
export const request = (
  options: LanguageModel.ProviderOptions,
  settings: { readonly model: string; readonly maxTokens: number; readonly thinking?: Anthropic.ThinkingConfigParam },
  withThoughts = true
): Anthropic.MessageCreateParamsStreaming => {
  const system: Array<string> = []
  const messages: Array<{ role: "user" | "assistant"; content: Array<Block> }> = []
  const add = (role: "user" | "assistant", blocks: ReadonlyArray<Block>) => {
    const last = messages.at(-1)
    if (blocks.length === 0) return
    if (last?.role === role) last.content.push(...blocks)
    else messages.push({ role, content: [...blocks] })
  }
  for (const message of options.prompt.content) {
    switch (message.role) {
      case "system":
        system.push(message.content)
        break
      case "user":
        add("user", message.content.flatMap(userBlock))
        break
      case "assistant":
        add(
          "assistant",
          message.content.filter(({ type }) => withThoughts || type !== "reasoning").flatMap(assistantBlock)
        )
        break
      case "tool":
        add("user", message.content.flatMap(toolBlock))
        break
    }
  }
  const last = messages.at(-1)
  if (last?.role === "user") last.content = cacheLast(last.content)
  return {
    model: settings.model,
    max_tokens: settings.maxTokens,
    stream: true,
    messages,
    ...(system.length === 0 ? {} : { system: [{ type: "text", text: system.join("\n\n").toWellFormed(), ...cached }] }),
    ...(settings.thinking === undefined ? {} : { thinking: settings.thinking }),
    ...(options.tools.length === 0
      ? {}
      : {
          tools: options.tools.map((tool): Anthropic.Tool => ({
            name: tool.name,
            description: Tool.getDescription(tool) ?? "",
            input_schema: { type: "object", ...Tool.getJsonSchema(tool) }
          })),
          tool_choice: toolChoice(options.toolChoice)
        }),
    ...(options.responseFormat.type === "text"
      ? {}
      : {
          output_config: {
            format: { type: "json_schema", schema: toCodecAnthropic(options.responseFormat.schema).jsonSchema }
          }
        })
  }
}

const finishReasons: Readonly<Record<string, Response.FinishReason>> = {
  end_turn: "stop",
  stop_sequence: "stop",
  max_tokens: "length",
  model_context_window_exceeded: "length",
  tool_use: "tool-calls",
  refusal: "content-filter",
  pause_turn: "pause"
}

/** What is known of an answer so far. */
export interface Progress {
  readonly blocks: Map<number, { readonly type: string; readonly id: string; readonly name: string; text: string }>
  usage: {
    input_tokens?: number | null
    cache_read_input_tokens?: number | null
    cache_creation_input_tokens?: number | null
    output_tokens?: number | null
  }
  reason: Response.FinishReason
  finished: boolean
}

/** Nothing yet. */
export const begin = (): Progress => ({ blocks: new Map(), usage: {}, reason: "unknown", finished: false })

/** Arguments as they were written; a text that is no JSON is left for the tool guard to refuse. */
const parameters = (json: string): unknown => {
  if (json.trim() === "") return {}
  try {
    return Tool.unsafeSecureJsonParse(json)
  } catch {
    return json
  }
}

const usageOf = ({ usage }: Progress): typeof Response.Usage.Encoded => {
  const uncached = usage.input_tokens ?? 0
  const cacheRead = usage.cache_read_input_tokens ?? 0
  const cacheWrite = usage.cache_creation_input_tokens ?? 0
  return {
    inputTokens: { uncached, cacheRead, cacheWrite, total: uncached + cacheRead + cacheWrite },
    outputTokens: { total: usage.output_tokens ?? 0 }
  }
}

const known = (usage: object): Progress["usage"] =>
  Object.fromEntries(Object.entries(usage).filter(([, value]) => typeof value === "number"))

/** The parts that an event adds to an answer. */
export const parts = (
  progress: Progress,
  event: Anthropic.RawMessageStreamEvent
): ReadonlyArray<Response.StreamPartEncoded> => {
  switch (event.type) {
    case "message_start":
      progress.usage = known(event.message.usage)
      return [{ type: "response-metadata", id: event.message.id, modelId: event.message.model }]
    case "content_block_start": {
      const { content_block: block, index } = event
      const id = String(index)
      const isCall = block.type === "tool_use"
      progress.blocks.set(index, {
        type: block.type,
        id: isCall ? block.id : id,
        name: isCall ? block.name : "",
        text: block.type === "redacted_thinking" ? block.data : ""
      })
      if (block.type === "text") return [{ type: "text-start", id }]
      return block.type === "thinking" || block.type === "redacted_thinking" ? [{ type: "reasoning-start", id }] : []
    }
    case "content_block_delta": {
      const { delta, index } = event
      const id = String(index)
      const block = progress.blocks.get(index)
      if (delta.type === "text_delta") return [{ type: "text-delta", id, delta: delta.text }]
      if (delta.type === "thinking_delta") return [{ type: "reasoning-delta", id, delta: delta.thinking }]
      if (block !== undefined && delta.type === "signature_delta") block.text += delta.signature
      if (block !== undefined && delta.type === "input_json_delta") block.text += delta.partial_json
      return []
    }
    case "content_block_stop": {
      const id = String(event.index)
      const block = progress.blocks.get(event.index)
      switch (block?.type) {
        case "text":
          return [{ type: "text-end", id }]
        case "thinking":
          return [{ type: "reasoning-end", id, metadata: { [provider]: { signature: block.text } } }]
        case "redacted_thinking":
          return [{ type: "reasoning-end", id, metadata: { [provider]: { redacted: block.text } } }]
        case "tool_use":
          return [{ type: "tool-call", id: block.id, name: block.name, params: parameters(block.text) }]
        default:
          return []
      }
    }
    case "message_delta":
      progress.usage = { ...progress.usage, ...known(event.usage) }
      progress.reason = finishReasons[event.delta.stop_reason ?? ""] ?? "unknown"
      return []
    case "message_stop":
      progress.finished = true
      return [{ type: "finish", reason: progress.reason, usage: usageOf(progress) }]
    default:
      // Kinds of events that are added later.
      return []
  }
}
