/**
 * Groups: who is in them, and the changes that members hear of.
 */
import { type BinaryNode, getAllBinaryNodeChildren, getBinaryNodeChildren } from "@whiskeysockets/baileys"
import { type Account, type Accounts, lidJid, phoneJid } from "./accounts.ts"
import { node, now } from "./nodes.ts"

export interface Group {
  readonly jid: string
  subject: string
  /** The first one is its administrator. */
  members: ReadonlyArray<Account>
}

const participant = (account: Account, index = 1): BinaryNode =>
  node("participant", {
    jid: lidJid(account),
    phone_number: phoneJid(account),
    ...(index === 0 ? { type: "admin" } : {})
  })

export const describeGroup = ({ jid, members, subject }: Group): BinaryNode => {
  const creator: BinaryNode["attrs"] = members[0] === undefined ? {} : { creator: lidJid(members[0]) }
  return node(
    "group",
    {
      id: jid.split("@")[0] ?? "",
      subject,
      creation: "1700000000",
      s_t: "1700000000",
      ...creator,
      addressing_mode: "lid",
      size: String(members.length)
    },
    members.map(participant)
  )
}

/** Tells an account something that need not be answered. */
type Tell = (account: Account, notification: BinaryNode) => void

export const makeGroups = (accounts: Accounts, tell: Tell) => {
  const groups = new Map<string, Group>()
  let notifications = 0

  const announce = ({ jid, members }: Group, by: Account, change: BinaryNode, also: ReadonlyArray<Account> = []) => {
    for (const member of new Set([...members, ...also])) {
      const attrs = {
        from: jid,
        type: "w:gp2",
        id: `group-${++notifications}`,
        participant: lidJid(by),
        participant_pn: phoneJid(by),
        t: now()
      }
      tell(member, node("notification", attrs, [change]))
    }
  }

  const create = (subject: string, members: ReadonlyArray<Account>): Group => {
    const group: Group = { jid: `12036300000000${100 + groups.size}@g.us`, subject, members }
    groups.set(group.jid, group)
    if (members[0] !== undefined) announce(group, members[0], node("create", {}, [describeGroup(group)]))
    return group
  }

  const change = (group: Group, by: Account, asked: BinaryNode) => {
    const named = getBinaryNodeChildren(asked, "participant").flatMap(
      ({ attrs }) => accounts.find(attrs["jid"] ?? "") ?? []
    )
    switch (asked.tag) {
      case "subject":
        group.subject = Buffer.from(asked.content instanceof Uint8Array ? asked.content : []).toString("utf8")
        return announce(group, by, node("subject", { subject: group.subject, s_t: now() }))
      case "add":
        group.members = [...group.members, ...named]
        return announce(
          group,
          by,
          node(
            "add",
            {},
            named.map((account) => participant(account))
          )
        )
      case "remove":
        group.members = group.members.filter((member) => !named.includes(member))
        return announce(
          group,
          by,
          node(
            "remove",
            {},
            named.map((account) => participant(account))
          ),
          named
        )
    }
  }

  return {
    create,
    get: (jid: string) => groups.get(jid),
    /** Answers a query about groups. */
    answer: (by: Account, query: BinaryNode): ReadonlyArray<BinaryNode> => {
      const [asked] = getAllBinaryNodeChildren(query)
      const group = groups.get(query.attrs["to"] ?? "")
      if (query.attrs["type"] === "get") {
        if (group !== undefined) return [describeGroup(group)]
        return [
          node("groups", {}, [...groups.values()].filter(({ members }) => members.includes(by)).map(describeGroup))
        ]
      }
      if (asked?.tag === "create") {
        const others = getBinaryNodeChildren(asked, "participant").flatMap(
          ({ attrs }) => accounts.find(attrs["jid"] ?? "") ?? []
        )
        return [describeGroup(create(asked.attrs["subject"] ?? "", [by, ...others]))]
      }
      if (group === undefined || asked === undefined) return []
      change(group, by, asked)
      return [node(asked.tag, {}, getBinaryNodeChildren(asked, "participant"))]
    }
  }
}
export type Groups = ReturnType<typeof makeGroups>
