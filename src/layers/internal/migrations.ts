/**
 * The tables of a claw, as numbered migrations. A number, once released, is never changed; a change is a new number.
 */
import * as Effect from "effect/Effect"
import * as Migrator from "effect/sql/Migrator"
import * as SqlClient from "effect/sql/SqlClient"

const statements = (...sources: ReadonlyArray<string>) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.forEach(sources, (source) => sql.unsafe(source), { discard: true })
  )

export const migrations = {
  // `position` orders the journal of the whole claw. `turn` is the open turn's first position; `seen` and `last_input`
  // are positions too, so "unfinished" is a comparison.
  "1_journal": statements(
    `CREATE TABLE conversations (id TEXT PRIMARY KEY NOT NULL, agent TEXT NOT NULL,
      beginning INTEGER NOT NULL DEFAULT 0, last_input INTEGER NOT NULL DEFAULT 0, seen INTEGER NOT NULL DEFAULT 0,
      turn INTEGER) WITHOUT ROWID`,
    `CREATE INDEX conversations_unfinished ON conversations (id) WHERE turn IS NOT NULL OR last_input > seen`,
    `CREATE TABLE entries (position INTEGER PRIMARY KEY, conversation TEXT NOT NULL, key TEXT, at INTEGER NOT NULL,
      event TEXT NOT NULL)`,
    `CREATE INDEX entries_conversation ON entries (conversation, position)`,
    `CREATE UNIQUE INDEX entries_key ON entries (conversation, key) WHERE key IS NOT NULL`,
    `CREATE TABLE outputs (ordinal INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, conversation TEXT NOT NULL,
      text TEXT NOT NULL, status TEXT NOT NULL DEFAULT 'pending', attempts INTEGER NOT NULL DEFAULT 0)`,
    `CREATE TABLE marks (name TEXT PRIMARY KEY NOT NULL) WITHOUT ROWID`,
    `CREATE INDEX outputs_pending ON outputs (conversation, ordinal) WHERE status = 'pending'`
  ),
  "2_ledger": statements(
    `CREATE TABLE calls (turn INTEGER NOT NULL, step INTEGER NOT NULL, at INTEGER NOT NULL,
      conversation TEXT NOT NULL, agent TEXT NOT NULL, sender TEXT, model TEXT NOT NULL,
      booked INTEGER NOT NULL DEFAULT 0, input_tokens INTEGER NOT NULL,
      cache_read_tokens INTEGER NOT NULL DEFAULT 0, cache_write_tokens INTEGER NOT NULL DEFAULT 0,
      output_tokens INTEGER NOT NULL DEFAULT 0, microdollars INTEGER NOT NULL, PRIMARY KEY (turn, step)
     ) WITHOUT ROWID`,
    `CREATE INDEX calls_agent ON calls (agent, at)`
  ),
  "3_memory": statements(
    `CREATE TABLE memories (id INTEGER PRIMARY KEY AUTOINCREMENT, scope TEXT NOT NULL, text TEXT NOT NULL,
      at INTEGER NOT NULL, UNIQUE (scope, text))`,
    `CREATE VIRTUAL TABLE memories_index USING fts5(text, content='memories', content_rowid='id', tokenize='porter unicode61')`,
    `CREATE TRIGGER memories_insert AFTER INSERT ON memories BEGIN
      INSERT INTO memories_index(rowid, text) VALUES (new.id, new.text); END`,
    `CREATE TRIGGER memories_delete AFTER DELETE ON memories BEGIN
      INSERT INTO memories_index(memories_index, rowid, text) VALUES ('delete', old.id, old.text); END`
  ),
  "4_scheduler": statements(
    `CREATE TABLE tasks (id TEXT PRIMARY KEY NOT NULL, conversation TEXT NOT NULL, agent TEXT NOT NULL,
      sender TEXT, text TEXT NOT NULL, due TEXT NOT NULL, when_missed TEXT NOT NULL,
      paused INTEGER NOT NULL DEFAULT 0, next INTEGER) WITHOUT ROWID`,
    `CREATE INDEX tasks_next ON tasks (next) WHERE next IS NOT NULL AND paused = 0`,
    `CREATE TABLE task_runs (task TEXT NOT NULL, due INTEGER NOT NULL, fired_at INTEGER NOT NULL,
      PRIMARY KEY (task, due)) WITHOUT ROWID`
  ),
  // `waiting`: inputs have come that the open turn is not to see. `attempt` counts the calls that were made for one step.
  "5_attempts": statements(
    `ALTER TABLE conversations ADD COLUMN waiting INTEGER NOT NULL DEFAULT 0`,
    `ALTER TABLE outputs ADD COLUMN at INTEGER NOT NULL DEFAULT 0`,
    `CREATE TABLE attempts (turn INTEGER NOT NULL, step INTEGER NOT NULL, attempt INTEGER NOT NULL, at INTEGER NOT NULL,
      conversation TEXT NOT NULL, agent TEXT NOT NULL, sender TEXT, model TEXT NOT NULL,
      booked INTEGER NOT NULL DEFAULT 0, input_tokens INTEGER NOT NULL,
      cache_read_tokens INTEGER NOT NULL DEFAULT 0, cache_write_tokens INTEGER NOT NULL DEFAULT 0,
      output_tokens INTEGER NOT NULL DEFAULT 0, microdollars INTEGER NOT NULL, PRIMARY KEY (turn, step, attempt)
     ) WITHOUT ROWID`,
    `INSERT INTO attempts SELECT turn, step, 1, at, conversation, agent, sender, model, booked, input_tokens,
      cache_read_tokens, cache_write_tokens, output_tokens, microdollars FROM calls`,
    `DROP TABLE calls`,
    `ALTER TABLE attempts RENAME TO calls`,
    `CREATE INDEX calls_agent ON calls (agent, at)`
  ),
  // Who pays for a call: its agent, and those that one works for, each in a turn of its own.
  "6_payers": statements(
    `CREATE TABLE payers (turn INTEGER NOT NULL, step INTEGER NOT NULL, attempt INTEGER NOT NULL,
      agent TEXT NOT NULL, of_turn INTEGER NOT NULL, conversation TEXT NOT NULL, at INTEGER NOT NULL,
      PRIMARY KEY (turn, step, attempt, agent, of_turn)) WITHOUT ROWID`,
    `INSERT INTO payers SELECT turn, step, attempt, agent, turn, conversation, at FROM calls`,
    `CREATE INDEX payers_agent ON payers (agent, at)`,
    `CREATE INDEX payers_turn ON payers (of_turn)`,
    `DROP INDEX calls_agent`
  ),
  // `extra`: what an output is beside its text, as JSON. `times`: how often an entry of the audit would be the same.
  "7_channels": statements(
    `ALTER TABLE outputs ADD COLUMN extra TEXT`,
    `CREATE TABLE channel_states (channel TEXT NOT NULL, key TEXT NOT NULL, text TEXT NOT NULL,
      PRIMARY KEY (channel, key)) WITHOUT ROWID`,
    `CREATE TABLE audit (id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, conversation TEXT NOT NULL,
      who TEXT NOT NULL, what TEXT NOT NULL, refusal TEXT NOT NULL, times INTEGER NOT NULL DEFAULT 1,
      sent INTEGER NOT NULL DEFAULT 0, received INTEGER NOT NULL DEFAULT 0)`
  )
}

/** The number of the newest migration this code knows. */
export const newest = Math.max(...Object.keys(migrations).map((name) => Number.parseInt(name, 10)))

/** Brings a database up to date, each migration in the one transaction of the run. */
export const migrate = Migrator.make({})({ loader: Migrator.fromRecord(migrations), table: "migrations" })
