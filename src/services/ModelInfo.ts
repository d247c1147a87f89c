/**
 * What is known of a language model beside how to call it: its name, its sizes, its price.
 *
 * `effect/ai`'s `LanguageModel` is the model; any Effect provider fits. A model layer that knows more says so here; the
 * defaults are for one that says nothing.
 */
import type * as Response from "effect/ai/Response"
import * as Context from "effect/Context"
import * as Struct from "effect/Struct"

/** US dollars per million tokens. */
export interface Price {
  readonly input: number
  readonly output: number
  readonly cacheRead: number
  readonly cacheWrite: number
}

/** A model's name and numbers. */
export interface ModelInfo {
  readonly name: string
  /** The most tokens a request may hold. Default 200,000. */
  readonly contextTokens: number
  /** The most tokens an answer may hold: what a reservation assumes. Default 8,192. */
  readonly outputTokens: number
  /** Without a price, a budget in money cannot be kept, and a claw with such a budget is refused. */
  readonly price: Price | undefined
}

/** The current model's name and numbers. */
export const ModelInfo = Context.Reference<ModelInfo>("effect-claw/services/ModelInfo", {
  defaultValue: () => ({ name: "unknown", contextTokens: 200_000, outputTokens: 8192, price: undefined })
})

/** The tokens that were used, each counted once. */
export const tokensOf = ({ inputTokens, outputTokens }: Response.Usage) => {
  const { cacheRead = 0, cacheWrite = 0, total = 0, uncached } = inputTokens
  const input = uncached ?? Math.max(0, total - cacheRead - cacheWrite)
  return { input, cacheRead, cacheWrite, output: outputTokens.total ?? 0 }
}

/** What tokens cost, in micro-dollars (a token at one dollar per million is one). Unpriced: 0. */
export const cost = (price: Price | undefined, usage: Response.Usage): number => {
  if (price === undefined) return 0
  const tokens = tokensOf(usage)
  return Math.ceil(Struct.keys(tokens).reduce((sum, kind) => sum + tokens[kind] * price[kind], 0))
}
