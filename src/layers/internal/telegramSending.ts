/**
 * Outputs, as Telegram takes them: formatted texts, files, marks on messages, and buttons to choose by.
 */
import * as Effect from "effect/Effect"
import { InputFile } from "grammy"
import type { ReactionTypeEmoji } from "grammy/types"
import type { ChatId, MessageId, OutboundFile, OutboundPart, OutputId } from "../../services/Message.ts"
import { Failure, type TelegramApi, withoutPreview } from "./telegramApi.ts"
import type { InChat, Live } from "./telegramLive.ts"
import { toMarkdownV2 } from "./telegramMarkdown.ts"

/** UTF-16 code units of what stands below a file. */
const captionLimit = 1024
/** Bytes of a file that a bot can send. https://core.telegram.org/bots/api#sending-files */
export const fileLimit = 50 * 1024 * 1024
/** Bytes of one that is shown as a photo. */
const photoLimit = 10 * 1024 * 1024
/** Bytes of what the press of a button sends. */
const commandLimit = 64

/** A text with its form. */
interface Written {
  readonly text: string
  readonly parse_mode?: "MarkdownV2"
}

/** Telegram's number of a message: what an edit of it, a mark on it or the press of its button has added is left out. */
const numberOf = (id: MessageId): number | undefined => {
  const found = /^(?:-\d+\/)?(\d+)/.exec(id)?.[1]
  return found === undefined ? undefined : Number(found)
}

/** Telegram has a list of what it takes as a mark, and refuses the rest. */
const isMark = (text: string): text is ReactionTypeEmoji["emoji"] => /^\p{Extended_Pictographic}/u.test(text)

/** Answers to choose from are buttons, or a list of commands where one of them is too long for a button. */
const chosen = ({ choices = [], text }: OutboundPart) => {
  if (choices.length === 0) return { text, buttons: {} }
  if (choices.some(({ says }) => Buffer.byteLength(says) > commandLimit)) {
    return { text: `${text}\n\n${choices.map(({ label, says }) => `${label}: ${says}`).join("\n")}`, buttons: {} }
  }
  const row = choices.map(({ label, says }) => ({ text: label, callback_data: says }))
  return { text, buttons: { reply_markup: { inline_keyboard: [row] } } }
}

const answering = ({ replyTo }: OutboundPart) => {
  const number = replyTo === undefined ? undefined : numberOf(replyTo)
  return number === undefined ? {} : { reply_parameters: { message_id: number, allow_sending_without_reply: true } }
}

/** Formatted, or as it was written where Telegram does not take the form. */
const formatted = <A>(
  text: string,
  act: (written: Written) => Effect.Effect<A, Failure>
): Effect.Effect<A, Failure> => {
  const source = toMarkdownV2(text)
  const plain = act({ text })
  if (source === "") return plain
  return act({ text: source, parse_mode: "MarkdownV2" }).pipe(
    Effect.catchIf(
      (failure) => failure.says(/can't parse|is too long|is empty/),
      () => plain
    )
  )
}

/** Sends the outputs of a bot. */
export const make = ({
  call,
  inChat,
  live
}: {
  readonly call: TelegramApi["call"]
  readonly inChat: InChat
  readonly live: Live
}) => {
  /** Outputs whose file is sent and whose text is not: a second attempt does not send the file again. */
  const halfSent = new Set<OutputId>()

  const say = (to: ChatId, text: string, extra: object) =>
    formatted(text, (written) =>
      inChat(to, (place) =>
        call((api, signal) => api.sendMessage({ ...place, ...written, ...withoutPreview, ...extra }, signal))
      )
    )

  const sendFile = (to: ChatId, { content, mediaType, name }: OutboundFile, caption: string, extra: object) => {
    // A header's line has no room for these.
    const upload = () => new InputFile(content, name.replace(/[\r\n";]/g, "_"))
    const isPhoto = /^image\/(?:jpeg|png|webp)$/.test(mediaType) && content.length <= photoLimit
    return formatted(caption, ({ text, ...form }) =>
      inChat(to, (place) => {
        const common = { ...place, ...extra, ...form, ...(text === "" ? {} : { caption: text }) }
        const asDocument = call(
          (api, signal) => api.sendDocument({ ...common, document: upload() }, signal),
          "5 minutes"
        )
        if (!isPhoto) return asDocument
        return call((api, signal) => api.sendPhoto({ ...common, photo: upload() }, signal), "5 minutes").pipe(
          // Not every image is a photo: it may be too long, or broken.
          Effect.catchIf(
            (failure) => failure.says(/PHOTO|IMAGE/),
            () => asDocument
          )
        )
      })
    )
  }

  const react = Effect.fnUntraced(function* (to: ChatId, message: MessageId, text: string) {
    // Telegram has its hearts without the sign that says that they are an emoji.
    const emoji = text.trim().replaceAll("\uFE0F", "")
    const number = numberOf(message)
    if (number === undefined || !isMark(emoji)) {
      return yield* new Failure({ code: 400, description: "this is no emoji, or no message to set it on" })
    }
    return yield* inChat(to, ({ chat_id }) =>
      call((api, signal) =>
        api.setMessageReaction({ chat_id, message_id: number, reaction: [{ type: "emoji", emoji }] }, signal)
      )
    )
  })

  /** The reply takes the place of what was shown of it. */
  const replace = (to: ChatId, message: number, text: string, extra: object) =>
    formatted(text, (written) =>
      inChat(to, ({ chat_id }) =>
        call((api, signal) =>
          api.editMessageText({ chat_id, message_id: message, ...written, ...withoutPreview, ...extra }, signal)
        )
      )
    ).pipe(
      Effect.catchIf(
        (failure) => failure.says(/not modified/),
        () => Effect.void
      ),
      Effect.catchIf(
        (failure) => failure.says(/message to edit not found|can't be edited/),
        () => say(to, text, extra)
      )
    )

  return Effect.fnUntraced(function* (to: ChatId, part: OutboundPart): Effect.fn.Return<void, Failure> {
    const { file, id, reactTo } = part
    if (reactTo !== undefined) return void (yield* react(to, reactTo, part.text))
    const { buttons, text } = chosen(part)
    const extra = { ...answering(part), ...buttons }
    if (file === undefined) {
      const shown = yield* live.take(to, id)
      if (shown === undefined) return void (yield* say(to, text, extra))
      yield* replace(to, shown, text, buttons)
      return yield* live.settle(to, id, shown)
    }
    if (text.length <= captionLimit) return void (yield* sendFile(to, file, text, extra))
    if (!halfSent.has(id)) yield* sendFile(to, file, "", answering(part))
    halfSent.add(id)
    yield* say(to, text, buttons)
    halfSent.delete(id)
  })
}
