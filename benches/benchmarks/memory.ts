/**
 * `memory`: the peak of a process that reads the large file into one buffer, less the idle process
 * and the buffer itself; and what reads take while they wait.
 */

import type { FileParameters, RandomParameters } from '../children/parameters.ts'
import { runChild } from '../contender.ts'
import { figure, outcomeFigure, type Bar } from '../figure.ts'
import { comparison, runRounds, type Contender } from '../../lib/measure/rounds.ts'
import { READ_SEED } from '../scratch.ts'
import type { BenchContext, Benchmark, Result } from '../bench-context.ts'
import { fileEnvironment } from '../run-environment.ts'

const MIB = 2 ** 20
const CEILING_MIB = 64

/** A peak hardly varies. */
const ROUNDS = 3

/** Reads that wait. */
const QUEUED = 100_000
const ORDER = 7

/** Seven tenths of what a read took before requests had one promise each: 468 B of heap. */
const QUEUED_HEAP_CEILING = 328

/** The benchmarks. */
export const MEMORIES: readonly Benchmark[] = [
  { name: 'memory-peak', run },
  { name: 'memory-queued', run: runQueued },
]

async function run(context: BenchContext): Promise<Result> {
  const { scratch } = context
  const file = await scratch.file('read', context.bytes)
  const inEnvironment = fileEnvironment(context, 'read', file)
  const contender = (name: string, configuration: string, bytes: number): Contender => ({
    name,
    configuration,
    run: () =>
      inEnvironment(({ path }) =>
        runChild<FileParameters>('deepring-memory', { file: path, bytes, seed: READ_SEED, source: scratch.source }),
      ),
  })
  const group = comparison([
    contender('idle', 'deepring imported, no requests', 0),
    contender('deepring', 'defaults', context.bytes),
  ])
  await runRounds([group], Math.min(ROUNDS, context.rounds), context.showProgress)
  const beyond = group.rounds.flatMap((round) => {
    const idle = round.get('idle')
    const reading = round.get('deepring')
    return idle === undefined || reading === undefined
      ? []
      : [(reading.peakBytes - idle.peakBytes - context.bytes) / MIB]
  })
  const reason = group.missing.get('idle') ?? group.missing.get('deepring')
  const figures = [
    figure(
      'memory-peak-beyond-buffer',
      'peak memory less the idle process and the buffer',
      'MiB',
      { ceiling: CEILING_MIB },
      beyond,
      reason,
    ),
  ]
  return {
    name: 'memory-peak',
    title: 'Memory while reading',
    scale: 'none',
    sweeps: [],
    comparisons: [group],
    figures,
  }
}

async function runQueued(context: BenchContext): Promise<Result> {
  const { scratch } = context
  const file = await scratch.file('read', context.bytes)
  const inEnvironment = fileEnvironment(context, 'read', file)
  const contender: Contender = {
    name: 'deepring',
    configuration: `${QUEUED} reads of 4 KiB in one tick`,
    run: () =>
      inEnvironment(({ path }) =>
        runChild<RandomParameters>('deepring-queued', {
          file: path,
          bytes: context.bytes,
          seed: READ_SEED,
          source: scratch.source,
          operations: QUEUED,
          depth: QUEUED,
          order: ORDER,
        }),
      ),
  }
  const group = comparison([contender])
  await runRounds([group], Math.min(ROUNDS, context.rounds), context.showProgress)
  const queued = (name: string, what: string, key: string, bar: Bar) =>
    outcomeFigure(name, group, 'deepring', `${what} of a queued read`, 'B', bar, ({ extra }) => extra?.[key])
  return {
    name: 'memory-queued',
    title: 'Memory of queued reads',
    scale: 'none',
    sweeps: [],
    comparisons: [group],
    figures: [
      queued('memory-queued-heap', 'heap', 'heapBytes', { ceiling: QUEUED_HEAP_CEILING }),
      queued('memory-queued-resident', 'resident memory', 'residentBytes', {}),
    ],
  }
}
