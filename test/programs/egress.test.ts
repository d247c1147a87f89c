/**
 * The way out as the usual programs take it: curl, git, npm and pip in a sandbox, against servers on loopback that ask for a
 * credential which nothing inside has.
 */
import { assert, it } from "@effect/vitest"
import * as EgressProxy from "effect-claw/layers/EgressProxy"
import * as SandboxBubblewrap from "effect-claw/layers/SandboxBubblewrap"
import * as SandboxDocker from "effect-claw/layers/SandboxDocker"
import * as Audit from "effect-claw/services/Audit"
import * as Egress from "effect-claw/services/Egress"
import * as Message from "effect-claw/services/Message"
import * as Sandbox from "effect-claw/services/Sandbox"
import * as Vault from "effect-claw/services/Vault"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { execFileSync, spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, writeFileSync } from "node:fs"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { describeWithBubblewrap } from "../support/bubblewrap.ts"
import { makeAuthority } from "../support/certificates.ts"
import { describeWithEngine } from "../support/engine.ts"
import { origin, type Seen } from "../support/Origin.ts"

const authority = await makeAuthority()
const token = "s3cret-of-the-registry"
const folder = () => mkdtempSync(join(tmpdir(), "claw-out-"))

/** A package as registries have it. */
const tarball = (): Buffer => {
  const root = folder()
  mkdirSync(join(root, "package"))
  writeFileSync(
    join(root, "package", "package.json"),
    JSON.stringify({ name: "greeting", version: "1.0.0", main: "index.js" })
  )
  writeFileSync(join(root, "package", "index.js"), 'module.exports = "hello from the registry"\n')
  return execFileSync("tar", ["-czf", "-", "-C", root, "package"])
}

/** A wheel of one module: a zip, stored. */
const wheel = (): Buffer => {
  const root = folder()
  mkdirSync(join(root, "greeting-1.0.0.dist-info"))
  writeFileSync(join(root, "greeting.py"), 'TEXT = "hello from the index"\n')
  writeFileSync(
    join(root, "greeting-1.0.0.dist-info", "METADATA"),
    "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0.0\n"
  )
  writeFileSync(
    join(root, "greeting-1.0.0.dist-info", "WHEEL"),
    "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
  )
  writeFileSync(join(root, "greeting-1.0.0.dist-info", "RECORD"), "greeting.py,,\n")
  execFileSync("python3", [
    "-m",
    "zipfile",
    "-c",
    join(root, "a.whl"),
    join(root, "greeting.py"),
    join(root, "greeting-1.0.0.dist-info")
  ])
  return readFileSync(join(root, "a.whl"))
}

/** A repository with one commit, and git's own server for it. */
const repository = () => {
  const root = folder()
  const git = (...args: ReadonlyArray<string>) =>
    execFileSync("git", ["-c", "user.name=a", "-c", "user.email=a@b", ...args], { cwd: root })
  git("init", "-q", "-b", "main", "work")
  writeFileSync(join(root, "work", "hello.txt"), "hello from git\n")
  git("-C", "work", "add", ".")
  git("-C", "work", "commit", "-q", "-m", "first")
  git("clone", "-q", "--bare", "work", "repo.git")
  return ({ body, headers, method, url }: Seen) => {
    const { pathname, search } = new URL(url, "http://host")
    const { stdout } = spawnSync("git", ["http-backend"], {
      input: body,
      env: {
        PATH: process.env["PATH"],
        GIT_PROJECT_ROOT: root,
        GIT_HTTP_EXPORT_ALL: "1",
        REQUEST_METHOD: method,
        PATH_INFO: pathname,
        QUERY_STRING: search.slice(1),
        CONTENT_TYPE: headers["content-type"] ?? "",
        HTTP_CONTENT_ENCODING: headers["content-encoding"] ?? "",
        CONTENT_LENGTH: String(body.length),
        REMOTE_USER: "claw"
      }
    })
    const end = stdout.indexOf("\r\n\r\n")
    const lines = stdout.subarray(0, end).toString().split("\r\n")
    return { body: stdout.subarray(end + 4), headers: lines.map((line) => line.split(/: */, 2)) }
  }
}

/** The servers, behind one port; each wants the token in its own way. */
const servers = Effect.gen(function* () {
  const [npm, pip, git] = [tarball(), wheel(), repository()]
  const refused = new Array<string>()
  let port = 0
  const server = yield* origin(
    (seen, response) => {
      const host = seen.host.split(":", 1)[0] ?? ""
      const { authorization = "" } = seen.headers
      const basic = Buffer.from(authorization.replace(/^Basic /, ""), "base64").toString()
      if (authorization !== `Bearer ${token}` && basic !== `claw:${token}`) {
        refused.push(`${host} ${authorization}`)
        response.writeHead(401, { "www-authenticate": 'Basic realm="claw"' })
        return void response.end("who are you?")
      }
      if (host === "git.test") {
        const { body, headers } = git(seen)
        for (const [name = "", value = ""] of headers) {
          if (name === "Status") response.statusCode = Number(value.slice(0, 3))
          else response.setHeader(name, value)
        }
        return void response.end(body)
      }
      if (seen.url.endsWith(".tgz")) return void response.end(npm)
      if (seen.url.endsWith(".whl")) return void response.end(pip)
      if (host === "npm.test") {
        const integrity = `sha512-${createHash("sha512").update(npm).digest("base64")}`
        const dist = { tarball: `https://npm.test:${port}/greeting.tgz`, integrity }
        const version = { name: "greeting", version: "1.0.0", dist }
        return void response.end(
          JSON.stringify({ name: "greeting", "dist-tags": { latest: "1.0.0" }, versions: { "1.0.0": version } })
        )
      }
      if (host === "pip.test") {
        response.setHeader("content-type", "text/html")
        return void response.end('<a href="/files/greeting-1.0.0-py3-none-any.whl">greeting</a>')
      }
      response.end(`${seen.method} ${seen.url}`)
    },
    { authority, hosts: ["git.test", "npm.test", "pip.test", "api.test", "open.test"] }
  )
  port = server.port
  return { ...server, refused }
})

/** The package that the command on the path is of. */
const npmFolder = () =>
  dirname(dirname(realpathSync(execFileSync("sh", ["-c", "command -v npm"], { encoding: "utf8" }).trim())))
const nodeFolder = () => dirname(createRequire(import.meta.url).resolve("node/bin/node"))
const pipWheels = "/usr/share/python-wheels"

const wayOut = (sandbox: Layer.Layer<Sandbox.Sandbox>) =>
  it.live(
    "curl, git clone, npm install and pip download go through the proxy, with a credential that nothing inside has seen",
    () =>
      Effect.gen(function* () {
        const { port, refused } = yield* servers
        const at = { ports: [port], addresses: ["127.0.0.1"] }
        const egress = yield* Egress.Egress
        const way = yield* egress.open({
          agent: Message.AgentName.make("andy"),
          conversation: Message.ConversationId.make("test:1"),
          rules: [
            Egress.allow("git.test", { ...at, secret: "GIT_TOKEN" }),
            Egress.allow("npm.test", { ...at, secret: "NPM_TOKEN" }),
            Egress.allow("pip.test", { ...at, secret: "PIP_TOKEN" }),
            Egress.allow("api.test", { ...at, secret: "API_TOKEN", adds: "authorization: Bearer {secret}" }),
            Egress.allow("open.test", at)
          ]
        })
        const { open } = yield* Sandbox.Sandbox
        const workspace = folder()
        const mounts = [
          { host: nodeFolder(), target: "/mnt/node", write: false },
          { host: npmFolder(), target: "/mnt/npm", write: false },
          { host: pipWheels, target: "/mnt/wheels", write: false }
        ]
        const session = yield* open(Sandbox.makeSpec({ memory: "1 GiB" }, workspace, mounts, undefined, way))
        const run = (command: string) => Sandbox.run(session, { run: command })

        const curl = yield* run(`curl -sS https://api.test:${port}/hello; curl -sS https://open.test:${port}/`)
        assert.strictEqual(curl.stdout, "GET /hellowho are you?", curl.stderr)
        const denied = yield* run(
          `curl -sS http://denied.test/; curl -sS https://denied.test/; curl -sS --noproxy '*' -m 2 http://1.1.1.1`
        )
        assert.match(denied.stdout, /^effect-claw: no rule of this agent admits GET http:\/\/denied\.test\/\n$/)
        assert.match(denied.stderr, /403/)

        const git = yield* run(`git clone -q https://claw:$GIT_TOKEN@git.test:${port}/repo.git && cat repo/hello.txt`)
        assert.deepInclude(git, { stdout: "hello from git\n", code: 0 }, git.stderr)

        yield* session.writeFile(
          "app/.npmrc",
          new TextEncoder().encode(`registry=https://npm.test:${port}/\n//npm.test:${port}/:_authToken=\${NPM_TOKEN}\n`)
        )
        yield* session.writeFile("app/package.json", new TextEncoder().encode("{}"))
        const npm = yield* run(
          "cd app && export PATH=/mnt/node:$PATH && node /mnt/npm/bin/npm-cli.js install greeting --no-audit --no-fund --no-update-notifier && node -p 'require(\"greeting\")'"
        )
        assert.match(npm.stdout, /hello from the registry\n$/, npm.stderr)

        const pip = yield* run(
          `python3 $(echo /mnt/wheels/pip-*.whl)/pip download -q --no-cache-dir --disable-pip-version-check --index-url https://claw:$PIP_TOKEN@pip.test:${port}/simple greeting && ls *.whl`
        )
        assert.deepInclude(pip, { stdout: "greeting-1.0.0-py3-none-any.whl\n", code: 0 }, pip.stderr)

        // The secret is nowhere inside, and its placeholder is.
        const inside = yield* run(
          "env; cat /proc/1/environ /proc/*/cmdline; cat /run/claw/*.pem; grep -r . ~ /tmp /workspace 2>/dev/null"
        )
        assert.include(inside.stdout, Vault.placeholder("GIT_TOKEN"))
        for (const form of [
          token,
          Buffer.from(token).toString("base64"),
          Buffer.from(`claw:${token}`).toString("base64")
        ]) {
          assert.notInclude(inside.stdout, form)
        }
        assert.notInclude(inside.stdout, "PRIVATE KEY")
        assert.strictEqual((yield* run("ls /run/claw")).stdout, "authorities.pem\nproxy.sock\n", "no other session's")
        // A forwarder that is killed is back; the socket cannot be taken away.
        yield* run(
          "kill -9 $(cat /proc/[0-9]*/stat | awk '$2 ~ /perl/ && $1 != 1 && $4 == 1 { print $1 }'); rm -f /run/claw/proxy.sock; sleep 0.2"
        )
        assert.strictEqual((yield* run(`curl -sS https://api.test:${port}/again`)).stdout, "GET /again")
        assert.isTrue(
          refused.every((line) => !line.includes("npm.test Bearer claw_")),
          refused.join("\n")
        )
      }).pipe(
        Effect.provide(
          Layer.merge(
            sandbox,
            EgressProxy.layer({
              directory: folder(),
              lookup: () => Promise.resolve(["127.0.0.1"]),
              authorities: [authority.pem]
            }).pipe(
              Layer.provide(Layer.succeed(Audit.Audit, () => Effect.void)),
              Layer.provide(
                Layer.succeed(
                  Vault.Vault,
                  new Map(
                    ["GIT_TOKEN", "NPM_TOKEN", "PIP_TOKEN", "API_TOKEN"].map((name) => [name, Redacted.make(token)])
                  )
                )
              )
            )
          )
        )
      ),
    120_000
  )

describeWithEngine("the way out of a container", () => wayOut(SandboxDocker.layer()))
describeWithBubblewrap("the way out of bubblewrap", () => wayOut(SandboxBubblewrap.layer()))
