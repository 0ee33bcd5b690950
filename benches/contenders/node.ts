/**
 * What Node can do without an addon: the usual calls, and the best that can be built from them.
 *
 * A rival that reads through the page cache starts with a cold file. The process runs with libuv's
 * default of 4 threads except where 64 are part of the method.
 */

import type { Contender } from '../../lib/measure/rounds.ts'
import type { FileParameters, RandomParameters, Reads, SmallParameters } from '../children/parameters.ts'
import { runChild } from '../contender.ts'
import type { Tensors } from '../scratch.ts'
import type { BenchContext } from '../bench-context.ts'
import { fileEnvironment, tensorEnvironment } from '../run-environment.ts'
import type { Task } from '../task.ts'

/** Threads of libuv where they are part of the method. */
export const WIDE_POOL_THREADS = 64

const WIDE_POOL = { UV_THREADPOOL_SIZE: String(WIDE_POOL_THREADS) }

const CALLS = ['promises', 'callbacks'] as const

/** How a single read is called. */
export type Calls = (typeof CALLS)[number]

/** How Node moves the large file. */
export type NodeMethod = 'readFile' | 'handles' | 'freshHandles' | 'direct' | 'writeFile' | 'writeFileFlushed'

const METHODS: Readonly<
  Record<NodeMethod, { name: string; configuration: string; environment: Record<string, string> }>
> = {
  readFile: { name: 'fs.readFile', configuration: 'cold cache', environment: {} },
  handles: { name: '4 FileHandles', configuration: '8M × 4, cold cache', environment: {} },
  freshHandles: {
    name: '4 FileHandles fresh',
    configuration: '8M × 4, cold cache, memory never touched',
    environment: {},
  },
  direct: { name: 'JS O_DIRECT', configuration: '8M × 64 threads, page-aligned memory', environment: WIDE_POOL },
  writeFile: { name: 'fs.writeFile', configuration: 'to the page cache', environment: {} },
  writeFileFlushed: { name: 'fs.writeFile flush', configuration: 'flush: true', environment: {} },
}

/** Node over the one large file. */
export function nodeStream(context: BenchContext, task: Task, file: string, method: NodeMethod): Contender {
  const { name, configuration, environment } = METHODS[method]
  const inEnvironment = fileEnvironment(context, task, file)
  const { bytes, scratch } = context
  return {
    name,
    configuration,
    run: () =>
      inEnvironment(({ path, seed }) =>
        runChild<FileParameters & { method: NodeMethod }>(
          'node-stream',
          { method, file: path, bytes, seed, source: scratch.source },
          environment,
        ),
      ),
  }
}

/**
 * Node reading pages of the large file at random, past the page cache with 64 threads: by promises
 * or by callbacks.
 */
export function nodeRandomCandidates(context: BenchContext, file: string, reads: Reads): Contender[] {
  const inEnvironment = fileEnvironment(context, 'read', file)
  const { bytes, scratch } = context
  return CALLS.map((calls) => ({
    name: 'node:fs, 64 threads',
    configuration: `4K × ${reads.depth}, O_DIRECT, ${calls}`,
    run: () =>
      inEnvironment(({ path, seed }) => {
        const words = { ...reads, calls, file: path, bytes, seed, source: scratch.source }
        return runChild<RandomParameters & { calls: Calls }>('node-random', words, WIDE_POOL)
      }),
  }))
}

/** Node over the small files, sixteen at a time. */
export function nodeSmall(context: BenchContext, task: Task, tensors: Tensors): Contender {
  const inEnvironment = tensorEnvironment(context, task, tensors)
  const { source } = context.scratch
  return {
    name: task === 'read' ? 'fs.readFile' : 'fs.writeFile',
    configuration: task === 'read' ? '16 at a time, cold cache' : '16 at a time, to the page cache',
    run: () =>
      inEnvironment(({ path, seed }) =>
        runChild<SmallParameters>('node-small', { task, folder: path, sizes: tensors.sizes, seed, source }),
      ),
  }
}
