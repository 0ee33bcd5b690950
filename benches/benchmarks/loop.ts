/**
 * `loop`: how late the event loop's timers are while deepring reads the large file ten times.
 */

import type { FileParameters } from '../children/parameters.ts'
import { runChild } from '../contender.ts'
import { figure } from '../figure.ts'
import { comparison, runRounds, type Contender } from '../../lib/measure/rounds.ts'
import type { BenchContext, Benchmark, Result } from '../bench-context.ts'
import { fileEnvironment } from '../run-environment.ts'

const PASSES = 10
const CEILING_MS = 5

/**
 * Ten gigabytes a round give the p99 thousands of samples. Three rounds show whether it repeats.
 */
const ROUNDS = 3

type Parameters = FileParameters & { readonly passes: number }

/** The one benchmark. */
export const LOOPS: readonly Benchmark[] = [{ name: 'loop-delay', run }]

async function run(context: BenchContext): Promise<Result> {
  const { bytes, scratch, showProgress } = context
  const file = await scratch.file('read', bytes)
  const inEnvironment = fileEnvironment(context, 'read', file)
  const deepring: Contender = {
    name: 'deepring',
    configuration: `defaults, ${PASSES} passes`,
    run: () =>
      inEnvironment(({ path, seed }) =>
        runChild<Parameters>('deepring-delay', { file: path, bytes, seed, source: scratch.source, passes: PASSES }),
      ),
  }
  const group = comparison([deepring])
  await runRounds([group], Math.min(ROUNDS, context.rounds), showProgress)
  const outcomes = group.rounds.flatMap((round) => [...round.values()])
  const late = outcomes.map(({ extra }) => (extra?.['busyP99Ms'] ?? NaN) - (extra?.['idleP99Ms'] ?? NaN))
  const latest = outcomes.map(({ extra }) => extra?.['busyMaxMs'] ?? NaN)
  const reason = group.missing.get('deepring')
  const figures = [
    figure(
      'loop-delay-p99',
      'event-loop delay p99 while reading, less that of the idle process',
      'ms',
      { ceiling: CEILING_MS },
      late,
      reason,
    ),
    figure('loop-delay-max', 'largest event-loop delay while reading', 'ms', {}, latest, reason),
  ]
  return {
    name: 'loop-delay',
    title: 'The event loop while reading',
    scale: 'bytes',
    sweeps: [],
    comparisons: [group],
    figures,
  }
}
