/**
 * What Node can do without an addon: the calls everybody uses, and the best that can be built from them.
 *
 * A rival that reads through the page cache finds its file cold. The process runs with libuv's default of 4 threads except where 64 are
 * part of the method.
 */

import type { FileParameters, RandomParameters, Reads, SmallParameters } from '../children/parameters.ts'
import { runChild, type Contender } from '../contender.ts'
import type { Tensors } from '../scratch.ts'
import type { Setting } from '../bench-context.ts'
import { fileStage, tensorStage } from '../run-environment.ts'
import type { Task } from '../task.ts'

const WIDE_POOL = { UV_THREADPOOL_SIZE: '64' }

const CALLS = ['promises', 'callbacks'] as const

/** How a single read is asked for. */
export type Calls = (typeof CALLS)[number]

/** How Node moves the large file. */
export type NodeMethod = 'readFile' | 'handles' | 'direct' | 'writeFile' | 'writeFileFlushed'

const METHODS: Readonly<
  Record<NodeMethod, { name: string; configuration: string; environment: Record<string, string> }>
> = {
  readFile: { name: 'fs.readFile', configuration: 'cold cache', environment: {} },
  handles: { name: '4 FileHandles', configuration: '8M × 4, cold cache', environment: {} },
  direct: { name: 'JS O_DIRECT', configuration: '8M × 64 threads, page-aligned memory', environment: WIDE_POOL },
  writeFile: { name: 'fs.writeFile', configuration: 'to the page cache', environment: {} },
  writeFileFlushed: { name: 'fs.writeFile flush', configuration: 'flush: true', environment: {} },
}

/** Node over the one large file. */
export function nodeStream(setting: Setting, task: Task, file: string, method: NodeMethod): Contender {
  const { name, configuration, environment } = METHODS[method]
  const stage = fileStage(setting, task, file)
  const { bytes, scratch } = setting
  return {
    name,
    configuration,
    run: () =>
      stage(({ target, seed }) =>
        runChild<FileParameters & { method: NodeMethod }>(
          'node-stream',
          { method, file: target, bytes, seed, source: scratch.source },
          environment,
        ),
      ),
  }
}

/** Node reading pages of the large file at random, past the page cache with 64 threads: by promises or by callbacks. */
export function nodeRandomCandidates(setting: Setting, file: string, reads: Reads): Contender[] {
  const stage = fileStage(setting, 'read', file)
  const { bytes, scratch } = setting
  return CALLS.map((calls) => ({
    name: 'node:fs, 64 threads',
    configuration: `4K × ${reads.depth}, O_DIRECT, ${calls}`,
    run: () =>
      stage(({ target, seed }) => {
        const words = { ...reads, calls, file: target, bytes, seed, source: scratch.source }
        return runChild<RandomParameters & { calls: Calls }>('node-random', words, WIDE_POOL)
      }),
  }))
}

/** Node over the small files, sixteen at a time. */
export function nodeSmall(setting: Setting, task: Task, tensors: Tensors): Contender {
  const stage = tensorStage(setting, task, tensors)
  const { source } = setting.scratch
  return {
    name: task === 'read' ? 'fs.readFile' : 'fs.writeFile',
    configuration: task === 'read' ? '16 at a time, cold cache' : '16 at a time, to the page cache',
    run: () =>
      stage(({ target, seed }) =>
        runChild<SmallParameters>('node-small', { task, folder: target, sizes: tensors.sizes, seed, source }),
      ),
  }
}
