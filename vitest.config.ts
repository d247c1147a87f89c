import { availableParallelism } from "node:os"
import { defineConfig } from "vitest/config"

// Escapes take minutes, and exhaust what they can: they run when they are asked for, by `npm run escape`.
const isEscape = process.env["npm_lifecycle_event"] === "escape"

export default defineConfig({
  resolve: { conditions: ["source"] },
  ssr: { resolve: { conditions: ["source"] } },
  test: {
    include: [isEscape ? "test/escape/**/*.test.ts" : "test/**/*.test.ts"],
    exclude: isEscape ? [] : ["test/escape/**"],
    globalSetup: ["test/support/build.ts"],
    // Most tests wait for processes, timers and disks.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    testTimeout: 30_000,
    hookTimeout: 60_000
  }
})
