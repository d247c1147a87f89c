/**
 * What attempts are written with: raw system calls from Python, and archives that no honest program makes.
 */

/** Python in a container, with raw system calls. `call` takes their numbers on x86-64 and on arm64. */
export const python = (code: string): string => `python3 - <<'PY'
import ctypes, errno, fcntl, os, platform, signal, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def call(x86, arm, *args):
    ctypes.set_errno(0)
    words = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    n = libc.syscall(ctypes.c_long(x86 if platform.machine() == 'x86_64' else arm), *words)
    print('done' if n >= 0 else os.strerror(ctypes.get_errno()).lower(), flush=True)
    return n
def tried(act):
    try: act(); print('done', flush=True)
    except OSError as e: print(os.strerror(e.errno).lower() if e.errno else str(e) or type(e).__name__, flush=True)
${code}
PY`

/** Python that takes what it does to be refused or without effect. */
export const tried = (code: string): string => python(`tried(lambda: ${code})`)

/** One file of an archive. */
export interface Entry {
  readonly name: string
  readonly content?: string
  /** Makes it a symbolic link, or with `hard` a hard one. */
  readonly linkTo?: string
  readonly hard?: boolean
}

/** A tar archive with names as they are given, absolute ones and `..` too. */
export const tar = (entries: ReadonlyArray<Entry>): Uint8Array => {
  const blocks = entries.flatMap(({ content = "", hard, linkTo, name }) => {
    const body = Buffer.from(content)
    const head = Buffer.alloc(512)
    head.write(name, 0, 100)
    head.write("0000777\x000001750\x000001750\0", 100)
    head.write(`${body.length.toString(8).padStart(11, "0")}\x0000000000000\0`, 124)
    head.write("        ", 148)
    head.write(linkTo === undefined ? "0" : hard === true ? "1" : "2", 156)
    head.write(linkTo ?? "", 157, 100)
    head.write("ustar\x0000", 257)
    const sum = head.reduce((total, byte) => total + byte, 0)
    head.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148)
    return [head, body, Buffer.alloc((512 - (body.length % 512)) % 512)]
  })
  return new Uint8Array(Buffer.concat([...blocks, Buffer.alloc(1024)]))
}

/** A frame of the runner, as `printf` writes it: the length that is said, the type, the command's number, the content. */
export const frame = (type: number, number: number, content = "", length = content.length): string => {
  const head = Buffer.alloc(9)
  head.writeUInt32BE(length, 0)
  head.writeUInt8(type, 4)
  head.writeUInt32BE(number, 5)
  return [...head, ...Buffer.from(content)].map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("")
}
