/**
 * Egress: the way out of a sandbox.
 *
 * A session has no network. With rules it has a socket to the claw's proxy, of its own, and nothing else; what no rule
 * admits is refused. Rules are part of an agent's definition, and a rule that would admit too much cannot be written.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { AgentName, ConversationId } from "./Message.ts"
import * as Vault from "./Vault.ts"

/** What a rule says beside its host. */
export interface RuleOptions {
  /** Default 80 and 443; 443 alone for a rule with a secret, which is not to be read on the way. */
  readonly ports?: ReadonlyArray<number>
  /** Default any. */
  readonly methods?: ReadonlyArray<string> | undefined
  /** Beginnings of paths, by whole segments: `/repos/me` admits `/repos/me/x` and not `/repos/men`. Default any. */
  readonly paths?: ReadonlyArray<string>
  /** Addresses, or networks such as `192.168.1.0/24`, that are not public and that the host may have. Default none. */
  readonly addresses?: ReadonlyArray<string>
  /**
   * A secret of the vault. Commands have its placeholder in the environment variable of its name; the proxy puts the
   * secret in its place, in addresses and headers, for this host and no other, over HTTPS.
   */
  readonly secret?: string
  /** The secret may go over plain HTTP, where all on the way read it and nobody proves to be the host. Default `false`. */
  readonly insecure?: boolean
  /** A header to add where there is none, for programs that know of no credential: `authorization: Bearer {secret}`. */
  readonly adds?: string
}

/** What an agent may reach. */
export interface Rule extends Omit<RuleOptions, "adds"> {
  /** A host's name in lower case, or `*.` and a name for all that is below it, and not the name itself. */
  readonly host: string
  readonly ports: ReadonlyArray<number>
  readonly addresses: ReadonlyArray<string>
  /** The header, its name in lower case, `{secret}` in its value being the secret. */
  readonly adds: { readonly name: string; readonly value: string } | undefined
}

/** Names that are one label, or a country's second level, belong to everybody. */
const isShared = (domain: string): boolean =>
  !domain.includes(".") || /^(ac|co|com|edu|gov|net|or|org)\.[a-z]{2}$/.test(domain)

/** A host's name as it is compared: lower case, ASCII, without the dot that ends it. `undefined`: it is none. */
export const hostname = (host: string): string | undefined => {
  if (/[/?#@\\\s]/.test(host)) return undefined
  const url = URL.parse(`http://${host.includes(":") && !host.startsWith("[") ? `[${host}]` : host}`)
  const name = url?.hostname.replace(/\.$/, "").replace(/^\[|\]$/g, "")
  return name === undefined || name === "" || url?.port !== "" ? undefined : name
}

/** Admits a host. Throws on a rule that is none, or that admits too much, because a definition is code. */
export const allow = (host: string, options: RuleOptions = {}): Rule => {
  const refuse = (detail: string): never => {
    throw new Error(`the egress rule for "${host}": ${detail}`)
  }
  const isBelow = host.startsWith("*.")
  const name = hostname(isBelow ? host.slice(2) : host)
  if (name === undefined || name.includes("*")) {
    return refuse("it names no host; a rule has a name such as example.com, or *.example.com for what is below it")
  }
  if (isBelow && isShared(name)) return refuse("it admits domains of everybody; name one")
  const { adds, secret } = options
  if (secret !== undefined && !Vault.isName(secret)) {
    return refuse(`"${secret}" is no name for a secret; it is one for an environment variable, such as GITHUB_TOKEN`)
  }
  const header = /^([A-Za-z0-9-]+): *([^\r\n]*\{secret\}[^\r\n]*)$/.exec(adds ?? "")
  if (adds !== undefined && (header === null || secret === undefined)) {
    return refuse(
      "`adds` is a header with {secret} in it, such as authorization: Bearer {secret}, and needs a `secret`"
    )
  }
  if (options.paths?.some((path) => wholePath(path) === undefined) === true) {
    return refuse("a path begins with / and has no ., .., ;, ?, # or \\ in its segments, nor written in percent signs")
  }
  return {
    ...options,
    host: isBelow ? `*.${name}` : name,
    ports: options.ports ?? (secret === undefined ? [80, 443] : [443]),
    addresses: options.addresses ?? [],
    methods: options.methods?.map((method) => method.toUpperCase()),
    adds: header === null ? undefined : { name: (header[1] ?? "").toLowerCase(), value: header[2] ?? "" }
  }
}

/** A request, or the wish for a tunnel, which has neither method nor path. */
export interface Target {
  readonly host: string
  readonly port: number
  readonly method?: string
  readonly path?: string
}

/**
 * A path as every server reads it; `undefined` for one that servers read in different ways: that goes up, in percent signs or
 * before a `;` or a space too, has what ends a path or a segment for some, what is no UTF-8, or percent signs in percent signs.
 */
const wholePath = (path: string): string | undefined => {
  const plain = path.replace(/%([0-9a-f]{2})/gi, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)))
  const isVisible = plain.split("").every((one) => one >= " " && one !== "\x7f")
  const isPlain = isVisible && plain.startsWith("/") && !/[?#\\\xc0\xc1]|%(?:u|[0-9a-f]{2})/i.test(plain)
  const segments = plain.split(/\/+/)
  return isPlain && segments.every((segment) => !/^\s*\.{1,2}\s*(;|$)/.test(segment)) ? segments.join("/") : undefined
}

/** Whether a path is at or below another. */
const isBelowPath = (path: string, above: string): boolean => {
  const written = (text: string) => wholePath(URL.parse(`http://host${text}`)?.pathname ?? "")
  const [way, root] = [wholePath(path), written(above)?.replace(/\/$/, "")]
  return way !== undefined && root !== undefined && (way === root || way.startsWith(`${root}/`))
}

/** The first rule that admits what is asked for. A tunnel is admitted by its host and port. */
export const admits = (rules: ReadonlyArray<Rule>, { host, method, path, port }: Target): Rule | undefined => {
  const name = hostname(host)
  if (name === undefined) return undefined
  return rules.find(
    (rule) =>
      (rule.host.startsWith("*.") ? name.endsWith(rule.host.slice(1)) : name === rule.host) &&
      rule.ports.includes(port) &&
      (method === undefined || rule.methods === undefined || rule.methods.includes(method)) &&
      (path === undefined || rule.paths === undefined || rule.paths.some((above) => isBelowPath(path, above)))
  )
}

/**
 * Whether requests to a host have to be read to be held to the rule: for a secret, methods or paths. For such a host TLS
 * ends at the proxy; all others have a tunnel that nobody looks into.
 */
export const isRead = ({ methods, paths, secret }: Rule): boolean =>
  methods !== undefined || paths !== undefined || secret !== undefined

/** A rule names a secret that the vault does not have. */
export class SecretUnknown extends Schema.TaggedError<SecretUnknown>()("SecretUnknown", { detail: Schema.String }) {}
/** The proxy cannot listen, or its authority cannot be read or made. */
export class ProxyFailed extends Schema.TaggedError<ProxyFailed>()("ProxyFailed", { detail: Schema.String }) {}

/** There is no way out, for `reason`. */
export class EgressError extends Schema.TaggedError<EgressError>()("EgressError", {
  reason: Schema.Union([SecretUnknown, ProxyFailed])
}) {
  override get message(): string {
    return `no way out: ${this.reason.detail}`
  }
}

/** Whose way out it is, and where it leads. */
export interface EgressRequest {
  readonly agent: AgentName
  readonly conversation: ConversationId
  readonly rules: ReadonlyArray<Rule>
}

/** What a sandbox is opened with to have a way out. */
export interface WayOut {
  /** Host folder with the session's `proxy.sock` and the certificates to trust, `authorities.pem`. Mounted read-only. */
  readonly folder: string
  /** The placeholders of its secrets, by the names of their environment variables. */
  readonly environment: Readonly<Record<string, string>>
}

/** Makes ways out. */
export class Egress extends Context.Service<
  Egress,
  {
    /** Whether there are the secrets that rules name. A claw asks when it starts. */
    readonly check: (rules: ReadonlyArray<Rule>) => Effect.Effect<void, EgressError>
    /** A way out for one session, as long as the scope is open. */
    readonly open: (request: EgressRequest) => Effect.Effect<WayOut, EgressError, Scope.Scope>
  }
>()("effect-claw/services/Egress") {}
