/**
 * The reason that every service with a store shares: the store does not answer, is full, locked or damaged.
 */
import * as Schema from "effect/Schema"

/** The store does not answer, is full, locked or damaged. `detail` says what to do. */
export class StoreFailed extends Schema.TaggedError<StoreFailed>()("StoreFailed", {
  detail: Schema.String,
  cause: Schema.Defect()
}) {}
