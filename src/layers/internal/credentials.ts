/**
 * Credentials on the wire: a secret takes its placeholder's place in what goes to its host, and the placeholder takes the
 * secret's place in what comes back.
 */
import type { Rule } from "../../services/Egress.ts"
import { formsOf } from "../../services/Leaks.ts"
import { placeholder } from "../../services/Vault.ts"

/** A header's name and value. */
export type Header = readonly [name: string, value: string]

/** A rule's secret, put in and taken out. */
export interface Credential {
  readonly inPath: (path: string) => string
  readonly inHeaders: (headers: ReadonlyArray<Header>) => ReadonlyArray<Header>
  /** Takes it out of an answer that repeats it, in any of its forms, given as characters of one byte each. */
  readonly outOf: (text: string) => string
  /** Characters in which its longest form fits. */
  readonly span: number
}

/** User and password are base64 together, and a placeholder may stand for either. */
const inBasic = (value: string, fill: (text: string) => string): string => {
  const encoded = /^Basic +([A-Za-z0-9+/=_-]+)$/i.exec(value)?.[1]
  return encoded === undefined
    ? fill(value)
    : `Basic ${Buffer.from(fill(Buffer.from(encoded, "base64").toString("utf8"))).toString("base64")}`
}

/** The secret of a rule. */
export const credential = ({ adds, secret: name = "" }: Rule, secret: string): Credential => {
  const sign = placeholder(name)
  const forms = [...new Set(formsOf(secret))].sort((a, b) => b.length - a.length)
  // The name of another secret may begin with this one's.
  const signs = new RegExp(`${sign}(?![A-Z0-9_])`, "g")
  const fill = (text: string) => text.replace(signs, () => secret)
  return {
    inPath: (path) => path.replace(signs, () => encodeURIComponent(secret)),
    inHeaders: (headers) => {
      const filled = headers.map(([header, value]): Header => [header, inBasic(value, fill)])
      const isThere = adds === undefined || headers.some(([header]) => header.toLowerCase() === adds.name)
      return isThere ? filled : [...filled, [adds.name, adds.value.replaceAll("{secret}", () => secret)]]
    },
    outOf: (text) => forms.reduce((rest, form) => rest.replaceAll(form, () => sign), text),
    span: (forms[0]?.length ?? 1) - 1
  }
}
