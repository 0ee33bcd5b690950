/**
 * Rounds: contenders run one after another, and every other round runs in reverse order.
 *
 * A comparison is a small group of contenders that are compared with each other. The contender that
 * all others are compared with stands in the middle, so it runs next to its rivals in both orders.
 * A contender that fails leaves its comparison for good, and the reason is kept. The bench goes on.
 */

import type { Outcome } from './outcome.ts'

/** One way to move the data, in one configuration. */
export interface Contender {
  /** Its name, the same in every configuration. */
  readonly name: string
  /** How it is set up, in a few words. */
  readonly configuration: string
  /** One run: preparation, the measured process, clean-up. */
  run(): Promise<Outcome>
}

/** A group of contenders and the outcomes of their rounds. */
export interface Comparison {
  readonly contenders: readonly Contender[]
  /** The largest number of rounds. */
  readonly roundsMax: number
  /** Per round, the outcomes by contender name. */
  readonly rounds: Map<string, Outcome>[]
  /** Contenders that could not run, and why. */
  readonly missing: Map<string, string>
}

/** A member of a comparison: a contender, or the name of one that cannot run and the reason. */
export type Entry = Contender | { readonly name: string; readonly missing: string }

/** Creates a comparison. Fewer rounds are enough if none of its figures has a bar. */
export function comparison(entries: readonly Entry[], roundsMax: number = Infinity): Comparison {
  const contenders: Contender[] = []
  const missing = new Map<string, string>()
  for (const entry of entries) {
    if ('missing' in entry) missing.set(entry.name, entry.missing)
    else if (!contenders.some((contender) => contender.name === entry.name)) contenders.push(entry)
  }
  return { contenders, roundsMax, rounds: [], missing }
}

/** Runs all comparisons for `rounds` rounds, every other round in reverse order. */
export async function runRounds(
  comparisons: readonly Comparison[],
  rounds: number,
  showProgress: (words: string) => void,
): Promise<void> {
  for (let round = 0; round < rounds; round += 1) {
    for (const { contenders, roundsMax, rounds: done, missing } of inOrder(comparisons, round)) {
      if (round >= roundsMax) continue
      const outcomes = new Map<string, Outcome>()
      for (const contender of inOrder(contenders, round)) {
        if (missing.has(contender.name)) continue
        showProgress(`round ${round + 1} of ${rounds}: ${contender.name}`)
        try {
          // oxlint-disable-next-line no-await-in-loop -- one at a time, or they would measure each other
          outcomes.set(contender.name, await contender.run())
        } catch (error) {
          missing.set(contender.name, `${contender.name} failed: ${(error as Error).message}`)
        }
      }
      done.push(outcomes)
    }
  }
}

function inOrder<T>(items: readonly T[], round: number): readonly T[] {
  return round % 2 === 0 ? items : items.toReversed()
}
