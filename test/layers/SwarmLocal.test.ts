import { describe } from "@effect/vitest"
import * as ConversationsLocal from "effect-claw/layers/ConversationsLocal"
import * as JournalSql from "effect-claw/layers/JournalSql"
import * as SwarmLocal from "effect-claw/layers/SwarmLocal"
import * as Layer from "effect/Layer"
import { database } from "../contracts/store.ts"
import { swarmContract } from "../contracts/SwarmContract.ts"

describe("SwarmLocal", () =>
  swarmContract(Layer.provide(JournalSql.layer, database), ConversationsLocal.layer(), SwarmLocal.layer))
