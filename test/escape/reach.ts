/**
 * Attempts to reach what is outside by its name: files, variables, sockets, networks, other agents' places.
 */
import { assert } from "@effect/vitest"
import * as Sandbox from "effect-claw/services/Sandbox"
import * as Effect from "effect/Effect"
import { symlinkSync } from "node:fs"
import { dirname, join } from "node:path"
import { type Attempt, group, kinds, type Seen, type Stage } from "./Attempt.ts"
import { python, tar, tried } from "./scripts.ts"

const says = (pattern: RegExp) => (seen: Seen) => assert.match(seen.stdout, pattern)
const saysNot = (pattern: RegExp) => (seen: Seen) => assert.notMatch(seen.stdout, pattern)

/** The outcome of a file operation of the session: its complaint, or the text that came. */
const outcome = (operation: Effect.Effect<Uint8Array | void, Sandbox.SandboxError>) =>
  operation.pipe(
    Effect.map((content) => (content === undefined ? "stays inside" : new TextDecoder().decode(content))),
    Effect.catch((error) => Effect.succeed(error.reason._tag === "FileFailed" ? error.reason.detail : error.message))
  )

const bytes = (text: string) => new TextEncoder().encode(text)

const files = group("Files of the host", [
  { name: "an absolute path", both: ({ world }) => `cat ${world.secret}`, onHost: true },
  { name: "up and out of the workspace", both: ({ world }) => `cat ../../../../../../..${world.secret}`, onHost: true },
  { name: "the root of process 1", both: ({ world }) => `cat /proc/1/root${world.secret}` },
  {
    name: "the root of every process",
    both: ({ world }) => `cat /proc/[0-9]*/root${world.secret} /proc/self/root${world.secret}`,
    onHost: true
  },
  {
    name: "the folder of every process",
    both: ({ world }) => `cat /proc/[0-9]*/cwd/../../../../../..${world.secret}`,
    onHost: true
  },
  {
    name: "descriptors left open by the engine",
    container: ({ world }) =>
      `for i in $(seq 3 40); do cat /proc/self/fd/$i${world.secret} /proc/1/fd/$i/../../../../..${world.secret}; done`,
    virtual: ({ world }) => `for i in $(seq 3 40); do cat /dev/fd/$i /proc/self/fd/$i${world.secret}; done`
  },
  {
    name: "a working folder that is a descriptor",
    act: {
      in: kinds,
      by: ({ own, world }) =>
        Effect.forEach(
          Array.from({ length: 12 }, (_, index) => `/proc/self/fd/${index}`),
          (cwd) =>
            Sandbox.run(own.session, { run: `cat ../../../../../../../..${world.secret}; cat .${world.secret}`, cwd })
        ).pipe(
          Effect.map((all) =>
            all.map(({ stderr, stdout }) => `${stdout}${stderr.split("\n")[0]?.split(": ").at(-1) ?? ""}`).join("\n")
          )
        )
    }
  },
  {
    name: "a search of everything",
    both: "grep -r canary- /tmp /home /mnt /var /etc /root /srv /opt /media",
    deadline: "5 seconds"
  },
  { name: "an include by the shell", both: ({ world }) => `source ${world.secret}; . ${world.secret}`, onHost: true },
  {
    name: "the shell's own reading",
    both: ({ world }) => `mapfile -t lines < ${world.secret}; echo "\${lines[@]}"; echo "$(<${world.secret})"`,
    onHost: true
  },
  { name: "a link to a file", both: ({ world }) => `ln -s ${world.secret} l; cat l`, onHost: true },
  { name: "a link to the root", both: ({ world }) => `ln -s / r; cat r${world.secret}`, onHost: true },
  { name: "a link up and out", both: ({ world }) => `ln -s ../../../../../.. up; cat up${world.secret}`, onHost: true },
  { name: "a hard link to a file", both: ({ world }) => `ln ${world.secret} l; cat l` },
  {
    name: "a hard link to a link",
    both: ({ world }) => `ln -s ${world.secret} a; ln a b; ln -L a c; cat b c`,
    onHost: true
  },
  {
    name: "a link that the host made in the workspace",
    act: {
      in: kinds,
      by: ({ own, world }) =>
        Effect.sync(() => symlinkSync(world.secret, join(own.workspace, "made"))).pipe(
          Effect.andThen(
            Sandbox.run(own.session, { run: "cat made; cp made copy; cat copy; cat < made; head made; stat made" })
          ),
          Effect.map(({ stderr, stdout }) => `${stdout}${stderr}`.trim().split("\n").at(-1)?.split(": ").at(-1) ?? "")
        )
    }
  },
  {
    name: "a folder's link that the host made",
    act: {
      in: kinds,
      by: ({ own, world }) =>
        Effect.sync(() => symlinkSync(world.folder, join(own.workspace, "dir"))).pipe(
          Effect.andThen(
            Sandbox.run(own.session, {
              run: "cat dir/secret.txt; cd dir && cat secret.txt; find dir/ -name '*.txt' -exec cat {} +; tar cf - dir/ | tar tf -"
            })
          ),
          Effect.map(({ stderr, stdout }) => `${stdout}${stderr.trim().split("\n").at(-1)?.split(": ").at(-1) ?? ""}`)
        )
    }
  },
  {
    name: "a session's readFile by an absolute path",
    act: { in: kinds, by: ({ own, world }) => outcome(own.session.readFile(world.secret)) }
  },
  {
    name: "a session's readFile up and out",
    act: { in: kinds, by: ({ own, world }) => outcome(own.session.readFile(`../../../../..${world.secret}`)) }
  },
  {
    name: "a session's readFile of a link made inside",
    act: {
      in: kinds,
      by: ({ own, world }) =>
        Sandbox.run(own.session, { run: `ln -s ${world.secret} planted` }).pipe(
          Effect.andThen(outcome(own.session.readFile("planted")))
        )
    }
  },
  {
    name: "a session's readFile of a link made by the host",
    act: {
      in: kinds,
      by: ({ own, world }) =>
        Effect.sync(() => symlinkSync(world.secret, join(own.workspace, "planted"))).pipe(
          Effect.andThen(outcome(own.session.readFile("planted")))
        )
    }
  },
  {
    name: "a session's readFile below a link made by the host",
    act: {
      in: kinds,
      by: ({ own, world }) =>
        Effect.sync(() => symlinkSync(world.folder, join(own.workspace, "below"))).pipe(
          Effect.andThen(outcome(own.session.readFile("below/secret.txt")))
        )
    }
  },
  {
    name: "the memory of the kernel",
    container: "head -c 100 /proc/kcore | wc -c",
    virtual: "cat /proc/kcore | wc -c",
    holds: says(/^0$/m)
  },
  { name: "the memory of the machine", both: "cat /dev/mem /dev/kmem /dev/port" },
  {
    name: "the disk's device",
    both: "head -c 512 /dev/vda; head -c 512 /dev/sda; head -c 512 /dev/nvme0n1; ls /dev/disk"
  },
  {
    name: "the disk's device, made anew",
    container: "for d in . /tmp /dev /dev/shm ~; do mknod $d/disk b 254 0 && head -c 512 $d/disk; done",
    virtual: "mknod disk b 254 0; head -c 512 disk"
  },
  {
    name: "the image's layers, by the names that the kernel tells",
    container:
      "for d in $(grep -o '[a-z]*dir=[^, ]*' /proc/self/mountinfo | cut -d= -f2 | tr : ' '); do ls $d; done; ls /var/lib/docker /var/lib/containerd"
  },
  {
    name: "the workspace's neighbours, by the name that the kernel tells",
    container: `p=$(awk '$5 == "/workspace" {print $4}' /proc/self/mountinfo); ls "$p/.."; cat "$(dirname $p)"/*/own.txt`
  },
  {
    name: "a file by its handle",
    container: python(`
class Handle(ctypes.Structure): _fields_ = [('size', ctypes.c_uint), ('type', ctypes.c_int), ('data', ctypes.c_ubyte * 128)]
h = Handle(128, 0); mount = ctypes.c_int()
call(303, 264, -100, b'/workspace', ctypes.byref(h), ctypes.byref(mount), 0)
ws = os.open('/workspace', os.O_RDONLY)
h.data[0:4] = (2, 0, 0, 0)
call(304, 265, ws, ctypes.byref(h), os.O_RDONLY)`),
    holds: says(/operation not permitted$/m)
  },
  { name: "the host's users", both: "cat /etc/shadow /root/.ssh/* /root/.bash_history /home/*/.ssh/*" }
])

const writing = group("Writing outside", [
  {
    name: "an absolute path",
    both: ({ world }) => `echo x > ${world.secret}; echo x > ${world.outside}/x`,
    onHost: true
  },
  {
    name: "an absolute path, with its folders",
    both: ({ world }) => `mkdir -p ${world.outside}/d; touch ${world.outside}/d/x`,
    onHost: true
  },
  {
    name: "through a link",
    both: ({ world }) => `ln -s ${world.outside} o; echo x > o/x; ln -s ${world.secret} s; echo x >> s`,
    onHost: true
  },
  { name: "through a hard link", both: ({ world }) => `ln ${world.secret} h && echo x >> h`, onHost: true },
  {
    name: "by tee, cp, mv and sed",
    both: ({ world }) =>
      `echo x > x; tee ${world.outside}/a < x; cp x ${world.outside}/b; sed -i s/c/d/ ${world.secret}; mv x ${world.outside}/c`,
    onHost: true
  },
  { name: "a deletion", both: ({ world }) => `rm -rf ${world.folder}/outside ${world.secret}`, onHost: true },
  { name: "a change of mode", both: ({ world }) => `chmod 000 ${world.secret}; touch ${world.secret}`, onHost: true },
  {
    name: "through a link that the host made",
    act: {
      in: kinds,
      by: ({ own, world }) =>
        Effect.sync(() => symlinkSync(world.outside, join(own.workspace, "o"))).pipe(
          Effect.andThen(
            Sandbox.run(own.session, {
              run: "echo x > o/x; mkdir o/d; cp /etc/hosts o/; touch o/t; mv o p; echo x > p/y; rm -rf p/"
            })
          ),
          Effect.map(({ stderr }) => stderr.trim().split("\n").at(-1)?.split(": ").at(-1) ?? "")
        )
    }
  },
  {
    name: "a session's writeFile by an absolute path",
    act: { in: kinds, by: ({ own, world }) => outcome(own.session.writeFile(`${world.outside}/x`, bytes("x"))) }
  },
  {
    name: "a session's writeFile up and out",
    act: {
      in: kinds,
      by: ({ own, world }) => outcome(own.session.writeFile(`../../../../..${world.secret}`, bytes("x")))
    }
  },
  {
    name: "a session's writeFile to a link made inside",
    act: {
      in: kinds,
      by: ({ own, world }) =>
        Sandbox.run(own.session, { run: `ln -s ${world.secret} w; ln -s ${world.outside} d` }).pipe(
          Effect.andThen(outcome(own.session.writeFile("w", bytes("x")))),
          Effect.andThen(outcome(own.session.writeFile("d/x", bytes("x"))))
        )
    }
  },
  {
    name: "a session's writeFile to a link made by the host",
    act: {
      in: kinds,
      by: ({ own, world }) =>
        Effect.sync(() => {
          symlinkSync(world.secret, join(own.workspace, "w"))
          symlinkSync(world.outside, join(own.workspace, "d"))
        }).pipe(
          Effect.andThen(outcome(own.session.writeFile("w", bytes("x")))),
          Effect.andThen(outcome(own.session.writeFile("d/deep/x", bytes("x"))))
        )
    }
  },
  {
    name: "a session's writeFile to a link to nothing yet",
    act: {
      in: kinds,
      by: ({ own, world }) =>
        Effect.sync(() => symlinkSync(join(world.outside, "new"), join(own.workspace, "w"))).pipe(
          Effect.andThen(outcome(own.session.writeFile("w", bytes("x"))))
        )
    }
  },
  ...(
    [
      ["an archive with absolute names", ({ world }: Stage) => [{ name: join(world.outside, "x"), content: "x" }]],
      [
        "an archive with names that go up",
        ({ world }: Stage) => [{ name: `../../../../../..${world.outside}/x`, content: "x" }]
      ],
      [
        "an archive with a link, and a file below it",
        ({ world }: Stage) => [
          { name: "l", linkTo: world.outside },
          { name: "l/x", content: "x" }
        ]
      ],
      [
        "an archive with a link, and a file in its place",
        ({ world }: Stage) => [
          { name: "l", linkTo: world.secret },
          { name: "l", content: "x" }
        ]
      ],
      ["an archive with a hard link to a file", ({ world }: Stage) => [{ name: "l", linkTo: world.secret, hard: true }]]
    ] as const
  ).map(([name, entries]) => ({
    name,
    act: {
      in: kinds,
      by: (stage: Stage) =>
        stage.own.session.writeFile("a.tar", tar(entries(stage))).pipe(
          Effect.andThen(Sandbox.run(stage.own.session, { run: "tar -xPf a.tar; tar -xf a.tar; cat l" })),
          Effect.map(({ stderr, stdout }) => `${stdout}${stderr}`.trim().split("\n").at(-1)?.split(": ").at(-1) ?? "")
        )
    }
  })),
  {
    name: "an archive made and unpacked inside",
    container: ({
      world
    }) => `echo x > x; tar -cPf a.tar --transform 's,x,${world.outside}/x,' x; tar -xPf a.tar; python3 -c "
import zipfile
z = zipfile.ZipFile('a.zip', 'w'); z.writestr('../../../..${world.outside}/z', 'x'); z.close()
zipfile.ZipFile('a.zip').extractall()"; ls ${world.outside}`,
    virtual: ({ world }) =>
      `echo x > x; tar -cPf a.tar x ${world.secret} ../../../../..${world.secret}; tar -xPf a.tar; tar -tf a.tar`
  },
  {
    name: "a patch with names that go up",
    container: ({ world }) =>
      `printf -- '--- /dev/null\\n+++ b/../../../../..${world.outside}/x\\n@@ -0,0 +1 @@\\n+x\\n' | git apply --unsafe-paths -`
  },
  {
    name: "a read-only mount, by writing",
    both: "echo x > /mnt/notes/a.txt; echo x > /mnt/notes/b.txt; mkdir /mnt/notes/d; touch /mnt/notes/a.txt; chmod 000 /mnt/notes/a.txt; sed -i s/a/b/ /mnt/notes/a.txt"
  },
  {
    name: "a read-only mount, by deleting and renaming",
    both: "rm -rf /mnt/notes/a.txt /mnt/notes; mv /mnt/notes/a.txt .; mv /mnt/notes/a.txt /mnt/notes/c.txt; mv /mnt/notes /mnt/other"
  },
  {
    name: "a read-only mount, by a hard link into the workspace",
    both: "ln /mnt/notes/a.txt h && echo x >> h; ln /mnt/notes/a.txt /mnt/notes/h"
  },
  {
    name: "a read-only mount, by a link out of the workspace",
    both: "ln -s /mnt/notes/a.txt s; echo x >> s; ln -s /mnt/notes d; echo x > d/n.txt"
  },
  {
    name: "a read-only mount, mounted anew",
    container:
      "mount -o remount,rw /mnt/notes; mount --bind /mnt/notes /tmp; umount /mnt/notes; echo x > /mnt/notes/b.txt"
  },
  {
    name: "beside a mount",
    both: ({ world }) =>
      `cat /mnt/notes/../secret.txt /mnt/notes/../../secret.txt /mnt/secret.txt; echo x > /mnt/notes/../outside/x; ls ${dirname(world.secret)}`
  }
])

const environment = group("The claw's environment", [
  {
    name: "a variable by its name",
    both: ({ world }) => `echo "$${world.variable}"; printenv ${world.variable}`,
    onHost: true
  },
  { name: "all variables", both: "env; set; export -p; declare -p", onHost: true, holds: saysNot(/VITEST/) },
  { name: "the environment of process 1", both: "cat /proc/1/environ | tr '\\0' '\\n'", holds: saysNot(/VITEST/) },
  {
    name: "the environment of every process",
    both: "cat /proc/[0-9]*/environ /proc/self/environ | tr '\\0' '\\n'",

    holds: saysNot(/VITEST/)
  },
  {
    name: "the command lines of every process",
    both: "cat /proc/[0-9]*/cmdline | tr '\\0' ' '",
    holds: saysNot(/vitest|dockerd/)
  },
  {
    name: "the memory of every process",
    container: python(`
for pid in [p for p in os.listdir('/proc') if p.isdigit() and int(p) != os.getpid()]:
    try:
        for line in open(f'/proc/{pid}/maps'):
            if '[heap]' in line or '[stack]' in line:
                a, b = [int(x, 16) for x in line.split()[0].split('-')]
                with open(f'/proc/{pid}/mem', 'rb', 0) as m:
                    m.seek(a); sys.stdout.buffer.write(b'\\n'.join(w for w in m.read(b - a).split(b'\\0') if b'canary-' in w))
    except OSError as e: print(e.strerror.lower())
print('no secret')`),
    virtual: "cat /proc/1/mem /proc/self/mem"
  },
  {
    name: "a variable of the claw, asked for by a command",
    act: {
      in: kinds,
      by: ({ own, world }) =>
        Effect.map(
          Sandbox.run(own.session, { run: ["printenv", world.variable], env: { COPY: `$${world.variable}` } }),
          ({ stderr, stdout }) => stdout + stderr
        )
    }
  }
])

const sockets = group("The engine's socket", [
  ...[
    "/var/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/user/1000/docker.sock"
  ].map((path) => ({
    name: path,
    container: `curl -sS -m 3 --unix-socket ${path} http://engine/version`,
    virtual: `cat ${path}`,
    holds: saysNot(/ApiVersion/)
  })),
  {
    name: "any socket that there is",
    container:
      "find / -xdev -type s 2>/dev/null; find /run /var/run /tmp /workspace /mnt -type s; curl -sS -m 3 http://127.0.0.1:2375/version",
    holds: says(/^$/)
  },
  {
    name: "a client of the engine",
    container: "ls /usr/bin /usr/local/bin /usr/sbin | grep -E '^(docker|nerdctl|podman|ctr|crictl|runc)$'",
    // Where programs are the host's, its clients are too; they reach nothing.
    bubblewrap:
      "for client in docker nerdctl podman ctr; do command -v $client > /dev/null && timeout 5 $client ps; done; true",
    virtual: "docker ps",
    holds: says(/^$/)
  }
])

const others = group("Other agents and conversations", [
  {
    name: "another workspace by its path on the host",
    both: ({ neighbour }) => `cat ${neighbour.workspace}/own.txt`,
    onHost: true
  },
  { name: "another workspace beside one's own", both: "cat ../*/own.txt /workspace/../*/own.txt /*/own.txt" },
  { name: "another session's temporary files", both: "cat /tmp/own.txt /tmp/* /dev/shm/* /var/tmp/*" },
  { name: "another session's processes", both: "cat /proc/[0-9]*/environ; kill -0 2 3 4 5 6 7 8 9 10" },
  {
    name: "writing to another workspace",
    both: ({ neighbour }) => `echo x > ${neighbour.workspace}/x; rm -f ${neighbour.workspace}/own.txt`
  },
  {
    name: "another workspace by a session's readFile",
    act: { in: kinds, by: ({ neighbour, own }) => outcome(own.session.readFile(join(neighbour.workspace, "own.txt"))) }
  },
  {
    name: "another session's shared memory and queues",
    container: python(`
n = call(29, 194, 0x1234, 4096, 0o1600)
os.system('cat /proc/sysvipc/shm | wc -l; ls /dev/mqueue')`)
  },
  { name: "another session's keys", container: "cat /proc/keys /proc/key-users", virtual: "cat /proc/keys" }
])

const connect = (family: string, address: string, type = "STREAM") =>
  tried(
    `(lambda s: (s.settimeout(3), s.connect(${address}), sys.stdout.write(str(s.recv(100)))))(socket.socket(socket.${family}, socket.SOCK_${type}))`
  )

const network = group("The network", [
  {
    name: "the host's loopback",
    container: ({ world }) =>
      `curl -sS -m 3 --http0.9 http://127.0.0.1:${world.loopbackPort}; curl -sS -m 3 http://localhost:${world.loopbackPort}`,
    virtual: ({ world }) => `curl http://127.0.0.1:${world.loopbackPort}`,
    onHost: true
  },
  {
    name: "the host's loopback, by the shell",
    both: ({ world }) =>
      `cat < /dev/tcp/127.0.0.1/${world.loopbackPort}; exec 3<>/dev/tcp/127.0.0.1/${world.loopbackPort} && cat <&3`,
    onHost: true
  },
  {
    name: "the host's loopback, by IPv6",
    container: ({ world }) => connect("AF_INET6", `("::1", ${world.loopback6Port})`),
    virtual: ({ world }) => `cat < /dev/tcp/::1/${world.loopback6Port}`
  },
  {
    name: "the host's loopback, by a datagram",
    container: ({ world }) =>
      tried(`socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', ${world.datagramPort}))`),
    virtual: ({ world }) => `echo x > /dev/udp/127.0.0.1/${world.datagramPort}`
  },
  {
    name: "the host's own address",
    container: ({ world }) => connect("AF_INET", `("${world.address}", ${world.anyPort})`),
    virtual: ({ world }) => `cat < /dev/tcp/${world.address}/${world.anyPort}`
  },
  {
    name: "the bridge of the engine",
    container: ({ world }) => connect("AF_INET", `("172.17.0.1", ${world.anyPort})`),
    virtual: ({ world }) => `cat < /dev/tcp/172.17.0.1/${world.anyPort}`
  },
  {
    name: "the host by its engine's name",
    container: ({ world }) =>
      `curl -sS -m 3 http://host.docker.internal:${world.anyPort} http://gateway.docker.internal:${world.anyPort} http://host.containers.internal:${world.anyPort}`,
    virtual: ({ world }) => `wget http://host.docker.internal:${world.anyPort}`
  },
  {
    name: "the metadata of a cloud",
    container: "curl -sS -m 3 http://169.254.169.254/latest/meta-data/",
    virtual: "cat < /dev/tcp/169.254.169.254/80"
  },
  {
    name: "an address of the internet",
    container: "curl -sS -m 3 http://1.1.1.1/",
    virtual: "cat < /dev/tcp/1.1.1.1/80"
  },
  {
    name: "an address of the internet, by IPv6",
    container: "curl -sS -m 3 'http://[2606:4700:4700::1111]/'",
    virtual: "cat < /dev/tcp/2606:4700:4700::1111/80"
  },
  {
    name: "a name",
    container: "getent hosts example.com; curl -sS -m 3 http://example.com/",
    virtual: "cat < /dev/tcp/example.com/80"
  },
  {
    name: "a name server, directly",
    container: tried(
      "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(bytes.fromhex('000101000001000000000000076578616d706c6503636f6d0000010001'), ('8.8.8.8', 53))"
    ),
    virtual: "echo x > /dev/udp/8.8.8.8/53"
  },
  {
    name: "a repository",
    container: "timeout 5 git ls-remote https://github.com/git/git.git HEAD",
    virtual: "git ls-remote https://github.com/git/git.git"
  },
  {
    name: "a raw socket",
    container: tried("socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)"),
    holds: saysNot(/done/)
  },
  {
    name: "a packet socket",
    container: tried("socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 768)"),
    holds: saysNot(/done/)
  },
  {
    name: "a new interface, by netlink",
    container: python(`
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
def attribute(kind, data): return struct.pack('HH', 4 + len(data), kind) + data + b'\\0' * (-len(data) % 4)
body = struct.pack('BxHiII', 0, 0, 0, 0, 0) + attribute(18, attribute(1, b'dummy'))
s.send(struct.pack('IHHII', 16 + len(body), 16, 0x605, 1, 0) + body)
print(os.strerror(-struct.unpack('i', s.recv(4096)[16:20])[0]).lower())
print(' '.join(name for _, name in socket.if_nameindex()))`),
    holds: says(/^lo$/m)
  },
  { name: "a tunnel's device", container: tried("os.open('/dev/net/tun', os.O_RDWR)"), holds: saysNot(/done/) },
  {
    name: "a route",
    container: tried("fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x890B, b'\\0' * 120)"),
    holds: saysNot(/done/)
  },
  {
    name: "another network's namespace",
    container: python(
      "for pid in range(1, 60):\n    try: call(308, 268, os.open(f'/proc/{pid}/ns/net', os.O_RDONLY), 0x40000000)\n    except OSError: pass"
    ),
    holds: saysNot(/done/)
  },
  {
    name: "a socket of the host, by its path",
    container: ({ world }) => connect("AF_UNIX", `"${world.socketPath}"`),
    virtual: ({ world }) => `cat ${world.socketPath}; echo x > ${world.socketPath}`
  },
  {
    name: "an abstract socket of the host",
    container: ({ world }) => connect("AF_UNIX", `"\\0${world.abstractName}"`)
  },
  { name: "a socket of the host's machine", container: ({ world }) => connect("AF_VSOCK", `(1, ${world.anyPort})`) },
  {
    name: "programs that load from the network",
    virtual: ({ world }) =>
      ["curl", "wget", "nc", "git clone", "html-to-markdown", "xan headers", "yq"]
        .map((program) => `${program} http://127.0.0.1:${world.loopbackPort}/ < /dev/null`)
        .join("; ")
  },
  {
    name: "a database on the network",
    virtual: ({ world }) =>
      `sqlite3 http://127.0.0.1:${world.loopbackPort}/x.db .tables; sqlite3 'file:${world.secret}?mode=ro' .dump; sqlite3 :memory: "attach 'file:${world.secret}' as x; select * from x.sqlite_master"`
  }
])

export const reach: ReadonlyArray<Attempt> = [...files, ...writing, ...environment, ...sockets, ...others, ...network]
