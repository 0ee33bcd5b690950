/**
 * `checkpoint`: checkpoints of a real model, written, captured, taken over, verified and loaded by other readers.
 *
 * | comparison | its middle | around it |
 * |---|---|---|
 * | save | one write of as many bytes, and fsync | one writer; two writers, one of them in a worker |
 * | capture | memcpy by one thread | a save that copies, in a process that did it before, from JavaScript and from Rust |
 * | capture | memcpy by one thread | the first one of a process, from Rust |
 * | incremental | all tensors | a tenth of them, the rest taken over |
 * | verify | verify | fio's best read |
 * | reshard | two readers of tensors in four pieces | one load of tensors in one piece |
 */

import { checkpointing, checkpointingRust, preparedCheckpoint, readingCheckpoint } from '../contenders/checkpoint.ts'
import { bestFio, fioStreamCandidates } from '../contenders/fio.ts'
import { warmed } from '../contenders/warm.ts'
import { pairFigure, ratioFigure, type Figure } from '../figure.ts'
import { fewTensorsModel } from '../models/model.ts'
import { comparison, runRounds, type Comparison } from '../../lib/measure/rounds.ts'
import type { BenchContext, Benchmark, Result } from '../bench-context.ts'
import { bounced } from './tensors-figures.ts'

/** The goals are 0.95, 0.95, 1.0, 0.11, 0.97 and 0.97. */
const SAVE_FLOOR = 0.85
const TWO_WRITERS_FLOOR = 0.85
const CAPTURE_CEILING = 1.15
const INCREMENTAL_CEILING = 0.15
const VERIFY_FLOOR = 0.9
const RESHARD_FLOOR = 0.9

/** The five benchmarks. */
export const CHECKPOINTS: readonly Benchmark[] = [
  { name: 'checkpoint-save', run: save },
  { name: 'checkpoint-capture', run: capture },
  { name: 'checkpoint-incremental', run: incremental },
  { name: 'checkpoint-verify', run: verify },
  { name: 'checkpoint-reshard', run: reshard },
]

async function save(context: BenchContext): Promise<Result> {
  const model = await fewTensorsModel(context)
  const rust = checkpointingRust(context, 'one writer in Rust', 'one', model)
  const one = checkpointing(context, 'one writer', 'one', model)
  const raw = checkpointing(context, 'raw write', 'raw', model)
  const rawRust = checkpointingRust(context, 'raw write in Rust', 'raw', model)
  const two = checkpointing(context, 'two writers', 'two', model)
  const group = comparison([one, raw, two])
  const native = comparison([rust, rawRust])
  await runRounds([group, native], context.rounds, context.showProgress)
  const speed = { metric: 'speed' } as const
  const figures = [
    ratioFigure(group, {
      name: 'checkpoint-save-vs-raw',
      of: one.name,
      against: raw.name,
      ...speed,
      floor: SAVE_FLOOR,
    }),
    ratioFigure(group, {
      name: 'checkpoint-two-writers-vs-raw',
      of: two.name,
      against: raw.name,
      ...speed,
      floor: TWO_WRITERS_FLOOR,
    }),
    ratioFigure(native, {
      name: 'checkpoint-save-rust-vs-raw',
      of: rust.name,
      against: rawRust.name,
      ...speed,
      floor: SAVE_FLOOR,
    }),
    ratioFigure(native, { name: 'checkpoint-save-cpu-vs-raw', of: rust.name, against: rawRust.name, metric: 'cpu' }),
  ]
  const title = `A checkpoint of ${model.count} tensors, on the disk at the end`
  return { ...result('checkpoint-save', title, group, figures), comparisons: [group, native] }
}

async function capture(context: BenchContext): Promise<Result> {
  const model = await fewTensorsModel(context)
  const first = checkpointingRust(context, 'first captured in Rust', 'first-capture', model)
  const rust = checkpointingRust(context, 'captured in Rust', 'capture', model)
  const copied = checkpointingRust(context, 'memcpy', 'copy', model)
  const later = checkpointing(context, 'captured', 'capture', model)
  const group = comparison([later, copied, rust])
  const fresh = comparison([warmed(context, copied), warmed(context, first)])
  await runRounds([group, fresh], context.rounds, context.showProgress)
  const figures = [
    timeFigure('checkpoint-captured-vs-memcpy', group, later.name, copied.name, CAPTURE_CEILING),
    timeFigure('checkpoint-captured-rust-vs-memcpy', group, rust.name, copied.name, CAPTURE_CEILING),
    timeFigure('checkpoint-first-captured-vs-memcpy', fresh, first.name, copied.name),
  ]
  const title = `Until the memory of ${model.count} tensors is the program's again`
  return { ...result('checkpoint-capture', title, group, figures), comparisons: [group, fresh] }
}

async function incremental(context: BenchContext): Promise<Result> {
  const model = await fewTensorsModel(context)
  const full = checkpointingRust(context, 'all', 'full', model)
  const tenth = checkpointingRust(context, 'a tenth', 'incremental', model)
  const group = comparison([full, tenth])
  await runRounds([group], context.rounds, context.showProgress)
  return result('checkpoint-incremental', 'A checkpoint of which nine tenths did not change', group, [
    timeFigure('checkpoint-incremental-vs-full', group, tenth.name, full.name, INCREMENTAL_CEILING),
  ])
}

async function verify(context: BenchContext): Promise<Result> {
  const model = await fewTensorsModel(context)
  const file = await context.scratch.file('read', context.bytes)
  const { best, sweeps } = await bestFio(context, 'read', fioStreamCandidates(context, 'read', file))
  const folder = await preparedCheckpoint(context, model, false)
  const verified = readingCheckpoint(context, 'verify', 'verify', folder)
  const group = comparison([best, verified])
  await runRounds([group], context.rounds, context.showProgress)
  await context.scratch.drop(folder)
  const figures = [
    ratioFigure(group, {
      name: 'checkpoint-verify-vs-fio',
      of: verified.name,
      against: best.name,
      metric: 'speed',
      floor: VERIFY_FLOOR,
    }),
  ]
  return { ...result('checkpoint-verify', 'All checksums of a checkpoint, compared', group, figures), sweeps }
}

async function reshard(context: BenchContext): Promise<Result> {
  const model = await fewTensorsModel(context)
  const [whole, split] = [
    await preparedCheckpoint(context, model, false),
    await preparedCheckpoint(context, model, true),
  ]
  // Both bring their memory: most of their time would else be faults of the host, which each takes or leaves to the other.
  const loaded = warmed(context, readingCheckpoint(context, 'load', 'load', whole))
  const resharded = warmed(context, readingCheckpoint(context, 'resharded', 'reshard', split))
  const group = comparison([loaded, resharded])
  await runRounds([group], context.rounds, context.showProgress)
  await context.scratch.drop(whole)
  await context.scratch.drop(split)
  return result('checkpoint-reshard', 'The pieces of four writers, loaded by two readers', group, [
    ratioFigure(group, {
      name: 'checkpoint-reshard-vs-load',
      of: resharded.name,
      against: loaded.name,
      metric: 'speed',
      floor: RESHARD_FLOOR,
    }),
    bounced('checkpoint-reshard-bounced', group, resharded.name),
  ])
}

/** The time of one contender by that of another. */
function timeFigure(name: string, group: Comparison, of: string, against: string, ceiling?: number): Figure {
  const bar = ceiling === undefined ? {} : { ceiling }
  return pairFigure(
    name,
    group,
    [of, against],
    `time of ${of} / ${against}`,
    'x',
    bar,
    (mine, theirs) => mine.wallSeconds / theirs.wallSeconds,
  )
}

function result(name: string, title: string, group: Comparison, figures: readonly Figure[]): Result {
  return { name, title, scale: 'bytes', sweeps: [], comparisons: [group], figures }
}
