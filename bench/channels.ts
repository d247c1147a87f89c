/** What a channel adds to its platform's own library. */
import type { Row } from "./support.ts"
import * as telegram from "./telegram.ts"

export const rows = async (): Promise<ReadonlyArray<Row>> => telegram.rows()
