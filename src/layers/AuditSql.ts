/**
 * The audit on a SQL database: the table `audit`, a row for each entry, the latest 100,000.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { Audit, type AuditEntry } from "../services/Audit.ts"

/** Rows that are kept. */
const most = 100_000

/** An entry as a row. A stranger has one row in a conversation, however often it writes. */
const row = (entry: AuditEntry) =>
  entry._tag === "Request"
    ? { who: entry.agent, what: `${entry.method} ${entry.target}`, sent: entry.sent, received: entry.received }
    : { who: entry.sender, what: "message", sent: 0, received: 0 }

/**
 * The audit.
 *
 * Provides `Audit`; requires a migrated `SqlClient`. What cannot be written goes to the log. Holds nothing to release.
 */
export const layer: Layer.Layer<never, never, SqlClient.SqlClient> = Layer.effect(
  Audit,
  Effect.map(SqlClient.SqlClient, (sql) => {
    const write = Effect.fnUntraced(function* (entry: AuditEntry) {
      const at = yield* Clock.currentTimeMillis
      const { conversation, refusal = "" } = entry
      const { received, sent, what, who } = row(entry)
      if (entry._tag === "Stranger") {
        const same = yield* sql`UPDATE audit SET times = times + 1, at = ${at} WHERE conversation = ${conversation}
          AND who = ${who} AND what = ${what} AND refusal = ${refusal} RETURNING id`
        if (same.length > 0) return
      }
      const [made] = yield* sql<{ id: number }>`INSERT INTO audit
        ${sql.insert({ at, conversation, who, what, refusal, sent, received })} RETURNING id`
      if (made !== undefined && made.id % 1000 === 0) yield* sql`DELETE FROM audit WHERE id <= ${made.id - most}`
    })
    return (entry) =>
      Effect.catch(write(entry), (error) => Effect.logError(`the audit cannot be written: ${error.message}`))
  })
)
