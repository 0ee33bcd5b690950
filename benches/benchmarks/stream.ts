/**
 * `stream`: one large file, read, overwritten, created, created and on the disk.
 *
 * | heat | its middle | around it |
 * |---|---|---|
 * | disk | deepring | fio's best, the predecessor's best and its default |
 * | node (reading) | fs.readFile | deepring with and without its allocation inside the region |
 * | node (reading) | deepring | four FileHandles, O_DIRECT in plain JavaScript |
 * | path | deepring | its threads backend; an ordinary Buffer |
 */

import { deepringStream, deepringThreads } from '../contenders/deepring.ts'
import { fioStreamCandidates } from '../contenders/fio.ts'
import { nodeStream } from '../contenders/node.ts'
import { predecessorCandidates, predecessorDefault } from '../contenders/predecessor.ts'
import { ratioFigure, type Ratio } from '../figure.ts'
import { heat, race, type Entry, type Heat } from '../rounds.ts'
import type { Benchmark, Result, Setting } from '../bench-context.ts'
import { sweep, type Sweep } from '../sweep.ts'
import type { Task } from '../task.ts'

const FIO_FLOOR = 0.95
const PREDECESSOR_FLOOR = 0.97
const THREADS_FLOOR = 0.9
const BUFFER_FLOOR = 0.85

/** Rounds of what is only reported. */
const REPORTED_ROUNDS = 3

/** The four benchmarks. */
export const STREAMS: readonly Benchmark[] = [
  { name: 'stream-read', run: read },
  { name: 'stream-overwrite', run: overwrite },
  { name: 'stream-new', run: create },
  { name: 'stream-sync', run: createAndSync },
]

async function read(setting: Setting): Promise<Result> {
  const file = await setting.scratch.file('read', setting.bytes)
  const deepring = deepringStream(setting, 'read', file)
  const allocating = deepringStream(setting, 'read', file, 'allocating')
  const disk = await rivals(setting, 'read', file)
  const node = heat([deepring, nodeStream(setting, 'read', file, 'readFile'), allocating])
  const bestOfNode = heat(
    [nodeStream(setting, 'read', file, 'handles'), deepring, nodeStream(setting, 'read', file, 'direct')],
    REPORTED_ROUNDS,
  )
  const path = heat([deepringThreads(setting, 'read', file), deepring, deepringStream(setting, 'read', file, 'buffer')])
  const cold = 'fs.readFile'
  return run(setting, 'stream-read', 'Reading one large file', disk.sweeps, [
    [disk.heat, disk.ratios('stream-read')],
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

async function overwrite(setting: Setting): Promise<Result> {
  const file = await setting.scratch.file('overwritten', setting.bytes)
  const disk = await rivals(setting, 'overwrite', file)
  const path = heat([deepringThreads(setting, 'overwrite', file), deepringStream(setting, 'overwrite', file)])
  return run(setting, 'stream-overwrite', 'Overwriting one large file', disk.sweeps, [
    [disk.heat, disk.ratios('stream-overwrite')],
    [path, [threads('stream-overwrite')]],
  ])
}

async function create(setting: Setting): Promise<Result> {
  const disk = await rivals(setting, 'new', '')
  const deepring = deepringStream(setting, 'new', '')
  const path = heat([deepringThreads(setting, 'new', ''), deepring, nodeStream(setting, 'new', '', 'writeFile')])
  return run(setting, 'stream-new', 'Writing one large new file', disk.sweeps, [
    [disk.heat, disk.ratios('stream-new')],
    [
      path,
      [
        threads('stream-new'),
        { name: 'stream-new-vs-writefile', of: 'deepring', against: 'fs.writeFile', metric: 'speed' },
      ],
    ],
  ])
}

async function createAndSync(setting: Setting): Promise<Result> {
  const fio = await best(setting, 'sync', '')
  const disk = heat([
    fio.best,
    deepringStream(setting, 'sync', ''),
    nodeStream(setting, 'sync', '', 'writeFileFlushed'),
  ])
  return run(setting, 'stream-sync', 'Writing one large new file that is on the disk', fio.sweeps, [
    [
      disk,
      [
        { name: 'stream-sync-vs-fio', of: 'deepring', against: 'fio', metric: 'speed', floor: FIO_FLOOR },
        { name: 'stream-sync-vs-writefile-flush', of: 'deepring', against: 'fs.writeFile flush', metric: 'speed' },
      ],
    ],
  ])
}

/** The rivals that use the disk as deepring does, each at its best, with deepring in the middle. */
async function rivals(
  setting: Setting,
  task: Task,
  file: string,
): Promise<{ heat: Heat; sweeps: readonly Sweep[]; ratios: (name: string) => Ratio[] }> {
  const fio = await best(setting, task, file)
  const old = await sweep(`predecessor ${task}`, predecessorCandidates(setting, task, file), setting.tell)
  const usual = predecessorDefault(setting, task, file)
  return {
    heat: heat([fio.best, deepringStream(setting, task, file), old.best, usual]),
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

async function best(setting: Setting, task: Task, file: string): Promise<{ best: Entry; sweeps: readonly Sweep[] }> {
  if ('missing' in setting.fio) return { best: { name: 'fio', missing: setting.fio.missing }, sweeps: [] }
  const found = await sweep(`fio ${task}`, fioStreamCandidates(setting, task, file), setting.tell)
  return { best: found.best, sweeps: [found.sweep] }
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

async function run(
  setting: Setting,
  name: string,
  title: string,
  sweeps: readonly Sweep[],
  plan: readonly (readonly [Heat, readonly Ratio[]])[],
): Promise<Result> {
  const heats = plan.map(([group]) => group)
  await race(heats, setting.rounds, setting.tell)
  return {
    name,
    title,
    scale: 'bytes',
    sweeps,
    heats,
    figures: plan.flatMap(([group, ratios]) => ratios.map((ratio) => ratioFigure(group, ratio))),
  }
}
