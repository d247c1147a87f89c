/**
 * Leaks: secrets in text on its way out of the claw.
 *
 * Looked for are the values of the vault, plain and in the usual encodings, and what has the unmistakable form of somebody's
 * key. It is a net against accidents and clumsy theft: who has a secret and a channel can always hide the one in the other.
 * What keeps a secret in is that nothing inside a sandbox is given it.
 */
import * as Base64 from "effect/encoding/Base64"
import * as Hex from "effect/encoding/Hex"
import * as Redacted from "effect/Redacted"
import * as RegExp from "effect/RegExp"

/** What is shown in a secret's place. */
export const mark = "[REDACTED]"

/** Keys by their forms, as their issuers document them. Hashes, ids and names have none of these. */
const keys = [
  "\\b(?:AKIA|ASIA)[0-9A-Z]{16}\\b",
  "\\bAIza[0-9A-Za-z_-]{35}\\b",
  "\\bgh[pousr]_[0-9A-Za-z]{36,}\\b",
  "\\bgithub_pat_[0-9A-Za-z_]{60,}\\b",
  "\\bglpat-[0-9A-Za-z_-]{20,}",
  "\\bnpm_[0-9A-Za-z]{36}\\b",
  "\\bpypi-AgEIcHlwaS5vcmc[0-9A-Za-z_-]{50,}",
  "\\bsk-(?:ant|proj|or|svcacct)-[0-9A-Za-z_-]{24,}",
  "\\bsk-[0-9A-Za-z]{48}\\b",
  "\\b[rs]k_live_[0-9A-Za-z]{16,}\\b",
  "\\bxox[abeoprs]-[0-9A-Za-z-]{20,}",
  "\\b\\d{8,10}:AA[0-9A-Za-z_-]{33}\\b",
  "-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----(?:\\s*(?:\\n|\\\\n)[A-Za-z0-9+/=]+|\\s*\\n[\\w-]+: .*)+\\s*(?:-----END (?:[A-Z]+ )*PRIVATE KEY-----)?"
]

/** Proofs of who somebody is, which a program may well send to whom they are for. */
const tokens = [
  "\\bBearer\\s+(?=\\S*\\d)[A-Za-z0-9._~+/-]{20,}=*",
  "\\beyJ[A-Za-z0-9_-]{8,}\\.eyJ[A-Za-z0-9_-]{8,}\\.[A-Za-z0-9_-]{8,}"
]

/** A secret's bytes where they stand in the middle of other bytes in base64, for each of the three ways to meet its groups. */
const inBase64 = (bytes: Uint8Array): ReadonlyArray<string> =>
  [0, 1, 2].map((offset) => {
    const length = offset + bytes.length
    const encoded = Base64.encode(Uint8Array.from([...new Uint8Array(offset), ...bytes]))
    return encoded.slice(offset === 0 ? 0 : offset + 1, Math.floor((length * 8) / 6))
  })

const asHtml = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;")

/** The forms of a secret. Bytes are also looked for as characters of one byte each, which is how a body is read. */
export const formsOf = (secret: string): ReadonlyArray<string> => {
  const bytes = new TextEncoder().encode(secret)
  const once = inBase64(bytes)
  const base64 = [...once, ...once.flatMap((text) => inBase64(new TextEncoder().encode(text)))]
  const hex = Hex.encode(bytes)
  const percent = encodeURIComponent(secret)
  const strict = percent.replace(/[!'()*]/g, (one) => `%${one.charCodeAt(0).toString(16).toUpperCase()}`)
  const percents = [percent, strict, percent.replaceAll("%20", "+"), strict.replaceAll("%20", "+")]
  const json = JSON.stringify(secret).slice(1, -1)
  const inHtml = json.replace(/[&<>]/g, (one) => `\\u00${one.charCodeAt(0).toString(16)}`)
  return [
    secret,
    String.fromCharCode(...bytes),
    // UTF-16.
    secret.split("").join("\0"),
    ...percents,
    ...percents.map((text) => text.replace(/%../g, (code) => code.toLowerCase())),
    // As the encoders of JavaScript, Go and PHP write it.
    ...[json, inHtml].flatMap((text) => [text, text.replaceAll("/", "\\/")]),
    ...["'", "&#39;", "&#x27;", "&apos;"].map((apostrophe) => asHtml(secret).replaceAll("'", apostrophe)),
    ...base64,
    ...base64.map((text) => text.replaceAll("+", "-").replaceAll("/", "_")),
    hex,
    hex.toUpperCase()
  ]
}

/** A character by its number, written in percent signs, as JSON's `\u0041` or `\x41`, or as HTML's `&#65;` or `&#x41;`. */
const numbered = /%([0-9a-f]{2})|\\(?:u00|x)([0-9a-f]{2})|&#(?:x0*([0-9a-f]{2})|0*(\d{2,3}));/gi

/** Takes characters that are written as numbers apart, and those that come out of it: to four deep. */
const decoded = (text: string, depth = 4): string => {
  const next = text.replace(numbered, (_, ...[percent, json, hex, decimal]: ReadonlyArray<string | undefined>) =>
    String.fromCharCode(decimal === undefined ? Number.parseInt(percent ?? json ?? hex ?? "", 16) : Number(decimal))
  )
  return next === text || depth === 1 ? next : decoded(next, depth - 1)
}

/** Where the end of a text begins that more text may make a secret of. */
const openFrom = (text: string, forms: ReadonlyArray<string>, secrets: globalThis.RegExp): number => {
  const key = text.search(/-----BEGIN [A-Z ]{0,30}(?:-{0,5}$|PRIVATE KEY-----(?![^]*-----END[^]*-----\s))/)
  const starts = forms.map((form) => {
    let length = Math.min(form.length - 1, text.length)
    while (length > 0 && !text.endsWith(form.slice(0, length))) length--
    return text.length - length
  })
  const end = Math.min(text.search(/(?:\bBearer\s+)?\S*$/), key === -1 ? text.length : key, ...starts)
  // One that is whole is not cut in two.
  const around = [...text.matchAll(secrets)].find(({ 0: found, index }) => index < end && end < index + found.length)
  return around?.index ?? end
}

/** Looks for the secrets of a vault, and for keys and tokens by their form. */
export const make = (vault: ReadonlyMap<string, Redacted.Redacted>) => {
  const forms = [...new Set([...vault.values()].flatMap((secret) => formsOf(Redacted.value(secret))))]
  forms.sort((a, b) => b.length - a.length)
  const written = forms.map((form) => RegExp.escape(form))
  const stored = new globalThis.RegExp(written.join("|"), "g")
  const kept = new globalThis.RegExp(written.join("|"))
  const digits = new globalThis.RegExp(forms.filter((form) => /^[0-9a-f]+$/.test(form)).join("|"), "i")
  const leaking = new globalThis.RegExp([...written, ...keys].join("|"))
  const shown = new globalThis.RegExp([...written, ...tokens, ...keys].join("|"), "g")
  return {
    /** Whether a request's text holds a secret of the vault or somebody's key. */
    isIn: (text: string) =>
      leaking.test(text) ||
      (/[%\\&]/.test(text) && leaking.test(decoded(text))) ||
      // Base64 and hexadecimal in lines or pairs, in letters of either case.
      (written.length > 0 && (kept.test(text.replace(/\s+/g, "")) || digits.test(text.replace(/[\s:-]+|0x/g, "")))),
    /** The text with every secret of the vault replaced by `mark`, and nothing else. */
    hide: (text: string) => (written.length === 0 ? text : text.replace(stored, mark)),
    /** The text with every secret, key and token in it replaced by `mark`. */
    mask: (text: string) => text.replace(shown, mark),
    /** Where the end of a text begins that more text may make a secret of. */
    openFrom: (text: string) => openFrom(text, forms, shown),
    /** Characters of text in which the longest secret fits, encoded: what has to be seen at once. */
    span: Math.max(2048, 3 * (forms[0]?.length ?? 0))
  }
}

/** What looks for secrets. */
export type Leaks = ReturnType<typeof make>

/** The most that is held back of a text that comes in pieces, in characters. */
const heldAtMost = 8192

/** Masks a text that comes in pieces: what may be a secret's beginning is held back until more has come. */
export const inPieces = (leaks: Leaks): { readonly next: (piece: string) => string; readonly end: () => string } => {
  let held = ""
  const release = (end: number) => {
    const ready = leaks.mask(held.slice(0, end))
    held = held.slice(end)
    return ready
  }
  return {
    next: (piece) => {
      held += piece
      return release(held.length > heldAtMost ? held.length : leaks.openFrom(held))
    },
    end: () => release(held.length)
  }
}
