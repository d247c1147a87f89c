/**
 * The vault: a claw's secrets, by name. No agent is ever given one.
 *
 * What an agent's commands see of a secret is its placeholder; the egress proxy puts the value on the wire, for the host
 * that a rule names. What leaves the claw for people is masked by it; see `Leaks`.
 */
import * as Context from "effect/Context"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"

/** The environment variable, file or command that a secret is to come from has none, or one that is too short. */
export class SecretMissing extends Schema.TaggedError<SecretMissing>()("SecretMissing", { detail: Schema.String }) {}

/** The vault could not be opened, for `reason`. */
export class VaultError extends Schema.TaggedError<VaultError>()("VaultError", {
  secret: Schema.String,
  reason: Schema.Union([SecretMissing])
}) {
  override get message(): string {
    return `the secret ${this.secret}: ${this.reason.detail}`
  }
}

/** The secrets there are. Without a layer there are none. */
export const Vault = Context.Reference<ReadonlyMap<string, Redacted.Redacted>>("effect-claw/services/Vault", {
  defaultValue: () => new Map()
})

/** A secret shorter than this cannot be told from ordinary text, and is refused. */
export const shortest = 8

/** Whether a text can be a secret's name: that of an environment variable, which is where its placeholder stands. */
export const isName = (name: string): boolean => /^[A-Z][A-Z0-9_]{0,63}$/.test(name)

/** What stands for a secret inside a sandbox. */
export const placeholder = (name: string): string => `claw_secret_${name}`
