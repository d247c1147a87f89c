import { assert, describe, it } from "@effect/vitest"
import * as SandboxAppleContainer from "effect-claw/layers/SandboxAppleContainer"
import * as SandboxBubblewrap from "effect-claw/layers/SandboxBubblewrap"
import * as SandboxVirtual from "effect-claw/layers/SandboxVirtual"
import * as Sandbox from "effect-claw/services/Sandbox"
import * as Effect from "effect/Effect"
import { open } from "../contracts/SandboxContract.ts"

describe("a limit that is none is refused, since an engine would take it for no limit", () => {
  const rows: ReadonlyArray<Sandbox.SandboxOptions> = [
    ...[0, -1, NaN, Infinity, 1e-10].map((cpus) => ({ cpus })),
    ...[0, -1, NaN, Infinity, 1.5].map((processes) => ({ processes })),
    { memory: "0 B" },
    { disk: "0 B" }
  ]
  for (const options of rows) {
    it(Object.entries(options).join().replace(",", ": "), () =>
      assert.throws(() => Sandbox.makeSpec(options, "/w"), /no sandbox has/)
    )
  }
})

describe("what a sandbox cannot enforce it rejects, and says so", () => {
  const [bubblewrap, apple] = [SandboxBubblewrap.layer(), SandboxAppleContainer.layer()]
  const rows = [
    ["bubblewrap", bubblewrap, { image: "debian" }, "no images; the spec asks for debian"],
    ["a virtual shell", SandboxVirtual.layer, { image: "debian" }, "no images; the spec asks for debian"],
    ["a virtual shell", SandboxVirtual.layer, { cpus: 0.5 }, "less than one processor"],
    ["Apple's container", apple, { cpus: 0.5 }, "whole processors"],
    ["Apple's container", apple, { cpus: 1.5 }, "whole processors"],
    ["Apple's container", apple, { memory: "100 KiB" }, "a mebibyte of memory or more"]
  ] as const
  for (const [kind, layer, options, says] of rows) {
    it.live(`${kind}: ${JSON.stringify(options)}`, () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(open(options satisfies Sandbox.SandboxOptions))
        assert.strictEqual(error.reason._tag, "SpecRejected")
        assert.include(error.message, says)
      }).pipe(Effect.provide(layer))
    )
  }
})
