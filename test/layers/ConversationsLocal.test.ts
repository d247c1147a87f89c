import { describe } from "@effect/vitest"
import * as ConversationsLocal from "effect-claw/layers/ConversationsLocal"
import * as JournalSql from "effect-claw/layers/JournalSql"
import * as Layer from "effect/Layer"
import { conversationsContract } from "../contracts/ConversationsContract.ts"
import { database } from "../contracts/store.ts"

describe("ConversationsLocal", () =>
  conversationsContract(Layer.provide(JournalSql.layer, database), (turnsAtOnce) =>
    ConversationsLocal.layer({ turnsAtOnce })
  ))
