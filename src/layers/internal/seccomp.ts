/**
 * A seccomp filter as `bwrap --seccomp` reads it: what the kernel refuses to the processes of a sandbox.
 *
 * The yardstick is Docker's default profile, for a process without capabilities: the calls that it refuses, and of clone
 * the flags that make namespaces, because a new user namespace opens much of the kernel that is closed to others.
 * Beyond that it refuses `ptrace` and its kin, so that no command takes over the processes that hold the sandbox, and
 * sockets of other families than these four: some, such as those between a virtual machine and its host, know no network
 * namespace.
 */

/** Numbers of a system call. */
type Numbers = readonly [x64: number | undefined, arm64: number | undefined]

const refused: Readonly<Record<string, Numbers>> = {
  _sysctl: [156, undefined],
  acct: [163, 89],
  add_key: [248, 217],
  bpf: [321, 280],
  clock_adjtime: [305, 266],
  clock_settime: [227, 112],
  create_module: [174, undefined],
  delete_module: [176, 106],
  fanotify_init: [300, 262],
  finit_module: [313, 273],
  fsconfig: [431, 431],
  fsmount: [432, 432],
  fsopen: [430, 430],
  fspick: [433, 433],
  get_kernel_syms: [177, undefined],
  get_mempolicy: [239, 236],
  init_module: [175, 105],
  io_uring_enter: [426, 426],
  io_uring_register: [427, 427],
  io_uring_setup: [425, 425],
  ioperm: [173, undefined],
  iopl: [172, undefined],
  kcmp: [312, 272],
  kexec_file_load: [320, 294],
  kexec_load: [246, 104],
  keyctl: [250, 219],
  lookup_dcookie: [212, 18],
  mbind: [237, 235],
  migrate_pages: [256, 238],
  mount: [165, 40],
  mount_setattr: [442, 442],
  move_mount: [429, 429],
  move_pages: [279, 239],
  nfsservctl: [180, 42],
  open_by_handle_at: [304, 265],
  open_tree: [428, 428],
  perf_event_open: [298, 241],
  pidfd_getfd: [438, 438],
  pivot_root: [155, 41],
  process_madvise: [440, 440],
  process_vm_readv: [310, 270],
  process_vm_writev: [311, 271],
  ptrace: [101, 117],
  query_module: [178, undefined],
  quotactl: [179, 60],
  quotactl_fd: [443, 443],
  reboot: [169, 142],
  request_key: [249, 218],
  set_mempolicy: [238, 237],
  set_mempolicy_home_node: [450, 450],
  setdomainname: [171, 162],
  sethostname: [170, 161],
  setns: [308, 268],
  settimeofday: [164, 170],
  swapoff: [168, 225],
  swapon: [167, 224],
  sysfs: [139, undefined],
  syslog: [103, 116],
  umount2: [166, 39],
  unshare: [272, 97],
  uselib: [134, undefined],
  userfaultfd: [323, 282],
  ustat: [136, undefined],
  vhangup: [153, 58]
}

/** `AUDIT_ARCH_X86_64` and `AUDIT_ARCH_AARCH64`, and the calls whose arguments count. */
const machines = {
  x64: { column: 0, audit: 0xc000003e, clone: 56, clone3: 435, personality: 135, socket: 41 },
  arm64: { column: 1, audit: 0xc00000b7, clone: 220, clone3: 435, personality: 92, socket: 198 }
} as const

/** The seven `CLONE_NEW…` flags that `clone` takes. */
const newNamespaces = 0x7e020000
/** `AF_UNIX`, `AF_INET`, `AF_INET6`, `AF_NETLINK`. */
const families = [1, 2, 10, 16]
/** `PER_LINUX`, `PER_LINUX32`, both with `UNAME26`, and the question which it is. */
const personalities = [0, 8, 0x20000, 0x20008, 0xffffffff]

// Where in `struct seccomp_data` the kernel puts what is looked at; of an argument the lower half.
const [call, architecture, argument] = [0, 4, 16]

type Instruction = readonly [code: number, whenTrue: number, whenFalse: number, operand: number]
const load = (offset: number): Instruction => [0x20, 0, 0, offset]
const ifEqual = (value: number, whenTrue: number, whenFalse: number): Instruction => [0x15, whenTrue, whenFalse, value]
const ifAtLeast = (value: number, whenTrue: number, whenFalse: number): Instruction => [
  0x35,
  whenTrue,
  whenFalse,
  value
]
const ifAnyBit = (bits: number, whenTrue: number, whenFalse: number): Instruction => [0x45, whenTrue, whenFalse, bits]
const allow: Instruction = [0x06, 0, 0, 0x7fff0000]
const fail = (errno: number): Instruction => [0x06, 0, 0, 0x50000 + errno]
const [notPermitted, notImplemented] = [fail(1), fail(38)]

/** Refuses a call unless its first argument is one of these. */
const onlyWith = (number: number, values: ReadonlyArray<number>): ReadonlyArray<Instruction> => [
  ifEqual(number, 0, values.length + 3),
  load(argument),
  ...values.map((value, index) => ifEqual(value, values.length - index, 0)),
  notPermitted,
  allow
]

/** The filter for a machine, or nothing for one that it was not written for. */
export const filter = (machine: string): Buffer | undefined => {
  if (machine !== "x64" && machine !== "arm64") return undefined
  const { audit, clone, clone3, column, personality, socket } = machines[machine]
  const numbers = Object.values(refused).flatMap((row) => row[column] ?? [])
  const program: ReadonlyArray<Instruction> = [
    // Calls of another architecture, or of x32, have other numbers, and none of them is needed.
    load(architecture),
    ifEqual(audit, 1, 0),
    notPermitted,
    load(call),
    ifAtLeast(0x40000000, 0, 1),
    notPermitted,
    ...numbers.flatMap((number) => [ifEqual(number, 0, 1), notPermitted]),
    // Its flags are in memory, where a filter does not see them. Without it, C libraries use clone.
    ifEqual(clone3, 0, 1),
    notImplemented,
    ifEqual(clone, 0, 4),
    load(argument),
    ifAnyBit(newNamespaces, 0, 1),
    notPermitted,
    allow,
    ...onlyWith(personality, personalities),
    ...onlyWith(socket, families),
    allow
  ]
  const bytes = Buffer.alloc(program.length * 8)
  program.forEach(([code, whenTrue, whenFalse, operand], index) => {
    bytes.writeUInt16LE(code, index * 8)
    bytes.writeUInt8(whenTrue, index * 8 + 2)
    bytes.writeUInt8(whenFalse, index * 8 + 3)
    bytes.writeUInt32LE(operand, index * 8 + 4)
  })
  return bytes
}
