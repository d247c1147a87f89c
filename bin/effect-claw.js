#!/usr/bin/env node
// Plain JavaScript, so that an old Node can read it and say what it lacks.
import * as module from "node:module"

const [major = 0, minor = 0] = process.versions.node.split(".").map(Number)
if (major < 22 || (major === 22 && minor < 19)) {
  process.stderr.write(`effect-claw needs Node.js 22.19 or newer; this is ${process.versions.node}.\n`)
  process.exitCode = 1
} else {
  module.enableCompileCache?.()
  await import("../dist/programs/main.js")
}
