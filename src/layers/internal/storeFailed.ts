/**
 * A SQL error as the reason that services share, with what to do about it.
 */
import type * as SqlError from "effect/sql/SqlError"
import { StoreFailed } from "../../services/StoreFailed.ts"

const advice = ({ reason }: SqlError.SqlError): string => {
  const detail = reason.cause instanceof Error ? reason.cause.message : (reason.message ?? reason._tag)
  if (/full|I\/O/i.test(detail)) return `${detail}: make room on the disk; what was not stored is asked for again`
  if (/locked|busy/i.test(detail)) return `${detail}: another program holds the database`
  if (/readonly/i.test(detail)) return `${detail}: make it writable`
  if (/malformed|not a database/i.test(detail)) {
    return `${detail}: restore a backup of the database, or move the file away to begin anew`
  }
  return detail
}

export const storeFailed = (cause: SqlError.SqlError): StoreFailed => new StoreFailed({ detail: advice(cause), cause })
