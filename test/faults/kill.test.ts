/**
 * Nothing lost, nothing doubled: a claw is killed at every durable step and at random, and the promise is judged from
 * outside, by what the chat saw and what the workspace holds. `SOAK_SECONDS` has the random part go on for so long.
 */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { engineAvailable } from "../support/engine.ts"
import type { Seen } from "./Platform.ts"
import { durable, hasEnded, makeWorld, side, untilEnd } from "./World.ts"

const patience = 60_000
let kills = 0

const interrupted = /interrupted and its outcome is unknown/

/** A reply to a command that may not be repeated; how often it then may have run. */
const judge = (reply: Seen | undefined, said: string, ran: number, at: string) => {
  const text = reply?.text ?? "[no reply]"
  if (interrupted.test(text)) return assert.isAtMost(ran, 1, at)
  assert.strictEqual(text, said, at)
  assert.strictEqual(ran, 1, at)
}

const script = [
  "run: echo one >> log.txt; echo said one",
  "write notes.txt: hello",
  "ask coder: run: echo deep >> deep.txt; echo said deep",
  "remember that I like tea",
  "/compact",
  "run: echo two >> log.txt; echo said two"
]

/** Talks through the script with a claw that dies once, or not at all. Where it died, and what the first claw passed. */
const talk = async (killAt: number, sandbox: "virtual" | "docker" = "virtual") => {
  const world = await makeWorld(sandbox)
  const { server } = world
  let child = world.start(killAt)
  let died: string | undefined
  for (const [index, said] of script.entries()) {
    server.say("a", said)
    const answered = server.awaitSeen(index + 1, patience)
    await Promise.race([answered, untilEnd(child)])
    if (hasEnded(child) && died === undefined) {
      kills++
      died = world.steps().at(-1)
      child = world.start()
    }
    assert.isTrue(await answered, `no answer to ${said}, killed at ${died}: ${world.log()}`)
  }
  const at = `killed at ${killAt}, ${died}`
  const log = world.lines("log.txt")
  judge(server.seen[0], "said one", log.filter((line) => line === "one").length, at)
  assert.match(server.seen[1]?.text ?? "", /^wrote 5 characters/, at)
  assert.deepStrictEqual(world.lines("notes.txt"), ["hello"], at)
  judge(server.seen[2], "said deep", world.lines("deep.txt").length, at)
  assert.match(server.seen[3]?.text ?? "", /^remembered as 1$/, at)
  assert.match(server.seen[4]?.text ?? "", /^I will sum up/, at)
  judge(server.seen[5], "said two", log.filter((line) => line === "two").length, at)
  assert.lengthOf(server.seen, script.length, at)
  for (const id of server.sends) assert.isAtMost(server.sends.filter((other) => other === id).length, 2, at)
  assert.strictEqual(server.unacknowledged.size, 0, at)
  const passed = world.steps()
  await world.end(child)
  return { died, passed }
}

/** Talks in three chats with a claw that dies again and again, at random. */
const storm = async (random: () => number) => {
  const world = await makeWorld()
  const { server } = world
  const words = Array.from({ length: 9 }, (_, index) => ({ chat: `c${index % 3}`, word: `w${index}` }))
  let child = world.start()
  for (const { chat, word } of words) server.say(chat, `run: echo ${word} >> log.txt; echo said ${word}`)
  // In chats where messages come together they are answered together, so replies are counted by what they say.
  const told = () => server.seen.map(({ text }) => text).join("\n")
  const open = () => words.length - (told().match(/said w\d|outcome is unknown|set it aside/g)?.length ?? 0)
  for (let died = 0; died < 8 && open() > 0; died++) {
    await new Promise((resolve) => setTimeout(resolve, 350 + random() * 900))
    if (!hasEnded(child)) child.kill("SIGKILL")
    await untilEnd(child)
    kills++
    child = world.start()
  }
  const deadline = Date.now() + patience
  while (open() > 0 && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 50))
  const log = world.lines("log.txt")
  for (const { word } of words) {
    const ran = log.filter((line) => line === word).length
    assert.isAtMost(ran, 1, `${word} ran more than once`)
    const times = told().split(`said ${word}`).length - 1
    assert.isAtMost(times, 1, `${word} was answered more than once: ${told()}`)
    if (times === 1) assert.strictEqual(ran, 1, `${word} was said, and not done`)
  }
  assert.strictEqual(open(), 0, `unanswered: ${told()}\n${world.log()}`)
  assert.strictEqual(server.unacknowledged.size, 0)
  await world.end(child)
}

/** A random number generator with a seed, so that a failure can be had again. */
const makeRandom = (seed: number) => () => {
  seed = (seed * 1_664_525 + 1_013_904_223) % 4_294_967_296
  return seed / 4_294_967_296
}

describe("nothing lost, nothing doubled", () => {
  afterAll(() => void process.stdout.write(`kills: ${kills}\n`))

  let points: ReadonlyArray<number> = []
  beforeAll(async () => {
    const { died, passed } = await talk(0)
    assert.isUndefined(died)
    points = [...new Set(durable(passed))]
    for (const call of ["accept", "request", "record", "settle", "atomically"]) {
      for (const when of ["before", "after"]) {
        const named = points.some((point) => passed[point - 1]?.includes(`${when} ${call}`))
        assert.isTrue(named, `${when} ${call} is a durable step`)
      }
    }
  })

  it("when a claw is killed at any durable step", { timeout: 900_000 }, async () => {
    const died = await side(points.length, 2, async (index) => (await talk(points[index] ?? 0)).died)
    process.stdout.write(
      `durable steps: ${points.length}, killed at ${died.filter((step) => step !== undefined).length}\n`
    )
    assert.isAbove(points.length, 60)
  })

  it("with commands in containers", { timeout: 300_000 }, async () => {
    if (!engineAvailable) return
    await side(6, 2, (index) => talk(points[Math.floor(((index + 1) * points.length) / 8)] ?? 0, "docker"))
  })

  it("when it is killed again and again, at random", { timeout: 86_400_000 }, async () => {
    const seed = Number(process.env["SOAK_SEED"] ?? Date.now() % 1_000_000)
    process.stdout.write(`seed: ${seed}\n`)
    const random = makeRandom(seed)
    const until = Date.now() + Number(process.env["SOAK_SECONDS"] ?? 0) * 1000
    do await side(8, 2, () => storm(random))
    while (Date.now() < until)
  })
})
