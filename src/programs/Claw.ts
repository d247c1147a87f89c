/**
 * The claw: the services put together.
 *
 * A message's way, from its channel through the gate into the journal, to the conversation's actor, and its answer back
 * by the outbox, is laid here and nowhere else. Which channel, model, sandbox and store there are is the user's choice.
 */
import * as Prompt from "effect/ai/Prompt"
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Admissions from "../services/Admissions.ts"
import * as Agent from "../services/Agent.ts"
import * as Attachments from "../services/Attachments.ts"
import * as AgentRuntime from "../services/AgentRuntime.ts"
import type { Binding } from "../services/Bind.ts"
import * as Budget from "../services/Budget.ts"
import { type Channel, type ChannelError, Channels, type InboundDelivery } from "../services/Channel.ts"
import { Conversations } from "../services/Conversations.ts"
import type { ChannelState } from "../services/ChannelState.ts"
import * as Commands from "../services/Commands.ts"
import { Egress } from "../services/Egress.ts"
import type { Files } from "../services/Files.ts"
import * as Gate from "../services/Gate.ts"
import type { TimeZoneInvalid } from "../services/HomeZone.ts"
import { Journal, type JournalError, patiently } from "../services/Journal.ts"
import type { Ledger } from "../services/Ledger.ts"
import {
  type AgentName,
  channelOf,
  chatOf,
  conversationId,
  type ConversationId,
  isChild,
  OutputId
} from "../services/Message.ts"
import { ModelInfo } from "../services/ModelInfo.ts"
import * as Pairing from "../services/Pairing.ts"
import * as PromptSize from "../services/PromptSize.ts"
import * as Outbox from "../services/Outbox.ts"
import { Sandbox } from "../services/Sandbox.ts"
import * as Sandboxes from "../services/Sandboxes.ts"
import * as ToolGuard from "../services/ToolGuard.ts"
import { Vault } from "../services/Vault.ts"
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
export interface Options<Agents extends ReadonlyArray<Agent.Any>> extends Gate.Options {
  /** The agents; their teams come along. */
  readonly agents: Agents
  /**
   * Lets people in later: whoever sends a code that the log shows owns a channel that has no owner; a stranger gets a code, and
   * the owner lets it in with that. Default: strangers are ignored.
   */
  readonly pairing?: Pairing.Options
  /** The largest file that is taken, in bytes. Default 20 MiB. */
  readonly fileLimit?: number
  /** How sandbox sessions are kept. */
  readonly sandboxes?: Omit<Sandboxes.Options, "optionsOf">
}

/** What every claw needs, whatever its agents: a `Local.layer` has it. */
export type Platform = Channels | ChannelState | Conversations | Files | Journal | Ledger | Workspaces

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
      Layer.merge(Gate.layer(options)),
      Layer.provideMerge(Admissions.layer)
    )
  )
  const runtime = Context.get(parts, AgentRuntime.AgentRuntime)
  const outbox = Context.get(parts, Outbox.Outbox)
  const gate = Context.get(parts, Gate.Gate)
  const admissions = Context.get(parts, Admissions.Admissions)
  const { obey, say } = yield* Effect.provideContext(Commands.make(agents), parts)
  const pairing = yield* Effect.provideContext(Pairing.make(options.pairing, say), parts)

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

  const receive = Effect.fn("Claw.receive")(function* (
    { attachments = [], message }: InboundDelivery,
    channel: Channel
  ) {
    const conversation = conversationId(message.channel, message.chat)
    const verdict = yield* gate.judge(message, channel)
    switch (verdict._tag) {
      case "Ignore":
        return yield* Effect.logDebug(`a message in ${conversation} was ignored: ${verdict.reason}`)
      case "Stranger":
        return yield* pairing.meet(message, verdict.reason)
      case "Command":
        return yield* obey(message, verdict)
      case "Engage":
      case "Context": {
        const { agent } = verdict
        if (message.direct && (yield* admissions.isOwner(channel, message.sender))) yield* admissions.met(message)
        // What comes twice is fetched once.
        if (attachments.length > 0 && (yield* journal.isReceived(conversation, message.id))) return
        const files = yield* Attachments.receive({ agent, conversation, attachments, limit: options.fileLimit })
        const isNew = yield* conversations.deliver({
          conversation,
          agent,
          mode: verdict._tag === "Context" ? "context" : verdict.mode,
          key: message.id,
          input: Attachments.inputOf(message, files)
        })
        if (!isNew || verdict._tag !== "Context" || verdict.isTooMuch !== true) return
        const id = OutputId.make(`${conversation} ${message.id}`)
        yield* say(
          conversation,
          id,
          "That is more than I may answer in a minute. I keep what you write, and read it with the next that I answer."
        )
      }
    }
  })

  /** Acknowledged is only what is stored: while the store fails, the message waits, and so do those behind it. */
  const take = (delivery: InboundDelivery) => {
    const { ack, message } = delivery
    return Effect.flatMap(channels.get(message.channel), (channel) => receive(delivery, channel)).pipe(
      patiently,
      Effect.catch((error) => Effect.logError(`a message cannot be taken and is left out: ${error.message}`)),
      // What is stored has arrived, whatever the platform makes of it: one that does not answer holds up no other.
      Effect.andThen(Effect.timeoutOption(ack, "10 seconds")),
      Effect.catch((error) => Effect.logWarning(`a message was stored but not acknowledged: ${error.message}`)),
      Effect.asVoid
    )
  }

  const aside = yield* Attachments.makeAside(take)

  /** What arrives together is stored together: in order within a conversation, side by side over conversations. */
  const takeAll = (deliveries: ReadonlyArray<InboundDelivery>) =>
    Effect.forEach(
      [...Map.groupBy(deliveries, ({ message }) => conversationId(message.channel, message.chat)).values()],
      aside.takeAll,
      { concurrency: "unbounded", discard: true }
    )

  yield* Effect.forEach(yield* channels.names, (name) =>
    Effect.catch(pairing.offer(name), (error) => Effect.logError(error.message))
  )
  yield* Stream.runForEach(channels.failures, (failure) =>
    Effect.catch(patiently(pairing.mourn(failure)), (error) => Effect.logError(error.message))
  ).pipe(Effect.forkScoped)

  yield* conversations.serve((conversation) => Effect.andThen(warm(conversation), inSight(conversation)))
  const received = yield* Effect.forkScoped(Stream.runForEachArray(channels.inbound, takeAll))

  return Claw.of({
    finished: Fiber.join(received).pipe(
      Effect.andThen(aside.settled),
      Effect.andThen(conversations.settled()),
      Effect.andThen(outbox.settled)
    )
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
  const vault = yield* Vault
  for (const { agent, model } of agents.values()) {
    if (Option.isSome(egress)) {
      yield* Effect.mapError(
        egress.value.check(agent.sandbox.egress ?? []),
        ({ message }) => new Agent.AgentError({ agent: agent.name, detail: message })
      )
    }
    const unmasked = agent.sandbox.egress?.find(({ secret }) => secret !== undefined && !vault.has(secret))
    if (unmasked !== undefined) {
      return yield* new Agent.AgentError({
        agent: agent.name,
        detail:
          `its rule for ${unmasked.host} names the secret ${unmasked.secret}, which the claw's vault does not have, so nothing ` +
          "that it says would be masked; provide the vault to the whole claw, behind its other layers"
      })
    }
    const info = Context.get(model, ModelInfo)
    const instructions = PromptSize.tokensOf([Prompt.systemMessage({ content: agent.instructions })])
    if (instructions > Math.min(agent.limits.prompt, info.contextTokens - info.outputTokens) / 2) {
      return yield* new Agent.AgentError({
        agent: agent.name,
        detail: `its instructions take about ${instructions} tokens, more than half of what a prompt may have; shorten them, or raise limits.prompt`
      })
    }
    if (info.price === undefined && Budget.amounts(agent.budget).some(({ unit }) => unit === "microdollars")) {
      return yield* new Agent.AgentError({
        agent: agent.name,
        detail:
          `its budget is in money and no price is known for the model ${info.name}; give the model layer a price, or ` +
          `the agent a budget in tokens`
      })
    }
  }
})
