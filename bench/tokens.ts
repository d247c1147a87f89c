/** What a bare "hi" to the bundled assistant costs in input tokens. */
import { countTokens } from "@anthropic-ai/tokenizer"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { createServer } from "node:http"
import { join } from "node:path"
import { listen, type Row, withFolder } from "./support.ts"

/** The text a provider makes a prompt of: instructions, the tools' definitions, the message. */
const textOf = (body: { readonly system: unknown; readonly tools: unknown; readonly messages: unknown }): string =>
  [body.system, body.tools, body.messages].map((part) => JSON.stringify(part)).join("\n")

export const rows = (): Promise<ReadonlyArray<Row>> =>
  withFolder(async (folder) => {
    const server = createServer()
    const baseUrl = await listen(server)
    const asked = new Promise<string>((resolve) => {
      server.on("request", (request, response) => {
        let body = ""
        request
          .on("data", (chunk) => (body += chunk))
          .on("end", () => {
            response.writeHead(400).end()
            resolve(body)
          })
      })
    })
    const claw = spawn(process.execPath, ["bin/effect-claw.js"], {
      env: { ...process.env, CLAW_HOME: join(folder, "state"), ANTHROPIC_API_KEY: "none", ANTHROPIC_BASE_URL: baseUrl },
      stdio: ["pipe", "ignore", "ignore"]
    })
    claw.stdin.end("hi\n")
    const body = JSON.parse(await asked)
    await once(claw, "exit")
    server.close()
    return [
      {
        what: `input tokens of a bare "hi" with the assistant's ${body.tools.length} tools (Anthropic's published tokenizer)`,
        ours: String(countTokens(textOf(body))),
        floor: "",
        aim: "2,500; OpenClaw 15,700, NanoClaw 29,600"
      }
    ]
  })
