/**
 * A claw's life in a test: from its start on a folder to its end. A second life on the same folder is a restart.
 */
import { Agent, Bind, Claw } from "effect-claw"
import { MemoryTools } from "effect-claw/layers/MemoryTools"
import { SchedulerTools } from "effect-claw/layers/SchedulerTools"
import { ShellTools } from "effect-claw/layers/ShellTools"
import { SwarmTools } from "effect-claw/layers/SwarmTools"
import * as Local from "effect-claw/programs/Local"
import type { Files } from "effect-claw/services/Files"
import { HomeZone } from "effect-claw/services/HomeZone"
import { unwrapResult } from "effect-claw/services/PromptBorder"
import type { Admitted } from "effect-claw/services/Gate"
import type { Sandbox } from "effect-claw/services/Sandbox"
import { ChannelMemory, ModelScripted, SandboxMemory } from "effect-claw/testing"
import type * as LanguageModel from "effect/ai/LanguageModel"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

export const coder = Agent.make("coder", { instructions: "You write code.", toolkits: [ShellTools] })
export const researcher = Agent.make("researcher", {
  instructions: "You read.",
  toolkits: [Agent.pick(ShellTools, "read_file"), MemoryTools]
})
export const andy = Agent.make("andy", {
  instructions: "You are Andy.",
  toolkits: [ShellTools, MemoryTools, SchedulerTools, SwarmTools],
  team: [coder, researcher]
})

type Model = Layer.Layer<LanguageModel.LanguageModel | ModelScripted.ModelScripted>
type Hands = Layer.Layer<Sandbox | SandboxMemory.SandboxMemory>
type Needs = Agent.Services<typeof andy> | Files

export interface Life {
  readonly model: Model
  readonly hands?: Hands
  /** The first of them answers everywhere, unless there are bindings. */
  readonly agents?: ReadonlyArray<Agent.Agent<Needs>>
  readonly bindings?: ReadonlyArray<Bind.Binding>
  readonly admitted?: ReadonlyArray<Admitted>
  readonly claw?: Pick<Claw.Options<ReadonlyArray<Agent.Any>>, "pairing" | "rates" | "fileLimit">
  readonly channel?: ChannelMemory.Options
  readonly turnsAtOnce?: number
  /** Default: a `Local` on the folder. */
  readonly platform?: Layer.Layer<Local.Provides, unknown>
}

type Parts =
  | Claw.Claw
  | LanguageModel.LanguageModel
  | Sandbox
  | ChannelMemory.ChannelMemory
  | ModelScripted.ModelScripted
  | SandboxMemory.SandboxMemory
  | Local.Provides

/** Runs an effect in a claw's life. The home zone is UTC. */
export const life =
  (directory: string, options: Life) =>
  <A, E, R>(body: Effect.Effect<A, E, R>): Effect.Effect<A, unknown, Exclude<R, Parts>> => {
    const { agents = [andy], channel, hands = SandboxMemory.layer(), model, turnsAtOnce } = options
    const {
      bindings = agents.slice(0, 1).map((agent) => Bind.everywhere(agent, { groups: true })),
      platform = Local.layer({
        directory,
        synchronous: "NORMAL",
        ...(turnsAtOnce === undefined ? {} : { turnsAtOnce })
      })
    } = options
    const claw = Claw.layer({ ...options.claw, agents, bindings, admitted: options.admitted ?? [] }).pipe(
      Layer.provideMerge(ChannelMemory.layer(channel)),
      Layer.provideMerge(hands),
      Layer.provideMerge(model),
      Layer.provideMerge(platform),
      Layer.provide(Layer.succeed(HomeZone, DateTime.zoneMakeNamedUnsafe("UTC")))
    )
    return Effect.provide(body, Layer.fresh(claw))
  }

export const say = (message: string | ChannelMemory.Said) =>
  ChannelMemory.ChannelMemory.use((channel) => channel.say(message))

/** Waits until this many replies were sent, and returns their texts. */
export const replies = (count: number) =>
  ChannelMemory.ChannelMemory.use((channel) =>
    Effect.map(channel.awaitSent(count), (all) => all.map(({ text }) => text))
  )

/** Says something and waits for the one reply to it. */
export const ask = Effect.fnUntraced(function* (message: string | ChannelMemory.Said) {
  const channel = yield* ChannelMemory.ChannelMemory
  const before = (yield* channel.sent).length
  yield* channel.say(message)
  return (yield* channel.awaitSent(before + 1))[before]?.text ?? ""
})

export const requests = ModelScripted.ModelScripted.useSync(({ requests }) => requests)
export const commands = SandboxMemory.SandboxMemory.useSync((log) => log.commands.map(({ command }) => command.run))

/** What a model is told last: what people, tasks and agents say, and what its tools returned. */
export const last = ({ prompt }: ModelScripted.Request): string => {
  const after = prompt.content.findLastIndex(({ role }) => role === "assistant") + 1
  return prompt.content
    .slice(after)
    .flatMap(({ content, role }) =>
      role === "system" || typeof content === "string"
        ? []
        : content.map((part) =>
            part.type === "text"
              ? part.text.replace(/<[^>]*>/g, "")
              : part.type === "tool-result"
                ? `${part.name}: ${unwrapResult(String(part.result))}`
                : ""
          )
    )
    .join("\n")
}

/** All texts of a request. */
export const transcript = ({ prompt }: ModelScripted.Request): ReadonlyArray<string> =>
  prompt.content.flatMap(({ content, role }) =>
    role === "system" || typeof content === "string"
      ? []
      : content.flatMap((part) => (part.type === "text" ? [part.text.replace(/<[^>]*>/g, "")] : []))
  )

/** A model that answers every request as `answer` does. */
export const model = ModelScripted.layer
export const echo = model((request) => ({ text: `re: ${last(request)}` }))
