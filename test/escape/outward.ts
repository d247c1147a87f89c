/**
 * What attempts from a session with a way out are written with: requests to its proxy, as programs make them and as their
 * bytes are.
 */
import { assert } from "@effect/vitest"
import type { Attempt, Seen } from "./Attempt.ts"
import type { World } from "./World.ts"

export type Attempted = Omit<Attempt, "group">

export const says = (pattern: RegExp) => (seen: Seen) => assert.match(seen.stdout, pattern)
export const allSay = (pattern: RegExp) => (seen: Seen) => {
  const said = seen.stdout.trim().split("\n")
  assert.deepStrictEqual(
    said.filter((line) => !pattern.test(line)),
    []
  )
}

/** The status that curl is answered with for each address, `000` for none. */
export const curl = (addresses: ReadonlyArray<string>, options = ""): string =>
  addresses
    .map((address) => `curl -sS -m 3 -o /dev/null -w '%{http_code} %{http_connect}\\n' ${options} '${address}'`)
    .join("\n")

/**
 * Sends messages to the proxy as their bytes are, each by a connection of its own, and tells how each was answered: the
 * status of every answer. `parts` of one message are sent apart.
 */
export const sent = (...messages: ReadonlyArray<string | ReadonlyArray<string>>): string => `python3 - <<'PY'
import base64, re, socket, time
from concurrent.futures import ThreadPoolExecutor
def sent(parts):
    got = b''
    try:
        s = socket.create_connection(('127.0.0.1', 3128)); s.settimeout(1)
        for part in parts:
            s.sendall(base64.b64decode(part)); time.sleep(0.05)
        while True:
            more = s.recv(65536)
            if not more: break
            got += more
    except OSError: pass
    return got.decode('latin1')
messages = ${JSON.stringify(messages.map((parts) => [parts].flat().map((part) => Buffer.from(part, "latin1").toString("base64"))))}
with ThreadPoolExecutor(16) as pool:
    for answer in pool.map(sent, messages):
        print('answered ' + (' '.join(re.findall(r'^HTTP/1.1 (\\d+)', answer, re.M)) or 'by nothing'))
PY`

/** The same within TLS to the host that is admitted with a secret, where the proxy reads. */
export const sentInside = (
  { securePort }: World["internet"],
  name: string,
  ...messages: ReadonlyArray<string>
): string =>
  `python3 - <<'PY'
import base64, re, socket, ssl
for message in ${JSON.stringify(messages.map((message) => Buffer.from(message, "latin1").toString("base64")))}:
    got = b''
    try:
        s = socket.create_connection(('127.0.0.1', 3128)); s.settimeout(1)
        s.sendall(b'CONNECT allowed.test:${securePort} HTTP/1.1\\r\\nhost: allowed.test\\r\\n\\r\\n')
        if b' 200 ' not in s.recv(65536): raise OSError('no tunnel')
        context = ssl.create_default_context(cafile='/run/claw/authorities.pem')
        context.check_hostname = False
        secure = context.wrap_socket(s, server_hostname='${name}')
        secure.sendall(base64.b64decode(message))
        while True:
            more = secure.recv(65536)
            if not more: break
            got += more
    except OSError as e:
        if not got: print('refused: ' + type(e).__name__.lower())
    print('answered ' + (' '.join(re.findall(r'^HTTP/1.1 (\\d+)', got.decode('latin1'), re.M)) or 'by nothing'))
PY`

export const connectTo = (authority: string, rest = "") =>
  `CONNECT ${authority} HTTP/1.1\r\nhost: ${authority}\r\n\r\n${rest}`
export const get = (address: string, headers = "host: a\r\n") =>
  `GET ${address} HTTP/1.1\r\n${headers}connection: close\r\n\r\n`

export const plain = ({ port }: World["internet"], host = "allowed.test") => `http://${host}:${port}`
export const secure = ({ securePort }: World["internet"], host = "allowed.test") => `https://${host}:${securePort}`

/** Each host by a request and by a tunnel. */
export const asked = ({ port }: World["internet"], ...hosts: ReadonlyArray<string>): string =>
  sent(...hosts.flatMap((host) => [get(`http://${host}:${port}/`), connectTo(`${host}:${port}`)]))

export const inSession = (attempts: ReadonlyArray<Attempted>): ReadonlyArray<Attempted> =>
  attempts.map((attempt) => ({ ...attempt, wayOut: true }))

export const refused = allSay(/^answered (?:4\d\d|50[13])$/)
