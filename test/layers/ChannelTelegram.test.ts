import { assert, describe, it } from "@effect/vitest"
import * as ChannelStateSql from "effect-claw/layers/ChannelStateSql"
import * as ChannelTelegram from "effect-claw/layers/ChannelTelegram"
import * as Channel from "effect-claw/services/Channel"
import { ChannelName } from "effect-claw/services/Message"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { channelContract } from "../contracts/ChannelContract.ts"
import { database } from "../contracts/store.ts"
import * as TelegramServer from "../support/TelegramServer.ts"

/** The server, a person, and a bot of theirs. */
const world = Effect.gen(function* () {
  const built = yield* Layer.build(
    Layer.mergeAll(TelegramServer.layer, Layer.orDie(Layer.provide(ChannelStateSql.layer, database)))
  )
  const server = Context.get(built, TelegramServer.TelegramServer)
  const ada = server.person("Ada")
  const telegram = (options: Partial<ChannelTelegram.Options> = {}) =>
    ChannelTelegram.layer({
      token: Redacted.make(server.token),
      apiRoot: server.apiRoot,
      owner: `${ada.id}`,
      ...options
    }).pipe(Layer.provide(Layer.succeedContext(built)))
  return { server, ada, telegram }
})

const name = ChannelName.make("telegram")

describe("ChannelTelegram", () => {
  channelContract(
    Effect.gen(function* () {
      const { ada, server, telegram } = yield* world
      return {
        name,
        layer: telegram(),
        say: (text) => Effect.sync(() => void server.say(ada, text)),
        read: Effect.sync(() => server.read(ada.id)),
        keepsUnacknowledged: true,
        breakSend: (when) => Effect.sync(() => server.fail("sendMessage", { cut: when })),
        refuseSend: (until) =>
          Effect.sync(() =>
            server.fail(
              "sendMessage",
              until === "never"
                ? { status: 403, description: "Forbidden: bot was blocked by the user" }
                : { status: 429, description: "Too Many Requests: retry after 1", parameters: { retry_after: 1 } }
            )
          ),
        isTyping: Effect.sync(() => server.isTyping(ada.id)),
        share: (file, text) => Effect.sync(() => void server.say(ada, { text, file: { kind: "document", ...file } })),
        files: Effect.sync(() =>
          server
            .shown(ada.id)
            .flatMap(({ file, from }) =>
              file === undefined || from.id === ada.id
                ? []
                : [{ name: file.name ?? "", mediaType: file.mediaType ?? "", content: file.content }]
            )
        )
      }
    })
  )
})

void assert
void it
void Channel
