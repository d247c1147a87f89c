/**
 * The agent runtime: does a conversation's turns.
 *
 * The loop is a fold over the journal: read the entries, ask `Turn.next` what is to be done, do it, journal it, repeat
 * until there is nothing. It keeps no state that the journal does not have, so a turn that was cut anywhere goes on from
 * its last committed step.
 */
import type * as Prompt from "effect/ai/Prompt"
import type * as Response from "effect/ai/Response"
import * as Tool from "effect/ai/Tool"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import { type Ready, rightsIn, systemPrompt } from "./Agent.ts"
import { withImages } from "./Attachments.ts"
import { Channels } from "./Channel.ts"
import * as Compaction from "./Compaction.ts"
import { Files } from "./Files.ts"
import { HomeZone } from "./HomeZone.ts"
import * as ModelCall from "./internal/ModelCall.ts"
import { booksFailed, boundOf, exhausted } from "./internal/OutOfBounds.ts"
import { Journal, type JournalError, patiently } from "./Journal.ts"
import * as Leaks from "./Leaks.ts"
import { Ledger } from "./Ledger.ts"
import { type AgentName, channelOf, type ConversationId, isChild, OutputId } from "./Message.ts"
import { ModelInfo } from "./ModelInfo.ts"
import { Outbox } from "./Outbox.ts"
import * as PromptSize from "./PromptSize.ts"
import * as Reply from "./Reply.ts"
import * as Rights from "./Rights.ts"
import { ToolGuard } from "./ToolGuard.ts"
import * as Transcript from "./Transcript.ts"
import * as Turn from "./Turn.ts"
import { Vault } from "./Vault.ts"

/** Does turns. */
export class AgentRuntime extends Context.Service<
  AgentRuntime,
  {
    /**
     * Does a conversation's work until there is none: the open turn, then the inputs not yet seen. `observe` follows it
     * live. Interrupted, it leaves the turn open.
     */
    readonly run: (
      conversation: ConversationId,
      observe: (event: Turn.TurnEvent) => Effect.Effect<void>
    ) => Effect.Effect<void, JournalError>
  }
>()("effect-claw/services/AgentRuntime") {}

/** How often the same call may have the same result in a turn before the turn is stopped. The model is told before. */
const repeatsBorne = 8

/** How often a turn may cut its claw short, with nothing coming of it, before it is set aside. */
const deathsBorne = 3

/** What a step came to. */
interface Step {
  readonly turn: Turn.TurnId
  readonly output: OutputId
  readonly text: string
  readonly ending: Turn.Ending | undefined
  readonly events?: ReadonlyArray<Turn.Event>
  readonly booking?: Effect.Effect<unknown, JournalError>
}

/** Tool calls of one step that run side by side, at most. */
const callsAtOnce = 8

/**
 * The runtime over a set of agents.
 *
 * Provides `AgentRuntime`; requires `Journal`, `Ledger`, `Files`, `Outbox`, `Channels` and `ToolGuard`. Holds nothing to release.
 */
export const layer = (
  agents: ReadonlyMap<AgentName, Ready>
): Layer.Layer<AgentRuntime, never, Journal | Ledger | Files | Outbox | Channels | ToolGuard> =>
  Layer.effect(
    AgentRuntime,
    Effect.gen(function* () {
      const journal = yield* Journal
      const ledger = yield* Ledger
      const outbox = yield* Outbox
      const channels = yield* Channels
      const files = yield* Files
      const guard = yield* ToolGuard
      const leaks = Leaks.make(yield* Vault)
      const clock = Transcript.clockIn(yield* HomeZone)
      // Positions come again when a backup is restored, and a channel would take what is new for a resend.
      const life = (yield* Clock.currentTimeMillis).toString(36)
      const outputId = (turn: Turn.TurnId, step: number, suffix = "") =>
        OutputId.make(`${life}.${turn}.${step}${suffix}`)
      const definitions = new Map<AgentName, number>()
      /** The tokens that an agent's tools take of every prompt by their definitions. Made once: it takes a while. */
      const definitionTokens = ({ agent, tools }: Ready): number => {
        const known = definitions.get(agent.name)
        if (known !== undefined) return known
        const written = Object.values(tools).map((tool) => [tool.name, tool.description, Tool.getJsonSchema(tool)])
        const tokens = Math.ceil(JSON.stringify(written).length / 3)
        definitions.set(agent.name, tokens)
        return tokens
      }
      /** Turns that were begun or taken up in this process: one found open that is not among them was cut by a death. */
      const known = new Set<Turn.TurnId>()

      const runTurns = Effect.fn("AgentRuntime.run")(function* (
        conversation: ConversationId,
        ready: Ready,
        observe: (event: Turn.TurnEvent) => Effect.Effect<void>
      ) {
        const { agent } = ready
        const { limits } = agent
        const model = Context.get(ready.model, ModelInfo)
        const textLimit = yield* channels.get(channelOf(conversation)).pipe(
          Effect.map(({ capabilities }) => capabilities.textLimit ?? Infinity),
          Effect.orElseSucceed(() => Infinity)
        )
        const written: Array<Turn.Entry> = []
        let entries: ReadonlyArray<Turn.Entry> = []
        let mandate = Turn.mandate(entries)
        const outputs: Array<OutputId> = []
        let hasMore = false
        const read = Effect.map(
          Effect.suspend(() => journal.entries(conversation, written.at(-1)?.position ?? 0)),
          (more) => {
            written.push(...more)
            entries = Turn.inOrder(written)
            mandate = Turn.mandate(entries)
          }
        )
        const tools = Object.values(ready.tools)
        const toolTokens = definitionTokens(ready)
        let most = Math.min(limits.prompt, model.contextTokens - model.outputTokens) - toolTokens
        const view = (): Transcript.Options => ({ system: systemPrompt(agent), entries, clock, budget: most })

        /** Commits a step, and lets the outbox and the channel know. Returns whether the turn is over. */
        const commit = Effect.fnUntraced(function* (step: Step) {
          const { booking = Effect.void, ending, events = [], output, text, turn } = step
          const { message } = mandate
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
          hasMore = ending._tag !== "Done" || written.length > entries.length
          yield* observe({ _tag: "TurnEnded", turn, ending, outputs: outputs.splice(0) })
          return true
        })

        const giveUp = (turn: Turn.TurnId, step: number, ending: Turn.Ending, text: string) =>
          commit({ turn, output: outputId(turn, step, ".end"), text, ending })

        /** Fails when the budget has no room for it. */
        const reserve = (turn: Turn.TurnId, step: number, prompt: Prompt.Prompt) => {
          const { parent, sender } = mandate
          return Effect.mapError(
            ledger.reserve({
              turn,
              step,
              conversation,
              agent: agent.name,
              sender,
              model: model.name,
              tokens: PromptSize.estimateTokens(prompt) + toolTokens + model.outputTokens,
              price: model.price,
              budget: agent.budget,
              above: parent?.rights.budget ?? []
            }),
            boundOf
          )
        }

        /** Asks the model, each attempt reserved by itself; what is not taken is told, and ends the turn. */
        const call = Effect.fnUntraced(function* (asking: {
          readonly turn: Turn.TurnId
          readonly step: number
          readonly prompt: Prompt.Prompt
          readonly compaction: Compaction.Compaction | undefined
        }) {
          const { compaction, prompt, step, turn } = asking
          const output = outputId(turn, step)
          const rights = rightsIn(ready, conversation, mandate)
          const book = (usage: Response.Usage | undefined) =>
            Effect.mapError(ledger.book({ turn, step, price: model.price, usage }), booksFailed)
          const live = Leaks.inPieces(leaks)
          const show = (delta: string) =>
            delta === "" || compaction !== undefined ? Effect.void : observe({ _tag: "TextDelta", output, delta })
          const asked = yield* ModelCall.ask({
            prompt: yield* withImages(files, prompt),
            tools: compaction === undefined ? tools.filter(({ name }) => Rights.allows(rights, name)) : [],
            onText: (delta) => show(live.next(delta)),
            onFailure: (isUnspent) => {
              live.end()
              return Effect.andThen(
                observe({ _tag: "TextDiscarded", output }),
                isUnspent ? book(undefined) : Effect.void
              )
            },
            again: journal.atomically(reserve(turn, step, prompt))
          }).pipe(Effect.provideContext(ready.model), Effect.result)
          if (Result.isSuccess(asked)) {
            yield* show(live.end())
            const { usage } = asked.success
            // Where a provider says nothing, what was reserved stands.
            const isUnknown = usage.inputTokens.total === undefined && usage.outputTokens.total === undefined
            return { ...asked.success, booking: isUnknown ? Effect.void : book(usage) }
          }
          const error = asked.failure
          if (error._tag === "JournalError") return yield* error
          if (error._tag === "OutOfBounds") return yield* giveUp(turn, step, error.ending, error.text)
          // A digest stands in for a summary that the model does not give.
          if (compaction !== undefined && ModelCall.isPromptsFault(error))
            return { ...ModelCall.noAnswer, booking: Effect.void }
          // An estimate can be wrong: it is tried with half of the prompt, and with half of that.
          const size = PromptSize.estimateTokens(prompt)
          if (ModelCall.isTooLong(error) && size > worthHalving) {
            most = size / 2
            return false
          }
          const message = ModelCall.apology(error, model.name)
          return yield* giveUp(turn, step, { _tag: "Failed", message }, message)
        })

        const askModel = Effect.fnUntraced(function* (step: number) {
          const { repeats, tokens, turn: open } = mandate
          const reached =
            step > limits.steps
              ? exhausted("steps", limits.steps.toLocaleString("en-US"))
              : tokens > limits.tokens
                ? exhausted("tokens", limits.tokens.toLocaleString("en-US"))
                : repeats >= repeatsBorne
                  ? exhausted("repeats")
                  : undefined
          // What came meanwhile is not seen by this turn, and is the next one's.
          if (open !== undefined && reached !== undefined)
            return yield* giveUp(open, step, reached.ending, reached.text)
          // One transaction: what is reserved is known to the journal, and the other way round.
          const asking = yield* journal.atomically(
            Effect.gen(function* () {
              const turn = yield* journal.request(conversation, agent.name, step)
              yield* read
              const due = Compaction.due(view())
              const compaction = due?.old.length === 0 ? undefined : due
              if (due !== undefined && compaction === undefined) {
                yield* journal.record({ conversation, events: [due.event] })
                yield* read
              }
              const prompt =
                compaction === undefined ? Transcript.prompt(view()) : Compaction.request(compaction, view())
              // Out of bounds is no failure of the transaction.
              const bound = yield* reserve(turn, step, prompt).pipe(
                Effect.as(undefined),
                Effect.catchTag("OutOfBounds", (bound) => Effect.succeed(bound))
              )
              return { turn, step, prompt, compaction, bound }
            })
          )
          const { bound, compaction, turn } = asking
          known.add(turn)
          if (open === undefined) yield* observe({ _tag: "TurnBegan", turn })
          const output = outputId(turn, step)
          const isDigest = bound !== undefined && compaction !== undefined
          if (bound !== undefined && !isDigest) return yield* giveUp(turn, step, bound.ending, bound.text)
          const answer = isDigest ? { ...ModelCall.noAnswer, booking: Effect.void } : yield* call(asking)
          if (typeof answer === "boolean") return answer
          const { booking, content, finish, usage } = answer
          if (compaction !== undefined) {
            const summary = finish === "content-filter" ? "" : ModelCall.textOf(content)
            const event = { ...Compaction.entry(compaction, view(), summary), usage }
            return yield* commit({ turn, output, text: "", ending: undefined, events: [event], booking })
          }
          return yield* commit({
            turn,
            output,
            text: ModelCall.replyOf(content, finish),
            ending: Turn.toolCalls(content).length > 0 ? undefined : { _tag: "Done" },
            events: [{ _tag: "ModelAnswered", step, content, usage }],
            booking
          })
        })

        const callTools = Effect.fnUntraced(function* (next: Extract<Turn.Next, { _tag: "CallTools" }>) {
          const { calls, interrupted, step } = next
          const approvals = Turn.approvals(entries, yield* Clock.currentTimeMillis)
          if (mandate.turn === undefined) return
          const current = {
            conversation,
            turn: mandate.turn,
            step,
            agent: agent.name,
            sender: mandate.sender,
            message: mandate.message?.id,
            rights: rightsIn(ready, conversation, mandate),
            team: agent.team.map(({ name }) => name),
            depth: mandate.parent?.depth ?? 0
          }
          yield* Effect.forEach(
            calls,
            (call) =>
              observe({ _tag: "ToolCalled", call: call.id, tool: call.name, params: call.params }).pipe(
                Effect.andThen(
                  guard.call({
                    call,
                    agent: ready,
                    interrupted: interrupted.has(call.id),
                    approval: approvals.get(call.id),
                    textLimit,
                    turn: current,
                    output: outputId(current.turn, step, `.${call.id}`)
                  })
                ),
                Effect.flatMap(({ outputs: said, result }) => {
                  outputs.push(...said)
                  const returned =
                    result === undefined
                      ? Effect.void
                      : observe({ _tag: "ToolReturned", call: call.id, isFailure: result.isFailure })
                  return said.length === 0 ? returned : Effect.andThen(returned, outbox.flush(conversation))
                })
              ),
            { concurrency: callsAtOnce, discard: true }
          )
          yield* read
        })

        /** What was recorded, and what a channel follows, comes to its end, too. */
        const cut = Effect.suspend(() => {
          const { turn } = mandate
          const over = { _tag: "TurnEnded", ending: { _tag: "Stopped" }, outputs: [] } as const
          return Effect.andThen(
            outbox.flush(conversation),
            turn === undefined ? Effect.void : observe({ ...over, turn })
          )
        })

        /** Until a person answers, nothing runs and nothing is held. */
        const park = Effect.suspend(() => {
          const { turn } = mandate
          return turn === undefined ? Effect.void : observe({ _tag: "TurnParked", turn, outputs: outputs.splice(0) })
        })

        yield* read
        const { resumed, turn: left } = mandate
        if (Turn.next(entries, yield* Clock.currentTimeMillis)._tag === "Park") return false
        if (left !== undefined) {
          yield* observe({ _tag: "TurnContinued", turn: left })
          yield* outbox.flush(conversation)
        }
        if (left !== undefined && !known.has(left) && journal.wasCut) {
          if (resumed + 1 >= deathsBorne) {
            const message = "Something I was asked to do has ended me again and again, so I set it aside."
            yield* giveUp(left, 0, { _tag: "Failed", message }, message)
          } else yield* journal.record({ conversation, events: [{ _tag: "TurnResumed" }] })
          yield* read
        }
        const outOfTime = Effect.gen(function* () {
          const followed = mandate.turn
          yield* read
          const { turn } = mandate
          const { ending, text } = exhausted("time", Duration.format(Duration.fromInputUnsafe(limits.time)))
          if (turn !== undefined) return void (yield* giveUp(turn, 0, ending, text))
          // It came to its end in the very moment.
          yield* outbox.flush(conversation)
          if (followed !== undefined) yield* observe({ _tag: "TurnEnded", turn: followed, ending, outputs: [] })
          hasMore = true
        })
        yield* Effect.gen(function* () {
          while (true) {
            const next = Turn.next(entries, yield* Clock.currentTimeMillis)
            if (next._tag === "Rest") return
            if (next._tag === "Park") return yield* park
            if (next._tag === "CallTools") yield* callTools(next)
            else if (yield* askModel(next.step)) return
            else yield* read
          }
        }).pipe(
          Effect.timeoutOrElse({ duration: limits.time, orElse: () => outOfTime }),
          Effect.onInterrupt(() => cut)
        )
        return hasMore
      })

      return AgentRuntime.of({
        run: (conversation, observe) =>
          Effect.flatMap(
            journal.state(conversation),
            Option.match({
              onNone: () => Effect.void,
              onSome: (state) => {
                const ready = agents.get(state.agent)
                return ready === undefined
                  ? Effect.logWarning(
                      `${conversation} waits for the agent ${state.agent}, which this claw does not have`
                    )
                  : runTurns(conversation, ready, observe).pipe(
                      Effect.repeat({ while: (hasMore) => hasMore }),
                      Effect.asVoid
                    )
              }
            })
          )
      })
    })
  )

/** A prompt that is shorter than this, in tokens, is not refused for its length. */
const worthHalving = 4000
