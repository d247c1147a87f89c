/**
 * The journal on a SQL database.
 *
 * Events are rows of one table in the order of their position; what is asked often of a conversation (is it unfinished,
 * where does it begin) stands in a row of its own that changes in the same transaction.
 */
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as SqlError from "effect/sql/SqlError"
import { EntryInvalid, Journal, JournalError, type PendingOutput } from "../services/Journal.ts"
import { AgentName, ConversationId, Extra, OutputId } from "../services/Message.ts"
import { type Entry, Event, TurnId } from "../services/Turn.ts"
import * as GroupCommit from "./internal/groupCommit.ts"
import { storeFailed } from "./internal/storeFailed.ts"

/** Entries that are removed in one transaction: what else is written does not wait long. */
const retainedAtOnce = 1000

/** Events that are kept decoded, at most, and the characters that one may be written in: 16 MiB of text. */
const knownMost = 4096
const knownLength = 4096

const encode = Schema.encodeEffect(Schema.fromJsonString(Event))
const decode = Schema.decodeUnknownEffect(Schema.fromJsonString(Event))
const encodeExtra = Schema.encodeSync(Schema.fromJsonString(Extra))
const decodeExtra = Schema.decodeUnknownEffect(Schema.fromJsonString(Extra))

const failed = (operation: string) => (cause: SqlError.SqlError | Schema.SchemaError) =>
  new JournalError({
    operation,
    reason: SqlError.isSqlError(cause) ? storeFailed(cause) : new EntryInvalid({ detail: cause.message })
  })

interface EntryRow {
  readonly position: number
  readonly at: number
  readonly event: string
}

/**
 * The journal.
 *
 * Provides `Journal`; requires a `SqlClient` whose database is migrated. On release it leaves a mark that it ended in order. Services on the same
 * client join its transactions.
 */
export const layer: Layer.Layer<Journal, JournalError, SqlClient.SqlClient> = Layer.effect(
  Journal,
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient

    // Inside a transaction there is nothing to begin: a failure undoes all of it anyway.
    const shared = yield* GroupCommit.make(sql)
    const transaction = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | SqlError.SqlError, R> =>
      Effect.flatMap(Effect.serviceOption(sql.transactionService), (open) =>
        Option.isSome(open) ? effect : shared(effect)
      )

    /** Events by how they are written: every turn reads its conversation, and decoding takes long. */
    const known = new Map<string, Event>()
    const toEntry = ({ at, event, position }: EntryRow): Effect.Effect<Entry, JournalError> => {
      const found = known.get(event)
      if (found !== undefined) return Effect.succeed({ position, at, event: found })
      return Effect.mapBoth(decode(event), {
        onSuccess: (decoded) => {
          if (event.length <= knownLength) known.set(event, decoded)
          const oldest = known.size > knownMost ? known.keys().next() : undefined
          if (oldest?.done === false) known.delete(oldest.value)
          return { position, at, event: decoded }
        },
        onFailure: (error) =>
          new JournalError({
            operation: "read",
            reason: new EntryInvalid({ detail: `entry ${position}: ${error.message}` })
          })
      })
    }

    const append = Effect.fnUntraced(function* (
      conversation: ConversationId,
      events: Arr.NonEmptyReadonlyArray<Event>
    ) {
      const at = yield* Clock.currentTimeMillis
      const rows = yield* Effect.forEach(events, (event) =>
        Effect.map(encode(event), (written) => ({ conversation, at, event: written }))
      )
      const inserted = yield* sql<{ position: number }>`INSERT INTO entries ${sql.insert(rows)} RETURNING position`
      return Math.max(...inserted.map(({ position }) => position))
    })

    const isEnd = sql.literal(`event LIKE '{"_tag":"TurnEnded"%'`)

    // The mark of an orderly end, which a death cannot leave.
    const marks = yield* sql`DELETE FROM marks WHERE name = 'ended' RETURNING name`.pipe(
      Effect.mapError(failed("open"))
    )
    yield* Effect.addFinalizer(() =>
      Effect.ignore(sql`INSERT INTO marks (name) VALUES ('ended') ON CONFLICT DO NOTHING`)
    )

    return Journal.of({
      wasCut: marks.length === 0,

      accept: Effect.fn("Journal.accept")(
        function* ({ agent, conversation, input, key, mode }) {
          const at = yield* Clock.currentTimeMillis
          const kept = mode === "collect" || mode === "context" ? { mode } : {}
          const event = yield* encode({ _tag: "InputAccepted", input, ...kept })
          return yield* transaction(
            Effect.gen(function* () {
              const [row] = yield* sql<{ position: number }>`INSERT INTO entries
                ${sql.insert({ conversation, key, at, event })} ON CONFLICT DO NOTHING RETURNING position`
              if (row === undefined) return false
              const last_input = mode === "context" ? 0 : row.position
              const waits = sql`(${mode === "collect" ? 1 : 0} = 1 AND conversations.turn IS NOT NULL)`
              yield* sql`INSERT INTO conversations ${sql.insert({ id: conversation, agent, last_input })}
                ON CONFLICT (id) DO UPDATE SET agent = excluded.agent,
                waiting = CASE WHEN ${waits} THEN 1 ELSE conversations.waiting END, last_input = CASE
                WHEN ${waits} OR excluded.last_input = 0 THEN conversations.last_input ELSE excluded.last_input END`
              return true
            })
          )
        },
        Effect.mapError(failed("accept"))
      ),

      isReceived: Effect.fn("Journal.isReceived")(
        (conversation, key) =>
          Effect.map(
            sql`SELECT 1 FROM entries WHERE conversation = ${conversation} AND key = ${key}`,
            (rows) => rows.length > 0
          ),
        Effect.mapError(failed("read"))
      ),

      request: Effect.fn("Journal.request")(
        function* (conversation, agent, step) {
          const position = yield* append(conversation, [{ _tag: "ModelRequested", step, agent }])
          const [row] = yield* sql<{ turn: number }>`
          UPDATE conversations SET seen = ${position}, turn = COALESCE(turn, ${position})
          WHERE id = ${conversation} RETURNING turn`
          return TurnId.make(row?.turn ?? position)
        },
        transaction,
        Effect.mapError(failed("request"))
      ),

      record: Effect.fn("Journal.record")(
        function* ({ conversation, ending, events, outputs = [] }) {
          if (Arr.isReadonlyArrayNonEmpty(events)) {
            const position = yield* append(conversation, events)
            if (events.some(({ _tag }) => _tag === "ConversationReset")) {
              yield* sql`UPDATE conversations SET beginning = ${position}, seen = ${position}, turn = NULL, waiting = 0 WHERE id = ${conversation}`
            }
            for (const event of events) {
              if (event._tag !== "Compacted") continue
              yield* sql`UPDATE conversations SET beginning = ${event.reads} WHERE id = ${conversation} AND beginning < ${event.reads}`
            }
          }
          if (Arr.isReadonlyArrayNonEmpty(outputs)) {
            const at = yield* Clock.currentTimeMillis
            const rows = Arr.map(outputs, ({ extra, id, text }) => {
              return { id, conversation, text, at, extra: extra === undefined ? null : encodeExtra(extra) }
            })
            yield* sql`INSERT INTO outputs ${sql.insert(rows)} ON CONFLICT (id) DO NOTHING`
          }
          if (ending === undefined) return false
          if (ending._tag === "Done" || ending._tag === "Superseded") {
            const against = ending._tag === "Done" ? sql`last_input > seen` : sql`turn IS NULL`
            const [refused] = yield* sql`SELECT 1 FROM conversations WHERE id = ${conversation} AND ${against}`
            if (refused !== undefined) return false
          }
          const position = yield* append(conversation, [{ _tag: "TurnEnded", ending }])
          const then =
            ending._tag === "Stopped"
              ? sql`seen = ${position}`
              : ending._tag === "Superseded"
                ? sql`last_input = ${position}`
                : sql`last_input = CASE WHEN waiting = 1 THEN ${position} ELSE last_input END`
          yield* sql`UPDATE conversations SET turn = NULL, waiting = 0, ${then} WHERE id = ${conversation}`
          return true
        },
        transaction,
        Effect.mapError(failed("record"))
      ),

      entries: Effect.fn("Journal.entries")(function* (conversation, after) {
        const rows = yield* sql<EntryRow>`
          SELECT position, at, event FROM entries WHERE conversation = ${conversation} AND position > ${after}
          AND position > (SELECT COALESCE(MAX(beginning), 0) FROM conversations WHERE id = ${conversation})
          ORDER BY position`.pipe(Effect.mapError(failed("read")))
        return yield* Effect.forEach(rows, toEntry)
      }),

      outcome: Effect.fn("Journal.outcome")(function* (conversation, key) {
        const rows = yield* sql<EntryRow>`
          SELECT position, at, event FROM entries WHERE conversation = ${conversation} AND position >
          (SELECT position FROM entries WHERE conversation = ${conversation} AND key = ${key} AND event <> '')
          ORDER BY position`.pipe(Effect.mapError(failed("read")))
        const said: Array<string> = []
        for (const row of rows) {
          const { event } = yield* toEntry(row)
          if (event._tag === "ModelAnswered") {
            said.push(...event.content.flatMap((part) => (part.type === "text" ? [part.text] : [])))
          } else if (event._tag === "TurnEnded") {
            return Option.some({ ending: event.ending, answer: said.join("\n\n") })
          }
        }
        return Option.none()
      }),

      state: Effect.fn("Journal.state")(
        function* (conversation) {
          const [row] = yield* sql<{ agent: string; unfinished: number }>`
          SELECT agent, (turn IS NOT NULL OR last_input > seen) AS unfinished FROM conversations WHERE id = ${conversation}`
          return Option.map(Option.fromUndefinedOr(row), ({ agent, unfinished }) => ({
            agent: AgentName.make(agent),
            unfinished: unfinished === 1
          }))
        },
        Effect.mapError(failed("read"))
      ),

      unfinished: sql<{ id: string }>`SELECT id FROM conversations WHERE turn IS NOT NULL OR last_input > seen`.pipe(
        Effect.map((rows) => rows.map(({ id }) => ConversationId.make(id))),
        Effect.mapError(failed("read"))
      ),

      outbox: Effect.fn("Journal.outbox")(
        function* (conversation) {
          const rows = yield* sql<{ id: string; text: string; attempts: number; extra: string | null }>`
          SELECT id, text, attempts, extra FROM outputs
          WHERE conversation = ${conversation} AND status = 'pending' ORDER BY ordinal`
          return yield* Effect.forEach(rows, ({ attempts, extra, id, text }) =>
            Effect.map(extra === null ? Effect.succeed({}) : decodeExtra(extra), (decoded): PendingOutput => ({
              id: OutputId.make(id),
              conversation,
              text,
              attempts,
              ...(extra === null ? {} : { extra: decoded })
            }))
          )
        },
        Effect.mapError(failed("read"))
      ),

      isRecorded: Effect.fn("Journal.isRecorded")(
        (output) => Effect.map(sql`SELECT 1 FROM outputs WHERE id = ${output}`, (rows) => rows.length > 0),
        Effect.mapError(failed("read"))
      ),

      unsent: sql<{ conversation: string }>`SELECT DISTINCT conversation FROM outputs WHERE status = 'pending'`.pipe(
        Effect.map((rows) => rows.map((row) => ConversationId.make(row.conversation))),
        Effect.mapError(failed("read"))
      ),

      settle: Effect.fn("Journal.settle")(
        function* (output, outcome) {
          yield* outcome === "retry"
            ? sql`UPDATE outputs SET attempts = attempts + 1 WHERE id = ${output}`
            : sql`UPDATE outputs SET status = ${outcome} WHERE id = ${output}`
        },
        transaction,
        Effect.mapError(failed("settle"))
      ),

      retain: Effect.fn("Journal.retain")(
        function* (age) {
          const before = (yield* Clock.currentTimeMillis) - Duration.toMillis(age)
          // A turn may ask for what its children said, and they began after it.
          const isOld = sql`at < ${before} AND (conversation NOT LIKE 'swarm:%' OR position < COALESCE(
            (SELECT MIN(turn) FROM conversations WHERE turn IS NOT NULL), ${Number.MAX_SAFE_INTEGER}))`
          const isAtRest = sql`turn IS NULL AND last_input <= seen`
          // What is shown begins with a turn, or with what was said to nobody before it.
          yield* transaction(
            Effect.andThen(
              sql`UPDATE conversations SET beginning = COALESCE((SELECT MAX(position) FROM entries
                WHERE conversation = conversations.id AND position > beginning AND ${isEnd} AND ${isOld}), beginning)
                WHERE ${isAtRest}`,
              sql`UPDATE conversations SET beginning = COALESCE((SELECT MIN(position) - 1 FROM entries
                WHERE conversation = conversations.id AND position > beginning
                AND NOT (${isOld} AND event LIKE '%,"mode":"context"}')),
                (SELECT MAX(position) FROM entries WHERE conversation = conversations.id), beginning) WHERE ${isAtRest}`
            )
          )
          // Written anew: a row that shrinks in its place gives no room back.
          const shorten = Effect.gen(function* () {
            const found = yield* sql<Record<string, string | number | null>>`DELETE FROM outputs WHERE ordinal IN
              (SELECT ordinal FROM outputs WHERE status <> 'pending' AND text <> '' AND at < ${before}
              LIMIT ${retainedAtOnce}) RETURNING ordinal, id, conversation, '' AS text, status, attempts, at, NULL AS extra`
            if (Arr.isReadonlyArrayNonEmpty(found)) yield* sql`INSERT INTO outputs ${sql.insert(found)}`
            return found.length
          })
          yield* Effect.repeat(transaction(shorten), { while: (count) => count === retainedAtOnce })
          const some = sql`SELECT position FROM entries JOIN conversations ON id = conversation
            WHERE position <= beginning AND event <> '' AND ${isOld} LIMIT ${retainedAtOnce}`
          for (let removed = 0; ;) {
            const rows = yield* transaction(
              Effect.gen(function* () {
                const found = yield* sql<{ position: number }>`${some}`
                const positions = sql.in(found.map(({ position }) => position))
                // A key says that a message was received. The latest entry stays, for a position does not come again.
                yield* sql`UPDATE entries SET event = '' WHERE position IN ${positions}
                  AND (key IS NOT NULL OR position = (SELECT MAX(position) FROM entries))`
                yield* sql`DELETE FROM entries WHERE position IN ${positions} AND event <> ''`
                return found
              })
            )
            removed += rows.length
            if (rows.length < retainedAtOnce) return removed
          }
        },
        Effect.mapError(failed("retain"))
      ),

      atomically: <A, E, R>(effect: Effect.Effect<A, E, R>) =>
        Effect.mapError(transaction(Effect.mapError(effect, (error) => new Inner(error))), (error) =>
          error instanceof Inner ? error.error : failed("commit")(error)
        )
    })
  })
)

/** Keeps an effect's own failure apart from the transaction's. */
class Inner<E> {
  readonly error: E
  constructor(error: E) {
    this.error = error
  }
}
