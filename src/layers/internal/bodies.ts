/**
 * Bodies on their way through the egress proxy: counted, and looked through without being kept.
 */
import { Transform } from "node:stream"
import { setImmediate } from "node:timers/promises"
import { promisify } from "node:util"
import { brotliDecompress, gunzip, inflate, type ZlibOptions } from "node:zlib"

/** Counts bytes, and fails when there are more than `most`. */
export const counted = (most: number, count: (bytes: number) => void, tooMany: () => Error): Transform => {
  let bytes = 0
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length
      count(chunk.length)
      done(bytes > most ? tooMany() : null, chunk)
    }
  })
}

/**
 * Passes on what `inspect` makes of a stream of bytes, given as characters of one byte each. The last `span` of them are
 * held back until more have come, so that nothing passes in two halves.
 */
export const inspected = (span: number, inspect: (text: string) => string): Transform => {
  let held = ""
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      try {
        held = inspect(held + chunk.toString("latin1"))
      } catch (cause) {
        return done(cause instanceof Error ? cause : new Error(String(cause)))
      }
      const ready = held.slice(0, Math.max(0, held.length - span))
      held = held.slice(ready.length)
      done(null, Buffer.from(ready, "latin1"))
    },
    flush(done) {
      done(null, Buffer.from(held, "latin1"))
    }
  })
}

const decoders = new Map([
  ["gzip", promisify<Buffer, ZlibOptions, Buffer>(gunzip)],
  ["x-gzip", promisify<Buffer, ZlibOptions, Buffer>(gunzip)],
  ["deflate", promisify<Buffer, ZlibOptions, Buffer>(inflate)],
  ["br", promisify<Buffer, ZlibOptions, Buffer>(brotliDecompress)]
])

/** Takes a body's encoding off it, up to a size. `undefined`: the encoding is not known. */
export const decoderOf = (encoding: string): ((body: Buffer, most: number) => Promise<Buffer>) | undefined => {
  const decode = decoders.get(encoding)
  return decode === undefined ? undefined : (body, most) => decode(body, { maxOutputLength: most })
}

/** Bytes that are looked at without a pause. */
const atOnce = 65_536

/** Shows all of a body to `inspect`, piece by piece, each with the `span` of characters before it. All else goes on between. */
export const lookThrough = async (bytes: Buffer, span: number, inspect: (text: string) => string): Promise<void> => {
  for (let from = 0; from < bytes.length; from += atOnce) {
    inspect(bytes.toString("latin1", Math.max(0, from - span), from + atOnce))
    // oxlint-disable-next-line no-await-in-loop
    await setImmediate()
  }
}

/** Passes on a body of at most `most` bytes, once it has been looked at. It is kept until then. */
export const inspectedWhole = (
  look: (body: Buffer) => Promise<void>,
  most: number,
  tooMany: () => Error
): Transform => {
  const kept: Array<Buffer> = []
  let size = 0
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      size += chunk.length
      kept.push(chunk)
      done(size > most ? tooMany() : null)
    },
    flush(done) {
      const body = Buffer.concat(kept)
      look(body).then(
        () => done(null, body),
        (cause: unknown) => done(cause instanceof Error ? cause : new Error(String(cause)))
      )
    }
  })
}
