/**
 * Files on WhatsApp's media servers: fetched, decrypted as they come, and checked at their end.
 */
import { DEFAULT_ORIGIN, getMediaKeys } from "@whiskeysockets/baileys"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { createDecipheriv, createHash, createHmac, timingSafeEqual } from "node:crypto"
import { type ChannelError, Refused, Unreachable } from "../../services/Channel.ts"
import type { Media } from "./whatsappRead.ts"

/** A file that is not what its message says. */
class Altered extends Error {}

/** How many bytes of the code over a file stand at its end. */
const codeLength = 10

async function* decrypt({ key, kind, sha256 }: Media, body: AsyncIterable<Uint8Array>) {
  const { cipherKey, iv, macKey } = await getMediaKeys(key, kind)
  if (!macKey) throw new Altered("its key is none")
  const code = createHmac("sha256", macKey).update(iv)
  const digest = createHash("sha256")
  const cipher = createDecipheriv("aes-256-cbc", cipherKey, iv)
  let rest: Uint8Array = new Uint8Array()
  for await (const chunk of body) {
    const bytes = Buffer.concat([rest, chunk])
    const end = Math.max(0, bytes.length - codeLength)
    const sealed = bytes.subarray(0, end)
    rest = bytes.subarray(end)
    code.update(sealed)
    const plain = cipher.update(sealed)
    digest.update(plain)
    yield plain
  }
  const told = code.digest().subarray(0, codeLength)
  if (rest.length !== codeLength || !timingSafeEqual(told, rest)) throw new Altered("it is not whole")
  const last = cipher.final()
  digest.update(last)
  if (!digest.digest().equals(sha256)) throw new Altered("it is not what was sent")
  yield last
}

/**
 * The bytes of a file. `host` is one that WhatsApp named: a message may name any, and the claw would be made to call it.
 */
export const download = (
  media: Media,
  host: Effect.Effect<string, ChannelError>,
  failed: (reason: ChannelError["reason"]) => ChannelError
): Stream.Stream<Uint8Array, ChannelError> =>
  Stream.unwrap(
    Effect.gen(function* () {
      const allowed = yield* host
      const url = URL.parse(media.path, `https://${allowed}`)
      if (url?.host !== allowed) return yield* failed(new Refused({ detail: "the file is not at WhatsApp" }))
      const controller = yield* Effect.acquireRelease(
        Effect.sync(() => new AbortController()),
        (controller) => Effect.sync(() => controller.abort())
      )
      const unreachable = (cause: unknown) =>
        cause instanceof Altered
          ? failed(new Refused({ detail: `the file is damaged: ${cause.message}` }))
          : failed(new Unreachable({ detail: `the file could not be fetched: ${String(cause)}` }))
      const response = yield* Effect.tryPromise({
        try: () => fetch(url, { headers: { Origin: DEFAULT_ORIGIN }, redirect: "error", signal: controller.signal }),
        catch: unreachable
      })
      if (response.status === 404 || response.status === 410) {
        return yield* failed(
          new Refused({ detail: "WhatsApp does not have the file any more; ask for it to be sent again" })
        )
      }
      if (!response.ok || response.body === null) return yield* unreachable(`status ${response.status}`)
      return Stream.fromAsyncIterable(decrypt(media, response.body), unreachable)
    })
  )
