/**
 * Attachments: files that come with messages. Each is kept by the claw, put into the agent's workspace under a safe name, and
 * told to the agent, which also sees what is an image. What cannot be had is told, too.
 */
import * as Prompt from "effect/ai/Prompt"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Struct from "effect/Struct"
import type { Attachment, ChannelError, InboundDelivery } from "./Channel.ts"
import { Files, FilesError, type Kept, TooLarge } from "./Files.ts"
import {
  type AgentName,
  type Content,
  type ConversationId,
  conversationId,
  FileId,
  type InboundMessage,
  sender,
  textOf
} from "./Message.ts"
import type { Input } from "./Turn.ts"
import { isFileName, type WorkspaceError, Workspaces } from "./Workspaces.ts"

/** The largest file that is taken, in bytes, unless a claw says otherwise: what Telegram's bots can fetch. */
export const fileLimit = 20 * 1024 * 1024

/** How long one file may take. */
const patience = "2 minutes"

/** Types that models see. */
const images = new Set<string | undefined>(["image/jpeg", "image/png", "image/gif", "image/webp"])
/** The largest image that a model is shown, in bytes: a provider's limit of 5 MB in base64. */
const imageLimit = 3_750_000

/** Where the bytes of a kept image are, in a journal. */
const scheme = "claw-file:"

/** A name that is one, whatever the sender called it: what could lead elsewhere or hide becomes `_`. */
const safeName = ({ mediaType, name }: Attachment, found: Kept): string => {
  const wished = (name ?? "").toWellFormed().normalize("NFC").split(/[/\\]/).at(-1) ?? ""
  const plain = wished
    .replace(/[\p{C}\p{Default_Ignorable_Code_Point}:*?"<>|]/gu, "_")
    .replace(/^[.\s-]+|[.\s]+$/g, "")
    .slice(-100)
  if (plain !== "" && isFileName(plain)) return plain
  const [, ending = "bin"] = /\/([a-z0-9]+)/.exec(found.mediaType ?? mediaType ?? "") ?? []
  return `file.${ending}`
}

/** The same name with a number, for when it is taken. */
const numbered = (name: string, number: number): string => {
  if (number === 1) return name
  const dot = name.lastIndexOf(".")
  return dot > 0 ? `${name.slice(0, dot)}-${number}${name.slice(dot)}` : `${name}-${number}`
}

/** Another name is tried so often. */
const namesTried = 50

const tookTooLong = { _tag: "TookTooLong", message: `it took longer than ${patience}` } as const
type TookTooLong = typeof tookTooLong

/** A file as the agent is told of it. */
type Received = { readonly told: string; readonly image?: Prompt.FilePart }

const receiveOne = Effect.fnUntraced(function* (
  agent: AgentName,
  conversation: ConversationId,
  attachment: Attachment,
  limit: number
): Effect.fn.Return<Received, FilesError | WorkspaceError | ChannelError | TookTooLong, Files | Workspaces> {
  const files = yield* Files
  const workspaces = yield* Workspaces
  if (attachment.size !== undefined && attachment.size > limit) {
    return yield* new FilesError({ reason: new TooLarge({ limit }) })
  }
  const kept = yield* files
    .save(attachment.content, { limit })
    .pipe(Effect.timeoutOrElse({ duration: patience, orElse: () => Effect.fail(tookTooLong) }))
  const wished = safeName(attachment, kept)
  let number = 1
  const place = Effect.suspend(() => {
    const name = numbered(wished, number++)
    return Effect.as(workspaces.place(agent, conversation, name, files.stream(kept.id)), name)
  })
  const name = yield* Effect.retry(place, { times: namesTried, while: ({ reason }) => reason._tag === "NameTaken" })
  const mediaType = kept.mediaType ?? attachment.mediaType ?? "application/octet-stream"
  const told = `[file: ${name}, ${mediaType}, ${kept.size.toLocaleString("en-US")} bytes]`
  if (!images.has(kept.mediaType) || kept.size > imageLimit) return { told }
  return { told, image: Prompt.filePart({ mediaType, fileName: name, data: new URL(scheme + kept.id) }) }
})

const isOfStore = (error: { readonly _tag: string }): error is FilesError | WorkspaceError =>
  error._tag === "FilesError" || error._tag === "WorkspaceError"

/**
 * Takes the files of a message. What went wrong with one is told instead of it; fails when the claw cannot keep files now, for
 * then the message is not taken either, and the file is not lost.
 */
export const receive = (options: {
  readonly agent: AgentName
  readonly conversation: ConversationId
  readonly attachments: ReadonlyArray<Attachment>
  readonly limit: number | undefined
}): Effect.Effect<ReadonlyArray<Received>, FilesError | WorkspaceError, Files | Workspaces> =>
  Effect.forEach(options.attachments, (attachment) =>
    receiveOne(options.agent, options.conversation, attachment, options.limit ?? fileLimit).pipe(
      Effect.catch((error) => {
        if (isOfStore(error) && error.reason._tag === "StoreFailed") return Effect.fail(error)
        const { message } = error
        const told = `[a file could not be received, ${attachment.name ?? "without a name"}: ${message}]`
        return Effect.as(Effect.logWarning(told), { told })
      })
    )
  )

/** A message as an agent's input. */
export const inputOf = (message: InboundMessage, files: ReadonlyArray<Received>): Input => {
  const { at, channel, direct, id, quoted, sender: by, senderName } = message
  const said = textOf(message.content)
  const answered = quoted === undefined ? [] : [`[in answer to: ${quoted.text.slice(0, 500).replace(/\s+/g, " ")}]`]
  const lines = [...answered, ...(said === "" ? [] : [said]), ...files.map(({ told }) => told)]
  const seen = files.flatMap(({ image }) => (image === undefined ? [] : [image]))
  return {
    origin: {
      _tag: "Person",
      sender: sender(channel, by),
      message: id,
      ...(direct ? {} : { group: true }),
      ...(senderName === undefined ? {} : { name: senderName })
    },
    content: [
      Prompt.textPart({ text: lines.join("\n").toWellFormed() }),
      ...message.content.filter(({ type }) => type === "file"),
      ...seen
    ],
    at
  }
}

/** A part of a message with the bytes of the image that it is; one that is not kept any more is left out. */
const load = (files: Files["Service"], part: Content[number]): Effect.Effect<Content> => {
  if (part.type !== "file" || !(part.data instanceof URL) || part.data.protocol !== scheme) {
    return Effect.succeed([part])
  }
  return Effect.match(files.read(FileId.make(part.data.pathname)), {
    onFailure: () => [],
    onSuccess: (data) => [Struct.assign(part, { data })]
  })
}

/** A prompt with the bytes of its images. */
export const withImages = (files: Files["Service"], prompt: Prompt.Prompt): Effect.Effect<Prompt.Prompt> =>
  Effect.map(
    Effect.forEach(prompt.content, (message): Effect.Effect<Prompt.Message> =>
      message.role === "user"
        ? Effect.map(
            Effect.forEach(message.content, (part) => load(files, part)),
            (content) => Prompt.userMessage({ content: content.flat() })
          )
        : Effect.succeed(message)
    ),
    Prompt.fromMessages
  )

/**
 * Lets conversations wait for their files apart: what is said in others goes on, and what is said in theirs meanwhile comes
 * after. `settled` waits until none does.
 */
export const makeAside = Effect.fnUntraced(function* <R>(
  take: (delivery: InboundDelivery) => Effect.Effect<void, never, R>
) {
  const waiting = new Map<ConversationId, Array<InboundDelivery>>()
  const fibers = yield* FiberSet.make<void>()
  const takeAll = Effect.fnUntraced(function* (ofOne: ReadonlyArray<InboundDelivery>) {
    const [first] = ofOne
    if (first === undefined) return
    const conversation = conversationId(first.message.channel, first.message.chat)
    const before = waiting.get(conversation)
    if (before !== undefined) return void before.push(...ofOne)
    const hasFiles = ofOne.some(({ attachments = [] }) => attachments.length > 0)
    if (!hasFiles) return yield* Effect.forEach(ofOne, take, { discard: true })
    const queue = [...ofOne]
    waiting.set(conversation, queue)
    const drain = Effect.gen(function* () {
      for (let next = queue.shift(); next !== undefined; next = queue.shift()) yield* take(next)
      waiting.delete(conversation)
    })
    yield* FiberSet.run(fibers, drain)
  })
  return { takeAll, settled: FiberSet.awaitEmpty(fibers) }
})
