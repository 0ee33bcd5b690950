/**
 * `swap`: one step over optimizer states of four times the budget, and experts of a model that are asked for while others
 * are read ahead.
 *
 * | comparison | its middle | around it |
 * |---|---|---|
 * | step | the swapper | fio, reading and writing as much at once; the predecessor's order, which waits; its pipeline |
 * | overlap | the swapper, with as much to compute as to move | the predecessor's order, which waits; its pipeline |
 * | read | one read of the file each | a store alone; a store beside its own plan |
 */

import { bestFio, fioMixedCandidates } from '../contenders/fio.ts'
import {
  asLongAsItMoves,
  demanding,
  predecessorSwapCandidates,
  preparedExperts,
  swapping,
  type Order,
} from '../contenders/swap.ts'
import { outcomeFigure, pairFigure, ratioFigure, type Bar, type Figure } from '../figure.ts'
import type { Outcome } from '../../lib/measure/outcome.ts'
import { comparison, runRounds, type Comparison, type Contender, type Entry } from '../../lib/measure/rounds.ts'
import { sweep, type Sweep } from '../sweep.ts'
import type { BenchContext, Benchmark, Result } from '../bench-context.ts'

/** The goals are 0.95, 1.8 and 0.9. */
const DEVICE_FLOOR = 0.85
const PREDECESSOR_FLOOR = 1.3
const OVERLAP_FLOOR = 0.9
const DEMAND_CEILING = 1.2

/** How long the follower of a plan uses an expert, in microseconds: the plan takes less than half of a slow drive. */
const PACE = 8000

/** The three benchmarks. */
export const SWAPS: readonly Benchmark[] = [
  { name: 'swap-step', run: step },
  { name: 'swap-overlap', run: overlap },
  { name: 'swap-read', run: read },
]

async function step(context: BenchContext): Promise<Result> {
  const { scratch, rounds, showProgress } = context
  const file = await scratch.file('overwrite', context.bytes)
  const fio = await bestFio(context, 'reading and writing', fioMixedCandidates(context, file))
  const swapper = swapping(context, 'deepring', 0)
  const { sweeps, best } = await predecessors(context, 0)
  const group = comparison([best[0], swapper, fio.best, best[1]])
  await runRounds([group], rounds, showProgress)
  return {
    name: 'swap-step',
    title: 'One step over optimizer states of four times the budget, on the disk at the end',
    scale: 'bytes',
    sweeps: [...fio.sweeps, ...sweeps],
    comparisons: [group],
    figures: [
      ratioFigure(group, {
        name: 'swap-step-vs-fio',
        of: swapper.name,
        against: 'fio',
        metric: 'speed',
        floor: DEVICE_FLOOR,
      }),
      ...againstPredecessors(group, 'swap-step', swapper),
    ],
  }
}

async function overlap(context: BenchContext): Promise<Result> {
  const compute = await asLongAsItMoves(context)
  const swapper = swapping(context, 'deepring', compute)
  const { sweeps, best } = await predecessors(context, compute)
  const group = comparison([best[0], swapper, best[1]])
  await runRounds([group], context.rounds, context.showProgress)
  const meaning = 'the share of its computing, or of its moving, that a step hides behind the other'
  return {
    name: 'swap-overlap',
    title: 'A step that computes as long as it moves bytes',
    scale: 'bytes',
    sweeps,
    comparisons: [group],
    figures: [
      outcomeFigure('swap-overlap', group, swapper.name, meaning, 'x', { floor: OVERLAP_FLOOR }, hidden),
      ...againstPredecessors(group, 'swap-overlap', swapper, PREDECESSOR_FLOOR),
    ],
  }
}

/** The best configurations of the predecessor's two orders. */
async function predecessors(
  context: BenchContext,
  compute: number,
): Promise<{ sweeps: readonly Sweep[]; best: readonly [Entry, Entry] }> {
  const of = (name: string, order: Order): ReturnType<typeof sweep> =>
    sweep(name, predecessorSwapCandidates(context, name, order, compute), context.showProgress, 1)
  const waiting = await of('predecessor', 'waiting')
  const pipelined = await of('its pipeline', 'pipelined')
  return { sweeps: [waiting.sweep, pipelined.sweep], best: [waiting.best, pipelined.best] }
}

function againstPredecessors(group: Comparison, name: string, { name: of }: Contender, floor?: number): Figure[] {
  const bar = floor === undefined ? {} : { floor }
  return [
    ratioFigure(group, { name: `${name}-vs-predecessor`, of, against: 'predecessor', metric: 'speed', ...bar }),
    ratioFigure(group, { name: `${name}-vs-pipeline`, of, against: 'its pipeline', metric: 'speed' }),
  ]
}

/** What a step saves of its computing and its moving one after the other, as a share of the shorter. */
function hidden({ wallSeconds, extra }: Outcome): number | undefined {
  const [io, compute] = [extra?.['ioSeconds'], extra?.['computeSeconds']]
  return io === undefined || compute === undefined ? undefined : (io + compute - wallSeconds) / Math.min(io, compute)
}

async function read(context: BenchContext): Promise<Result> {
  const file = await preparedExperts(context)
  const raw = demanding(context, 'raw', file, PACE)
  const alone = demanding(context, 'alone', file, PACE)
  const beside = demanding(context, 'beside', file, PACE)
  const group = comparison([alone, raw, beside])
  await runRounds([group], context.rounds, context.showProgress)
  return {
    name: 'swap-read',
    title: 'Experts of a model that are asked for',
    scale: 'bytes',
    sweeps: [],
    comparisons: [group],
    figures: [
      medianFigure('swap-read-alone', group, alone, raw, {}),
      medianFigure('swap-read-beside-plan', group, beside, raw, { ceiling: DEMAND_CEILING }),
    ],
  }
}

function medianFigure(name: string, group: Comparison, of: Contender, against: Contender, bar: Bar): Figure {
  const meaning = `median time of an expert of 4 MiB: ${of.configuration} / ${against.configuration}`
  return pairFigure(name, group, [of.name, against.name], meaning, 'x', bar, (mine, theirs) => {
    const [time, rival] = [mine.extra?.['medianMs'], theirs.extra?.['medianMs']]
    return time === undefined || rival === undefined ? undefined : time / rival
  })
}
