/**
 * A conversation at work: what its journal says, and how what was done of it is committed.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { Ready } from "../Agent.ts"
import { Channels } from "../Channel.ts"
import { Files } from "../Files.ts"
import { HomeZone } from "../HomeZone.ts"
import { Journal, type JournalError, patiently } from "../Journal.ts"
import * as Leaks from "../Leaks.ts"
import { Ledger } from "../Ledger.ts"
import { channelOf, type ConversationId, isChild, OutputId } from "../Message.ts"
import { ModelInfo } from "../ModelInfo.ts"
import { Outbox } from "../Outbox.ts"
import * as Reply from "../Reply.ts"
import { ToolGuard } from "../ToolGuard.ts"
import * as Transcript from "../Transcript.ts"
import * as Turn from "../Turn.ts"
import { Vault } from "../Vault.ts"

/** What all conversations of a claw work with. */
export const shared = Effect.gen(function* () {
  return {
    journal: yield* Journal,
    ledger: yield* Ledger,
    outbox: yield* Outbox,
    channels: yield* Channels,
    files: yield* Files,
    guard: yield* ToolGuard,
    leaks: Leaks.make(yield* Vault),
    clock: Transcript.clockIn(yield* HomeZone),
    // Positions come again when a backup is restored, and a channel would take what is new for a resend.
    life: (yield* Clock.currentTimeMillis).toString(36),
    /** Turns that were begun or taken up in this process: one found open that is not among them was cut by a death. */
    known: new Set<Turn.TurnId>()
  }
})

/** What a step came to. */
export interface Step {
  readonly turn: Turn.TurnId
  readonly output: OutputId
  readonly text: string
  readonly ending: Turn.Ending | undefined
  readonly events?: ReadonlyArray<Turn.Event>
  readonly booking?: Effect.Effect<unknown, JournalError>
}

/** What changes while it works. */
export interface State extends Turn.State {
  /** In order; see `Turn.inOrder`. */
  entries: ReadonlyArray<Turn.Entry>
  /** Whether there is another turn to be done. */
  hasMore: boolean
  /** The most tokens that a prompt may have, tools aside. */
  room: number
}

/** A conversation's work, of which nothing is read yet. */
export const make = Effect.fnUntraced(function* (
  all: Effect.Success<typeof shared>,
  conversation: ConversationId,
  ready: Ready,
  observe: (event: Turn.TurnEvent) => Effect.Effect<void>
) {
  const { channels, journal, known, leaks, life, outbox } = all
  const model = Context.get(ready.model, ModelInfo)
  const toolTokens = yield* ready.definitionTokens
  const textLimit = yield* channels.get(channelOf(conversation)).pipe(
    Effect.map(({ capabilities }) => capabilities.textLimit ?? Infinity),
    Effect.orElseSucceed(() => Infinity)
  )
  const written: Array<Turn.Entry> = []
  const outputs: Array<OutputId> = []
  const state: State = {
    ...Turn.fold([]),
    entries: [],
    hasMore: false,
    room: Math.min(ready.agent.limits.prompt, model.contextTokens - model.outputTokens) - toolTokens
  }

  const read = Effect.map(
    Effect.suspend(() => journal.entries(conversation, written.at(-1)?.position ?? 0)),
    (more) => {
      written.push(...more)
      const entries = Turn.inOrder(written)
      Object.assign(state, Turn.fold(entries), { entries })
    }
  )

  const outputId = (turn: Turn.TurnId, step: number, suffix = "") => OutputId.make(`${life}.${turn}.${step}${suffix}`)

  /** Commits a step, and lets the outbox and the channel know. Returns whether the turn is over. */
  const commit = Effect.fnUntraced(function* (step: Step) {
    const { booking = Effect.void, ending, events = [], output, text, turn } = step
    const { message } = state.mandate
    // Where others listen, it shows whom it answers.
    const first = message?.group === true ? { extra: { replyTo: message.id } } : {}
    // What a child says is read by its parent.
    const said = isChild(conversation)
      ? []
      : Reply.split(leaks.mask(Reply.shown(text)), textLimit).map((piece, index) => ({
          id: index === 0 ? output : OutputId.make(`${output}.${index}`),
          text: piece,
          ...(index === 0 ? first : {})
        }))
    // What was paid for is not thrown away: a store that fails is waited for.
    const ended = yield* patiently(
      journal.atomically(Effect.andThen(booking, journal.record({ conversation, events, outputs: said, ending })))
    )
    outputs.push(...said.map(({ id }) => id))
    if (outputs.length > 0) yield* outbox.flush(conversation)
    if (!ended || ending === undefined) return false
    known.delete(turn)
    // What waited for the end, or was not seen by it, may have come in an earlier life, when others were told of it.
    state.hasMore = ending._tag !== "Done" || written.length > state.entries.length
    yield* observe({ _tag: "TurnEnded", turn, ending, outputs: outputs.splice(0) })
    return true
  })

  /** Ends the turn before it has come to its end. */
  const giveUp = (turn: Turn.TurnId, step: number, ending: Turn.Ending, text: string) =>
    commit({ turn, output: outputId(turn, step, ".end"), text, ending })

  /** `outputs`: what was recorded since they were last told of. */
  const own = { conversation, ready, observe, model, toolTokens, textLimit, outputs, state }
  return { ...all, ...own, read, outputId, commit, giveUp }
})

export type Work = Effect.Success<ReturnType<typeof make>>
