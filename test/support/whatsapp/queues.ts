/**
 * What each device has been sent and has not acknowledged: it is sent again when the device connects the next time.
 */
import { type BinaryNode, getBinaryNodeChild, getBinaryNodeChildren } from "@whiskeysockets/baileys"
import type { Device } from "./accounts.ts"

/** Whether a device says by this that it has that. */
const acknowledges = (said: BinaryNode, kept: BinaryNode): boolean => {
  if (said.tag === "ack") {
    return kept.tag === said.attrs["class"] && kept.attrs["id"] === said.attrs["id"]
  }
  if (said.tag !== "receipt" || said.attrs["type"] === "retry" || kept.tag !== "message") return false
  const more = getBinaryNodeChildren(getBinaryNodeChild(said, "list"), "item").map(({ attrs }) => attrs["id"])
  return [said.attrs["id"], ...more].includes(kept.attrs["id"])
}

export const makeQueues = () => {
  const queues = new Map<Device, Array<BinaryNode>>()
  const of = (device: Device) => queues.get(device) ?? []
  return {
    of: (device: Device): ReadonlyArray<BinaryNode> => of(device),
    keep: (device: Device, node: BinaryNode) => void queues.set(device, [...of(device), node]),
    acknowledge: (device: Device, said: BinaryNode) => {
      const found = of(device).findIndex((kept) => acknowledges(said, kept))
      if (found >= 0) queues.set(device, of(device).toSpliced(found, 1))
    }
  }
}
