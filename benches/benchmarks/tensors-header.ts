/**
 * `tensors-header`: a file with as many tensors as the largest published model, opened.
 */

import { runChild } from '../contender.ts'
import { pairFigure } from '../figure.ts'
import { HEADER_TENSORS, largeHeader } from '../models/large-header.ts'
import { cpuSeconds } from '../../lib/measure/outcome.ts'
import { comparison, runRounds, type Contender } from '../../lib/measure/rounds.ts'
import type { BenchContext, Result } from '../bench-context.ts'
import { milliseconds } from './tensors-figures.ts'

/** What an open may take of the JavaScript thread. */
const CEILING_MS = 5

/** Rounds of what is only reported, or hardly varies. */
const FEW_ROUNDS = 3

/** The benchmark. */
export async function openHeader(context: BenchContext): Promise<Result> {
  const { scratch, rounds, showProgress } = context
  const file = largeHeader(scratch)
  const warm = largeHeader(scratch, HEADER_TENSORS >> 6)
  const contender = (method: 'deepring' | 'JSON.parse', watched: boolean): Contender => ({
    name: watched ? `${method} watched` : method,
    configuration: `${HEADER_TENSORS} tensors, opened, and all names looked at`,
    run: async () => {
      await scratch.evict(file)
      return runChild('tensors-header', { file, warm, method, watched, count: HEADER_TENSORS })
    },
  })
  const cost = comparison([contender('deepring', false), contender('JSON.parse', false)])
  const loop = comparison([contender('deepring', true), contender('JSON.parse', true)], FEW_ROUNDS)
  await runRounds([cost, loop], rounds, showProgress)
  const pair = ['deepring', 'JSON.parse'] as const
  const stall = 'longest stall of the event loop while'
  const cpu = 'CPU of the JavaScript thread while the file is opened'
  const [ours, theirs] = ['deepring watched', 'JSON.parse watched']
  const most = { ceiling: CEILING_MS }
  const figures = [
    milliseconds('tensors-header-stall', loop, ours, 'openStallMs', `${stall} the file is opened`, most),
    milliseconds('tensors-header-main-cpu', cost, 'deepring', 'openCpuMs', cpu, most),
    milliseconds('tensors-header-stall-names', loop, ours, 'walkStallMs', `${stall} all names are looked at`, {}),
    milliseconds('tensors-header-stall-json', loop, theirs, 'openStallMs', `${stall} JSON.parse takes it`, {}),
    pairFigure(
      'tensors-header-cpu-vs-json',
      cost,
      pair,
      'CPU of all threads, deepring / JSON.parse, with a look at all names',
      'x',
      { ceiling: 1 },
      (mine, other) => cpuSeconds(mine) / cpuSeconds(other),
    ),
    pairFigure(
      'tensors-header-memory-vs-json',
      cost,
      pair,
      'growth of the peak memory, deepring / JSON.parse',
      'x',
      { ceiling: 1 },
      (mine, other) => (mine.extra?.['grownBytes'] ?? NaN) / (other.extra?.['grownBytes'] ?? NaN),
    ),
  ]
  return {
    name: 'tensors-header',
    title: `Opening a file of ${HEADER_TENSORS} tensors`,
    scale: 'none',
    sweeps: [],
    comparisons: [cost, loop],
    figures,
  }
}
