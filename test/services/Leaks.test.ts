import { assert, describe, it } from "@effect/vitest"
import * as Egress from "effect-claw/services/Egress"
import * as Leaks from "effect-claw/services/Leaks"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { globSync, readFileSync } from "node:fs"
import { cases } from "../contracts/cases.ts"

const vaultOf = (...secrets: ReadonlyArray<string>) =>
  new Map(secrets.map((secret, index) => [`SECRET_${index}`, Redacted.make(secret)]))
const secret = "hunter2-hunter2-hunter2"
const leaks = Leaks.make(vaultOf(secret, "correct horse battery staple"))

const Text = Schema.Union([Schema.String, Schema.Struct({ base64: Schema.String })])
const Row = Schema.Struct({
  name: Schema.String,
  input: Schema.Struct({
    vault: Schema.optionalKey(Schema.String),
    url: Schema.optionalKey(Schema.String),
    header: Schema.optionalKey(Schema.String),
    body: Schema.optionalKey(Text),
    reply: Schema.optionalKey(Schema.String)
  }),
  expect: Schema.Struct({
    block: Schema.optionalKey(Schema.Boolean),
    equals: Schema.optionalKey(Schema.String),
    notContains: Schema.optionalKey(Schema.String),
    clean: Schema.optionalKey(Schema.Boolean)
  })
})

describe("Leaks", () => {
  const rows = cases("leaks", Row)
  it("has all the rows of the file", () => assert.strictEqual(rows.length, 9))

  for (const { expect, input, name } of rows) {
    it(`leaks: ${name}`, () => {
      const { isIn, mask } = Leaks.make(vaultOf(...(input.vault === undefined ? [] : [input.vault])))
      const { body, header, reply = "", url } = input
      if (expect.block === true) {
        const written = typeof body === "object" ? Buffer.from(body.base64).toString("base64") : body
        assert.isTrue(isIn([url, header, written].join("\n")))
      }
      if (expect.equals !== undefined) assert.strictEqual(mask(reply), expect.equals)
      if (expect.notContains !== undefined) assert.notInclude(mask(reply), expect.notContains)
      if (expect.clean === true) assert.strictEqual(mask(reply), reply)
    })
  }

  const short = Schema.String.check(Schema.isMaxLength(20))
  it.prop(
    "a secret is found in the middle of anything, in each of its usual forms",
    [short, short],
    ([before, after]) => {
      const text = Buffer.from(`${before}${secret}${after}`)
      const forms = [
        text.toString("latin1"),
        text.toString("base64"),
        text.toString("base64url"),
        text.toString("hex"),
        encodeURIComponent(text.toString("latin1")),
        [...text].map((byte) => `%${byte.toString(16)}`).join("")
      ]
      for (const form of forms) assert.isTrue(leaks.isIn(form), form)
    }
  )

  it("a secret is found in lines, pairs and letters of either case, and as encoders of other languages write it", () => {
    const odd = "a/b+c&d<e>'f\"g-12345"
    const { isIn, hide } = Leaks.make(vaultOf(odd, secret))
    const json = JSON.stringify(odd).slice(1, -1)
    const html = odd.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;")
    const percent = encodeURIComponent(odd)
    const written = [
      json,
      json.replaceAll("/", "\\/"),
      json.replace(/[&<>]/g, (one) => `\\u00${one.charCodeAt(0).toString(16)}`),
      html,
      html.replaceAll("'", "&#39;"),
      html.replaceAll("'", "&#x27;"),
      percent,
      percent.replaceAll("'", "%27"),
      percent.replace(/%../g, (code) => code.toLowerCase())
    ]
    for (const text of written) {
      assert.isTrue(isIn(`x ${text} y`), text)
      assert.strictEqual(hide(`x ${text} y`), `x ${Leaks.mark} y`)
    }
    const hex = Buffer.from(odd).toString("hex")
    const long = Buffer.from(`${"x".repeat(40)}${odd}${"y".repeat(60)}`).toString("base64")
    for (const text of [
      odd.replace(/./g, (one) => `\\u00${one.charCodeAt(0).toString(16)}`),
      odd.replace(/./g, (one) => `&#${one.charCodeAt(0)};`),
      hex.replace(/[a-f]/g, (digit, at: number) => (at % 2 === 0 ? digit : digit.toUpperCase())),
      hex.replace(/../g, "$&:"),
      hex.replace(/..../g, "$& "),
      long.replace(/.{32}/g, "$&\r\n"),
      Buffer.from(Buffer.from(odd).toString("base64")).toString("base64"),
      Buffer.from(`k ${Buffer.from(`v ${odd}`).toString("base64")}`).toString("base64")
    ]) {
      assert.isTrue(isIn(text), text)
    }
  })

  it("keys are known by their forms", () => {
    for (const key of [
      `ghp_${"a1B2".repeat(9)}`,
      `sk-ant-api03-${"a1B2".repeat(10)}`,
      `xoxb-1234567890-${"a1B2".repeat(4)}`,
      `AIza${"a1B2c".repeat(7)}`,
      `npm_${"a1B2".repeat(9)}`,
      `123456789:AA${"a1B".repeat(11)}`,
      "-----BEGIN RSA PRIVATE KEY-----\nMIIEabc=\n-----END RSA PRIVATE KEY-----"
    ]) {
      assert.strictEqual(leaks.mask(`my key: ${key} end`), `my key: ${Leaks.mark} end`)
      assert.isTrue(leaks.isIn(key))
    }
  })

  const Part = Schema.Union([
    Schema.String.check(Schema.isMaxLength(12)),
    Schema.Literals([
      secret,
      "correct horse battery staple",
      " ",
      "\n",
      "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl ",
      "-----BEGIN PRIVATE KEY-----\nMIIEabc\nabcd=\n-----END PRIVATE KEY-----\n",
      "AKIAIOSFODNN7EXAMPLE "
    ])
  ])
  const Parts = Schema.Array(Part).check(Schema.isMaxLength(8))
  const Sizes = Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 9 }))).check(
    Schema.isMaxLength(5)
  )
  it.prop(
    "a text in pieces has no secret in it, however it is cut, and is else as it was",
    [Parts, Sizes],
    ([parts, sizes]) => {
      const text = parts.join(" ")
      const masked = Leaks.inPieces(leaks)
      let shown = ""
      let at = 0
      for (let turn = 0; at < text.length; turn++) {
        const size = sizes[turn % Math.max(1, sizes.length)] ?? 1
        shown += masked.next(text.slice(at, at + size))
        at += size
      }
      shown += masked.end()
      for (const hidden of [secret, "correct horse battery staple", "MIIEabc"]) assert.notInclude(shown, hidden)
      if (!leaks.mask(text).includes(Leaks.mark)) assert.strictEqual(shown, text)
    }
  )

  it("ordinary text has no secret in it: hashes, ids, code, documentation, lock files", () => {
    const { isIn, mask } = Leaks.make(new Map())
    const files = [
      "package-lock.json",
      ...globSync("{src,docs,examples,sandbox}/**/*.{ts,md,pl,sh}"),
      ...globSync("node_modules/{effect,typescript,just-bash,dockerode,vitest}/**/*.{ts,md,json}").slice(0, 1500)
    ]
    const found = files.flatMap((file) => {
      const text = readFileSync(file, "utf8")
      return mask(text) === text && !isIn(text) ? [] : [file]
    })
    assert.isAbove(files.length, 1000)
    assert.deepStrictEqual(found, [])
  })
})

describe("Egress rules", () => {
  it("that name no host, or everybody's, cannot be written", () => {
    for (const host of [
      "",
      "*",
      "*.com",
      "*.co.uk",
      "a.*.com",
      "http://a.com",
      "a.com/x",
      "a.com:80",
      "a b.com",
      "u@a.com"
    ]) {
      assert.throws(() => Egress.allow(host), /egress rule/, host)
    }
    assert.throws(() => Egress.allow("a.com", { secret: "lower" }), /name for a secret/)
    assert.throws(() => Egress.allow("a.com", { adds: "authorization: Bearer {secret}" }), /needs a `secret`/)
    assert.throws(() => Egress.allow("a.com", { secret: "A", adds: "x: {secret}\r\ny: z" }), /a header/)
    assert.throws(() => Egress.allow("a.com", { paths: ["x"] }), /begins with/)
  })

  it("know a host however its name is written", () => {
    const rules = [Egress.allow("Bücher.Example."), Egress.allow("*.a.example")]
    for (const host of ["xn--bcher-kva.example", "BÜCHER.example", "x.a.example.", "X.Y.A.EXAMPLE"]) {
      assert.isDefined(Egress.admits(rules, { host, port: 443 }), host)
    }
    for (const host of ["a.example", "xa.example", "a.example.evil.test", ""]) {
      assert.isUndefined(Egress.admits(rules, { host, port: 443 }), host)
    }
    assert.isUndefined(Egress.admits(rules, { host: "x.a.example", port: 22 }))
  })
})
