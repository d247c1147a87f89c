/**
 * The channel under test on the local WhatsApp, on a number of its own, and what it needs of a claw: a store that outlives it,
 * and somebody who listens.
 */
import * as ChannelStateSql from "effect-claw/layers/ChannelStateSql"
import * as ChannelWhatsApp from "effect-claw/layers/ChannelWhatsApp"
import * as Channel from "effect-claw/services/Channel"
import type { ChannelState } from "effect-claw/services/ChannelState"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as tls from "node:tls"
import { database } from "../contracts/store.ts"
import { makePerson } from "./WhatsAppPerson.ts"
import { makeWhatsAppServer, type WhatsAppServer } from "./WhatsAppServer.ts"

/** A server whose media this process trusts, for as long as the scope is open. */
export const server = Effect.acquireRelease(
  Effect.promise(async () => {
    const before = tls.getCACertificates("default")
    const made = await makeWhatsAppServer()
    tls.setDefaultCACertificates([...before, made.media.authority])
    return { made, before }
  }),
  ({ before, made }) =>
    Effect.sync(() => {
      tls.setDefaultCACertificates(before)
      made.close()
    })
).pipe(Effect.map(({ made }) => made))

/** Somebody on it. */
export const person = (on: WhatsAppServer, phone: string, name?: string) =>
  Effect.acquireRelease(
    Effect.promise(() => makePerson(on, phone, name)),
    ({ leave }) => Effect.sync(leave)
  )

/** The store, in a database that is gone after the test. */
export const store: Effect.Effect<Context.Context<ChannelState>, unknown, Scope.Scope> = Layer.build(
  Layer.provide(ChannelStateSql.layer, database)
)

/** The claw's phone number. */
export const clawPhone = "15550100"

/** Options for the local server: the claw's phone scans, or has the code typed. */
export const locally = (
  on: WhatsAppServer,
  options: Partial<ChannelWhatsApp.Options> = {},
  answers = true
): ChannelWhatsApp.Options => ({
  login: "qr",
  websocketUrl: on.url,
  ...options,
  onLogin: (event) =>
    Effect.andThen(
      Effect.promise(async () => {
        if (answers && event._tag === "Qr") on.scan(clawPhone, event.text)
        if (answers && event._tag === "Code") await on.type(clawPhone, event.code)
      }),
      options.onLogin?.(event) ?? Effect.void
    )
})

/** What a channel registers, and what becomes of it. */
const makeHub = Effect.gen(function* () {
  const registered = yield* Deferred.make<Channel.Channel>()
  return {
    registered: Deferred.await(registered),
    of: (hub: Channel.Channels["Service"]) =>
      Channel.Channels.of({
        ...hub,
        register: (channel) =>
          Effect.andThen(
            hub.register({ ...channel, inbound: Stream.empty }),
            Effect.asVoid(Deferred.succeed(registered, channel))
          )
      })
  }
})

/** Starts the channel. What it hears waits to be taken, and is not acknowledged. */
export const start = Effect.fnUntraced(function* (
  on: WhatsAppServer,
  state: Context.Context<ChannelState>,
  options: Partial<ChannelWhatsApp.Options> = {},
  { answers = true, hub }: { readonly answers?: boolean; readonly hub?: Channel.Channels["Service"] } = {}
) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const channels = hub ?? Context.get(yield* Layer.buildWithScope(Channel.layer, scope), Channel.Channels)
  const loggedIn = yield* Deferred.make<void>()
  const logins: Array<ChannelWhatsApp.LoginEvent> = []
  const local = locally(on, options, answers)
  const onLogin = (event: ChannelWhatsApp.LoginEvent) => {
    logins.push(event)
    return Effect.andThen(
      local.onLogin?.(event) ?? Effect.void,
      event._tag === "LoggedIn" ? Deferred.succeed(loggedIn, undefined) : Effect.void
    )
  }
  const { of, registered } = yield* makeHub
  yield* ChannelWhatsApp.layer({ ...local, onLogin }).pipe(
    Layer.buildWithScope(scope),
    Effect.provideService(Channel.Channels, of(channels)),
    Effect.provide(state)
  )
  const channel = yield* registered
  const heard = yield* Queue.unbounded<Channel.InboundDelivery>()
  const listening = yield* Stream.runForEach(channel.inbound, (delivery) => Queue.offer(heard, delivery)).pipe(
    Effect.forkIn(scope)
  )
  return {
    channels,
    channel,
    /** Deliveries that wait. */
    heard,
    /** The next one, acknowledged. */
    hear: Effect.tap(Queue.take(heard), ({ ack }) => ack),
    logins,
    loggedIn: Deferred.await(loggedIn),
    /** What ended it. */
    ended: Fiber.join(listening),
    stop: Scope.close(scope, Exit.void)
  }
})

/** Waits until something is so, for ten seconds. */
export const until = (condition: () => boolean) =>
  Effect.sync(condition).pipe(
    Effect.delay("10 millis"),
    Effect.repeat({ until: (holds) => holds, times: 1000 }),
    Effect.flatMap((holds) => (holds ? Effect.void : Effect.die(new Error("it never came to be so"))))
  )
