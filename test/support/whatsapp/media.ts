/**
 * Where media is uploaded to and fetched from: HTTPS on loopback, of bytes that only the ends can read.
 */
import { createServer } from "node:https"
import { makeAuthority } from "../certificates.ts"

export const makeMedia = async () => {
  const { issue, pem } = await makeAuthority()
  const blobs = new Map<string, Buffer>()
  const requests: Array<string> = []
  const server = createServer(await issue("localhost"), (request, response) => {
    const { pathname } = new URL(request.url ?? "/", "https://localhost")
    requests.push(`${request.method} ${pathname}`)
    if (request.method === "POST") {
      const chunks: Array<Buffer> = []
      request
        .on("data", (chunk: Buffer) => void chunks.push(chunk))
        .on("end", () => {
          blobs.set(pathname, Buffer.concat(chunks))
          response.end(JSON.stringify({ url: `https://${host()}${pathname}`, direct_path: pathname }))
        })
      return
    }
    const blob = blobs.get(pathname)
    if (blob === undefined) response.writeHead(404).end()
    else response.end(blob)
  })
  await new Promise<void>((resolve) => server.listen(0, "localhost", resolve))
  const host = () => {
    const address = server.address()
    return `localhost:${typeof address === "object" ? address?.port : ""}`
  }
  return {
    /** Who signed its certificate: a client must trust it. */
    authority: pem,
    host: host(),
    /** Method and path of each. */
    requests: requests as ReadonlyArray<string>,
    /** Forgets what was uploaded: it has expired. */
    expire: () => blobs.clear(),
    close: () => {
      server.closeAllConnections()
      server.close()
    }
  }
}
export type Media = Awaited<ReturnType<typeof makeMedia>>
