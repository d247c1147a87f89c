/**
 * A streamed response as a whole one: the deltas of each text joined.
 */
import type * as Response from "effect/ai/Response"

export const toParts = (stream: ReadonlyArray<Response.StreamPartEncoded>): Array<Response.PartEncoded> => {
  const parts: Array<Response.PartEncoded> = []
  const texts = new Map<string, string>()
  for (const part of stream) {
    switch (part.type) {
      case "text-delta":
      case "reasoning-delta":
        texts.set(part.id, (texts.get(part.id) ?? "") + part.delta)
        break
      case "text-end":
        parts.push({ type: "text", text: texts.get(part.id) ?? "", metadata: part.metadata })
        break
      case "reasoning-end":
        parts.push({ type: "reasoning", text: texts.get(part.id) ?? "", metadata: part.metadata })
        break
      case "tool-call":
      case "finish":
      case "response-metadata":
        parts.push(part)
        break
    }
  }
  return parts
}
