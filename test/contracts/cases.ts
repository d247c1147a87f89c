/**
 * Behaviour cases: files of rows, each an input and the outcome that a claw's user is owed.
 */
import * as Schema from "effect/Schema"
import { readFileSync } from "node:fs"

const File = Schema.fromJsonString(Schema.Struct({ about: Schema.String, cases: Schema.Array(Schema.Unknown) }))

/** The rows of a file. */
export const read = (file: URL): ReadonlyArray<unknown> => Schema.decodeSync(File)(readFileSync(file, "utf8")).cases

/** The rows of a file in `test/cases`, those that have the shape of `row`. */
export const cases = <Row extends Schema.ConstraintDecoder<unknown>>(name: string, row: Row): Array<Row["Type"]> => {
  const decode = Schema.decodeUnknownResult(row, { onExcessProperty: "error" })
  return read(new URL(`../cases/${name}.json`, import.meta.url)).flatMap((found) => {
    const decoded = decode(found)
    return decoded._tag === "Success" ? [decoded.success] : []
  })
}
