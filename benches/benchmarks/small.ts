/**
 * `small`: a thousand tensors of 64 KiB to 1 MiB, one file each: read, overwritten, created.
 *
 * Every contender works as its users would. deepring uses an AioHandle with its defaults, the
 * predecessor a handle with its best parallelism, Node readFile and writeFile.
 */

import { deepringSmall } from '../contenders/deepring.ts'
import { nodeSmall } from '../contenders/node.ts'
import { predecessorSmallCandidates } from '../contenders/predecessor.ts'
import { ratioFigure, type Ratio } from '../figure.ts'
import { sizes } from '../../lib/measure/positions.ts'
import { comparison, runRounds } from '../../lib/measure/rounds.ts'
import type { BenchContext, Benchmark, Result } from '../bench-context.ts'
import { sweep } from '../sweep.ts'
import type { Task } from '../task.ts'

const COUNT_MAX = 1000
const COUNT_MIN = 16
const SMALLEST_BYTES = 64 * 1024
const LARGEST_BYTES = 1024 * 1024
const SIZES_SEED = 2026

/** Bytes of the large file for each small one: 1000 at the default size. */
const BYTES_PER_TENSOR = 2 ** 30 / COUNT_MAX

const WORDS = {
  read: { name: 'small-read', title: 'Reading small tensors, one file each' },
  overwrite: { name: 'small-overwrite', title: 'Overwriting small tensors, one file each' },
  new: { name: 'small-create', title: 'Creating small tensors, one file each' },
} as const

/** The three benchmarks. */
export const SMALLS: readonly Benchmark[] = (['read', 'overwrite', 'new'] as const).map((task) => ({
  name: WORDS[task].name,
  run: (context) => run(context, task),
}))

async function run(context: BenchContext, task: keyof typeof WORDS & Task): Promise<Result> {
  const { name, title } = WORDS[task]
  const count = Math.max(COUNT_MIN, Math.min(COUNT_MAX, Math.round(context.bytes / BYTES_PER_TENSOR)))
  const tensors = await context.scratch.tensors(name, sizes(count, SMALLEST_BYTES, LARGEST_BYTES, SIZES_SEED))
  const old = await sweep(
    `predecessor ${name}`,
    predecessorSmallCandidates(context, task, tensors),
    context.showProgress,
  )
  const node = nodeSmall(context, task, tensors)
  const group = comparison([old.best, deepringSmall(context, task, tensors), node])
  await runRounds([group], context.rounds, context.showProgress)
  const reads = task === 'read'
  const ratios: Ratio[] = [
    {
      name: `${name}-vs-predecessor`,
      of: 'deepring',
      against: 'predecessor',
      metric: 'speed',
      ...(reads ? { floor: 1 } : {}),
    },
    {
      name: `${name}-cpu-vs-predecessor`,
      of: 'deepring',
      against: 'predecessor',
      metric: 'cpu',
      ...(reads ? { ceiling: 0.5 } : {}),
    },
    { name: `${name}-vs-node`, of: 'deepring', against: node.name, metric: 'speed' },
  ]
  return {
    name,
    title: `${title} (${count})`,
    scale: 'bytes',
    sweeps: [old.sweep],
    comparisons: [group],
    figures: ratios.map((ratio) => ratioFigure(group, ratio)),
  }
}
