/**
 * The personal claw as its owner has it: a process of its own, on the local WhatsApp and the local Telegram at once.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import jsqr from "jsqr"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import * as Program from "../support/program.ts"
import * as WhatsApp from "../support/WhatsAppClaw.ts"
import { textOf } from "../support/WhatsAppPerson.ts"
import type { WhatsAppServer } from "../support/WhatsAppServer.ts"
import * as Telegram from "../support/TelegramServer.ts"

/** The account that the claw is linked to, and people. */
const clawPhone = "15550100"
const adaPhone = "15550101"
const benPhone = "15550102"

/** What a phone's camera reads of a QR code in a terminal: half blocks, two rows of modules to a line. */
const scan = (output: string): string | undefined => {
  const lines = output.split("\n").filter((line) => /[█▀▄]{3}/.test(line))
  const width = Math.max(...lines.map((line) => line.length), 0)
  const scale = 4
  const rows = lines.length * 2
  const pixels = new Uint8ClampedArray(width * scale * rows * scale * 4)
  for (let y = 0; y < rows * scale; y++) {
    for (let x = 0; x < width * scale; x++) {
      const row = Math.floor(y / scale)
      const glyph = lines[Math.floor(row / 2)]?.[Math.floor(x / scale)] ?? " "
      const isLit = glyph === "█" || (row % 2 === 0 ? glyph === "▀" : glyph === "▄")
      pixels.set([0, 0, 0].map(() => (isLit ? 255 : 0)).concat(255), (y * width * scale + x) * 4)
    }
  }
  return jsqr.default(pixels, width * scale, rows * scale)?.data
}

const until = (what: string, condition: () => boolean) =>
  Effect.sync(condition).pipe(
    Effect.delay("20 millis"),
    Effect.repeat({ until: (holds) => holds, times: 3000 }),
    Effect.flatMap((holds) => (holds ? Effect.void : Effect.die(new Error(`${what} never came`))))
  )

const world = Effect.gen(function* () {
  const home = yield* Program.home
  const whatsapp = yield* WhatsApp.server
  const telegram = yield* Telegram.TelegramServer
  const authority = join(home, "media.pem")
  writeFileSync(authority, whatsapp.media.authority)
  const env = {
    WHATSAPP_ENABLED: "true",
    WHATSAPP_WEBSOCKET_URL: whatsapp.url,
    WHATSAPP_OWNER: adaPhone,
    TELEGRAM_BOT_TOKEN: telegram.token,
    TELEGRAM_API_ROOT: telegram.apiRoot,
    NODE_EXTRA_CA_CERTS: authority
  }
  return { whatsapp, telegram, start: Program.start({ home, args: ["personal"], env }) }
})

/** Starts for the first time: the claw's phone scans what the terminal shows. */
const first = Effect.fnUntraced(function* (
  whatsapp: WhatsAppServer,
  start: Effect.Effect<Program.Program, never, Scope.Scope>
) {
  const program = yield* start
  yield* program.until(/Scan it on the phone/)
  const read = scan(yield* program.seen)
  whatsapp.scan(clawPhone, read ?? assert.fail("the QR code cannot be read"))
  const { devices } = whatsapp.account(clawPhone)
  yield* until("the device's keys", () => [...devices.values()].some(({ preKeys }) => preKeys.length > 0))
  return program
})

/** Makes somebody the owner on Telegram, by the code in the log. */
const claim = Effect.fnUntraced(function* (program: Program.Program, telegram: Telegram.TelegramServer["Service"]) {
  yield* program.until(/telegram has no owner.*\/claim ([a-z0-9]{8})/)
  const [, code = ""] = /telegram has no owner.*\/claim ([a-z0-9]{8})/.exec(yield* program.seen) ?? []
  const tara = telegram.person("Tara")
  telegram.say(tara, `/claim ${code}`)
  yield* until("the claim", () => telegram.read(tara.id).includes("You are my owner now"))
  return tara
})

const test = (name: string, body: Effect.Effect<void, unknown, Scope.Scope | Telegram.TelegramServer>) =>
  it.live(name, () => Effect.provide(Effect.scoped(body), Telegram.layer), { timeout: 180_000 })

describe("the personal claw", () => {
  test(
    "says what is missing",
    Effect.gen(function* () {
      const home = yield* Program.home
      const none = yield* Program.run({ home, args: ["personal"] })
      assert.strictEqual(none.code, 1)
      assert.match(none.stderr, /there is no channel: set TELEGRAM_BOT_TOKEN, or WHATSAPP_ENABLED=true/)
      const empty = yield* Program.run({ home, args: ["personal"], env: { TELEGRAM_BOT_TOKEN: "nonsense" } })
      assert.notStrictEqual(empty.code, 0)
      assert.notInclude(empty.stderr, "at ")
    })
  )

  test(
    "is linked by the code in the terminal, claimed by the code in the log, and works on both at once, in chats and in a group",
    Effect.gen(function* () {
      const { start, telegram, whatsapp } = yield* world
      const ada = yield* WhatsApp.person(whatsapp, adaPhone, "Ada")
      const ben = yield* WhatsApp.person(whatsapp, benPhone, "Ben")
      const program = yield* first(whatsapp, start)
      const tara = yield* claim(program, telegram)
      telegram.say(tara, "run: echo from telegram > t.txt")
      yield* until("the command", () => telegram.shown(tara.id).length >= 4)
      telegram.say(tara, "send t.txt")
      yield* until("the file", () => telegram.shown(tara.id).some(({ file }) => file?.name === "t.txt"))
      const sent = telegram.shown(tara.id).find(({ file }) => file !== undefined)
      assert.strictEqual(Buffer.from(sent?.file?.content ?? []).toString(), "from telegram\n")
      const ted = telegram.person("Ted")
      const club = telegram.group("club").id
      telegram.say(ted, "@claw run: echo too early", club)
      telegram.say(tara, "/bind everyone", club)
      yield* until("the binding", () => telegram.read(club).includes("to everyone"))
      telegram.say(ted, "not for you", club)
      telegram.say(ted, "@claw run: echo hello club > c.txt; cat c.txt", club)
      yield* until("the answer", () => telegram.read(club).includes("hello club"))
      telegram.say(ted, "@claw send c.txt", club)
      yield* until("the file", () => telegram.shown(club).some(({ file }) => file?.name === "c.txt"))
      assert.notInclude(telegram.read(club), "too early")

      const claw = `${clawPhone}@s.whatsapp.net`
      yield* Effect.promise(() => ada.send(claw, { text: "run: echo from whatsapp > w.txt" }))
      yield* until("the command", () => ada.heard.length >= 1)
      yield* Effect.promise(() => ada.send(claw, { text: "send w.txt" }))
      yield* until("the file", () => ada.heard.some(({ message }) => JSON.stringify(message).includes("w.txt")))
      const [file] = yield* Effect.promise(() => ada.files())
      assert.strictEqual(file?.name, "w.txt")
      assert.strictEqual(file?.content.toString(), "from whatsapp\n")

      // A group of three: bound by its owner, open to its members.
      const group = whatsapp.createGroup("friends", adaPhone, benPhone, clawPhone)
      yield* Effect.promise(() => ben.send(group, { text: "@claw run: echo too early" }))
      yield* Effect.promise(() => ada.send(group, { text: "/bind everyone" }))
      yield* until("the binding", () => ben.texts().some((text) => text.includes("to everyone")))
      yield* Effect.promise(() => ben.send(group, { text: "not for you" }))
      yield* Effect.promise(() => ben.send(group, { text: "@claw run: echo hello group" }))
      yield* until("the answer", () => ben.texts().includes("hello group"))
      assert.isFalse(ben.texts().includes("too early"))
      assert.strictEqual(ada.heard.filter((message) => textOf(message) === "hello group").length, 1)
      yield* program.kill("SIGTERM")
      assert.isNull((yield* program.ended).signal, "it did not leave by itself")
    })
  )

  test(
    "killed while messages arrive on both: each is answered once after the start, those of the time between too, with no new login",
    Effect.gen(function* () {
      const { start, telegram, whatsapp } = yield* world
      const ada = yield* WhatsApp.person(whatsapp, adaPhone, "Ada")
      const killed = yield* first(whatsapp, start)
      const tara = yield* claim(killed, telegram)
      const claw = `${clawPhone}@s.whatsapp.net`
      yield* Effect.promise(() => ada.send(claw, { text: "run: echo ready" }))
      yield* until("the first answer", () => ada.texts().includes("ready"))

      // Writing a file is done again when it was cut; a command is not, and its chat is told so.
      const words = Array.from({ length: 30 }, (_, index) => `word-${index}-${String.fromCharCode(97 + (index % 26))}`)
      const write = Effect.forEach(
        words,
        (word) =>
          Effect.gen(function* () {
            telegram.say(tara, `write ${word}: x`)
            yield* Effect.promise(() => ada.send(claw, { text: `write ${word}: x` }))
            yield* Effect.sleep("30 millis")
          }),
        { discard: true }
      )
      yield* Effect.all([write, Effect.andThen(Effect.sleep("450 millis"), killed.kill("SIGKILL"))], { concurrency: 2 })
      const again = yield* start
      const onTelegram = () => telegram.read(tara.id)
      const onWhatsApp = () => ada.texts().join("\n")
      for (const said of [onTelegram, onWhatsApp]) {
        yield* until("every answer", () => words.every((word) => said().includes(word)))
      }
      yield* Effect.sleep("1 second")
      assert.strictEqual(whatsapp.account(clawPhone).devices.size, 1, "it linked itself anew")
      const times = (text: string, word: string) => text.split(word).length - 1
      assert.deepStrictEqual(
        words.filter((word) => times(onWhatsApp(), word) !== 1),
        []
      )
      // Telegram cannot tell a resend: what was on its way at the kill may come twice.
      assert.isAtMost(words.filter((word) => times(onTelegram(), word) !== 1).length, 1)
      yield* again.kill("SIGTERM")
    })
  )

  test(
    "logged out of WhatsApp, it says so to its owner on Telegram, once, and works there; a new login goes on where it was",
    Effect.gen(function* () {
      const { start, telegram, whatsapp } = yield* world
      const ada = yield* WhatsApp.person(whatsapp, adaPhone, "Ada")
      const program = yield* first(whatsapp, start)
      const tara = yield* claim(program, telegram)
      const claw = `${clawPhone}@s.whatsapp.net`
      yield* Effect.promise(() => ada.send(claw, { text: "write w.txt: kept" }))
      yield* until("the first answer", () => ada.heard.length >= 1)
      whatsapp.unlink(clawPhone)
      const told = () => telegram.read(tara.id).split("I receive no more messages on channel whatsapp").length - 1
      yield* until("the owner's message", () => told() > 0)
      telegram.say(tara, "run: echo still here")
      yield* until("the answer", () => telegram.read(tara.id).includes("still here"))
      yield* program.kill("SIGTERM")
      yield* program.ended

      const again = yield* first(whatsapp, start)
      yield* Effect.promise(() => ada.send(claw, { text: "read w.txt" }))
      yield* until("what was kept", () => ada.texts().includes("kept"))
      assert.strictEqual(told(), 1)
      yield* again.kill("SIGTERM")
    })
  )
})
