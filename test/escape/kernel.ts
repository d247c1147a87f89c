/**
 * Attempts to reach what is outside through the kernel: privileges, namespaces, mounts, devices, other processes. A
 * virtual shell has no kernel to ask; what it says to the same commands is tried where it has the command.
 */
import { assert } from "@effect/vitest"
import { globSync, lstatSync } from "node:fs"
import { join } from "node:path"
import { type Attempt, group, type Seen, type Stage } from "./Attempt.ts"
import { python, tried } from "./scripts.ts"

const says = (pattern: RegExp) => (seen: Seen) => assert.match(seen.stdout, pattern)
const saysNot = (pattern: RegExp) => (seen: Seen) => assert.notMatch(seen.stdout, pattern)

/** A system call by its numbers on x86-64 and arm64, which must be refused. */
const refused = (name: string, ...[x86, arm, args]: readonly [x86: number, arm: number, args: string]) => ({
  name,
  container: python(`call(${x86}, ${arm}${args === "" ? "" : `, ${args}`})`),
  holds: saysNot(/done/)
})

/** A file that must not take what is written. */
const unwritable = (path: string, value: string) => ({ name: path, both: `echo '${value}' > ${path}; cat ${path}` })

/** Of all that is in the workspace, nothing is root's or a device. */
const nothingOfRoot = (_: Seen, { own }: Stage) => {
  for (const name of globSync("**", { cwd: own.workspace })) {
    const found = lstatSync(join(own.workspace, name))
    assert.isFalse(found.isBlockDevice() || found.isCharacterDevice(), `${name} is a device`)
    if (name !== "." && name !== "") assert.notStrictEqual(found.uid, 0, `${name} is root's`)
  }
}

const privileges = group("Privileges", [
  {
    name: "the capabilities that there are",
    container:
      "grep -E '^(Cap|NoNewPrivs)' /proc/self/status; grep -hE '^Cap(Eff|Prm|Bnd)' /proc/1/status; grep CapEff /proc/self/status",
    holds: (seen) => {
      assert.deepStrictEqual(
        new Set(seen.stdout.match(/^Cap\w+:\s*\w+$/gm)?.map((line) => line.replace(/^\w+:\s*/, ""))),
        new Set(["0000000000000000"])
      )
      assert.include(seen.stdout, "NoNewPrivs:\t1")
    }
  },
  refused(
    "a capability, asked for",
    126,
    91,
    "struct.pack('Ii', 0x20080522, 0), struct.pack('IIIIII', 0xffffffff, 0xffffffff, 0, 0, 0, 0)"
  ),
  refused("an ambient capability", 157, 167, "47, 2, 21, 0, 0"),
  {
    name: "privileges gained again",
    container: python(
      "call(157, 167, 38, 0, 0, 0, 0)\nprint(open('/proc/self/status').read().split('NoNewPrivs:')[1].split()[0])"
    ),
    holds: says(/^1$/m)
  },
  refused("root's user id", 105, 146, "0"),
  refused("root's group", 106, 144, "0"),
  refused("more groups", 116, 159, "1, struct.pack('I', 0)"),
  {
    name: "a setuid copy of the shell",
    container:
      "cp /bin/bash sh; chmod 4755 sh; ./sh -p -c 'id -u; touch /x'; cp sh ~/sh; cp sh /tmp/sh; chmod 4755 ~/sh /tmp/sh; ~/sh -p -c 'id -u'; /tmp/sh -p -c 'id -u'",
    holds: saysNot(/^0$/m)
  },
  {
    name: "a copy of su",
    container: "cp /bin/su su; chmod 4755 su; chown 0:0 su; ./su -c id </dev/null; su -c id </dev/null; ls -ln su",
    holds: (seen, stage) => (saysNot(/uid=0/)(seen), nothingOfRoot(seen, stage))
  },
  {
    name: "every setuid program of the image",
    container:
      "for p in $(find / -xdev -perm -4000 -type f 2>/dev/null); do timeout 2 $p -c 'id -u' </dev/null; timeout 2 $p root </dev/null; done; id -u",
    holds: saysNot(/^0$/m),
    deadline: "60 seconds"
  },
  {
    name: "a capability on a file",
    container: tried(
      "os.setxattr((open('cap', 'w').close(), 'cap')[1], 'security.capability', bytes.fromhex('0100000200000020000000000000000000000000'))"
    ),
    holds: saysNot(/done/)
  },
  { name: "a file given to root", container: "touch f; chown 0:0 f; chown root f", holds: nothingOfRoot },
  {
    name: "sudo and its like",
    container: "for p in sudo pkexec doas; do test -e /usr/bin/$p && $p id; done; echo | newgrp root; id -u",
    virtual: "sudo id || pkexec id || doas id || su root; whoami",
    holds: saysNot(/^0$|uid=0/m)
  },
  {
    name: "a line in the list of users",
    both: "echo 'evil::0:0::/:/bin/bash' >> /etc/passwd; echo evil >> /etc/shadow; grep -c evil /etc/passwd",
    virtual: "echo 'evil::0:0::/:/bin/bash' >> /etc/passwd; whoami",
    holds: saysNot(/^[1-9]|root/)
  },
  {
    name: "a scheduled job",
    container:
      "echo '* * * * * root id' > /etc/cron.d/x; echo id > /etc/profile.d/x.sh; echo id > /etc/ld.so.preload; ls /etc/cron.d/x /etc/profile.d/x.sh /etc/ld.so.preload 2>/dev/null",
    holds: says(/^$/)
  }
])

const namespaces = group("Namespaces and mounts", [
  refused("a user namespace", 272, 97, "0x10000000"),
  refused("a mount namespace", 272, 97, "0x20000"),
  refused("all namespaces at once", 272, 97, "0x7e020000"),
  {
    name: "a user namespace, by unshare",
    container: ({ world }) =>
      `unshare -Urm sh -c 'mount -t tmpfs x /mnt && cat ${world.secret}'; unshare -Un ip link; id -u`,
    holds: saysNot(/^0$/m)
  },
  {
    name: "a user namespace, by clone",
    container: python("n = call(56, 220, 0x10000000 | 17, 0, 0, 0, 0)\nif n == 0: os._exit(0)"),
    holds: saysNot(/done/)
  },
  refused("a user namespace, by clone3", 435, 435, "struct.pack('QQQQQQQQ', 0x10000000, 0, 0, 0, 17, 0, 0, 0), 64"),
  {
    name: "the namespaces of process 1",
    container: python(
      "for kind in ['mnt', 'pid', 'user', 'net', 'ipc', 'uts', 'cgroup']:\n    try: call(308, 268, os.open(f'/proc/1/ns/{kind}', os.O_RDONLY), 0)\n    except OSError as e: print(e.strerror.lower())"
    ),
    holds: saysNot(/done/)
  },
  {
    name: "a map of users",
    both: "echo '0 0 4294967295' > /proc/self/uid_map; id -u; whoami",
    virtual: "echo '0 0 4294967295' > /proc/self/uid_map; whoami",
    holds: saysNot(/^0$|root/m)
  },
  refused("a mount", 165, 40, "b'x', b'/tmp', b'tmpfs', 0, 0"),
  refused("a mount of processes", 165, 40, "b'proc', b'/tmp', b'proc', 0, 0"),
  refused("a bind mount", 165, 40, "b'/', b'/tmp', 0, 4096, 0"),
  refused("a root that can be written", 165, 40, "0, b'/', 0, 32, 0"),
  refused(
    "an overlay",
    165,
    40,
    "b'overlay', b'/tmp', b'overlay', 0, b'lowerdir=/etc,upperdir=/tmp,workdir=/home/claw'"
  ),
  refused("an unmount of what hides the host's settings", 166, 39, "b'/proc/kcore', 2"),
  refused("a mount by the new calls", 430, 430, "b'tmpfs', 0"),
  refused("a tree of mounts", 428, 428, "-100, b'/', 1"),
  refused("a mount moved", 429, 429, "-100, b'/etc', -100, b'/tmp', 0"),
  refused("a root exchanged", 155, 41, "b'/tmp', b'/tmp'"),
  {
    name: "a chroot, and out of it",
    container: ({ world }) =>
      python(`
os.makedirs('jail', exist_ok=True)
there = os.open('/', os.O_RDONLY)
tried(lambda: os.chroot('jail'))
os.fchdir(there)
for _ in range(64): os.chdir('..')
tried(lambda: os.chroot('.'))
tried(lambda: print(open('.${world.secret}').read()))`),
    holds: saysNot(/done/)
  },
  {
    name: "a file system of one's own",
    container:
      "dd if=/dev/zero of=d bs=1M count=4 status=none; /sbin/mkfs.ext2 -q -F d; mount -o loop d /mnt; /sbin/losetup -f; ls /dev/loop* /dev/fuse; true",
    holds: saysNot(/\/dev\//)
  },
  {
    name: "the release agent of a cgroup",
    container:
      "mkdir /tmp/cg && mount -t cgroup -o rdma cgroup /tmp/cg; mkdir /tmp/cg/x; for d in /sys/fs/cgroup/*/; do echo /bin/false > $d/release_agent; echo 1 > $d/notify_on_release; mkdir $d/x; done; cat /sys/fs/cgroup/*/release_agent",
    holds: says(/^$/)
  },
  {
    name: "limits of one's own cgroup",
    container:
      "for f in memory/memory.limit_in_bytes memory.max pids/pids.max pids.max cpu/cpu.cfs_quota_us cpu.max; do echo -1 > /sys/fs/cgroup/$f; echo max > /sys/fs/cgroup/$f; done; echo a > /sys/fs/cgroup/devices/devices.allow; echo 1 > /sys/fs/cgroup/cgroup.procs; cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max",
    holds: says(/256/)
  }
])

const processes = group("Other processes", [
  {
    name: "killing process 1",
    alone: {},
    container:
      "kill -9 1; kill -TERM 1; kill -INT 1; kill -HUP 1; kill -SEGV 1; kill -STOP 1; sleep 0.2; echo still here",
    holds: says(/still here/)
  },
  { name: "killing everything", alone: {}, container: "kill -9 -1; echo alone", holds: says(/alone/) },
  {
    name: "killing processes of the host by their numbers",
    container: ({ mark }) =>
      python(`
import random
hits = 0
for pid in list(range(2, 400)) + [random.randrange(400, 4194304) for _ in range(5000)]:
    if pid in (os.getpid(), os.getppid()): continue
    try: os.kill(pid, 0); hits += 1
    except OSError: pass
print(hits, 'others') # ${mark}`)
  },
  {
    name: "tracing process 1",
    alone: {},
    container: python("call(101, 117, 16, 1, 0, 0)\ntime.sleep(0.5)"),
    deadline: "3 seconds"
  },
  {
    name: "writing into process 1",
    alone: {},
    container: python(`
for line in open('/proc/1/maps'):
    if '[heap]' in line:
        a, b = [int(x, 16) for x in line.split()[0].split('-')]
        def write():
            with open('/proc/1/mem', 'wb', 0) as m: m.seek(a); m.write(b'\\xcc' * (b - a))
        tried(write)`),
    deadline: "3 seconds"
  },
  {
    name: "writing into process 1 by a call",
    alone: {},
    container: python(`
a = [int(l.split('-')[0], 16) for l in open('/proc/1/maps') if '[heap]' in l][0]
junk = ctypes.create_string_buffer(b'\\xcc' * 4096)
call(311, 271, 1, struct.pack('PN', ctypes.addressof(junk), 4096), 1, struct.pack('PN', a, 4096), 1, 0)`),
    deadline: "3 seconds"
  },
  {
    name: "descriptors of process 1",
    container: python("fd = call(434, 434, 1, 0)\nif fd >= 0:\n  for n in range(12): call(438, 438, fd, n, 0)")
  },
  refused("comparing processes of the kernel", 312, 272, "1, os.getpid(), 0, 0, 0"),
  {
    name: "a priority above others",
    container: python("call(141, 140, 0, 0, -20)\ncall(144, 119, 0, 1, struct.pack('i', 99))\nprint(os.nice(0))"),
    holds: saysNot(/^(done|-)/m)
  },
  {
    name: "never being chosen when memory runs out",
    container:
      "echo -1000 > /proc/self/oom_score_adj; cat /proc/self/oom_score_adj; echo -1000 > /proc/1/oom_score_adj",
    holds: saysNot(/^-/)
  },
  {
    name: "the program that is running, written over",
    alone: {},
    container: python(
      "for path in ['/proc/self/exe', '/proc/1/exe', '/usr/bin/perl', '/usr/bin/bash']: tried(lambda: os.open(path, os.O_WRONLY))"
    ),
    holds: saysNot(/done/)
  },
  {
    name: "keys typed into a terminal",
    container: python(
      "for path in ['/dev/tty', '/dev/console', '/dev/pts/0', '/dev/tty1', '/dev/ptmx']:\n    try: fcntl.ioctl(os.open(path, os.O_RDWR | os.O_NOCTTY), 0x5412, b'x'); print('typed into', path)\n    except OSError as e: print(e.strerror.lower())\ntry: fcntl.ioctl(0, 0x5412, b'x')\nexcept OSError as e: print(e.strerror.lower())"
    ),
    holds: saysNot(/typed into \/dev\/(tty|console)/)
  }
])

const calls = group("Calls to the kernel", [
  {
    name: "keys",
    container: python(
      "call(250, 219, 0, -3, 1)\ncall(248, 217, b'user', b'x', b'y', 1, -4)\ncall(249, 218, b'user', b'x', 0, -4)"
    ),
    holds: saysNot(/done/)
  },
  refused("bpf", 321, 280, "0, struct.pack('IIIIIIII', 1, 4, 4, 1, 0, 0, 0, 0), 32"),
  refused("perf events", 298, 241, "struct.pack('IIQQQQQ', 1, 112, 0, 0, 0, 0, 0) + b'\\0' * 64, 0, -1, -1, 0"),
  refused("faults handled by oneself", 323, 282, "0"),
  { name: "rings of input and output", container: python("fd = call(425, 425, 4, ctypes.create_string_buffer(120))") },
  refused("a module", 175, 105, "b'\\0' * 64, 64, b''"),
  refused("a module from a file", 313, 273, "os.open('/etc/hostname', os.O_RDONLY), b'', 0"),
  refused("a module taken away", 176, 106, "b'loop', 0"),
  {
    name: "a module by its programs",
    container: "ls /sbin/modprobe /sbin/insmod; ls /lib/modules /proc/sys/kernel/modules_disabled; true"
  },
  refused("another kernel", 246, 104, "0, 0, 0, 0"),
  refused("a reboot", 169, 142, "0xfee1dead, 672274793, 0, 0"),
  refused("a host's name", 170, 161, "b'evil', 4"),
  refused("a domain's name", 171, 162, "b'evil', 4"),
  refused("the clock", 227, 112, "0, struct.pack('qq', 0, 0)"),
  refused("the clock's day", 164, 170, "struct.pack('qq', 0, 0), 0"),
  refused("the clock's rate", 159, 171, "struct.pack('I', 2) + b'\\0' * 204"),
  {
    name: "the clock by date",
    container: "date -s '2001-01-01'; date +%Y",
    virtual: "date -s '2001-01-01'",
    holds: saysNot(/^2001$/m)
  },
  refused("swap", 167, 224, "b'/tmp', 0"),
  refused("accounting", 163, 89, "b'/tmp/x'"),
  refused("quotas", 179, 60, "0x800002 << 8, b'/dev/vda', 0, 0"),
  {
    name: "the ports of the machine",
    container: python(
      "if platform.machine() == 'x86_64':\n    call(172, -1, 3)\n    call(173, -1, 0x80, 1, 1)\nelse: print('none')"
    ),
    holds: saysNot(/done/)
  },
  refused("the kernel's log", 103, 116, "3, ctypes.create_string_buffer(4096), 4096"),
  { name: "the kernel's log by its device", both: "cat /dev/kmsg; dmesg", virtual: "cat /dev/kmsg" },
  refused("a watch over a file system", 300, 262, "0, 0"),
  refused("a personality without random addresses", 135, 92, "0x0040000 | 0x0400000"),
  refused("a terminal hung up", 153, 58, ""),
  {
    name: "a table of descriptors through hostile structures",
    container: python(
      "for n in range(425, 470): \n    if n in (434, 435, 436): continue\n    pid = os.fork()\n    if pid == 0:\n        signal.alarm(1)\n        libc.syscall(ctypes.c_long(n), ctypes.c_long(-1), ctypes.c_long(-1), ctypes.c_long(-1), ctypes.c_long(-1), ctypes.c_long(-1), ctypes.c_long(-1))\n        os._exit(0)\n    os.waitpid(pid, 0)\nprint('nothing')"
    )
  }
])

const settings = group("Settings of the kernel", [
  unwritable("/proc/sys/kernel/core_pattern", "|/bin/false"),
  unwritable("/proc/sys/kernel/modprobe", "/bin/false"),
  unwritable("/proc/sys/kernel/hostname", "evil"),
  unwritable("/proc/sys/vm/overcommit_memory", "2"),
  unwritable("/proc/sys/net/ipv4/ip_forward", "1"),
  unwritable("/proc/sys/fs/binfmt_misc/register", ":x:M::x::/bin/false:"),
  unwritable("/proc/sysrq-trigger", "h"),
  unwritable("/proc/irq/default_smp_affinity", "1"),
  unwritable("/sys/kernel/uevent_helper", "/bin/false"),
  unwritable("/sys/kernel/mm/transparent_hugepage/enabled", "never"),
  unwritable("/sys/power/state", "mem"),
  {
    name: "every writable file of the kernel's",
    container: "find /proc/sys /sys -type f -writable 2>/dev/null | head -n 20",
    holds: says(/^$/),
    deadline: "30 seconds"
  },
  {
    name: "what the engine hides",
    container:
      "cat /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug /proc/latency_stats /proc/timer_stats | head -c 1000; ls -A /proc/acpi /proc/scsi /sys/firmware /sys/kernel/debug /sys/kernel/tracing /sys/kernel/security",
    holds: saysNot(/canary|keyring/)
  },
  {
    name: "a core dump",
    container: python(
      "print(__import__('resource').getrlimit(4))\ntry: __import__('resource').setrlimit(4, (-1, -1))\nexcept (OSError, ValueError) as e: print(e)\npid = os.fork()\nif pid == 0: os.abort()\nprint('dumped' if os.WCOREDUMP(os.waitpid(pid, 0)[1]) else 'no dump')"
    ),
    holds: says(/no dump/)
  },
  { name: "more open files", container: "ulimit -n 4096; ulimit -Hn 4096; ulimit -n", holds: says(/^1024$/m) }
])

export const kernel: ReadonlyArray<Attempt> = [...privileges, ...namespaces, ...processes, ...calls, ...settings]
