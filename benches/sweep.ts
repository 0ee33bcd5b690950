/**
 * A sweep finds a rival's best configuration before the comparison.
 *
 * All candidates run the same number of times, in turns, so that a slow minute of the host affects
 * all of them. The best median wins. A candidate that fails (locked memory, an old program) is
 * dropped, and the report gives the reason.
 */

import type { Outcome } from '../lib/measure/outcome.ts'
import { median } from '../lib/measure/statistics.ts'
import type { Contender, Entry } from '../lib/measure/rounds.ts'

const RUNS = 3

/** One candidate of a sweep and its speeds. */
export interface Candidate {
  readonly configuration: string
  /** Bytes per second, one value per run. */
  readonly speeds: number[]
  readonly median: number | null
  readonly failure?: string
}

/** The result of a sweep, for the report. */
export interface Sweep {
  readonly name: string
  readonly best: string | null
  readonly candidates: readonly Candidate[]
}

/** Finds the best of several configurations of one contender. */
export async function sweep(
  name: string,
  candidates: readonly Contender[],
  showProgress: (words: string) => void,
  runs: number = RUNS,
): Promise<{ readonly sweep: Sweep; readonly best: Entry }> {
  const speeds = candidates.map((): number[] => [])
  const failures = new Map<number, string>()
  for (let run = 0; run < runs; run += 1) {
    for (const [index, contender] of candidates.entries()) {
      if (failures.has(index)) continue
      showProgress(`sweep, run ${run + 1} of ${runs}: ${contender.name} ${contender.configuration}`)
      try {
        // oxlint-disable-next-line no-await-in-loop -- one at a time, or they would measure each other
        const outcome: Outcome = await contender.run()
        speeds[index]!.push(outcome.bytes / outcome.wallSeconds)
      } catch (error) {
        failures.set(index, (error as Error).message)
      }
    }
  }
  const entries = candidates.map(({ configuration }, index): Candidate => {
    const failure = failures.get(index)
    const values = speeds[index]!
    return {
      configuration,
      speeds: values,
      median: failure === undefined && values.length > 0 ? median(values) : null,
      ...(failure === undefined ? {} : { failure }),
    }
  })
  let best: Entry = {
    name: candidates[0]?.name ?? name,
    missing: `${name}: no configuration ran (${[...failures.values()][0] ?? 'none given'})`,
  }
  let fastest = 0
  for (const [index, entry] of entries.entries()) {
    if (entry.median !== null && entry.median > fastest) {
      fastest = entry.median
      best = candidates[index]!
    }
  }
  return { best, sweep: { name, best: 'missing' in best ? null : best.configuration, candidates: entries } }
}
