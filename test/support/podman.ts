/**
 * Tests that need Podman: its engine, started for them, with the sandbox's image.
 */
import { execFileSync, spawn } from "node:child_process"
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { engineAvailable } from "./engine.ts"
import { describeUnless } from "./missing.ts"

const image = "effect-claw/sandbox:1"
const succeeds = (script: string) => {
  try {
    execFileSync("bash", ["-o", "pipefail", "-c", script], { stdio: "ignore" })
    return true
  } catch {
    return false
  }
}

const missing = (): string | undefined => {
  if (!succeeds("podman --version")) return "Podman is not installed"
  if (process.getuid?.() !== 0) return "Podman is tested as root"
  if (succeeds(`podman image exists ${image}`)) return undefined
  return engineAvailable ? undefined : `Podman has no image ${image}, and there is no Docker to take it from`
}

/** `describe`, for what runs in Podman. */
export const describeWithPodman = describeUnless(missing(), "Install podman")

/** `CAP_SYS_RESOURCE`. */
const mayRaiseLimits = () =>
  (BigInt(`0x${/CapEff:\s*(\w+)/.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0"}`) >> 24n) % 2n === 1n

const settings = `[engine]
runtime = "limited"
[engine.runtimes]
limited = ["${fileURLToPath(new URL("oci-runtime.sh", import.meta.url))}"]
`

/** Where the engine answers, once it is started. */
export const podmanSocket = join(mkdtempSync(join(tmpdir(), "claw-podman-")), "podman.sock")

/** Starts Podman's engine, with the image that Docker has; gives what ends it. */
export const startPodman = (): (() => void) => {
  const containersConf = `${podmanSocket}.conf`
  writeFileSync(containersConf, mayRaiseLimits() ? "" : settings)
  if (!succeeds(`podman image exists ${image}`)) {
    const changes = "--change 'USER claw' --change 'WORKDIR /workspace'"
    const copied = `id=$(docker create ${image}) && docker export $id | podman import ${changes} - ${image}; docker rm $id`
    if (!succeeds(copied)) throw new Error(`Podman does not import ${image}`)
  }
  const service = spawn("podman", ["system", "service", "--time=0", `unix://${podmanSocket}`], {
    stdio: "ignore",
    // It leaves files where it was started.
    cwd: dirname(podmanSocket),
    env: { ...process.env, CONTAINERS_CONF: containersConf }
  })
  // It answers as soon as the socket is there.
  execFileSync("timeout", ["20", "sh", "-c", 'until [ -e "$0" ]; do sleep 0.1; done', podmanSocket])
  return () => void service.kill()
}
