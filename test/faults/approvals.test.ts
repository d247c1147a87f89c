/**
 * Asked once, answered once, done once: a claw whose call needs approval is killed at every durable step, from the message
 * to the reply.
 */
import { assert, describe, it, vi } from "@effect/vitest"
import { durable, hasEnded, makeWorld, side, untilEnd } from "./World.ts"

const patience = 60_000

/** Has a call approved or denied by a claw that dies once, or not at all. */
const consent = async (answer: "approve" | "deny", killAt: number) => {
  const world = await makeWorld()
  const { server } = world
  let child = world.start(killAt)
  let died: string | undefined
  const untilSeen = async (count: number) => {
    const seen = server.awaitSeen(count, patience)
    await Promise.race([seen, untilEnd(child)])
    if (hasEnded(child) && died === undefined) {
      died = world.steps().at(-1)
      child = world.start()
    }
    assert.isTrue(await seen, `killed at ${died}: ${world.log()}`)
  }
  server.say("careful", "run: echo paid >> paid.txt; echo said paid")
  await untilSeen(1)
  const at = `killed at ${killAt}, ${died}`
  const code = /\/approve (\w{4}) /.exec(server.seen[0]?.text ?? "")?.[1]
  assert.isDefined(code, at)
  assert.deepStrictEqual(world.lines("paid.txt"), [], at)
  server.say("careful", `/${answer} ${code}`)
  await untilSeen(3)
  // What is asked or said twice comes after.
  server.say("careful", "/status")
  await untilSeen(4)
  const [, answered, reply, status] = server.seen.map(({ text }) => text)
  assert.strictEqual(answered, answer === "approve" ? 'Approved: "bash".' : 'Denied: "bash".', at)
  const ran = world.lines("paid.txt").length
  if (answer === "deny") {
    assert.include(reply, "The person denied this call.", at)
    assert.strictEqual(ran, 0, at)
  } else if (reply?.includes("interrupted and its outcome is unknown") === true) assert.isAtMost(ran, 1, at)
  else assert.deepStrictEqual([reply, ran], ["said paid", 1], at)
  assert.include(status, "I am careful", at)
  assert.lengthOf(server.seen, 4, at)
  await vi.waitFor(() => assert.strictEqual(server.unacknowledged.size, 0, at), { timeout: patience })
  const passed = world.steps()
  await world.end(child)
  return { died, passed }
}

describe("a claw whose call needs approval, killed at any durable step", () => {
  for (const answer of ["approve", "deny"] as const) {
    it(`asks, takes the answer to ${answer}, and does it, once`, { timeout: 900_000 }, async () => {
      const { passed } = await consent(answer, 0)
      // One answer takes the way of the other.
      const points = [...new Set(durable(passed))].filter((_, index) => answer === "approve" || index % 3 === 0)
      const died = await side(points.length, 2, async (index) => (await consent(answer, points[index] ?? 0)).died)
      const killed = died.filter((step) => step !== undefined).length
      process.stdout.write(`${answer}: durable steps ${points.length}, killed at ${killed}\n`)
      assert.isAbove(killed, answer === "approve" ? 30 : 8)
    })
  }
})
