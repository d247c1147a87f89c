/**
 * A claw on a disk that fails: full, locked, read-only, or another claw's. It is judged from outside: by what the platform
 * saw and what it was acknowledged, by the exit code and by the log.
 *
 * The disks are real ones, a small tmpfs or an ext4 on a loop device, so most of it needs Linux and root.
 */
import { assert, describe, it } from "@effect/vitest"
import { execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import {
  closeSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeSync
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { fileURLToPath } from "node:url"
import { makeServer } from "./Platform.ts"

const program = fileURLToPath(new URL("claw.ts", import.meta.url))
const patience = 30_000
const page = 4096

const sleep = (millis: number) => new Promise<void>((resolve) => setTimeout(resolve, millis))

/** Whether something came about in time. */
const until = async (holds: () => boolean, millis = patience): Promise<boolean> => {
  for (const deadline = Date.now() + millis; Date.now() < deadline; await sleep(20)) if (holds()) return true
  return holds()
}

const run = (command: string, ...args: ReadonlyArray<string>) => void execFileSync(command, args, { stdio: "pipe" })

/** Puts a disk at a folder; what it is made of is in the other. */
type Disk = (at: string, below: string) => void

const tmpfs =
  (size: string): Disk =>
  (at) =>
    run("mount", "-t", "tmpfs", "-o", `size=${size}`, "tmpfs", at)

/** On an image, so that it is there again after it was unmounted. */
const ext4: Disk = (at, below) => {
  const image = join(below, "image")
  closeSync(openSync(image, "w"))
  truncateSync(image, 16 * 1024 * 1024)
  run("mkfs.ext4", "-q", image)
  run("mount", "-o", "loop", image, at)
}

const has = (disk: Disk): boolean => {
  const folder = mkdtempSync(join(tmpdir(), "claw-disk-"))
  const at = join(folder, "disk")
  mkdirSync(at)
  try {
    disk(at, folder)
    run("umount", at)
    return true
  } catch {
    return false
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
const isRoot = process.platform === "linux" && process.getuid?.() === 0
const hasTmpfs = isRoot && has(tmpfs("1m"))
const hasExt4 = isRoot && has(ext4)
if (!hasTmpfs || !hasExt4) {
  const what = hasTmpfs ? "an ext4 on a loop device" : "a tmpfs"
  process.stderr.write(`\n*** SKIPPED: a claw on a disk that fails. Only root can mount ${what}, on Linux. ***\n\n`)
}

interface Claw {
  /** What it has said: its log, and why it ended. */
  readonly lines: () => ReadonlyArray<string>
  /** How often it has passed a step of its journal. */
  readonly passed: (step: string) => number
  readonly isAlive: () => boolean
  readonly exitCode: () => number | null
  readonly end: (signal: NodeJS.Signals) => Promise<void>
}

/** What a claw prints beside that: the steps it passes, and where in the code an error was. */
const noise = /^\d+ (before|after) |^\s+at |^$/

const start = (socket: string, home: string): Claw => {
  const child = spawn(process.execPath, [program, socket, home, "virtual"])
  let printed = ""
  child.stdout.on("data", (chunk: Buffer) => (printed += chunk.toString()))
  child.stderr.on("data", (chunk: Buffer) => (printed += chunk.toString()))
  let isAlive = true
  const closed = once(child, "close").then(() => (isAlive = false))
  return {
    lines: () => printed.split("\n").filter((line) => !noise.test(line)),
    passed: (step) => printed.split("\n").filter((line) => line.includes(step)).length,
    isAlive: () => isAlive,
    exitCode: () => child.exitCode,
    end: async (signal) => {
      child.kill(signal)
      await closed
    }
  }
}

/** A platform, a disk, and claws whose state is on it. Their workspaces are on another one, which is sound. */
const makeWorld = async (disk?: Disk) => {
  const folder = mkdtempSync(join(tmpdir(), "claw-disk-"))
  const at = join(folder, "disk")
  const home = join(at, "home")
  const work = join(folder, "work")
  const filling = join(at, "filling")
  const socket = join(folder, "platform.sock")
  const claws: Array<Claw> = []
  mkdirSync(at)
  mkdirSync(work)
  const server = await makeServer(socket)
  disk?.(at, folder)

  const makeRoom = () => rmSync(filling, { force: true })
  const begin = (at = home) => {
    const claw = start(socket, at)
    claws.push(claw)
    return claw
  }
  const count = (text: string) => server.seen.filter((seen) => seen.text.includes(text)).length
  return {
    disk: at,
    home,
    server,
    start: begin,
    /** A claw that has answered once, so all that it has is made. */
    startUsed: async () => {
      mkdirSync(home, { mode: 0o700 })
      symlinkSync(work, join(home, "workspaces"))
      const claw = begin()
      server.say("a", "run: echo began >> log.txt; echo said began")
      assert.isTrue(await server.awaitSeen(1, patience), claw.lines().join("\n"))
      assert.isTrue(await until(() => server.unacknowledged.size === 0))
      return claw
    },
    /** Starts a claw that is not to start, and returns what it says to that. */
    refused: async (at = home) => {
      const claw = begin(at)
      assert.isTrue(await until(() => !claw.isAlive()), "it has started")
      assert.isAbove(claw.exitCode() ?? 0, 0)
      const [line = "", ...more] = claw.lines()
      assert.deepStrictEqual(more, [], "one line")
      assert.include(line, `state folder ${at}: `)
      return line
    },
    /** Leaves so many free pages. */
    fill: (free = 0) => {
      makeRoom()
      const file = openSync(filling, "w")
      let size = 0
      try {
        for (const chunk = Buffer.alloc(page, 1); ;) size += writeSync(file, chunk)
      } catch {
        // No page is left.
      } finally {
        closeSync(file)
      }
      truncateSync(filling, size - free * page)
    },
    makeRoom,
    /** Leaves no room in the write-ahead log: whatever is written from now on needs a page of the disk. */
    checkpoint: () => {
      const database = new DatabaseSync(join(home, "claw.db"), { timeout: 5000 })
      database.exec("PRAGMA wal_checkpoint(TRUNCATE)")
      database.close()
    },
    /** The same disk, after its repair. */
    remount: () => {
      run("umount", at)
      run("mount", "-o", "loop", join(folder, "image"), at)
    },
    /** How often a command has left this word in the workspace's log. */
    ran: (word: string) =>
      globSync("*/*/log.txt", { cwd: work })
        .flatMap((path) => readFileSync(join(work, path), "utf8").split("\n"))
        .filter((line) => line === word).length,
    /** Every one of these words was said once, and nothing waits. */
    assertAnswered: async (words: ReadonlyArray<string>, claw: Claw) => {
      const told = () => `${JSON.stringify(server.seen)}\n${claw.lines().join("\n")}`
      assert.isTrue(await until(() => words.every((word) => count(`said ${word}`) > 0)), told())
      assert.isTrue(await until(() => server.unacknowledged.size === 0), told())
      for (const word of words) assert.strictEqual(count(`said ${word}`), 1, told())
    },
    end: async () => {
      for (const claw of claws) if (claw.isAlive()) await claw.end("SIGKILL")
      server.close()
      if (disk !== undefined) run("umount", at)
      rmSync(folder, { recursive: true, force: true })
    }
  }
}
type World = Awaited<ReturnType<typeof makeWorld>>

const inWorld =
  (disk: Disk | undefined, body: (world: World) => Promise<void>): (() => Promise<void>) =>
  async () => {
    const world = await makeWorld(disk)
    try {
      await body(world)
    } finally {
      await world.end()
    }
  }

const told = (claw: Claw, pattern: RegExp) => claw.lines().filter((line) => pattern.test(line))
const full = /full: make room on the disk/

const unknown = /interrupted and its outcome is unknown/
/** What nobody is to be told whose database is sound. */
const rash = /backup|move it away/

const words = ["one", "two", "three", "four"]
const sayAll = ({ server }: World) => {
  for (const [index, word] of words.entries()) {
    server.say(`c${index % 2}`, `run: echo ${word} >> log.txt; echo said ${word}`)
  }
}

/** The words that wait at the platform, in order. */
const waiting = ({ server }: World) => [...server.unacknowledged.values()].map(({ text }) => text.replace(/.* /, ""))

describe.skipIf(!hasTmpfs)("a disk that is full", { timeout: 120_000 }, () => {
  it(
    "while a claw runs: what comes is not acknowledged, and is answered once when there is room",
    inWorld(tmpfs("4m"), async (world) => {
      const { server } = world
      const claw = await world.startUsed()
      world.fill()
      sayAll(world)
      assert.isTrue(await until(() => told(claw, full).length > 3))
      assert.deepStrictEqual(waiting(world), words)
      assert.lengthOf(server.seen, 1)
      assert.isTrue(claw.isAlive())
      world.makeRoom()
      await world.assertAnswered(words, claw)
      assert.strictEqual(new Set(server.sends).size, server.sends.length)
      assert.isTrue(claw.isAlive())
    })
  )

  it(
    "from any write of a turn on: with room it goes on, its command has run once and its answer comes once",
    inWorld(tmpfs("4m"), async (world) => {
      const { server } = world
      const claw = await world.startUsed()
      let free = 0
      for (let wasRefused = true; wasRefused; free++) {
        assert.isTrue(await until(() => claw.passed("after settle") === server.seen.length))
        world.checkpoint()
        world.fill(free)
        const refused = told(claw, full).length
        const isRefused = () => told(claw, full).length > refused
        server.say("a", `run: echo w${free} >> log.txt; echo said w${free}`)
        const isDone = () => claw.passed("after settle") > free + 1
        assert.isTrue(await until(() => isRefused() || isDone()))
        wasRefused = isRefused()
        world.makeRoom()
        assert.isTrue(await until(isDone), `with ${free} pages: ${claw.lines().join("\n")}`)
      }
      process.stdout.write(`the disk was full at ${free - 1} pages\n`)
      assert.isTrue(await until(() => server.unacknowledged.size === 0))
      assert.lengthOf(server.seen, free + 1)
      for (const [index, { text }] of server.seen.slice(1).entries()) {
        const ran = world.ran(`w${index}`)
        if (unknown.test(text)) assert.isAtMost(ran, 1)
        else assert.deepStrictEqual([text, ran], [`said w${index}`, 1])
      }
      assert.strictEqual(new Set(server.sends).size, server.sends.length)
      const writes = new Set(told(claw, full).map((line) => /(\w+): database or disk/.exec(line)?.[1]))
      // What `settle` writes fits wherever `commit` did, which writes most; that it is waited for is `Outbox.test.ts`'s.
      assert.includeMembers([...writes], ["accept", "commit", "record"])
    })
  )

  it.for(["SIGTERM", "SIGKILL"] as const)("and the claw ends by %s: the next one goes on", (signal) =>
    inWorld(tmpfs("4m"), async (world) => {
      const first = await world.startUsed()
      world.server.say("a", "run: echo cut >> log.txt; sleep 2; echo said cut")
      assert.isTrue(await until(() => world.ran("cut") === 1))
      world.fill()
      sayAll(world)
      assert.isTrue(await until(() => told(first, full).length > 1))
      await first.end(signal)
      world.makeRoom()
      const second = world.start()
      await world.assertAnswered(words, second)
      assert.strictEqual(world.ran("cut"), 1)
      assert.isTrue(await until(() => world.server.seen.some(({ text }) => unknown.test(text) || text === "said cut")))
    })()
  )

  it.for([0, 1, 4, 25])("but for %i pages, at the first start: it is refused, and hinders no other", (free) =>
    inWorld(tmpfs("4m"), async (world) => {
      world.fill(free)
      const line = await world.refused()
      assert.match(line, /make room/)
      assert.notMatch(line, rash)
      world.makeRoom()
      const claw = world.start()
      sayAll(world)
      await world.assertAnswered(words, claw)
      assert.deepStrictEqual(claw.lines(), [])
    })()
  )

  it(
    "at a later start: it is refused, and nothing is lost of what there is",
    inWorld(tmpfs("4m"), async (world) => {
      const first = await world.startUsed()
      world.server.say("a", "remember that I like tea")
      assert.isTrue(await world.server.awaitSeen(2, patience))
      await first.end("SIGTERM")
      for (const free of [0, 4]) {
        world.fill(free)
        const line = await world.refused()
        assert.match(line, /make room/)
        assert.notMatch(line, rash)
      }
      world.makeRoom()
      const second = world.start()
      world.server.say("a", "what do you know about tea")
      assert.isTrue(await world.server.awaitSeen(3, patience), second.lines().join("\n"))
      assert.include(world.server.seen[2]?.text, "I like tea")
    })
  )
})

describe("a database that another program holds", { timeout: 120_000 }, () => {
  const locked = /database is locked: another program holds the database/

  const hold = ({ home }: World) => {
    const program = new DatabaseSync(join(home, "claw.db"), { timeout: 5000 })
    program.exec("BEGIN IMMEDIATE")
    return { release: () => program.close() }
  }

  it(
    "for a moment: nobody notices",
    inWorld(undefined, async (world) => {
      const claw = await world.startUsed()
      const { release } = hold(world)
      sayAll(world)
      await sleep(100)
      assert.deepStrictEqual(waiting(world), words)
      release()
      await world.assertAnswered(words, claw)
      assert.deepStrictEqual(claw.lines(), [])
    })
  )

  it(
    "for long: what comes is not acknowledged, and is answered once when it is let go",
    inWorld(undefined, async (world) => {
      const { server } = world
      const claw = await world.startUsed()
      const { release } = hold(world)
      sayAll(world)
      assert.isTrue(await until(() => told(claw, locked).length > 1))
      assert.deepStrictEqual(waiting(world), words)
      assert.lengthOf(server.seen, 1)
      assert.isTrue(claw.isAlive())
      release()
      await world.assertAnswered(words, claw)
      assert.strictEqual(new Set(server.sends).size, server.sends.length)
      assert.isTrue(claw.isAlive())
    })
  )

  it(
    "in the middle of a turn: it goes on, its command has run once and its answer comes once",
    inWorld(undefined, async (world) => {
      const { server } = world
      const claw = await world.startUsed()
      server.say("a", "run: echo cut >> log.txt; sleep 2; echo said cut")
      assert.isTrue(await until(() => world.ran("cut") === 1))
      const { release } = hold(world)
      assert.isTrue(await until(() => told(claw, locked).length > 0))
      assert.lengthOf(server.seen, 1)
      release()
      assert.isTrue(await server.awaitSeen(2, patience), claw.lines().join("\n"))
      server.say("a", "run: echo said more")
      await world.assertAnswered(["more"], claw)
      assert.lengthOf(server.seen, 3)
      assert.match(server.seen[1]?.text ?? "", new RegExp(`^said cut$|${unknown.source}`))
      assert.strictEqual(world.ran("cut"), 1)
    })
  )

  it(
    "at the start: it is refused, and begins when it is let go",
    inWorld(undefined, async (world) => {
      await (await world.startUsed()).end("SIGTERM")
      const { release } = hold(world)
      const line = await world.refused()
      assert.match(line, /another program holds/)
      assert.notMatch(line, rash)
      release()
      const claw = world.start()
      sayAll(world)
      await world.assertAnswered(words, claw)
    })
  )
})

describe.skipIf(!hasTmpfs)("a folder that cannot be written to", { timeout: 120_000 }, () => {
  it(
    "at the start: it is refused, and begins when it can",
    inWorld(tmpfs("4m"), async (world) => {
      await (await world.startUsed()).end("SIGTERM")
      run("mount", "-o", "remount,ro", world.disk)
      for (const home of [world.home, join(world.disk, "new")]) {
        assert.match(await world.refused(home), /read-only file system.*make it writable, or name another folder/)
      }
      run("mount", "-o", "remount,rw", world.disk)
      const claw = world.start()
      sayAll(world)
      await world.assertAnswered(words, claw)
    })
  )
})

// A disk with open files is not made read-only: the kernel calls it busy. It becomes so when it fails, and its files
// cannot be written while they are marked as immutable, which can be undone.
describe.skipIf(!hasExt4)("files that cannot be written to", { timeout: 120_000 }, () => {
  const mark = ({ home }: World, how: "+i" | "-i") =>
    run("chattr", how, ...globSync("claw.db{,-wal}", { cwd: home }).map((file) => join(home, file)))

  it(
    "while a claw runs: what comes is not acknowledged, and is answered once when they can",
    inWorld(ext4, async (world) => {
      const { server } = world
      const claw = await world.startUsed()
      mark(world, "+i")
      sayAll(world)
      assert.isTrue(await until(() => told(claw, /disk I\/O error/).length > 3))
      assert.deepStrictEqual(waiting(world), words)
      assert.lengthOf(server.seen, 1)
      assert.isTrue(claw.isAlive())
      mark(world, "-i")
      await world.assertAnswered(words, claw)
      assert.strictEqual(new Set(server.sends).size, server.sends.length)
    })
  )

  it(
    "at the start: it is refused, and begins when they can",
    inWorld(ext4, async (world) => {
      await (await world.startUsed()).end("SIGTERM")
      mark(world, "+i")
      const line = await world.refused()
      mark(world, "-i")
      assert.match(line, /make it writable/)
      assert.notMatch(line, rash)
      const claw = world.start()
      sayAll(world)
      await world.assertAnswered(words, claw)
    })
  )

  it(
    "because the disk has failed: what was acknowledged is there after its repair, and what was not comes again",
    inWorld(ext4, async (world) => {
      const { server } = world
      const first = await world.startUsed()
      server.say("a", "run: echo cut >> log.txt; sleep 2; echo said cut")
      assert.isTrue(await until(() => world.ran("cut") === 1))
      run("mount", "-o", "remount,abort", world.disk)
      sayAll(world)
      assert.isTrue(await until(() => told(first, /disk I\/O error/).length > 3))
      assert.deepStrictEqual(waiting(world), words)
      assert.lengthOf(server.seen, 1)
      await first.end("SIGTERM")
      assert.match(await world.refused(), /make it writable/)
      world.remount()
      const second = world.start()
      await world.assertAnswered(words, second)
      assert.isTrue(await until(() => server.seen.some(({ text }) => unknown.test(text))))
      assert.strictEqual(world.ran("cut"), 1)
    })
  )
})

describe("two claws on one folder", { timeout: 60_000 }, () => {
  it(
    "the second is refused, and the first goes on",
    inWorld(undefined, async (world) => {
      const first = await world.startUsed()
      world.server.say("a", "run: echo slow >> log.txt; sleep 2; echo said slow")
      assert.isTrue(await until(() => world.ran("slow") === 1))
      const line = await world.refused()
      assert.match(line, /another claw is running on it; stop that one, or name another folder/)
      sayAll(world)
      await world.assertAnswered(["slow", ...words], first)
      assert.deepStrictEqual(first.lines(), [])
      assert.isTrue(first.isAlive())
    })
  )
})
