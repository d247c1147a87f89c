/**
 * Work that takes what there is little of, one after the other.
 */

/** Does what it is given after what it was given before has ended, however that did. */
export const make = (): (<A>(work: () => Promise<A>) => Promise<A>) => {
  let last: Promise<unknown> = Promise.resolve()
  return (work) => {
    const next = last.then(work)
    last = next.catch(() => {})
    return next
  }
}
