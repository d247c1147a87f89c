/**
 * A stand-in of Apple's `container` command, from its documentation: takes `image inspect`, `run` and `delete` with exactly
 * the options that it knows, and runs what it is told to in bubblewrap. What it was asked is a file of its folder.
 */
import { spawn } from "node:child_process"
import { appendFileSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"

const [folder = "", ...args] = process.argv.slice(2)
const refuse = (said) => {
  process.stderr.write(`Error: ${said}\n`)
  process.exit(1)
}
appendFileSync(join(folder, "asked.jsonl"), `${JSON.stringify(args)}\n`)

const flags = ["interactive", "rm", "read-only"]
const once = ["progress", "network", "cap-drop", "name", "label", "uid", "gid", "workdir", "cpus", "memory"]
const many = ["ulimit", "tmpfs", "env", "mount"]

/** Options by their names, and what comes after them. */
const parse = (words) => {
  const options = new Map()
  let at = 0
  for (; words[at]?.startsWith("--"); at++) {
    const [, name, value] = /^--([a-z-]+)(?:=([^]*))?$/.exec(words[at]) ?? []
    const known = value === undefined ? flags : [...once, ...many]
    if (!known.includes(name)) refuse(`Unknown option '${words[at]}'`)
    if (!many.includes(name) && options.has(name)) refuse(`'${name}' is given twice`)
    options.set(name, [...(options.get(name) ?? []), value])
  }
  return [options, words.slice(at)]
}

const bindOf = (mount) => {
  const fields = new Map(mount.split(",").map((field) => field.split("=")))
  const names = [...fields.keys()].filter((name) => !["type", "source", "target", "readonly"].includes(name))
  if (names.length > 0 || fields.get("type") !== "bind") refuse(`invalid mount '${mount}'`)
  return [fields.has("readonly") ? "--ro-bind" : "--bind", fields.get("source"), fields.get("target")]
}

const run = (asked) => {
  const [options, [image, ...command]] = parse(asked)
  const [name] = options.get("name")
  if (image !== "effect-claw/sandbox:1") refuse(`image ${image} not found`)
  if (options.get("network")[0] !== "none") refuse("network not found")
  if (!/^\d+$/.test(options.get("cpus")[0])) refuse("The value is invalid for '--cpus <cpus>'")
  if (!/^\d+[KMGTP]$/.test(options.get("memory")[0])) refuse("The value is invalid for '--memory <memory>'")
  for (const limit of options.get("ulimit")) if (!/^[a-z]+=\d+:\d+$/.test(limit)) refuse(`invalid ulimit '${limit}'`)
  const environment = options.get("env").flatMap((pair) => ["--setenv", ...pair.split(/=(.*)/s).slice(0, 2)])
  const words = (line) => line.split(" ")
  const system =
    "--unshare-ipc --unshare-pid --unshare-net --unshare-uts --die-with-parent --as-pid-1 " +
    "--cap-drop ALL --cap-add CAP_SETUID --cap-add CAP_SETGID --clearenv --setenv PATH /usr/bin:/bin " +
    "--ro-bind /usr /usr --symlink usr/bin /bin --symlink usr/lib /lib --symlink usr/lib64 /lib64 " +
    "--proc /proc --dev /dev --dir /mnt --dir /mnt/team"
  const child = spawn(
    "bwrap",
    [
      ...words(system),
      ...environment,
      ...options.get("tmpfs").flatMap((path) => words(`--perms 1777 --tmpfs ${path}`)),
      ...options.get("mount").flatMap(bindOf),
      ...words("--remount-ro / --chdir / -- setpriv --clear-groups"),
      `--reuid=${options.get("uid")[0]}`,
      `--regid=${options.get("gid")[0]}`,
      ...command
    ],
    { stdio: "inherit" }
  )
  writeFileSync(join(folder, name), String(child.pid))
  child.on("exit", (code) => process.exit(code ?? 137))
}

if (args[0] === "image" && args[1] === "inspect" && args.length === 3) {
  if (args[2] !== "effect-claw/sandbox:1") refuse(`image ${args[2]} not found`)
} else if (args[0] === "delete" && args[1] === "--force" && args.length === 3) {
  try {
    process.kill(Number(readFileSync(join(folder, args[2]), "utf8")), "SIGKILL")
  } catch {
    refuse(`container ${args[2]} not found`)
  }
} else if (args[0] === "run") run(args.slice(1))
else refuse(`unexpected arguments: ${args.join(" ")}`)
