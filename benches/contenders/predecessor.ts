/**
 * The predecessor's algorithm over libaio system calls (`native/src/predecessor.rs`), over one
 * large file and over many small ones.
 *
 * Its memory is touched and backed by huge pages, as deepring's is. With 4 KiB pages it would be a
 * tenth slower for a reason other than its algorithm.
 */

import type { Contender } from '../../lib/measure/rounds.ts'
import type { Tensors } from '../scratch.ts'
import type { BenchContext } from '../bench-context.ts'
import { fileEnvironment, tensorEnvironment } from '../run-environment.ts'
import type { Task } from '../task.ts'

interface Shape {
  readonly block: number
  readonly depth: number
  readonly mode: 'windowed' | 'overlapped'
  readonly parallel: number
}

const MIB = 2 ** 20

/** Submission in batches is its default, and block by block is never faster. */
const COMMON = { submit: 'batch', pages: 'huge' } as const

/** Its constructor's defaults. */
const DEFAULT_SHAPE: Shape = { block: MIB, depth: 128, mode: 'windowed', parallel: 1 }

/** The configurations of the sweep over one large file. */
const STREAM_SHAPES: readonly Shape[] = [MIB, 8 * MIB].flatMap((block) =>
  [32, 128].flatMap((depth) =>
    (['windowed', 'overlapped'] as const).map((mode) => ({ block, depth, mode, parallel: 1 })),
  ),
)

/**
 * The configurations of the sweep that reads small files: every parallelism, with its default block
 * (a slice is then one request) and with one that cuts a slice into several.
 */
const SMALL_READ_SHAPES: readonly Shape[] = [MIB, MIB / 8].flatMap((block) =>
  parallelisms(block, [1, 2, 3, 4, 5, 6, 7, 8]),
)

/** The same for writing, where the figures are only reported: fewer parallelisms. */
const SMALL_WRITE_SHAPES: readonly Shape[] = parallelisms(MIB, [1, 2, 4, 8])

/** All configurations over one large file. */
export function predecessorCandidates(context: BenchContext, task: Task, file: string): Contender[] {
  return STREAM_SHAPES.map((shape) => stream(context, task, file, shape, 'predecessor'))
}

/** The configuration of its constructor, shown beside its best. */
export function predecessorDefault(context: BenchContext, task: Task, file: string): Contender {
  return stream(context, task, file, DEFAULT_SHAPE, 'predecessor by default')
}

/** All configurations over small files. */
export function predecessorSmallCandidates(context: BenchContext, task: Task, tensors: Tensors): Contender[] {
  return (task === 'read' ? SMALL_READ_SHAPES : SMALL_WRITE_SHAPES).map((shape) => small(context, task, tensors, shape))
}

function stream(context: BenchContext, task: Task, file: string, shape: Shape, name: string): Contender {
  const inEnvironment = fileEnvironment(context, task, file)
  const { native, scratch, bytes } = context
  const words = {
    ...shape,
    ...COMMON,
    direction: task === 'read' ? 'read' : 'write',
    create: task === 'new' ? 'yes' : 'no',
    source: scratch.source,
  }
  return {
    name,
    configuration: describe(shape),
    run: () => inEnvironment(({ path, seed }) => native.measure('stream', { ...words, file: path, bytes, seed })),
  }
}

function small(context: BenchContext, task: Task, tensors: Tensors, shape: Shape): Contender {
  const inEnvironment = tensorEnvironment(context, task, tensors)
  const { native, scratch } = context
  const words = {
    ...shape,
    ...COMMON,
    direction: task === 'read' ? 'read' : 'write',
    list: tensors.list,
    source: scratch.source,
  }
  return {
    name: 'predecessor',
    configuration: describe(shape),
    run: () => inEnvironment(({ path, seed }) => native.measure('small', { ...words, folder: path, seed })),
  }
}

function parallelisms(block: number, values: readonly number[]): Shape[] {
  return values.map((parallel) => ({ block, depth: 128, mode: 'overlapped', parallel }))
}

function describe({ block, depth, mode, parallel }: Shape): string {
  const size = block >= MIB ? `${block / MIB}M` : `${block / 1024}K`
  return `${size} × ${depth}, ${mode}${parallel === 1 ? '' : `, ${parallel} threads`}`
}
