/**
 * Attempts to have a request read in two ways: by the proxy, and by whoever has it from there.
 */
import { assert } from "@effect/vitest"
import { group } from "./Attempt.ts"
import { allSay, curl, says, sent, sentInside, connectTo, get, plain, secure, inSession, refused } from "./outward.ts"
import type { World } from "./World.ts"

const smuggled = ({ port }: World["internet"], host = "allowed.test") =>
  `GET http://${host}:${port}/smuggled HTTP/1.1\r\nhost: ${host}:${port}\r\n\r\n`

/** A request with a body and these headers, which may hold another. */
const post = (internet: World["internet"], headers: string, body: string) =>
  `POST ${plain(internet)}/echo HTTP/1.1\r\nhost: allowed.test:${internet.port}\r\n${headers}\r\n\r\n${body}`

/** What a server that reads it otherwise would take for a request of its own. */
const inner = "GET /smuggled HTTP/1.1\r\nhost: allowed.test\r\n\r\n"

export const wayOutRequests = group(
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
      name: "another protocol is asked for, and the connection closed at once, a hundred times",
      container: `python3 - <<'PY'
import socket
for i in range(100):
    s = socket.socket(socket.AF_UNIX); s.connect('/run/claw/proxy.sock')
    s.send(b'GET http://allowed.test/ HTTP/1.1\\r\\nhost: a\\r\\nconnection: upgrade\\r\\nupgrade: websocket\\r\\n\\r\\n'); s.close()
print('sent')
PY`,
      holds: says(/^sent$/m)
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
