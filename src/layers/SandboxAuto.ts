/**
 * The strongest sandbox there is: containers where an engine answers, a virtual shell where none does. Never the host.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Context from "effect/Context"
import { Sandbox } from "../services/Sandbox.ts"
import type { Options } from "./SandboxDocker.ts"

/**
 * Chooses when the claw starts, in the background, and says in one line what it chose.
 *
 * Provides `Sandbox`, requires nothing. On release what it chose is released.
 */
export const layer = (options: Options = {}): Layer.Layer<Sandbox> =>
  Layer.effect(
    Sandbox,
    Effect.gen(function* () {
      const scope = yield* Effect.scope
      // Neither engine is loaded until it is clear that it is needed.
      const chosen = yield* Effect.cached(
        Effect.gen(function* () {
          const docker = yield* Effect.promise(() => import("./SandboxDocker.ts"))
          const hasEngine = yield* docker.isAvailable(options)
          const layer = hasEngine
            ? docker.layer(options)
            : (yield* Effect.promise(() => import("./SandboxVirtual.ts"))).layer
          const sandbox = Context.get(yield* Layer.buildWithScope(layer, scope), Sandbox)
          yield* Effect.logInfo(
            hasEngine
              ? `commands run in containers (${yield* sandbox.description})`
              : "commands run in a virtual shell: no container engine answers. Install Docker for real ones"
          )
          return sandbox
        })
      )
      yield* Effect.forkScoped(chosen)
      return Sandbox.of({
        description: Effect.flatMap(chosen, ({ description }) => description),
        open: (spec) => Effect.flatMap(chosen, ({ open }) => open(spec)),
        reap: (claw) => Effect.flatMap(chosen, ({ reap }) => reap?.(claw) ?? Effect.void)
      })
    })
  )
