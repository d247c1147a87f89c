import { describe } from "@effect/vitest"
import * as ChannelTerminal from "effect-claw/layers/ChannelTerminal"
import { ChannelName } from "effect-claw/services/Message"
import * as Effect from "effect/Effect"
import { PassThrough } from "node:stream"
import { channelContract } from "../contracts/ChannelContract.ts"

describe("ChannelTerminal, piped", () =>
  channelContract(
    Effect.sync(() => {
      const input = new PassThrough()
      const output = new PassThrough()
      let read = ""
      output.on("data", (chunk: Buffer) => (read += chunk.toString("utf8")))
      return {
        name: ChannelName.make("terminal"),
        layer: ChannelTerminal.layer({ input, output }),
        say: (text) => Effect.sync(() => void input.write(`${text}\n`)),
        read: Effect.sync(() => read),
        leave: Effect.sync(() => void input.end())
      }
    })
  ))
