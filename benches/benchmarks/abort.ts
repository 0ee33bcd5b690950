/**
 * `abort`: a signal ends a hundred thousand reads of the large file that wait.
 */

import type { RandomParameters } from '../children/parameters.ts'
import { runChild } from '../contender.ts'
import { figure } from '../figure.ts'
import { comparison, runRounds, type Contender } from '../../lib/measure/rounds.ts'
import type { BenchContext, Benchmark, Result } from '../bench-context.ts'
import { fileEnvironment } from '../run-environment.ts'

const READS = 100_000

/** The one benchmark. */
export const ABORTS: readonly Benchmark[] = [{ name: 'abort', run }]

async function run(context: BenchContext): Promise<Result> {
  const { bytes, scratch, showProgress } = context
  const file = await scratch.file('read', bytes)
  const inEnvironment = fileEnvironment(context, 'read', file)
  const deepring: Contender = {
    name: 'deepring',
    configuration: `${READS} reads, one signal`,
    run: () =>
      inEnvironment(({ path, seed }) =>
        runChild<RandomParameters>('deepring-abort', {
          file: path,
          bytes,
          seed,
          source: scratch.source,
          operations: READS,
          depth: READS,
          order: seed,
        }),
      ),
  }
  const group = comparison([deepring])
  await runRounds([group], context.rounds, showProgress)
  const outcomes = group.rounds.flatMap((round) => [...round.values()])
  const values = (name: string): number[] => outcomes.map(({ extra }) => extra?.[name] ?? NaN)
  const ratios = (of: string, to: string): number[] => {
    const bare = values(to)
    return values(of).map((ms, index) => ms / (bare[index] ?? NaN))
  }
  const reason = group.missing.get('deepring')
  const figures = [
    figure('abort-cross', 'the call into the engine', 'ms', { ceiling: 2 }, values('crossMs'), reason),
    figure('abort-tick', 'requests settled in a tick', '', { ceiling: 512 }, values('settledMax'), reason),
    figure('abort-turn', 'the longest turn of the event loop', 'ms', { ceiling: 5 }, values('turnMs'), reason),
    figure(
      'abort-cpu',
      'CPU of the process against that of as many promises that are only rejected',
      'x',
      { ceiling: 1.5 },
      ratios('cpuMs', 'bareMs'),
      reason,
    ),
    figure('abort-main-cpu', 'the same of the JavaScript thread', 'x', {}, ratios('mainMs', 'bareMainMs'), reason),
  ]
  return {
    name: 'abort',
    title: 'A hundred thousand reads, aborted',
    scale: 'operations',
    sweeps: [],
    comparisons: [group],
    figures,
  }
}
