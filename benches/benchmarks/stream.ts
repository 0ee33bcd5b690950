/**
 * `stream`: one large file: read, overwritten, created, created and synced.
 *
 * | comparison | its middle | around it |
 * |---|---|---|
 * | disk | deepring | fio's best, the predecessor's best and its default |
 * | node (reading) | fs.readFile | deepring with and without its allocation inside the region |
 * | node (reading) | deepring | four FileHandles, O_DIRECT in plain JavaScript |
 * | path | deepring | its threads backend; an ordinary Buffer |
 * | unaligned (writing) | deepring | the same from memory of which every byte is copied |
 */

import { deepringStream, deepringThreads } from '../contenders/deepring.ts'
import { bestFio, fioStreamCandidates } from '../contenders/fio.ts'
import { nodeStream } from '../contenders/node.ts'
import { warmed } from '../contenders/warm.ts'
import { predecessorCandidates, predecessorDefault } from '../contenders/predecessor.ts'
import { ratioFigure, type Ratio } from '../figure.ts'
import { comparison, runRounds, type Comparison, type Contender } from '../../lib/measure/rounds.ts'
import type { BenchContext, Benchmark, Result } from '../bench-context.ts'
import { sweep, type Sweep } from '../sweep.ts'
import type { Task } from '../task.ts'

const FIO_FLOOR = 0.95
const PREDECESSOR_FLOOR = 0.97
const THREADS_FLOOR = 0.9
const BUFFER_FLOOR = 0.85

/** Rounds of a comparison that is only reported. */
const REPORTED_ROUNDS = 3

/** The four benchmarks. */
export const STREAMS: readonly Benchmark[] = [
  { name: 'stream-read', run: read },
  { name: 'stream-overwrite', run: overwrite },
  { name: 'stream-new', run: create },
  { name: 'stream-sync', run: createAndSync },
]

async function read(context: BenchContext): Promise<Result> {
  const file = await context.scratch.file('read', context.bytes)
  const deepring = deepringStream(context, 'read', file)
  const allocating = deepringStream(context, 'read', file, 'allocating')
  const disk = await rivals(context, 'read', file)
  const node = comparison([deepring, nodeStream(context, 'read', file, 'readFile'), allocating])
  const bestOfNode = comparison(
    [nodeStream(context, 'read', file, 'handles'), deepring, nodeStream(context, 'read', file, 'direct')],
    REPORTED_ROUNDS,
  )
  const path = comparison([
    deepringThreads(context, 'read', file),
    deepring,
    deepringStream(context, 'read', file, 'buffer'),
  ])
  const cold = 'fs.readFile'
  return run(context, 'stream-read', 'Reading one large file', disk.sweeps, [
    [disk.comparison, disk.ratios('stream-read')],
    [
      node,
      [
        { name: 'stream-read-vs-readfile', of: 'deepring', against: cold, metric: 'speed', floor: 1, exclusive: true },
        { name: 'stream-read-cpu-vs-readfile', of: 'deepring', against: cold, metric: 'cpu', ceiling: 0.1 },
        {
          name: 'stream-read-allocating-cpu-vs-readfile',
          of: allocating.name,
          against: cold,
          metric: 'cpu',
          ceiling: 0.6,
        },
        { name: 'stream-read-allocating-vs-readfile', of: allocating.name, against: cold, metric: 'speed' },
      ],
    ],
    [
      bestOfNode,
      [
        { name: 'stream-read-vs-filehandles', of: 'deepring', against: '4 FileHandles', metric: 'speed' },
        { name: 'stream-read-vs-js-direct', of: 'deepring', against: 'JS O_DIRECT', metric: 'speed' },
        { name: 'stream-read-cpu-vs-js-direct', of: 'deepring', against: 'JS O_DIRECT', metric: 'cpu' },
      ],
    ],
    [
      path,
      [
        threads('stream-read'),
        {
          name: 'stream-read-buffer-vs-engine-memory',
          of: 'deepring into Buffer',
          against: 'deepring',
          metric: 'speed',
          floor: BUFFER_FLOOR,
        },
      ],
    ],
  ])
}

async function overwrite(context: BenchContext): Promise<Result> {
  const file = await context.scratch.file('overwritten', context.bytes)
  const disk = await rivals(context, 'overwrite', file)
  const deepring = deepringStream(context, 'overwrite', file)
  const path = comparison([deepringThreads(context, 'overwrite', file), deepring])
  const unaligned = copying(context, deepring, deepringStream(context, 'overwrite', file, 'copied'))
  return run(context, 'stream-overwrite', 'Overwriting one large file', disk.sweeps, [
    [disk.comparison, disk.ratios('stream-overwrite')],
    [path, [threads('stream-overwrite')]],
    [unaligned, [copied('stream-overwrite')]],
  ])
}

async function create(context: BenchContext): Promise<Result> {
  const disk = await rivals(context, 'new', '')
  const deepring = deepringStream(context, 'new', '')
  const path = comparison([deepringThreads(context, 'new', ''), deepring, nodeStream(context, 'new', '', 'writeFile')])
  const unaligned = copying(context, deepring, deepringStream(context, 'new', '', 'copied'))
  return run(context, 'stream-new', 'Writing one large new file', disk.sweeps, [
    [disk.comparison, disk.ratios('stream-new')],
    [
      path,
      [
        threads('stream-new'),
        { name: 'stream-new-vs-writefile', of: 'deepring', against: 'fs.writeFile', metric: 'speed' },
      ],
    ],
    [unaligned, [copied('stream-new')]],
  ])
}

async function createAndSync(context: BenchContext): Promise<Result> {
  const fio = await bestFio(context, 'sync', fioStreamCandidates(context, 'sync', ''))
  const disk = comparison([
    fio.best,
    deepringStream(context, 'sync', ''),
    nodeStream(context, 'sync', '', 'writeFileFlushed'),
  ])
  return run(context, 'stream-sync', 'Writing and syncing one large new file', fio.sweeps, [
    [
      disk,
      [
        { name: 'stream-sync-vs-fio', of: 'deepring', against: 'fio', metric: 'speed', floor: FIO_FLOOR },
        { name: 'stream-sync-vs-writefile-flush', of: 'deepring', against: 'fs.writeFile flush', metric: 'speed' },
      ],
    ],
  ])
}

/**
 * The rivals that use the disk as deepring does, each in its best configuration, with deepring in
 * the middle.
 */
async function rivals(
  context: BenchContext,
  task: Task,
  file: string,
): Promise<{ comparison: Comparison; sweeps: readonly Sweep[]; ratios: (name: string) => Ratio[] }> {
  const fio = await bestFio(context, task, fioStreamCandidates(context, task, file))
  const old = await sweep(`predecessor ${task}`, predecessorCandidates(context, task, file), context.showProgress)
  const usual = predecessorDefault(context, task, file)
  return {
    comparison: comparison([fio.best, deepringStream(context, task, file), old.best, usual]),
    sweeps: [...fio.sweeps, old.sweep],
    ratios: (name) => [
      { name: `${name}-vs-fio`, of: 'deepring', against: 'fio', metric: 'speed', floor: FIO_FLOOR },
      {
        name: `${name}-vs-predecessor`,
        of: 'deepring',
        against: 'predecessor',
        metric: 'speed',
        floor: PREDECESSOR_FLOOR,
      },
      { name: `${name}-vs-predecessor-default`, of: 'deepring', against: usual.name, metric: 'speed' },
    ],
  }
}

function threads(name: string): Ratio {
  return {
    name: `${name}-threads-vs-uring`,
    of: 'deepring threads',
    against: 'deepring',
    metric: 'speed',
    floor: THREADS_FLOOR,
  }
}

/** The blocks that bytes are copied through are fresh in each process, so the host backs their memory before. */
function copying(context: BenchContext, ...contenders: readonly Contender[]): Comparison {
  return comparison(contenders.map((contender) => warmed(context, contender)))
}

/** Writing from memory of which every byte is copied. */
function copied(name: string): Ratio {
  return {
    name: `${name}-copied-vs-engine-memory`,
    of: 'deepring copied',
    against: 'deepring',
    metric: 'speed',
    floor: BUFFER_FLOOR,
  }
}

async function run(
  context: BenchContext,
  name: string,
  title: string,
  sweeps: readonly Sweep[],
  plan: readonly (readonly [Comparison, readonly Ratio[]])[],
): Promise<Result> {
  const comparisons = plan.map(([group]) => group)
  await runRounds(comparisons, context.rounds, context.showProgress)
  return {
    name,
    title,
    scale: 'bytes',
    sweeps,
    comparisons,
    figures: plan.flatMap(([group, ratios]) => ratios.map((ratio) => ratioFigure(group, ratio))),
  }
}
