/**
 * `random`: pages of 4 KiB at random positions of the large file, 128 at a time, from Rust and from
 * JavaScript, and without a ring by as many threads as node:fs has.
 *
 * All contenders but fio read the same list of positions. fio draws its own, as evenly.
 */

import { deepringRandom, deepringRandomRust, deepringRandomThreads } from '../contenders/deepring.ts'
import { bestFio, fioRandomCandidates } from '../contenders/fio.ts'
import { nodeRandomCandidates, WIDE_POOL_THREADS } from '../contenders/node.ts'
import { ratioFigure, type Ratio } from '../figure.ts'
import { randomReads } from '../probe.ts'
import { comparison, runRounds } from '../../lib/measure/rounds.ts'
import type { BenchContext, Benchmark, Result } from '../bench-context.ts'
import { sweep } from '../sweep.ts'

const ORDER = 7

/** With a ring, and without. */
export const RANDOMS: readonly Benchmark[] = [
  { name: 'random-read', run },
  { name: 'random-threads', run: runThreads },
]

async function run(context: BenchContext): Promise<Result> {
  const { bytes, showProgress, rounds } = context
  const file = await context.scratch.file('read', bytes)
  const reads = await randomReads(context, file, ORDER)
  const fio = await bestFio(context, 'random', fioRandomCandidates(context, file, reads))
  const node = await sweep('node random', nodeRandomCandidates(context, file, reads), showProgress)

  const rust = comparison([fio.best, deepringRandomRust(context, file, reads)])
  const script = comparison([deepringRandom(context, file, reads), node.best])
  await runRounds([rust, script], rounds, showProgress)
  const against = node.best.name
  const ofRust: Ratio[] = [
    { name: 'random-rust-vs-fio', of: 'deepring in Rust', against: 'fio', metric: 'speed', floor: 0.9 },
    { name: 'random-rust-cpu-vs-fio', of: 'deepring in Rust', against: 'fio', metric: 'cpu' },
  ]
  const ofScript: Ratio[] = [
    { name: 'random-js-vs-node', of: 'deepring', against, metric: 'speed', floor: 1 },
    { name: 'random-js-cpu-vs-node', of: 'deepring', against, metric: 'cpu', ceiling: 0.5 },
  ]
  const figures = [
    ...ofRust.map((ratio) => ratioFigure(rust, ratio)),
    ...ofScript.map((ratio) => ratioFigure(script, ratio)),
  ]
  return {
    name: 'random-read',
    title: 'Reading 4 KiB pages at random, 128 at a time',
    scale: 'operations',
    sweeps: [...fio.sweeps, node.sweep],
    comparisons: [rust, script],
    figures,
  }
}

async function runThreads(context: BenchContext): Promise<Result> {
  const { bytes, showProgress, rounds } = context
  const file = await context.scratch.file('read', bytes)
  const reads = await randomReads(context, file, ORDER)
  const node = await sweep('node random', nodeRandomCandidates(context, file, reads), showProgress)
  const group = comparison([deepringRandomThreads(context, file, reads, WIDE_POOL_THREADS), node.best])
  await runRounds([group], rounds, showProgress)
  const ratio = { of: 'deepring threads', against: node.best.name } as const
  return {
    name: 'random-threads',
    title: `Reading 4 KiB pages at random, by ${WIDE_POOL_THREADS} threads`,
    scale: 'operations',
    sweeps: [node.sweep],
    comparisons: [group],
    figures: [
      ratioFigure(group, { ...ratio, name: 'random-threads-vs-node', metric: 'speed', floor: 1 }),
      ratioFigure(group, { ...ratio, name: 'random-threads-cpu-vs-node', metric: 'cpu', ceiling: 1 }),
    ],
  }
}
