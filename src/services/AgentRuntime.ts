/**
 * The agent runtime: does a conversation's turns.
 *
 * The loop is a fold over the journal: read the entries, ask `Turn.next` what is to be done, do it, journal it, repeat
 * until there is nothing. It keeps no state that the journal does not have, so a turn that was cut anywhere goes on from
 * its last committed step.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { type Ready, rightsIn } from "./Agent.ts"
import type { Channels } from "./Channel.ts"
import type { Files } from "./Files.ts"
import * as ModelStep from "./internal/ModelStep.ts"
import { exhausted } from "./internal/OutOfBounds.ts"
import * as Work from "./internal/Work.ts"
import type { Journal, JournalError } from "./Journal.ts"
import type { Ledger } from "./Ledger.ts"
import type { AgentName, ConversationId } from "./Message.ts"
import type { Outbox } from "./Outbox.ts"
import type { ToolGuard } from "./ToolGuard.ts"
import * as Turn from "./Turn.ts"

/** How often a turn may cut its claw short, with nothing coming of it, before it is set aside. */
const deathsBorne = 3

/** Tool calls of one step that run side by side, at most. */
const callsAtOnce = 8

const callTools = Effect.fnUntraced(function* (work: Work.Work, next: Extract<Turn.Next, { _tag: "CallTools" }>) {
  const { conversation, guard, observe, outbox, outputId, outputs, ready, state, textLimit } = work
  const { mandate } = state
  const { calls, interrupted, step } = next
  const approvals = Turn.approvals(state, yield* Clock.currentTimeMillis)
  if (mandate.turn === undefined) return
  const turn = {
    conversation,
    turn: mandate.turn,
    step,
    agent: ready.agent.name,
    sender: mandate.sender,
    message: mandate.message?.id,
    rights: rightsIn(ready, conversation, mandate),
    team: ready.agent.team.map(({ name }) => name),
    depth: mandate.parent?.depth ?? 0
  }
  const make = Effect.fnUntraced(function* (call: (typeof calls)[number]) {
    const { id, name: tool, params } = call
    const shown: unknown = JSON.parse(work.leaks.hide(JSON.stringify(params ?? null)))
    yield* observe({ _tag: "ToolCalled", call: id, tool, params: shown })
    const output = outputId(turn.turn, step, `.${id}`)
    const given = { call, agent: ready, interrupted: interrupted.has(id), approval: approvals.get(id), textLimit }
    const { outputs: said, result } = yield* guard.call({ ...given, turn, output })
    outputs.push(...said)
    if (result !== undefined) yield* observe({ _tag: "ToolReturned", call: id, isFailure: result.isFailure })
    if (said.length > 0) yield* outbox.flush(conversation)
  })
  yield* Effect.forEach(calls, make, { concurrency: callsAtOnce, discard: true })
  yield* work.read
})

/** Takes up a turn that was left open. One that has ended the claw again and again is set aside. */
const takeUp = Effect.fnUntraced(function* (work: Work.Work, turn: Turn.TurnId) {
  const { conversation, giveUp, journal, known, observe, outbox, read, state } = work
  const { resumed } = state.mandate
  yield* observe({ _tag: "TurnContinued", turn })
  yield* outbox.flush(conversation)
  if (known.has(turn) || !journal.wasCut) return
  if (resumed + 1 >= deathsBorne) {
    const message = "Something I was asked to do has ended me again and again, so I set it aside."
    yield* giveUp(turn, 0, { _tag: "Failed", message }, message)
  } else yield* journal.record({ conversation, events: [{ _tag: "TurnResumed" }] })
  yield* read
})

/** Step by step, until the turn is over or waits for a person. */
const goOn = Effect.fnUntraced(function* (work: Work.Work) {
  const { observe, outputs, read, state } = work
  while (true) {
    const next = Turn.next(state, yield* Clock.currentTimeMillis)
    const { turn } = state.mandate
    if (next._tag === "Rest") return
    if (next._tag === "Park") {
      // Until a person answers, nothing runs and nothing is held.
      return turn === undefined ? undefined : yield* observe({ _tag: "TurnParked", turn, outputs: outputs.splice(0) })
    }
    if (next._tag === "CallTools") yield* callTools(work, next)
    else if (yield* ModelStep.run(work, next.step)) return
    else yield* read
  }
})

const outOfTime = Effect.fnUntraced(function* ({
  conversation,
  giveUp,
  observe,
  outbox,
  read,
  ready,
  state
}: Work.Work) {
  const followed = state.mandate.turn
  yield* read
  const { turn } = state.mandate
  const { ending, text } = exhausted("time", Duration.format(Duration.fromInputUnsafe(ready.agent.limits.time)))
  if (turn !== undefined) return void (yield* giveUp(turn, 0, ending, text))
  // It came to its end in the very moment.
  yield* outbox.flush(conversation)
  if (followed !== undefined) yield* observe({ _tag: "TurnEnded", turn: followed, ending, outputs: [] })
  state.hasMore = true
})

/** What was recorded, and what a channel follows, comes to its end, too. */
const cut = Effect.fnUntraced(function* ({ conversation, observe, outbox, state }: Work.Work) {
  const { turn } = state.mandate
  yield* outbox.flush(conversation)
  if (turn !== undefined) yield* observe({ _tag: "TurnEnded", turn, ending: { _tag: "Stopped" }, outputs: [] })
})

/** Does one turn. Returns whether there is another. */
const runTurn = Effect.fn("AgentRuntime.run")(function* (work: Work.Work) {
  const { read, ready, state } = work
  yield* read
  if (Turn.next(state, yield* Clock.currentTimeMillis)._tag === "Park") return false
  if (state.mandate.turn !== undefined) yield* takeUp(work, state.mandate.turn)
  yield* goOn(work).pipe(
    Effect.timeoutOrElse({ duration: ready.agent.limits.time, orElse: () => outOfTime(work) }),
    Effect.onInterrupt(() => cut(work))
  )
  return state.hasMore
})

/** Does turns. */
export class AgentRuntime extends Context.Service<AgentRuntime>()("effect-claw/services/AgentRuntime", {
  make: (agents: ReadonlyMap<AgentName, Ready>) =>
    Effect.map(Work.shared, (shared) => ({
      /**
       * Does a conversation's work until there is none: the open turn, then the inputs not yet seen. `observe` follows it
       * live. Interrupted, it leaves the turn open.
       */
      run: Effect.fnUntraced(function* (
        conversation: ConversationId,
        observe: (event: Turn.TurnEvent) => Effect.Effect<void>
      ): Effect.fn.Return<void, JournalError> {
        const state = yield* shared.journal.state(conversation)
        if (Option.isNone(state)) return
        const { agent } = state.value
        const ready = agents.get(agent)
        if (ready === undefined) {
          return yield* Effect.logWarning(`${conversation} waits for the agent ${agent}, which this claw does not have`)
        }
        const turn = Effect.flatMap(Work.make(shared, conversation, ready, observe), runTurn)
        yield* Effect.repeat(turn, { while: (hasMore) => hasMore })
      })
    }))
}) {}

/**
 * The runtime over a set of agents.
 *
 * Provides `AgentRuntime`; requires `Journal`, `Ledger`, `Files`, `Outbox`, `Channels` and `ToolGuard`. Holds nothing to release.
 */
export const layer = (
  agents: ReadonlyMap<AgentName, Ready>
): Layer.Layer<AgentRuntime, never, Journal | Ledger | Files | Outbox | Channels | ToolGuard> =>
  Layer.effect(AgentRuntime, AgentRuntime.make(agents))
