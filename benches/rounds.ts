/**
 * Rounds: contenders one after the other, the order swapped every time.
 *
 * A comparison is a small group whose members are compared with each other; the one everybody is compared with stands in the middle, so that
 * it is the neighbour of its rivals in both orders. A contender that fails is out of its comparison for good, with the reason; the bench
 * goes on.
 */

import type { Contender } from './contender.ts'
import type { Outcome } from './outcome.ts'

/** A group of contenders and what their rounds gave. */
export interface Comparison {
  readonly contenders: readonly Contender[]
  /** Rounds at most. */
  readonly roundsMax: number
  /** Per round, the outcomes by contender name. */
  readonly rounds: Map<string, Outcome>[]
  /** Contenders that could not take part, and why. */
  readonly missing: Map<string, string>
}

/** A place in a comparison: the contender, or the name of one that cannot run and the reason. */
export type Entry = Contender | { readonly name: string; readonly missing: string }

/** Forms a comparison. One whose figures have no bar may make do with fewer rounds. */
export function comparison(entries: readonly Entry[], roundsMax: number = Infinity): Comparison {
  const contenders: Contender[] = []
  const missing = new Map<string, string>()
  for (const entry of entries) {
    if ('missing' in entry) missing.set(entry.name, entry.missing)
    else if (!contenders.some((contender) => contender.name === entry.name)) contenders.push(entry)
  }
  return { contenders, roundsMax, rounds: [], missing }
}

/** Runs all comparisons for so many rounds, every other round backwards. */
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
