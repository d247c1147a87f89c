/**
 * A claw that is killed: `node claw.ts SOCKET FOLDER SANDBOX [N]`. With N it ends itself by SIGKILL at the N-th passage of
 * a durable step. The steps are not listed: every call of the journal is one when it begins and one when it has ended.
 */
import { Agent, Bind, Claw } from "effect-claw"
import * as ChannelStateSql from "effect-claw/layers/ChannelStateSql"
import * as ConversationsLocal from "effect-claw/layers/ConversationsLocal"
import * as DatabaseSqlite from "effect-claw/layers/DatabaseSqlite"
import * as FilesLocal from "effect-claw/layers/FilesLocal"
import * as JournalSql from "effect-claw/layers/JournalSql"
import * as LedgerSql from "effect-claw/layers/LedgerSql"
import * as MemorySql from "effect-claw/layers/MemorySql"
import { MemoryTools } from "effect-claw/layers/MemoryTools"
import * as ModelOffline from "effect-claw/layers/ModelOffline"
import * as SandboxDocker from "effect-claw/layers/SandboxDocker"
import * as SandboxVirtual from "effect-claw/layers/SandboxVirtual"
import * as SchedulerSql from "effect-claw/layers/SchedulerSql"
import { SchedulerTools } from "effect-claw/layers/SchedulerTools"
import { ShellTools } from "effect-claw/layers/ShellTools"
import * as SwarmLocal from "effect-claw/layers/SwarmLocal"
import { SwarmTools } from "effect-claw/layers/SwarmTools"
import * as WorkspacesLocal from "effect-claw/layers/WorkspacesLocal"
import * as Channel from "effect-claw/services/Channel"
import { Journal } from "effect-claw/services/Journal"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as SqlClient from "effect/sql/SqlClient"
import { writeSync } from "node:fs"
import { join } from "node:path"
import * as Platform from "./Platform.ts"

const [socket = "", directory = "", kind = "virtual", killAt = "0"] = process.argv.slice(2)

let passed = 0
const pass = (step: string) =>
  Effect.sync(() => {
    writeSync(1, `${++passed} ${step}\n`)
    // A signal to oneself may come a moment later; nothing is done in that moment.
    if (passed === Number(killAt)) for (process.kill(process.pid, "SIGKILL"); ;);
  })

/** A journal with every one of its calls watched: when it begins, and when it has ended and whether the database is another. */
const watched = (journal: Journal["Service"], sql: SqlClient.SqlClient): Journal["Service"] => {
  const changes = Effect.orDie(sql<{ all: number }>`SELECT total_changes() AS "all"`)
  const watch = <A, E, R>(name: string, call: Effect.Effect<A, E, R>) =>
    Effect.gen(function* () {
      const [before] = yield* changes
      yield* pass(`before ${name}`)
      const result = yield* call
      const [after] = yield* changes
      yield* pass(`after ${name} ${before?.all === after?.all ? "read" : "wrote"}`)
      return result
    })
  return new Proxy(journal, {
    get: (of, name, receiver) => {
      const member: unknown = Reflect.get(of, name, receiver)
      if (Effect.isEffect(member)) return watch(String(name), member)
      if (typeof member !== "function") return member
      return (...args: ReadonlyArray<unknown>) => {
        const result: unknown = Reflect.apply(member, of, args)
        return Effect.isEffect(result) ? watch(String(name), result) : result
      }
    }
  })
}

const coder = Agent.make("coder", { instructions: "You run commands.", toolkits: [ShellTools] })
const andy = Agent.make("andy", {
  instructions: "You are Andy.",
  toolkits: [ShellTools, MemoryTools, SchedulerTools, SwarmTools],
  team: [coder]
})
// Of one chat, who may run nothing without a yes.
const careful = Agent.make("careful", { instructions: "", toolkits: [ShellTools], needsApproval: ["bash"] })

const platform = Layer.mergeAll(SchedulerSql.layer, SwarmLocal.layer()).pipe(
  Layer.provideMerge(ConversationsLocal.layer()),
  Layer.provideMerge(
    Layer.mergeAll(
      Layer.effect(Journal, Effect.zipWith(Journal, SqlClient.SqlClient, watched)).pipe(
        Layer.provide(JournalSql.layer)
      ),
      LedgerSql.layer,
      MemorySql.layer,
      Channel.layer,
      ChannelStateSql.layer,
      FilesLocal.layer({ directory: join(directory, "files") }),
      WorkspacesLocal.layer({ directory: join(directory, "workspaces") })
    )
  ),
  Layer.provide(DatabaseSqlite.layer({ directory }))
)

const claw = Claw.layer({
  agents: [andy, careful],
  bindings: [Bind.conversation("platform:careful", careful), Bind.everywhere(andy)]
}).pipe(
  Layer.provide(Platform.layer(socket)),
  Layer.provide(kind === "docker" ? SandboxDocker.layer() : SandboxVirtual.layer),
  Layer.provide(ModelOffline.layer),
  Layer.provide(platform),
  Layer.provide(Logger.layer([Logger.withConsoleError(Logger.formatSimple)]))
)

Claw.launch(claw).pipe(NodeRuntime.runMain)
