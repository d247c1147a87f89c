/** `multipart/form-data`, as servers of files take it: leniently, for not every client quotes its names. */

/** A file of a form. */
export class Field {
  readonly name: string | undefined
  readonly content: Uint8Array
  constructor(name: string | undefined, content: Uint8Array) {
    this.name = name
    this.content = content
  }
}

/** The fields of a body: texts, and files under the names of their parts. */
export const multipart = (body: Buffer, contentType: string): Readonly<Record<string, string | Field>> => {
  const [, quoted, plain] = /boundary=(?:"([^"]+)"|([^;]+))/.exec(contentType) ?? []
  const boundary = `\r\n--${quoted ?? plain ?? ""}`
  const whole = Buffer.concat([Buffer.from("\r\n"), body])
  const fields: Record<string, string | Field> = {}
  let at = whole.indexOf(boundary)
  while (at !== -1) {
    const from = at + boundary.length
    const next = whole.indexOf(boundary, from)
    const head = whole.indexOf("\r\n\r\n", from)
    if (next === -1 || head === -1) break
    const headers = whole.toString("utf8", from, head)
    const content = whole.subarray(head + 4, next)
    const [, name = ""] = /\bname="?([^";\r\n]+)"?/.exec(headers) ?? []
    const [, file] = /\bfilename="?([^";\r\n]*)"?/.exec(headers) ?? []
    fields[name] = file === undefined ? content.toString("utf8") : new Field(file, Uint8Array.from(content))
    at = next
  }
  return fields
}
