/**
 * The strongest sandbox there is: containers where an engine answers, bubblewrap where it makes sandboxes, a virtual shell
 * where neither does. Never the host.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Context from "effect/Context"
import { Sandbox } from "../services/Sandbox.ts"
import type * as SandboxBubblewrap from "./SandboxBubblewrap.ts"
import type * as SandboxDocker from "./SandboxDocker.ts"

/** Where the engine is, and how sandboxes are made without one. */
export interface Options extends SandboxDocker.Options {
  readonly bubblewrap?: SandboxBubblewrap.Options
}

/** A sandbox, and what is said of it. */
const choose = Effect.fnUntraced(function* (options: Options) {
  // What is not chosen is not loaded, as far as that can be known before.
  const docker = yield* Effect.promise(() => import("./SandboxDocker.ts"))
  if (yield* docker.isAvailable(options)) return { layer: docker.layer(options), told: "containers" }
  const bubblewrap = yield* Effect.promise(() => import("./SandboxBubblewrap.ts"))
  if (yield* bubblewrap.isAvailable(options.bubblewrap)) {
    return {
      layer: bubblewrap.layer(options.bubblewrap),
      told: "namespaces, with this machine's programs: no container engine answers"
    }
  }
  const { layer } = yield* Effect.promise(() => import("./SandboxVirtual.ts"))
  return {
    layer,
    told: "a virtual shell: no container engine answers, and bubblewrap makes no sandbox. Install Docker or bubblewrap for real ones"
  }
})

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
      const chosen = yield* Effect.cached(
        Effect.gen(function* () {
          const { layer, told } = yield* choose(options)
          const sandbox = Context.get(yield* Layer.buildWithScope(layer, scope), Sandbox)
          yield* Effect.logInfo(`commands run in ${told} (${yield* sandbox.description})`)
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
