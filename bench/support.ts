/** What the benchmarks share: rows of a table, medians, and a folder on a real disk. */
import { mkdtempSync, rmSync } from "node:fs"
import { join } from "node:path"

/** A figure, what it is held against in the same run, and what is aimed at. */
export interface Row {
  readonly what: string
  readonly ours: string
  readonly floor: string
  /** Ours to the floor. */
  readonly ratio?: number
  readonly aim: string
}

export const median = (values: ReadonlyArray<number>): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN

export const millis = (value: number): string => `${value < 10 ? value.toFixed(2) : value.toFixed(0)} ms`

/** Runs a measurement, times over, and takes the median. */
export const sample = async (times: number, measure: () => Promise<number>): Promise<number> => {
  const values: Array<number> = []
  for (let index = 0; index < times; index++) values.push(await measure())
  return median(values)
}

/** A folder below the current one: a temporary folder may be in memory, where a commit costs nothing. */
export const withFolder = async <A>(use: (folder: string) => Promise<A>): Promise<A> => {
  const folder = mkdtempSync(join(process.cwd(), ".bench-"))
  try {
    return await use(folder)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
