/**
 * `resident`: the large file, of which all, half or nothing is in the page cache, read with `direct: 'auto'` and in the two
 * pure modes.
 */

import type { ResidentParameters } from '../children/parameters.ts'
import { runChild } from '../contender.ts'
import { figure, type Figure } from '../figure.ts'
import { comparison, runRounds, type Comparison, type Contender } from '../../lib/measure/rounds.ts'
import type { BenchContext, Benchmark, Result } from '../bench-context.ts'
import { fileEnvironment } from '../run-environment.ts'

const FLOOR = 0.9
const STATES = ['all', 'half', 'none'] as const
const WORDS = { all: 'in the page cache', half: 'half in the page cache', none: 'not in the page cache' } as const
const MODES = ['auto', 'prefer', 'never'] as const

/** Of how many stretches of the file one is in the page cache; 0: nothing is. */
const STEPS = { all: 1, half: 2, none: 0 } as const

/** What alternates where half of the file is in the page cache. */
const STRETCH_BYTES = 16 << 20

/** Reads of a loader. */
const LENGTH = 4 << 20

/** The one benchmark. */
export const RESIDENTS: readonly Benchmark[] = [{ name: 'resident-read', run }]

async function run(context: BenchContext): Promise<Result> {
  const { bytes, native, scratch, showProgress, rounds } = context
  const file = await scratch.file('read', bytes)
  const inEnvironment = fileEnvironment(context, 'read', file)
  const contender = (direct: ResidentParameters['direct'], state: (typeof STATES)[number]): Contender => ({
    name: `${direct}, ${state}`,
    configuration: `direct: '${direct}', ${WORDS[state]}`,
    run: () =>
      inEnvironment(async ({ path, seed }) => {
        if (STEPS[state] > 0) await native.run('warm', { path, stretch: STRETCH_BYTES, step: STEPS[state] })
        const { source } = scratch
        return runChild<ResidentParameters>('deepring-resident', {
          file: path,
          bytes,
          seed,
          source,
          direct,
          length: LENGTH,
        })
      }),
  })
  const groups = STATES.map((state) => comparison(MODES.map((mode) => contender(mode, state))))
  await runRounds(groups, rounds, showProgress)
  return {
    name: 'resident-read',
    title: 'Reading a file that is in the page cache, or not',
    scale: 'bytes',
    sweeps: [],
    comparisons: groups,
    figures: STATES.map((state, index) => againstBetter(state, groups[index]!)),
  }
}

/** The speed of `auto` against that of the better pure mode, round by round. */
function againstBetter(state: (typeof STATES)[number], group: Comparison): Figure {
  const values = group.rounds.flatMap((round) => {
    const [auto, ...pure] = MODES.map((mode) => round.get(`${mode}, ${state}`)?.wallSeconds)
    const times = pure.filter((seconds) => seconds !== undefined)
    return auto === undefined || times.length < 2 ? [] : [Math.min(...times) / auto]
  })
  const reason = [...group.missing.values()][0]
  const meaning = `speed of 'auto' / the better of 'prefer' and 'never', ${WORDS[state]}`
  return figure(`resident-${state}`, meaning, 'x', { floor: FLOOR }, values, reason)
}
