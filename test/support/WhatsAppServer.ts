/**
 * A WhatsApp Web server on loopback, for unmodified Baileys clients to talk to.
 *
 * It does what the platform does as far as its clients can tell: the Noise handshake, pairing (it plays the phone too), the
 * store of public keys, routing between accounts, devices and groups, media, and a queue for each device of what that has not
 * acknowledged. Messages are encrypted from end to end, so it can read none of them. And it does what the platform does on its
 * bad days: it drops connections, ends them with a code, refuses logins, and forgets to acknowledge.
 */
import { type BinaryNode, getBinaryNodeChild, type proto } from "@whiskeysockets/baileys"
import { createServer } from "node:http"
import { setInterval } from "node:timers/promises"
import { type WebSocket, WebSocketServer } from "ws"
import { type Account, type Device, lidJid, makeAccounts, phoneJid } from "./whatsapp/accounts.ts"
import { makeGroups } from "./whatsapp/groups.ts"
import { makeMedia } from "./whatsapp/media.ts"
import { makeIdentity, makeTransport } from "./whatsapp/noise.ts"
import { bytesOf, node, now, platform, server } from "./whatsapp/nodes.ts"
import { acceptPairing, type CodeRequest, finishCode, offerPairing, readQr, typeCode } from "./whatsapp/pairing.ts"
import { loggedOut, makeQueries } from "./whatsapp/queries.ts"
import { makeQueues } from "./whatsapp/queues.ts"
import { makeRouting } from "./whatsapp/routing.ts"

/** A client's connection. */
interface Connection {
  readonly socket: WebSocket
  readonly send: (node: BinaryNode) => void
  noiseKey: Buffer
  /** Who it is, once it is logged in. */
  device: Device | undefined
  /** It has asked for what was kept, and takes what comes. */
  active: boolean
  code: (CodeRequest & { readonly finish?: (finish: BinaryNode) => void }) | undefined
}

/** What becomes of a message that a client sends: `lost`: it is carried, and nobody says so. A number: the error it is refused with. */
export type Fate = "carried" | "lost" | number

/** Serves until it is closed. */
export const makeWhatsAppServer = async () => {
  const identity = makeIdentity()
  const media = await makeMedia()
  const accounts = makeAccounts()
  const queues = makeQueues()
  const connections = new Set<Connection>()
  const waiting = new Map<string, Connection>()
  const refusals = new Map<Account, number>()
  const logins = new Map<Account, number>()
  const received: Array<{ readonly from: Device; readonly node: BinaryNode }> = []
  let fate: (message: BinaryNode) => Fate = () => "carried"
  let opened = 0
  let mostAtOnce = 0
  let notices = 0

  const connectionsOf = (device: Device) => [...connections].filter((connection) => connection.device === device)
  const signal = (device: Device, sent: BinaryNode) => {
    for (const connection of connectionsOf(device)) if (connection.active) connection.send(sent)
  }
  const deliver = (device: Device, sent: BinaryNode) => {
    queues.keep(device, sent)
    signal(device, sent)
  }
  const groups = makeGroups(accounts, (account, notification) => {
    for (const device of account.devices.values()) deliver(device, notification)
  })
  const { routeMessage, routeReceipt, routeTyping } = makeRouting(accounts, groups, { deliver, signal })
  const answer = makeQueries(accounts, groups, media, (device) =>
    deliver(
      device,
      node("notification", { from: platform, type: "encrypt", id: `low-${++notices}`, t: now() }, [
        node("count", { value: String(device.preKeys.length) })
      ])
    )
  )

  /** Those who know an account ask for its devices anew, under either of its numbers. */
  const announceDevices = (account: Account) => {
    for (const from of [phoneJid(account), lidJid(account)]) {
      const changed = node("update", {}, [node("device", { jid: from })])
      const notice = node("notification", { from, type: "devices", id: `devices-${++notices}`, t: now() }, [changed])
      for (const other of accounts.others(account)) {
        for (const device of other.devices.values()) deliver(device, notice)
      }
    }
  }

  /** Says why, and hangs up. */
  const end = ({ send, socket }: Connection, reason: BinaryNode) => {
    send(reason)
    socket.close()
  }
  const streamError = (code: number) =>
    code === 440
      ? node("stream:error", {}, [node("conflict", { type: "replaced" })])
      : node(
          "stream:error",
          { code: String(code) },
          code === 401 ? [node("conflict", { type: "device_removed" })] : undefined
        )

  const onHello = (connection: Connection, clientKey: Uint8Array, { device, username }: proto.ClientPayload) => {
    connection.noiseKey = Buffer.from(clientKey)
    if (username === undefined || username === null) {
      const { offer, references } = offerPairing()
      for (const reference of references) waiting.set(reference, connection)
      return connection.send(offer)
    }
    const account = accounts.find(`${String(username)}@${server}`)
    const known = account?.devices.get(device ?? 0)
    const refusal = account === undefined ? undefined : refusals.get(account)
    if (account === undefined || known === undefined || !known.noiseKey.equals(connection.noiseKey)) {
      return end(connection, node("failure", { reason: "401" }))
    }
    logins.set(account, (logins.get(account) ?? 0) + 1)
    if (refusal !== undefined) return end(connection, node("failure", { reason: String(refusal) }))
    for (const before of connectionsOf(known)) end(before, streamError(440))
    connection.device = known
    mostAtOnce = Math.max(mostAtOnce, connectionsOf(known).filter(({ socket }) => socket.readyState === 1).length)
    connection.send(node("success", { t: now(), lid: lidJid(account, known.id), props: "1" }))
  }

  /** The phone links the device that waits here. */
  const link = (
    connection: Connection,
    account: Account,
    candidate: { readonly identityKey: Buffer; readonly secret: Buffer }
  ) => {
    connection.send(acceptPairing(accounts.link(account, connection.noiseKey), candidate))
    announceDevices(account)
  }

  /** What a client says before it is logged in. */
  const onCandidate = (connection: Connection, said: BinaryNode) => {
    const reply = (content?: Array<BinaryNode>) =>
      connection.send(node("iq", { from: platform, type: "result", id: said.attrs["id"] ?? "" }, content))
    if (said.attrs["type"] === "result") {
      if (getBinaryNodeChild(said, "pair-device-sign") !== undefined) end(connection, streamError(515))
      return
    }
    const step = getBinaryNodeChild(said, "link_code_companion_reg")
    if (step?.attrs["stage"] === "companion_hello") {
      connection.code = {
        phone: step.attrs["jid"]?.split("@")[0] ?? "",
        wrapped: bytesOf(step, "link_code_pairing_wrapped_companion_ephemeral_pub")
      }
      const reference = node("link_code_pairing_ref", {}, Buffer.from("reference"))
      return reply([node("link_code_companion_reg", { stage: "companion_hello" }, [reference])])
    }
    reply()
    if (step?.attrs["stage"] === "companion_finish") connection.code?.finish?.(step)
  }

  const onQuery = (connection: Connection, device: Device, query: BinaryNode) => {
    const removed = loggedOut(query)
    connection.send(
      node("iq", { from: platform, type: "result", id: query.attrs["id"] ?? "" }, [...answer(device, query)])
    )
    if (query.attrs["xmlns"] === "passive") {
      const kept = queues.of(device)
      connection.active = true
      for (const { attrs, content, tag } of kept) connection.send(node(tag, { ...attrs, offline: "0" }, content))
      connection.send(node("ib", { from: platform }, [node("offline", { count: String(kept.length) })]))
    }
    if (removed !== undefined) {
      device.account.devices.delete(removed)
      end(connection, streamError(401))
    }
  }

  const onMessage = (connection: Connection, device: Device, message: BinaryNode) => {
    const { id = "", to = "" } = message.attrs
    const decided = fate(message)
    if (typeof decided !== "number") routeMessage(device, message)
    if (decided === "lost") return
    const error: BinaryNode["attrs"] = typeof decided === "number" ? { error: String(decided) } : {}
    connection.send(node("ack", { class: "message", id, from: to, t: now(), ...error }))
  }

  const onNode = (connection: Connection, said: BinaryNode) => {
    const { device } = connection
    if (device === undefined) return onCandidate(connection, said)
    received.push({ from: device, node: said })
    switch (said.tag) {
      case "iq":
        return said.attrs["type"] === "result" ? undefined : onQuery(connection, device, said)
      case "message":
        return onMessage(connection, device, said)
      case "ack":
        return queues.acknowledge(device, said)
      case "receipt": {
        const { id = "", to = "", type } = said.attrs
        queues.acknowledge(device, said)
        connection.send(node("ack", { class: "receipt", id, from: to, ...(type === undefined ? {} : { type }) }))
        return routeReceipt(device, said)
      }
      case "chatstate":
        return routeTyping(device, said)
    }
  }

  const http = createServer((_request, response) => response.writeHead(404).end())
  const sockets = new WebSocketServer({ server: http })
  sockets.on("connection", (socket) => {
    opened++
    const transport = makeTransport(identity, (bytes) => socket.readyState === 1 && socket.send(bytes), {
      onHello: (clientKey, payload) => onHello(connection, clientKey, payload),
      onNode: (said) => onNode(connection, said)
    })
    const connection: Connection = {
      socket,
      send: transport.send,
      noiseKey: Buffer.alloc(0),
      device: undefined,
      active: false,
      code: undefined
    }
    connections.add(connection)
    let reading = Promise.resolve()
    socket.on("message", (bytes: Buffer) => {
      reading = reading.then(() => transport.receive(bytes)).catch(() => socket.terminate())
    })
    socket.on("error", () => socket.terminate())
    socket.on("close", () => connections.delete(connection))
  })
  await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve))
  const address = http.address()

  const everyConnection = (phone: string) => [...connections].filter(({ device }) => device?.account.phone === phone)

  return {
    /** For Baileys' `waWebSocketUrl`. */
    url: `ws://127.0.0.1:${typeof address === "object" ? address?.port : ""}/ws/chat`,
    media,
    /** What logged-in clients have sent, oldest first. */
    received: received as ReadonlyArray<{ readonly from: Device; readonly node: BinaryNode }>,
    /** An account, made when it is first asked for. */
    account: accounts.ofPhone,
    lidOf: (phone: string) => lidJid(accounts.ofPhone(phone)),
    /** The phone scans the QR code that a device shows. */
    scan: (phone: string, qr: string) => {
      const { reference, ...candidate } = readQr(qr)
      const connection = waiting.get(reference)
      if (connection === undefined) throw new Error("nobody waits under this QR code")
      link(connection, accounts.ofPhone(phone), candidate)
    },
    /** The code that a device shows is typed on the phone. */
    type: async (phone: string, code: string) => {
      const waits = () => [...connections].find((open) => open.code?.phone === phone)
      // A device shows its code as soon as it has asked; nobody types as fast.
      for await (const _ of setInterval(10)) if (waits() !== undefined) break
      const connection = waits()
      if (connection?.code === undefined) throw new Error("no device waits for a code")
      const account = accounts.ofPhone(phone)
      const { hello, ...exchange } = await typeCode(account, connection.code, code)
      connection.code = {
        ...connection.code,
        finish: (finish) => link(connection, account, finishCode(account, exchange, finish))
      }
      connection.send(hello)
    },
    /** The phone removes its linked devices. */
    unlink: (phone: string) => {
      accounts.ofPhone(phone).devices.clear()
      announceDevices(accounts.ofPhone(phone))
      for (const connection of everyConnection(phone)) end(connection, streamError(401))
    },
    createGroup: (subject: string, ...phones: ReadonlyArray<string>) =>
      groups.create(
        subject,
        phones.map((phone) => accounts.ofPhone(phone))
      ).jid,
    /** Ends an account's connections, as the platform does. */
    end: (phone: string, code: number) => {
      for (const connection of everyConnection(phone)) end(connection, streamError(code))
    },
    /** Cuts an account's connections. */
    cut: (phone: string) => {
      for (const { socket } of everyConnection(phone)) socket.terminate()
    },
    /** Cuts every connection, those that are not logged in too. */
    cutAll: () => {
      for (const { socket } of connections) socket.terminate()
    },
    /** Every login of the account fails so, until `undefined`. */
    refuse: (phone: string, code: number | undefined) =>
      code === undefined ? refusals.delete(accounts.ofPhone(phone)) : refusals.set(accounts.ofPhone(phone), code),
    /** Decides over every message that is sent from now on. */
    decide: (next: (message: BinaryNode) => Fate) => (fate = next),
    /** Hands a device a message that the platform itself makes, such as the offer of its history. */
    post: (phone: string, attrs: BinaryNode["attrs"], content: Array<BinaryNode>) => {
      for (const device of accounts.ofPhone(phone).devices.values()) {
        const own = { from: phoneJid(device.account), id: `posted-${++notices}`, t: now(), type: "text" }
        deliver(device, node("message", { ...own, ...attrs }, content))
      }
    },
    /** What an account's devices have not acknowledged. */
    unacknowledged: (phone: string) =>
      [...accounts.ofPhone(phone).devices.values()].flatMap((device) => queues.of(device)),
    /** Connections so far. */
    get opened() {
      return opened
    },
    /** How often an account has tried to log in. */
    logins: (phone: string) => logins.get(accounts.ofPhone(phone)) ?? 0,
    /** The most connections that one device ever had open at once. */
    get mostAtOnce() {
      return mostAtOnce
    },
    live: (phone: string) => everyConnection(phone).length,
    close: () => {
      for (const client of sockets.clients) client.terminate()
      sockets.close()
      http.close()
      media.close()
    }
  }
}
export type WhatsAppServer = Awaited<ReturnType<typeof makeWhatsAppServer>>
