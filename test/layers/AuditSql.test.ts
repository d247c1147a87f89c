import { assert, describe, it } from "@effect/vitest"
import * as AuditSql from "effect-claw/layers/AuditSql"
import { Audit, type AuditEntry } from "effect-claw/services/Audit"
import { AgentName, ConversationId, Sender } from "effect-claw/services/Message"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { database } from "../contracts/store.ts"

const conversation = ConversationId.make("memory:chat")
const request: AuditEntry = {
  _tag: "Request",
  agent: AgentName.make("andy"),
  conversation,
  method: "GET",
  target: "https://a.test/",
  refusal: undefined,
  sent: 1,
  received: 2
}
const stranger: AuditEntry = {
  _tag: "Stranger",
  conversation,
  sender: Sender.make("memory:x"),
  refusal: "the sender is not admitted"
}

const rows = SqlClient.SqlClient.use(
  (sql) => sql<Record<string, unknown>>`SELECT who, what, refusal, times, sent, received FROM audit ORDER BY id`
)

const test = (name: string, body: Effect.Effect<void, unknown, SqlClient.SqlClient>) =>
  it.effect(name, () => body.pipe(Effect.provide(Layer.provideMerge(AuditSql.layer, database))))

describe("AuditSql", () => {
  test(
    "each request is a row, and all that a stranger writes in a chat is one",
    Effect.gen(function* () {
      const audit = yield* Audit
      yield* Effect.forEach([request, stranger, { ...request, refusal: "no rule" }, stranger, stranger], audit)
      assert.deepStrictEqual(
        (yield* rows).map((row) => Object.values(row)),
        [
          ["andy", "GET https://a.test/", "", 1, 1, 2],
          ["memory:x", "message", "the sender is not admitted", 3, 0, 0],
          ["andy", "GET https://a.test/", "no rule", 1, 1, 2]
        ]
      )
    })
  )

  test(
    "the oldest go when there are 100,000",
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const audit = yield* Audit
      yield* audit(request)
      yield* sql`INSERT INTO audit (id, at, conversation, who, what, refusal) VALUES (100999, 0, 'c', 'w', 'x', '')`
      yield* audit(request)
      const left = yield* sql<{ id: number }>`SELECT id FROM audit ORDER BY id`
      assert.deepStrictEqual(
        left.map(({ id }) => id),
        [100999, 101000]
      )
    })
  )

  test(
    "a store that fails holds up nobody",
    Effect.gen(function* () {
      yield* SqlClient.SqlClient.use((sql) => sql`DROP TABLE audit`)
      yield* Effect.flatMap(Audit, (audit) => audit(request))
    })
  )
})
