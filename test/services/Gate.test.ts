import { assert, describe, it } from "@effect/vitest"
import * as Admissions from "effect-claw/services/Admissions"
import * as Bind from "effect-claw/services/Bind"
import type { Channel } from "effect-claw/services/Channel"
import * as Gate from "effect-claw/services/Gate"
import {
  AgentName,
  ChannelName,
  ChatId,
  type InboundMessage,
  MessageId,
  SenderId,
  text as content
} from "effect-claw/services/Message"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Struct from "effect/Struct"
import { cases } from "../contracts/cases.ts"
import { channelState } from "../contracts/store.ts"

const andy = { name: AgentName.make("andy") }

const channel: Channel = {
  name: ChannelName.make("group"),
  capabilities: { textLimit: undefined, deduplicates: false },
  owner: SenderId.make("owner"),
  inbound: Stream.never,
  send: () => Effect.void
}

const message = (text: string, more: Partial<InboundMessage> = {}): InboundMessage => ({
  channel: channel.name,
  chat: ChatId.make("chat"),
  id: MessageId.make("1"),
  sender: SenderId.make("id-1"),
  content: content(text),
  direct: false,
  at: 0,
  ...more
})

/** The verdict of a gate that admits `id-1`. */
const judge = (
  one: InboundMessage,
  bindings: ReadonlyArray<Bind.Binding> = [Bind.everywhere(andy, { groups: true })],
  allow: ReadonlyArray<string> = ["id-1"]
) =>
  Gate.Gate.use((gate) => gate.judge(one, channel)).pipe(
    Effect.provide(
      Gate.layer({ bindings, admitted: allow.map((sender) => ({ channel: channel.name, sender })) }).pipe(
        Layer.provide(Admissions.layer),
        Layer.provide(channelState)
      )
    ),
    Effect.runSync
  )

describe("Gate", () => {
  describe("cases", () => {
    for (const { expect, input, name } of cases(
      "engagement",
      Schema.Struct({
        name: Schema.String,
        input: Schema.Struct({
          trigger: Schema.NullOr(Schema.String),
          text: Schema.String,
          engage: Schema.optionalKey(Schema.Literal("always")),
          mentionsBot: Schema.optionalKey(Schema.Boolean),
          fromSelf: Schema.optionalKey(Schema.Boolean),
          sender: Schema.optionalKey(Schema.String),
          senderName: Schema.optionalKey(Schema.String),
          allow: Schema.optionalKey(Schema.Array(Schema.String))
        }),
        expect: Schema.Struct({ engages: Schema.Boolean })
      })
    )) {
      it(name, () => {
        const { allow, engage = "addressed", fromSelf, mentionsBot, sender = "id-1", senderName, text, trigger } = input
        const binding = Bind.everywhere(andy, { engage, groups: true, ...(trigger === null ? {} : { trigger }) })
        const verdict = judge(
          message(text, {
            sender: SenderId.make(sender),
            ...(fromSelf === undefined ? {} : { fromSelf }),
            ...(mentionsBot === undefined ? {} : { mentionsAgent: mentionsBot }),
            ...(senderName === undefined ? {} : { senderName })
          }),
          [binding],
          allow
        )
        assert.strictEqual(verdict._tag === "Engage", expect.engages)
      })
    }
  })

  it("a direct chat needs no trigger", () =>
    assert.deepStrictEqual(judge(message("hi", { direct: true })), { _tag: "Engage", agent: andy.name, mode: "steer" }))

  it("what is said in a group, and not to the agent, is context for it; a stranger's word is not", () => {
    assert.deepStrictEqual(judge(message("hi")), { _tag: "Context", agent: andy.name })
    assert.strictEqual(judge(message("hi", { sender: SenderId.make("x") }))._tag, "Stranger")
  })

  it("a binding says what a message does while a turn runs", () =>
    assert.deepStrictEqual(
      judge(message("hi", { direct: true }), [Bind.everywhere(andy, { whileBusy: "interrupt" })]),
      { _tag: "Engage", agent: andy.name, mode: "interrupt" }
    ))

  it("a direct chat with a stranger engages nobody", () =>
    assert.strictEqual(judge(message("@andy hi", { direct: true, sender: SenderId.make("x") }))._tag, "Stranger"))

  it("a channel's owner needs no list", () =>
    assert.strictEqual(
      judge(message("hi", { direct: true, sender: SenderId.make("owner") }), undefined, [])._tag,
      "Engage"
    ))

  it("who is admitted on one channel is a stranger on another", () =>
    assert.strictEqual(judge(message("hi", { direct: true, channel: ChannelName.make("other") }))._tag, "Stranger"))

  it("a claw does not answer itself, not even as its owner", () =>
    assert.strictEqual(
      judge(message("hi", { direct: true, fromSelf: true, sender: SenderId.make("owner") }))._tag,
      "Ignore"
    ))

  it("the first binding that fits decides", () => {
    const [one, two, three] = [{ name: "one" }, { name: "two" }, { name: "three" }]
    const bindings = [Bind.conversation("group:7", one), Bind.channel("group", two), Bind.everywhere(three)]
    const agent = (more: Partial<InboundMessage>) => {
      const verdict = judge(message("hi", { direct: true, sender: SenderId.make("owner"), ...more }), bindings)
      return verdict._tag === "Engage" ? verdict.agent : verdict._tag
    }
    assert.strictEqual(agent({ chat: ChatId.make("7") }), "one")
    assert.strictEqual(agent({ chat: ChatId.make("8") }), "two")
    assert.strictEqual(agent({ channel: ChannelName.make("other"), chat: ChatId.make("7") }), "three")
  })

  it("where no agent is bound, nobody answers", () => {
    assert.strictEqual(judge(message("@andy hi"), [Bind.channel("other", andy)])._tag, "Ignore")
    assert.strictEqual(judge(message("/help"), [])._tag, "Ignore")
  })

  it("chat commands are for the claw, in any chat", () => {
    for (const command of Struct.keys(Gate.commands)) {
      const verdict = { _tag: "Command" as const, agent: andy.name, isOwner: false, isAdmitted: true, command }
      assert.deepStrictEqual(judge(message(`/${command}`)), verdict)
      assert.deepStrictEqual(judge(message(` /${command}\n`, { direct: true })), verdict)
    }
  })

  it("a stranger's command is ignored", () =>
    assert.strictEqual(judge(message("/stop", { direct: true, sender: SenderId.make("x") }))._tag, "Stranger"))

  it.for(["/unknown", "/stop it", "stop", "/", "//stop"])("%s is no command", (text) =>
    assert.strictEqual(judge(message(text, { direct: true }))._tag, "Engage")
  )

  it.prop("a trigger addresses as it is written, whatever its signs", [Schema.NonEmptyString], ([trigger]) => {
    assert.isTrue(Gate.isTriggered(`@${trigger}`, trigger))
    assert.isTrue(Gate.isTriggered(`  @${trigger}, hi`, trigger))
    assert.isFalse(Gate.isTriggered(`@${trigger}x`, trigger))
    assert.isFalse(Gate.isTriggered(`hi @${trigger}`, trigger))
  })
})
