/**
 * How much an agent may spend, as data: `{ perDay: "2 USD" }`, `{ perTurn: "50000 tokens", perDay: "1 USD" }`.
 */
import * as Schema from "effect/Schema"
import { AgentName, ConversationId } from "./Message.ts"

/** Money or tokens, as it is written in an agent's definition. */
export const AmountInput = Schema.Union([
  Schema.TemplateLiteral([Schema.Finite, " USD"]),
  Schema.TemplateLiteral([Schema.Finite, " tokens"])
])
export type AmountInput = typeof AmountInput.Type

/** An amount of money, in micro-dollars, or of tokens, all kinds counted alike. */
export interface Amount {
  readonly unit: "microdollars" | "tokens"
  readonly value: number
}

/** What an agent may spend. A day is one of the claw's home zone. Absent: no bound. */
export interface Budget {
  readonly perDay?: AmountInput
  readonly perTurn?: AmountInput
}

/** The budget of an agent in one of its turns, which is given by the position that it began at. */
export const Purse = Schema.Struct({
  agent: AgentName,
  conversation: ConversationId,
  turn: Schema.Int,
  perDay: Schema.optionalKey(AmountInput),
  perTurn: Schema.optionalKey(AmountInput)
})
export type Purse = typeof Purse.Type

/** Reads an amount. Throws on one that cannot be read, because a definition is code. */
export const amount = (input: AmountInput): Amount => {
  const match = /^\s*(\d+(?:\.\d+)?)\s*(USD|tokens)\s*$/.exec(input)
  if (match === null) throw new Error(`"${input}" is no amount; write "2 USD" or "50000 tokens"`)
  return match[2] === "USD"
    ? { unit: "microdollars", value: Math.round(Number(match[1]) * 1_000_000) }
    : { unit: "tokens", value: Number(match[1]) }
}

/** The amounts of a budget. Throws on one that cannot be read. */
export const amounts = ({ perDay, perTurn }: Budget): ReadonlyArray<Amount> =>
  [perDay, perTurn].flatMap((written) => (written === undefined ? [] : [amount(written)]))

/** For people: `$0.0123`, `50,000 tokens`. */
export const format = ({ unit, value }: Amount): string =>
  unit === "tokens" ? `${value.toLocaleString("en-US")} tokens` : `$${(value / 1_000_000).toFixed(4)}`
