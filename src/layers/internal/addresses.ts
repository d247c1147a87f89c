/**
 * Addresses that a proxy may dial: public ones, and those that a rule names.
 *
 * What is not public is by the special-purpose registries of the IANA: the host itself, private and shared networks,
 * link-local ones (where clouds keep their metadata), benchmarks, documentation, multicast, and the ways of writing an
 * IPv4 address as an IPv6 one (mapped, 6to4, NAT64, Teredo), which would lead back to all of these. Nor is what this machine
 * itself has, by which what it serves behind a firewall would be reached; nor Azure's platform address.
 */
import { BlockList, isIP, isIPv4 } from "node:net"
import { networkInterfaces } from "node:os"

const listOf = (networks: ReadonlyArray<string>): BlockList => {
  const list = new BlockList()
  for (const network of networks) {
    const [address = "", prefix] = network.split("/")
    const family = isIPv4(address) ? "ipv4" : "ipv6"
    list.addSubnet(address, prefix === undefined ? (family === "ipv4" ? 32 : 128) : Number(prefix), family)
  }
  return list
}

const special = listOf(
  (
    "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 " +
    "168.63.129.16 192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 " +
    "2001::/23 2001:db8::/32 2002::/16 3fff::/20"
  ).split(" ")
)

/** All of IPv6 that is given out for the public. */
const global = listOf(["2000::/3"])

const familyOf = (address: string) => (isIPv4(address) ? "ipv4" : "ipv6")

const isPublic = (address: string): boolean =>
  !special.check(address, familyOf(address)) && (isIPv4(address) || global.check(address, "ipv6"))

/** Whether a text is an address or a network. */
export const isNetwork = (text: string): boolean => {
  const match = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(text)
  const version = isIP(match?.[1] ?? "")
  return version !== 0 && Number(match?.[2] ?? 0) <= (version === 4 ? 32 : 128)
}

const ofThisMachine = () =>
  Object.values(networkInterfaces()).flatMap((interfaces = []) => interfaces.map(({ address }) => address))

/** The first of a name's addresses that may not be dialled: one spoils the answer. `except` are networks that may be. */
export const forbidden = (
  addresses: ReadonlyArray<string>,
  except: ReadonlyArray<string>,
  own: ReadonlyArray<string> = ofThisMachine()
): string | undefined => {
  const [allowed, here] = [listOf(except), listOf(own)]
  const isIn = (list: BlockList, address: string) => list.check(address, familyOf(address))
  return addresses.find(
    (address) => isIP(address) === 0 || !(isIn(allowed, address) || (isPublic(address) && !isIn(here, address)))
  )
}
