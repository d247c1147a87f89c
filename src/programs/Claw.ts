/**
 * The claw: the services put together.
 *
 * A message's way, from its channel through the gate into the journal, to the conversation's actor, and its answer back
 * by the outbox, is laid here and nowhere else. Which channel, model, sandbox and store there are is the user's choice.
 */
import * as Prompt from "effect/ai/Prompt"
import * as Clock from "effect/Clock"
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Agent from "../services/Agent.ts"
import * as AgentRuntime from "../services/AgentRuntime.ts"
import * as Approval from "../services/Approval.ts"
import type { Binding } from "../services/Bind.ts"
import * as Budget from "../services/Budget.ts"
import { type Channel, type ChannelError, Channels, type InboundDelivery } from "../services/Channel.ts"
import { Conversations } from "../services/Conversations.ts"
import { Egress } from "../services/Egress.ts"
import type { Files } from "../services/Files.ts"
import * as Gate from "../services/Gate.ts"
import { make as makeHomeZone, type TimeZoneInvalid } from "../services/HomeZone.ts"
import { Journal, type JournalError, patiently } from "../services/Journal.ts"
import { Ledger, type LedgerError } from "../services/Ledger.ts"
import {
  type AgentName,
  channelOf,
  chatOf,
  conversationId,
  type ConversationId,
  type InboundMessage,
  isChild,
  OutputId,
  sender
} from "../services/Message.ts"
import { ModelInfo } from "../services/ModelInfo.ts"
import * as PromptSize from "../services/PromptSize.ts"
import * as Outbox from "../services/Outbox.ts"
import { Sandbox } from "../services/Sandbox.ts"
import * as Sandboxes from "../services/Sandboxes.ts"
import * as ToolGuard from "../services/ToolGuard.ts"
import * as Turn from "../services/Turn.ts"
import { type Workspaces } from "../services/Workspaces.ts"

/** A running claw. */
export class Claw extends Context.Service<
  Claw,
  {
    /** Waits until every channel has closed and all that was asked is answered. Most claws never are. */
    readonly finished: Effect.Effect<void, ChannelError>
  }
>()("effect-claw/programs/Claw") {}

/** What a claw is made of, beside its layers. */
export interface Options<Agents extends ReadonlyArray<Agent.Any>> {
  /** The agents; their teams come along. */
  readonly agents: Agents
  /** Which of them answers where. Read in order, the first that fits decides. */
  readonly bindings: ReadonlyArray<Binding>
  /** Who may speak, beside the owner that a channel names. Default: nobody. */
  readonly admitted?: ReadonlyArray<Gate.Admitted>
  /** How sandbox sessions are kept. */
  readonly sandboxes?: Omit<Sandboxes.Options, "optionsOf">
}

/** What every claw needs, whatever its agents: a `Local.layer` has it. */
export type Platform = Channels | Conversations | Files | Journal | Ledger | Workspaces

/**
 * A claw.
 *
 * Provides `Claw`; requires the platform and what the agents need: a `LanguageModel`, and a `Sandbox` for shell tools.
 * What an earlier run left unfinished goes on at once. On release running turns are interrupted and stay open, their
 * commands are killed and their sandboxes closed.
 */
export const layer = <const Agents extends ReadonlyArray<Agent.Any>>(
  options: Options<Agents>
): Layer.Layer<
  Claw,
  Agent.AgentError | Config.ConfigError | JournalError | TimeZoneInvalid,
  Platform | Agent.Services<Agents[number]>
> => Layer.effect(Claw, make(options))

/** Runs a claw until it is finished or interrupted. */
export const launch = <E, R>(
  claw: Layer.Layer<Claw, E, R>
): Effect.Effect<void, E | ChannelError, Exclude<R, Scope.Scope>> =>
  Effect.scoped(Effect.flatMap(Layer.build(claw), (context) => Context.get(context, Claw).finished))

const make = Effect.fnUntraced(function* <Agents extends ReadonlyArray<Agent.Any>>(options: Options<Agents>) {
  const channels = yield* Channels
  const conversations = yield* Conversations
  const journal = yield* Journal
  const ledger = yield* Ledger
  const zone = yield* makeHomeZone
  const sandbox = yield* Effect.serviceOption(Sandbox)

  const definitions = new Map(options.agents.flatMap(Agent.withTeam).map((agent) => [agent.name, agent]))
  const optionsOf = (agent: AgentName) => definitions.get(agent)?.sandbox ?? {}
  const sessions = Option.isNone(sandbox)
    ? Context.empty()
    : yield* Layer.build(
        Sandboxes.layer({ ...options.sandboxes, optionsOf }).pipe(Layer.provide(Layer.succeed(Sandbox, sandbox.value)))
      )
  const agents = yield* Effect.provideContext(Agent.ready(options.agents), sessions)
  yield* validate(agents, options.bindings)
  const lacks = (yield* channels.names).length === 0 ? "channel" : options.bindings.length === 0 ? "binding" : undefined
  if (lacks !== undefined) yield* Effect.logWarning(`this claw has no ${lacks}, so nobody can talk with it`)

  const parts = yield* Layer.build(
    AgentRuntime.layer(agents).pipe(
      Layer.provide(ToolGuard.layer),
      Layer.provideMerge(Outbox.layer),
      Layer.merge(Gate.layer({ bindings: options.bindings, admitted: options.admitted ?? [] }))
    )
  )
  const runtime = Context.get(parts, AgentRuntime.AgentRuntime)
  const outbox = Context.get(parts, Outbox.Outbox)
  const gate = Context.get(parts, Gate.Gate)

  const isWarm = [...definitions.values()].some(({ sandbox }) => sandbox.warm === true)
  const sandboxes = Context.getOption(sessions, Sandboxes.Sandboxes)

  /** Has the session of an agent that wants it warm opened while its model thinks. */
  const warm = Effect.fnUntraced(function* (conversation: ConversationId) {
    // A specialist's rights are known to its turn.
    if (Option.isNone(sandboxes) || !isWarm || isChild(conversation)) return
    const state = yield* journal.state(conversation)
    const ready = Option.flatMapNullishOr(state, ({ agent }) => agents.get(agent))
    if (Option.isSome(ready)) yield* sandboxes.value.warm(ready.value.agent.name, conversation, ready.value.rights)
  })

  /** Does a conversation's work, in sight of its channel. */
  const inSight = (conversation: ConversationId) =>
    isChild(conversation)
      ? runtime.run(conversation, () => Effect.void)
      : Effect.flatMap(Effect.option(channels.get(channelOf(conversation))), (channel) => {
          const { follow, typing } = Option.getOrElse(channel, (): Partial<Channel> => ({}))
          const chat = chatOf(conversation)
          const run = runtime.run(conversation, (event) => follow?.(chat, event) ?? Effect.void)
          return typing === undefined ? run : Effect.scoped(Effect.andThen(typing(chat), run))
        })

  const say = Effect.fnUntraced(function* (conversation: ConversationId, id: OutputId, text: string) {
    yield* journal.record({ conversation, events: [], outputs: [{ id, text }] })
    yield* outbox.flush(conversation)
  })

  const usage = Effect.fnUntraced(function* (conversation: ConversationId) {
    const since = DateTime.toEpochMillis(DateTime.startOf(DateTime.setZone(yield* DateTime.now, zone), "day"))
    const show = (name: string, by: { readonly conversation?: ConversationId }) =>
      Effect.map(ledger.spent({ ...by, since }), (spent) => {
        const tokens = spent.inputTokens + spent.cacheReadTokens + spent.cacheWriteTokens + spent.outputTokens
        const money = Budget.format({ unit: "microdollars", value: spent.microdollars })
        return `${name}: ${spent.calls} model calls, ${tokens.toLocaleString("en-US")} tokens, ${money}`
      })
    return [yield* show("This chat today", { conversation }), yield* show("All chats today", {})].join("\n")
  })

  /** Takes a person's yes or no, once: the answer and what it is answered with are recorded together. */
  const answer = Effect.fnUntraced(function* (
    conversation: ConversationId,
    id: OutputId,
    { code, command }: { readonly command: Gate.CommandName; readonly code?: string },
    by: Parameters<typeof Approval.meant>[2]
  ) {
    const entries = Turn.inOrder(yield* journal.entries(conversation, 0))
    const asked = Turn.approvals(entries, yield* Clock.currentTimeMillis)
    const meant = Approval.meant(asked.values(), code, by)
    if (typeof meant === "string") return yield* say(conversation, id, meant)
    const yes = command === "approve"
    yield* journal.record({
      conversation,
      events: [{ _tag: "ApprovalAnswered", code: meant.code, digest: meant.digest, yes, by: by.sender }],
      outputs: [{ id, text: `${yes ? "Approved" : "Denied"}: ${Approval.show(meant.tool)}.` }]
    })
    // A turn that was parked sends it when it goes on, so that a channel knows that there is more to come.
    const isParked = (yield* conversations.status(conversation)) === "idle"
    yield* conversations.wake(conversation)
    if (!isParked) yield* outbox.flush(conversation)
  })

  const obey = Effect.fnUntraced(function* (
    conversation: ConversationId,
    agent: AgentName,
    command: Exclude<Gate.CommandName, "approve" | "deny">
  ): Effect.fn.Return<string, JournalError | LedgerError> {
    switch (command) {
      case "stop":
        return (yield* conversations.stop(conversation)) ? "Stopped." : "There is nothing to stop."
      case "new":
        yield* conversations.stop(conversation)
        yield* journal.record({ conversation, events: [{ _tag: "ConversationReset" }] })
        return "We start afresh. What I remember, I keep."
      case "compact":
        yield* journal.record({ conversation, events: [{ _tag: "CompactionAsked" }] })
        return "I will sum up what we said before I answer next."
      case "status": {
        const ready = agents.get(agent)
        const model = ready === undefined ? "" : ` on ${Context.get(ready.model, ModelInfo).name}`
        const commands = Option.isNone(sandbox) ? "" : `, commands in: ${yield* sandbox.value.description}`
        return `I am ${agent}${model}${commands}. This chat is ${yield* conversations.status(conversation)}.`
      }
      case "usage":
        return yield* usage(conversation)
      case "help":
        return Object.entries(Gate.commands)
          .map(([name, what]) => `/${name}: ${what}`)
          .join("\n")
    }
  })

  const receive = Effect.fn("Claw.receive")(function* (message: InboundMessage, channel: Channel) {
    const conversation = conversationId(message.channel, message.chat)
    const verdict = gate.judge(message, channel)
    switch (verdict._tag) {
      case "Ignore":
        return yield* Effect.logDebug(`a message in ${conversation} was ignored: ${verdict.reason}`)
      case "Command": {
        const id = OutputId.make(`${conversation} ${message.id}`)
        // A command that comes twice is obeyed once.
        if (yield* journal.isRecorded(id)) return
        if (verdict.command === "approve" || verdict.command === "deny") {
          const by = sender(message.channel, message.sender)
          return yield* answer(conversation, id, verdict, { sender: by, isOwner: message.sender === channel.owner })
        }
        const text = yield* obey(conversation, verdict.agent, verdict.command)
        return yield* say(conversation, id, text)
      }
      case "Engage":
      case "Context":
        return yield* Effect.asVoid(
          conversations.deliver({
            conversation,
            agent: verdict.agent,
            mode: verdict._tag === "Context" ? "context" : verdict.mode,
            key: message.id,
            input: {
              origin: {
                _tag: "Person",
                sender: sender(message.channel, message.sender),
                ...(message.senderName === undefined ? {} : { name: message.senderName })
              },
              content: message.content,
              at: message.at
            }
          })
        )
    }
  })

  /** Acknowledged is only what is stored: while the store fails, the message waits, and so do those behind it. */
  const take = ({ ack, message }: InboundDelivery) =>
    Effect.flatMap(channels.get(message.channel), (channel) => receive(message, channel)).pipe(
      patiently,
      Effect.catch((error) => Effect.logError(`a message cannot be taken and is left out: ${error.message}`)),
      // What is stored has arrived, whatever the platform makes of it: one that does not answer holds up no other.
      Effect.andThen(Effect.timeoutOption(ack, "10 seconds")),
      Effect.catch((error) => Effect.logWarning(`a message was stored but not acknowledged: ${error.message}`))
    )

  /** What arrives together is stored together: in order within a conversation, side by side over conversations. */
  const takeAll = (deliveries: ReadonlyArray<InboundDelivery>) =>
    Effect.forEach(
      [...Map.groupBy(deliveries, ({ message }) => conversationId(message.channel, message.chat)).values()],
      (ofOne) => Effect.forEach(ofOne, take, { discard: true }),
      { concurrency: "unbounded", discard: true }
    )

  yield* conversations.serve((conversation) => Effect.andThen(warm(conversation), inSight(conversation)))
  const received = yield* Effect.forkScoped(Stream.runForEachArray(channels.inbound, takeAll))

  return Claw.of({
    finished: Fiber.join(received).pipe(Effect.andThen(conversations.settled()), Effect.andThen(outbox.settled))
  })
})

/** What no type can say of the agents together. */
const validate = Effect.fnUntraced(function* (
  agents: ReadonlyMap<AgentName, Agent.Ready>,
  bindings: ReadonlyArray<Binding>
) {
  for (const { agent } of bindings) {
    if (!agents.has(agent)) {
      return yield* new Agent.AgentError({ agent, detail: "a binding names it, and the claw does not have it" })
    }
  }
  const egress = yield* Effect.serviceOption(Egress)
  for (const { agent, model } of agents.values()) {
    if (Option.isSome(egress)) {
      yield* Effect.mapError(
        egress.value.check(agent.sandbox.egress ?? []),
        ({ message }) => new Agent.AgentError({ agent: agent.name, detail: message })
      )
    }
    const info = Context.get(model, ModelInfo)
    const instructions = PromptSize.tokensOf([Prompt.systemMessage({ content: agent.instructions })])
    if (instructions > Math.min(agent.limits.prompt, info.contextTokens - info.outputTokens) / 2) {
      return yield* new Agent.AgentError({
        agent: agent.name,
        detail: `its instructions take about ${instructions} tokens, more than half of what a prompt may have; shorten them, or raise limits.prompt`
      })
    }
    const amounts = [agent.budget.perDay, agent.budget.perTurn].flatMap((written) =>
      written === undefined ? [] : [Budget.amount(written)]
    )
    if (info.price === undefined && amounts.some(({ unit }) => unit === "microdollars")) {
      return yield* new Agent.AgentError({
        agent: agent.name,
        detail:
          `its budget is in money and no price is known for the model ${info.name}; give the model layer a price, or ` +
          `the agent a budget in tokens`
      })
    }
  }
})
