/**
 * Tools to have other agents work. Whom an agent may ask is its team.
 */
import * as Tool from "effect/ai/Tool"
import * as Toolkit from "effect/ai/Toolkit"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { withHandlers } from "../services/Agent.ts"
import { CurrentTurn } from "../services/CurrentTurn.ts"
import { AgentName } from "../services/Message.ts"
import { type Report, Swarm, SwarmError } from "../services/Swarm.ts"
import { Deadline } from "../services/ToolGuard.ts"

const shared = { success: Schema.String, failure: SwarmError, dependencies: [CurrentTurn] }

const Brief = Schema.Struct({
  agent: AgentName.annotate({ description: "a name from your team" }),
  brief: Schema.NonEmptyString.annotate({ description: "all it needs to know: it sees nothing of this chat" })
})

// A specialist is known by its tool call, so a repeated call finds it again.
const Delegate = Tool.make("delegate", {
  ...shared,
  description: "Give work to a specialist of your team and get its report.",
  parameters: Brief
})
  .annotate(Tool.Idempotent, true)
  .annotate(Deadline, "1 hour")

const DelegateAll = Tool.make("delegate_all", {
  ...shared,
  description: "Give work to several specialists at once and get all reports.",
  parameters: Schema.Struct({ briefs: Schema.Array(Brief).check(Schema.isMinLength(1), Schema.isMaxLength(16)) })
})
  .annotate(Tool.Idempotent, true)
  .annotate(Deadline, "1 hour")

const toolkit = Toolkit.make(Delegate, DelegateAll)

const show = ({ agent, answer, ending }: Report): string => {
  switch (ending._tag) {
    case "Done":
      return answer === "" ? `${agent} is done and has nothing to say` : answer
    case "Failed":
      return `${agent} failed: ${ending.message}`
    case "Exhausted":
      return `${agent} stopped at its bound of ${ending.bound}.${answer === "" ? "" : ` So far: ${answer}`}`
    case "Stopped":
    case "Superseded":
      return `${agent} was stopped`
  }
}

/** `delegate`, `delegate_all`. Requires a `Swarm`. */
export const SwarmTools = withHandlers(
  toolkit,
  Effect.map(Swarm, (swarm) =>
    toolkit.of({
      delegate: ({ agent, brief }) => Effect.map(swarm.delegate({ agent, text: brief }), show),
      delegate_all: ({ briefs }) =>
        swarm
          .all(briefs.map(({ agent, brief }) => ({ agent, text: brief })))
          .pipe(Effect.map((reports) => reports.map((report) => `## ${report.agent}\n${show(report)}`).join("\n\n")))
    })
  )
)
