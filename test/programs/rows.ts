/**
 * Rows of a case file, each driven by a body of its own through a claw on a folder: no row without a body, and the other
 * way round.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { read } from "../contracts/cases.ts"
import { folder } from "../contracts/store.ts"

const Row = Schema.Struct({ name: Schema.String, input: Schema.Unknown, expect: Schema.Unknown })
export type Body = (row: typeof Row.Type, directory: string) => Effect.Effect<unknown, unknown, Scope.Scope>
type Test = Effect.Effect<unknown, unknown, Scope.Scope>

/** Drives a row that says this and nothing else: what it expects is held against what comes. */
export const drive =
  <Input, Expect>(
    input: Schema.ConstraintDecoder<Input>,
    expect: Schema.ConstraintDecoder<Expect>,
    body: (expect: Expect, directory: string, input: Input) => Test
  ): Body =>
  (row, directory) =>
    Effect.gen(function* () {
      const strict = { onExcessProperty: "error" } as const
      const given = yield* Schema.decodeUnknownEffect(input, strict)(row.input)
      const owed = yield* Schema.decodeUnknownEffect(expect, strict)(row.expect)
      return yield* body(owed, directory, given)
    })

/** A number in words of a row. */
export const count = Schema.NumberFromString.check(Schema.isInt())

/** A test on a folder that outlives its claws. */
export const test = (name: string, body: (directory: string) => Test) =>
  it.effect(name, () => Effect.flatMap(folder, body))

/** A test for each row of `test/cases/<name>.json`. */
export const describeRows = (name: string, bodies: Readonly<Record<string, Body>>) =>
  describe(`${name} cases`, () => {
    const rows = Schema.decodeUnknownSync(Schema.Array(Row), { onExcessProperty: "error" })(
      read(new URL(`../cases/${name}.json`, import.meta.url))
    )
    it("every row has its test, and every test its row", () =>
      assert.deepStrictEqual(
        Object.keys(bodies),
        rows.map((row) => row.name)
      ))
    for (const row of rows) {
      test(row.name, (directory) => bodies[row.name]?.(row, directory) ?? Effect.die("it has no test"))
    }
  })
