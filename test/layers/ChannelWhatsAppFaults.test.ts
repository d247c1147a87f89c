/**
 * WhatsApp on its bad days, and the claw on its own: what was said is neither lost nor doubled.
 */
import { assert, describe, it } from "@effect/vitest"
import { ChannelState, ChannelStateError } from "effect-claw/services/ChannelState"
import { OutputId, textOf } from "effect-claw/services/Message"
import { StoreFailed } from "effect-claw/services/StoreFailed"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as TestClock from "effect/testing/TestClock"
import { clawPhone, person, server, start, store, until } from "../support/WhatsAppClaw.ts"

const clawJid = `${clawPhone}@s.whatsapp.net`
const adaPhone = "15550001"
const bobPhone = "15550002"
/** Waits in real time. */
const really = (millis: number) => Effect.promise(() => new Promise((resolve) => setTimeout(resolve, millis)))
const theirs = <A>(promise: () => Promise<A>) => Effect.promise(promise)

describe("what the claw has not accepted", () => {
  it.live("is offered again at the next start, and WhatsApp is not asked for it", () =>
    Effect.gen(function* () {
      const on = yield* server
      const state = yield* store
      const ada = yield* person(on, adaPhone)
      const first = yield* start(on, state)
      yield* first.loggedIn
      const texts = ["one", "two", "three"]
      for (const text of texts) yield* theirs(() => ada.send(clawJid, { text }))
      const heard = [yield* first.hear, yield* Queue.take(first.heard), yield* Queue.take(first.heard)]
      yield* until(() => on.unacknowledged(clawPhone).length === 0)
      yield* first.stop

      const second = yield* start(on, state)
      const again = [yield* second.hear, yield* second.hear]
      assert.deepStrictEqual(
        again.map(({ message }) => textOf(message.content)),
        ["two", "three"]
      )
      assert.deepStrictEqual(
        again.map(({ message }) => message.id),
        heard.slice(1).map(({ message }) => message.id)
      )
      yield* second.stop

      const third = yield* start(on, state)
      yield* theirs(() => ada.send(clawJid, { text: "four" }))
      assert.strictEqual(textOf((yield* third.hear).message.content), "four")
    })
  )

  it.live("is kept before WhatsApp hears of it: with a disk that is full it comes again, once there is room", () =>
    Effect.gen(function* () {
      const on = yield* server
      const state = yield* store
      const ada = yield* person(on, adaPhone)
      const real = Context.get(state, ChannelState)
      let full = false
      const failing = ChannelState.of({
        ...real,
        set: (channel, texts) =>
          full && [...texts.keys()].some((key) => key.startsWith("inbox:"))
            ? Effect.fail(
                new ChannelStateError({ reason: new StoreFailed({ detail: "the disk is full", cause: undefined }) })
              )
            : real.set(channel, texts)
      })
      const claw = yield* start(on, Context.make(ChannelState, failing))
      yield* claw.loggedIn
      yield* theirs(() => ada.send(clawJid, { text: "before" }))
      yield* claw.hear
      full = true
      yield* theirs(() => ada.send(clawJid, { text: "while it is full" }))
      yield* until(() => on.logins(clawPhone) >= 3)
      assert.strictEqual(on.unacknowledged(clawPhone).length, 1)
      assert.strictEqual(yield* Queue.size(claw.heard), 0)
      full = false
      assert.strictEqual(textOf((yield* claw.hear).message.content), "while it is full")
      yield* until(() => on.unacknowledged(clawPhone).length === 0)
    })
  )

  it.live("and was decrypted as the process died is read when WhatsApp sends it again", () =>
    Effect.gen(function* () {
      const on = yield* server
      const state = yield* store
      const ada = yield* person(on, adaPhone)
      const real = Context.get(state, ChannelState)
      // The keys have moved on, and the process dies before it can say that it has the message.
      const dying = ChannelState.of({
        ...real,
        set: (channel, texts) =>
          Effect.tap(real.set(channel, texts), () =>
            [...texts.keys()].some((key) => key.startsWith("inbox:")) &&
            [...texts.values()].some((text) => text !== undefined && text.includes("opened"))
              ? Effect.sync(() => on.cut(clawPhone))
              : Effect.void
          )
      })
      const claw = yield* start(on, Context.make(ChannelState, dying))
      yield* claw.loggedIn
      const group = on.createGroup("two", adaPhone, clawPhone)
      yield* theirs(() => ada.send(clawJid, { text: "one" }))
      yield* theirs(() => ada.send(group, { text: "two" }))
      const heard = [yield* claw.hear, yield* claw.hear].map(({ message }) => textOf(message.content))
      assert.sameMembers(heard, ["one", "two"])
      yield* until(() => on.unacknowledged(clawPhone).length === 0)
      assert.strictEqual(yield* Queue.size(claw.heard), 0)
    })
  )
})

describe("a process that dies", () => {
  it.live("the moment a message was decrypted has it once after its next start", () =>
    Effect.gen(function* () {
      const on = yield* server
      const state = yield* store
      const ada = yield* person(on, adaPhone)
      const real = Context.get(state, ChannelState)
      const group = on.createGroup("two", adaPhone, clawPhone)
      // What is set with the message is the last that is set, and nothing is said after it.
      let dead = false
      const dying = ChannelState.of({
        ...real,
        set: (channel, texts) => {
          if (dead) return Effect.never
          dead = [...texts.keys()].some((key) => key.startsWith("inbox:"))
          return Effect.andThen(real.set(channel, texts), dead ? Effect.never : Effect.void)
        }
      })
      for (const [chat, text] of [
        [clawJid, "one"],
        [group, "two"],
        [group, "three"]
      ] as const) {
        dead = false
        const claw = yield* start(on, Context.make(ChannelState, dying))
        yield* claw.loggedIn
        yield* theirs(() => ada.send(chat, { text }))
        yield* until(() => dead)
        yield* really(50)
        assert.isAbove(on.unacknowledged(clawPhone).length, 0)
        yield* claw.stop

        const next = yield* start(on, state)
        assert.strictEqual(textOf((yield* next.hear).message.content), text)
        yield* until(() => on.unacknowledged(clawPhone).length === 0)
        assert.strictEqual(yield* Queue.size(next.heard), 0)
        yield* next.stop
      }
    })
  )
})

describe("a connection", () => {
  it.effect(
    "that fails is tried again after one second, then two, then four, up to five minutes, each less by chance",
    () =>
      Effect.gen(function* () {
        const on = yield* server
        const claw = yield* start(on, yield* store)
        yield* claw.loggedIn
        on.refuse(clawPhone, 503)
        on.cut(clawPhone)
        const before = on.logins(clawPhone)
        const tried = () => on.logins(clawPhone) - before
        const waits: Array<number> = []
        for (let attempt = 1; attempt <= 12; attempt++) {
          let waited = 0
          while (tried() < attempt) {
            // Real sockets in virtual time: what is under way is let finish.
            yield* really(tried() === attempt - 1 && waited === 0 ? 60 : 4)
            yield* TestClock.adjust(100 * 2 ** Math.max(0, attempt - 3))
            waited += 100 * 2 ** Math.max(0, attempt - 3)
          }
          waits.push(waited)
        }
        for (const [index, waited] of waits.entries()) {
          const longest = Math.min(1000 * 2 ** index, 300_000)
          assert.isAtLeast(waited, longest / 2, `wait ${index}`)
          assert.isAtMost(waited, longest * 1.6 + 200, `wait ${index}`)
        }
        assert.strictEqual(on.mostAtOnce, 1)
      }).pipe(Effect.scoped),
    60_000
  )

  it.live("that is to be restarted is, at once", () =>
    Effect.gen(function* () {
      const on = yield* server
      const state = yield* store
      const paired = yield* start(on, state)
      yield* paired.loggedIn
      yield* paired.stop
      const claw = yield* start(on, state)
      yield* claw.loggedIn
      const before = on.logins(clawPhone)
      on.end(clawPhone, 515)
      const [waited] = yield* Effect.timed(until(() => on.logins(clawPhone) > before))
      assert.isBelow(Duration.toMillis(waited), 500)
    })
  )

  for (const { code, says } of [
    { code: 403, says: "banned" },
    { code: 411, says: "linked devices" },
    { code: 440, says: "another process" }
  ]) {
    it.live(`that ends with ${code} is the last: the channel says what to do, and what it has stays`, () =>
      Effect.gen(function* () {
        const on = yield* server
        const state = yield* store
        const ada = yield* person(on, adaPhone)
        const claw = yield* start(on, state)
        yield* claw.loggedIn
        yield* theirs(() => ada.send(clawJid, { text: "hi" }))
        const { message } = yield* claw.hear
        const before = on.logins(clawPhone)
        on.end(clawPhone, code)
        const error = yield* Effect.flip(claw.ended)
        assert.strictEqual(error.reason._tag, "Refused")
        assert.include(error.message, says)
        const unsent = yield* Effect.flip(claw.channel.send(message.chat, { id: OutputId.make("1"), text: "later" }))
        assert.isTrue(unsent.isRetryable)
        assert.strictEqual(on.logins(clawPhone), before)
        yield* claw.stop

        const next = yield* start(on, state)
        yield* next.loggedIn
        assert.deepStrictEqual(
          next.logins.map(({ _tag }) => _tag),
          ["LoggedIn"]
        )
      })
    )
  }

  it.live("that is logged out is the last; the next start logs in anew, and the conversations go on", () =>
    Effect.gen(function* () {
      const on = yield* server
      const state = yield* store
      const ada = yield* person(on, adaPhone)
      const first = yield* start(on, state)
      yield* first.loggedIn
      yield* theirs(() => ada.send(clawJid, { text: "one" }))
      const { message } = yield* Queue.take(first.heard)
      on.unlink(clawPhone)
      assert.include((yield* Effect.flip(first.ended)).message, "logged out")
      yield* first.stop

      const second = yield* start(on, state)
      yield* second.loggedIn
      assert.deepStrictEqual(
        second.logins.map(({ _tag }) => _tag),
        ["Qr", "LoggedIn"]
      )
      assert.strictEqual((yield* second.hear).message.id, message.id)
      yield* theirs(() => ada.send(clawJid, { text: "two" }))
      const { message: next } = yield* second.hear
      assert.deepStrictEqual([textOf(next.content), next.chat], ["two", message.chat])
    })
  )

  it.effect(
    "that ends a hundred times loses nothing and doubles nothing, and there are never two",
    () =>
      Effect.gen(function* () {
        const on = yield* server
        const ada = yield* person(on, adaPhone)
        const bob = yield* person(on, bobPhone)
        const claw = yield* start(on, yield* store)
        yield* claw.loggedIn
        const group = on.createGroup("all", adaPhone, bobPhone, clawPhone)

        // Time passes while there is no connection, and only then: what is on its way is not hurried.
        yield* Effect.forkScoped(
          Effect.forever(
            Effect.andThen(
              really(5),
              Effect.suspend(() => (on.live(clawPhone) === 0 ? TestClock.adjust("20 seconds") : Effect.void))
            )
          )
        )
        // Answers each message once, as a claw does: by its id, tried until it is sent.
        const answered = new Set<string>()
        yield* Effect.forkScoped(
          Effect.forever(
            Effect.gen(function* () {
              const { ack, message } = yield* Queue.take(claw.heard)
              const isNew = !answered.has(message.id)
              answered.add(message.id)
              yield* ack
              if (!isNew) return
              const part = { id: OutputId.make(message.id), text: `re: ${textOf(message.content)}` }
              const tried = Effect.tapError(claw.channel.send(message.chat, part), () => really(20))
              yield* Effect.retry(tried, { while: ({ isRetryable }) => isRetryable })
            })
          )
        )
        const cutting = yield* Effect.forkScoped(
          Effect.gen(function* () {
            while (on.logins(clawPhone) <= 100) {
              yield* really(yield* Random.nextIntBetween(1, 200))
              if (on.live(clawPhone) === 0) continue
              const kind = yield* Random.nextIntBetween(0, 4)
              if (kind === 0) on.end(clawPhone, 515)
              else if (kind === 1) on.end(clawPhone, 503)
              else on.cut(clawPhone)
            }
          })
        )
        const count = 60
        const talk = (who: typeof ada, chat: string, name: string) =>
          Effect.forEach(
            Array.from({ length: count }, (_, index) => `${name} ${index}`),
            (text) =>
              Effect.andThen(
                theirs(() => who.send(chat, { text })),
                really(250)
              )
          )
        yield* Effect.all([talk(ada, clawJid, "ada"), talk(bob, clawJid, "bob"), talk(ada, group, "group")], {
          concurrency: "unbounded"
        })
        yield* Fiber.join(cutting)
        const wanted = (name: string) => Array.from({ length: count }, (_, index) => `re: ${name} ${index}`)
        const got = (who: typeof ada, name: string) => who.texts().filter((text) => text.startsWith(`re: ${name} `))
        const all = [
          [ada, "ada"],
          [bob, "bob"],
          [ada, "group"],
          [bob, "group"]
        ] as const
        yield* Effect.repeat(really(100), {
          until: () => all.every(([who, name]) => got(who, name).length >= count),
          times: 300
        })
        for (const [who, name] of all) assert.deepStrictEqual(got(who, name), wanted(name))
        assert.strictEqual(on.mostAtOnce, 1)
        assert.isAbove(on.logins(clawPhone), 100)
      }),
    240_000
  )
})
