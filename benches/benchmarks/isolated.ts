/**
 * `isolated`: what deepring adds to a 4 KiB read of a drive when nothing else is in flight.
 *
 * Single reads at random positions, each in a turn of the event loop of its own. Those of deepring, of node:fs by promises, and
 * blocking ones of the drive, past the page cache, alternate in one process.
 */

import type { RandomParameters } from '../children/parameters.ts'
import { runChild } from '../contender.ts'
import { outcomeFigure } from '../figure.ts'
import { comparison, runRounds, type Contender } from '../../lib/measure/rounds.ts'
import type { BenchContext, Benchmark, Result } from '../bench-context.ts'
import { fileEnvironment } from '../run-environment.ts'

const ORDER = 19

/** Reads of each kind in a run. */
const READS = 2000

/** The one benchmark. */
export const ISOLATEDS: readonly Benchmark[] = [{ name: 'isolated', run }]

async function run(context: BenchContext): Promise<Result> {
  const { bytes, scratch, showProgress, rounds } = context
  const file = await scratch.file('read', bytes)
  const inEnvironment = fileEnvironment(context, 'read', file)
  const deepring: Contender = {
    name: 'deepring',
    configuration: `${READS} single reads, beside as many of the drive and of node:fs`,
    run: () =>
      inEnvironment(({ path, seed }) =>
        runChild<RandomParameters>('deepring-isolated', {
          file: path,
          bytes,
          seed,
          source: scratch.source,
          operations: READS,
          depth: 1,
          order: ORDER,
        }),
      ),
  }
  const group = comparison([deepring])
  await runRounds([group], rounds, showProgress)
  const median = (of: string, meaning: string, bar: { ceiling?: number } = {}) =>
    outcomeFigure(`isolated-${of}`, group, 'deepring', meaning, 'us', bar, ({ extra }) => extra?.[`${of}Us`])
  return {
    name: 'isolated',
    title: 'Reading one page of 4 KiB at a time',
    scale: 'none',
    sweeps: [],
    comparisons: [group],
    figures: [
      median('added', 'median of a 4 KiB read, less that of a blocking read of the drive', { ceiling: 60 }),
      median('added-by-node', 'the same of node:fs by promises, past the page cache'),
      median('drive', 'median of a blocking 4 KiB read of the drive'),
    ],
  }
}
