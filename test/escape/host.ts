/**
 * Attempts on the claw's side of a session: file operations by names that are hostile, in a workspace that changes under
 * them, and in a repository that is.
 */
import { assert } from "@effect/vitest"
import * as Sandbox from "effect-claw/services/Sandbox"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { spawn } from "node:child_process"
import { chmodSync, mkdirSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { type Attempt, group, real, kinds, type Opened, type Stage } from "./Attempt.ts"
import { tried } from "./scripts.ts"
import { openFolder } from "./World.ts"

const bytes = (text: string) => new TextEncoder().encode(text)
const text = (content: Uint8Array) => new TextDecoder().decode(content)

/** Writes a file and reads it again: what came is what went, or it is said why not. */
const roundTrip = (name: string) => ({
  in: kinds,
  by: ({ own: { session } }: Stage) =>
    Effect.gen(function* () {
      const written = yield* Effect.result(session.writeFile(name, bytes("mine")))
      const read = yield* Effect.result(session.readFile(name))
      if (Result.isFailure(written)) return written.failure.message.split(": ").at(-1) ?? ""
      if (Result.isFailure(read)) return read.failure.message.split(": ").at(-1) ?? ""
      assert.strictEqual(text(read.success), "mine")
      return "a file like any other"
    })
})

const names = group("Hostile names", [
  { name: "an option", act: roundTrip("--help") },
  { name: "an option with a value", act: roundTrip("-rf/--output=x") },
  { name: "a dash", act: roundTrip("-") },
  { name: "a line break", act: roundTrip("a\nb\n/c\n") },
  { name: "a folder that ends in a line break", act: roundTrip("folder\n/file") },
  { name: "quotes and a command", act: roundTrip("'; touch pwned; echo '\"$(touch pwned)`touch pwned`") },
  { name: "a NUL", act: roundTrip("a\0b") },
  { name: "a name that is too long", act: roundTrip("x".repeat(300)) },
  { name: "a path that is too long", act: roundTrip("x/".repeat(5000) + "y") },
  { name: "half a character", act: roundTrip("\ud800x") },
  { name: "letters that are turned around", act: roundTrip("\u202egnp.exe") },
  { name: "spaces and stars", act: roundTrip(" * ?[a-z]{a,b} ~ ") },
  { name: "a backslash", act: roundTrip("..\\..\\..\\etc\\passwd") },
  { name: "a percent sign", act: roundTrip("%2e%2e%2f%2e%2e%2fetc%2fpasswd") },
  { name: "the prototype of objects", act: roundTrip("__proto__/constructor") },
  {
    name: "nothing, and the folder itself",
    act: {
      in: kinds,
      by: ({ own: { session } }) =>
        Effect.forEach(["", ".", "/", "..", "/workspace/", "//"], (name) =>
          Effect.result(Effect.andThen(session.writeFile(name, bytes("x")), session.readFile(name)))
        ).pipe(
          Effect.map((all) => {
            return all.map((one) => (Result.isFailure(one) ? "refused" : "written")).join(", ")
          })
        )
    }
  },
  {
    name: "a device",
    act: {
      in: kinds,
      by: ({ own: { session } }) =>
        Effect.forEach(["/dev/stdin", "/dev/fd/0", "/dev/stdout", "/proc/self/fd/1", "/dev/tty"], (name) =>
          session.readFile(name).pipe(
            Effect.timeoutOption("500 millis"),
            Effect.map((read) => (read._tag === "Some" ? text(read.value) : "given up")),
            Effect.catch((error) => Effect.succeed(error.message))
          )
        ).pipe(Effect.map((all) => all.join("\n")))
    }
  },
  {
    name: "a name that is no UTF-8",
    act: {
      in: kinds,
      by: ({ own: { session, workspace } }) =>
        Effect.sync(() =>
          writeFileSync(Buffer.concat([Buffer.from(`${workspace}/`), Buffer.from([0xff, 0xfe, 0x41])]), "bad")
        ).pipe(
          Effect.andThen(Sandbox.run(session, { run: "ls; cat *; find . -type f; rm -f *; ls | wc -l" })),
          Effect.map(({ stdout }) => stdout.trim().split("\n").at(-1) ?? "")
        )
    }
  },
  {
    name: "a working folder with all of it",
    act: {
      in: kinds,
      by: ({ own: { session }, world }) =>
        Effect.forEach([world.folder, "../../../..", "-P", "a\nb", "\0", "$(pwd)", "x".repeat(5000)], (cwd) =>
          Sandbox.run(session, { run: "cat secret.txt; pwd", cwd }).pipe(
            Effect.map(({ stderr, stdout }) => stdout + stderr),
            Effect.catch((error) => Effect.succeed(error.message))
          )
        ).pipe(Effect.map((all) => all.at(-1)?.trim().split(": ").at(-1) ?? ""))
    }
  },
  {
    name: "an environment with all of it",
    act: {
      in: kinds,
      by: ({ own: { session } }) =>
        Sandbox.run(session, {
          run: "env | sort",
          env: {
            "A'; touch pwned; '": "x",
            "B=C": "y",
            LD_PRELOAD: "/workspace/x.so",
            BASH_ENV: "/workspace/x.sh",
            PATH: "/workspace",
            __proto__: "z",
            D: "a\nb'; touch pwned; '",
            "E\0F": "g"
          }
        }).pipe(
          Effect.map(({ stderr }) => stderr.trim().split("\n")[0]?.split(": ").at(-1) ?? ""),
          Effect.catch((error) => Effect.succeed(error.message))
        )
    }
  }
])

const repository = group("A hostile workspace", [
  {
    name: "hooks of git",
    container: ({ world }) =>
      `git init -q . && for h in pre-commit post-checkout post-index-change fsmonitor-watchman; do printf '#!/bin/sh\\ncp ${world.secret} .; echo x > ${world.outside}/hook' > .git/hooks/$h; chmod +x .git/hooks/$h; done; git config user.email a@b; git config user.name a; echo x > f; git add f; git commit -qm x; git checkout -q -b b; echo done`
  },
  {
    name: "settings of git",
    container: ({ world }) =>
      `git init -q . && git config core.fsmonitor 'cat ${world.secret} >&2; touch ${world.outside}/fs' && git config core.sshCommand 'cat ${world.secret}' && git config core.pager 'cat ${world.secret}' && git config core.hooksPath ${world.outside} && git config alias.x '!cat ${world.secret}' && git config credential.helper '!cat ${world.secret}' && git config include.path ${world.secret}; git status; git x; git fetch ssh://host/x; git -c protocol.ext.allow=always ls-remote 'ext::cat ${world.secret}'; git log`
  },
  {
    name: "a repository of somebody else's",
    act: {
      in: kinds,
      by: ({ own: { session, workspace }, world }) =>
        Effect.sync(() => {
          mkdirSync(join(workspace, ".git/hooks"), { recursive: true })
          writeFileSync(
            join(workspace, ".git/config"),
            `[core]\n\trepositoryformatversion = 0\n\tfsmonitor = touch ${world.outside}/fs\n\tworktree = ${world.folder}\n`
          )
          writeFileSync(join(workspace, ".git/HEAD"), "ref: refs/heads/main\n")
          symlinkSync(world.folder, join(workspace, ".git/objects"))
        }).pipe(
          Effect.andThen(Sandbox.run(session, { run: "git status; git add -A; cat .git/objects/secret.txt" })),
          Effect.map(({ stderr }) => stderr.trim().split("\n").at(-1)?.split(": ").at(-1) ?? "")
        )
    }
  },
  {
    name: "start files of shells and tools",
    act: {
      in: kinds,
      by: ({ open, own: { session, workspace }, world }) =>
        Effect.gen(function* () {
          const evil = bytes(`touch ${world.outside}/started; cat ${world.secret}\n`)
          for (const name of [
            ".bashrc",
            ".bash_profile",
            ".profile",
            ".npmrc",
            ".gitconfig",
            ".curlrc",
            ".inputrc",
            "sitecustomize.py",
            ".env",
            ".envrc",
            "package.json",
            "tsconfig.json",
            ".dockerignore",
            "Dockerfile",
            "node_modules/just-bash/index.js",
            "node_modules/just-bash/package.json"
          ])
            yield* session.writeFile(name, evil)
          const again = yield* Effect.scoped(
            Effect.flatMap(open({}, workspace), (opened) => Sandbox.run(opened.session, { run: "echo started" }))
          )
          assert.strictEqual(again.stdout, "started\n")
          return "not read"
        })
    }
  },
  {
    name: "programs in front of the usual",
    act: {
      in: kinds,
      by: ({ own: { session }, world }) =>
        Effect.gen(function* () {
          for (const name of ["cat", "sh", "mkdir", "dirname", "bash", "perl"])
            yield* session.writeFile(name, bytes(`#!/bin/sh\ncat ${world.secret}; echo evil\n`))
          yield* Sandbox.run(session, {
            run: "chmod +x cat sh mkdir dirname bash perl; export PATH=/workspace:$PATH; hash -r; true"
          })
          yield* session.writeFile("plain.txt", bytes("plain"))
          return text(yield* session.readFile("plain.txt"))
        })
    }
  },
  {
    name: "a library that is loaded first",
    container:
      "echo 'int x;' > x.c; cp /usr/lib/x86_64-linux-gnu/libz.so.1 x.so 2>/dev/null; LD_PRELOAD=/workspace/x.so LD_AUDIT=/workspace/x.so su -c id < /dev/null; LD_PRELOAD=/workspace/x.so newgrp < /dev/null; id -u",
    holds: ({ stdout }) => assert.notMatch(stdout, /^0$|uid=0/m)
  }
])

/**
 * Swaps a folder and a link to the outside as fast as it can; from inside, or by somebody on the host. After each thousand, a file
 * is one byte longer.
 */
const swapInside = (outside: string) =>
  `ln -s ${outside} link; renice 19 $$ > /dev/null; ${tried(`all([[libc.renameat2(-100, b'd', -100, b'link', 2) for _ in range(1000)], open('swaps', 'a').write('x')] for _ in iter(int, 1))`)}`
const swapper =
  '($d, $link, $machine) = ("d", "link", `uname -m`); $call = $machine =~ /x86/ ? 316 : 276; while (1) { syscall($call, -100, $d, -100, $link, 2) for 1 .. 1000; open $f, ">>", "swaps"; print $f "x"; close $f }'

const race = (operations: number, by: "inside" | "host") => (stage: Stage) =>
  Effect.gen(function* () {
    const { session, workspace }: Opened = yield* stage.open({ cpus: 2 })
    const outside = openFolder("claw-raced-")
    yield* Effect.addFinalizer(() => Effect.sync(() => rmSync(outside, { recursive: true })))
    for (const folder of [outside, join(workspace, "d")]) {
      mkdirSync(join(folder, "deep"), { recursive: true })
      writeFileSync(join(folder, "a.txt"), folder === outside ? "outside" : "mine")
      for (const path of ["", "deep", "a.txt"]) chmodSync(join(folder, path), 0o777)
    }
    if (by === "inside") {
      yield* Effect.forkScoped(Sandbox.run(session, { run: swapInside(outside), deadline: "10 minutes" }))
    } else {
      symlinkSync(outside, join(workspace, "link"))
      const child = spawn("perl", ["-e", swapper], { stdio: "ignore", cwd: workspace })
      yield* Effect.addFinalizer(() => Effect.sync(() => child.kill("SIGKILL")))
    }
    yield* Effect.sleep("300 millis")
    const came: Record<string, number> = {}
    yield* Effect.forEach(
      Array.from({ length: operations }, (_, index) => index),
      (index) =>
        (index % 10 === 9
          ? Effect.as(session.writeFile("d/deep/new.txt", bytes("x")), "written")
          : Effect.map(session.readFile("d/a.txt"), text)
        ).pipe(
          Effect.catchIf(
            ({ reason }) => reason._tag === "FileFailed",
            () => Effect.succeed("refused")
          ),
          Effect.tap((got) => Effect.sync(() => (came[got] = (came[got] ?? 0) + 1)))
        ),
      { concurrency: 16, discard: true }
    )
    assert.isAtLeast(statSync(join(workspace, "swaps")).size, 10, "thousands of swaps")
    assert.hasAnyKeys(came, ["mine"], "the race is run")
    assert.hasAnyKeys(came, ["refused"], "the race is run")
    assert.notProperty(came, "outside", "reads of what is outside")
    assert.deepStrictEqual(readdirSync(join(outside, "deep")), [], "writes outside")
    return "never won"
  }).pipe(Effect.scoped)

/** Where each costs some processes there are fewer of them, unless more are asked for. */
const inContainer = Number(process.env["ESCAPE_RACES"] ?? 500)

const races = group("Races", [
  {
    name: "a link and a folder swapped inside, read and written all the while",
    act: { in: real, by: race(inContainer, "inside") }
  },
  {
    name: "a link and a folder swapped by the host, read and written all the while",
    open: { "virtual shell": "reads and writes land outside" },
    act: { in: ["virtual shell"], by: race(10_000, "host") }
  }
])

export const host: ReadonlyArray<Attempt> = [...names, ...repository, ...races]
