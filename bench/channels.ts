/** What a channel adds to its platform's own library. */
import type { Row } from "./support.ts"
import * as telegram from "./telegram.ts"
import * as whatsapp from "./whatsapp.ts"

export const rows = async (): Promise<ReadonlyArray<Row>> => [...(await telegram.rows()), ...(await whatsapp.rows())]
