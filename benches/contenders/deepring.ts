/**
 * deepring with its default options: from JavaScript through the facade, and from Rust for the
 * figures that need it.
 */

import type { Contender } from '../../lib/measure/rounds.ts'
import type { Memory, RandomParameters, Reads, SmallParameters, StreamParameters } from '../children/parameters.ts'
import { runChild } from '../contender.ts'
import type { Outcome } from '../../lib/measure/outcome.ts'
import type { Tensors } from '../scratch.ts'
import type { BenchContext } from '../bench-context.ts'
import { fileEnvironment, tensorEnvironment, type RunTarget } from '../run-environment.ts'
import type { Task } from '../task.ts'

const MEMORY: Readonly<Record<Memory, { name: string; configuration: string }>> = {
  touched: { name: 'deepring', configuration: 'defaults' },
  allocating: { name: 'deepring allocating', configuration: 'defaults, allocation inside' },
  fresh: { name: 'deepring fresh', configuration: 'defaults, memory never touched' },
  buffer: { name: 'deepring into Buffer', configuration: 'defaults, ordinary Buffer' },
  copied: { name: 'deepring copied', configuration: 'defaults, unaligned memory' },
}

/** deepring over the one large file. */
export function deepringStream(context: BenchContext, task: Task, file: string, memory: Memory = 'touched'): Contender {
  return stream(context, task, file, { ...MEMORY[memory], memory, environment: {} })
}

/** The same on the backend without io_uring. */
export function deepringThreads(context: BenchContext, task: Task, file: string): Contender {
  const environment = { DEEPRING_BACKEND: 'threads' }
  return stream(context, task, file, {
    name: 'deepring threads',
    configuration: 'defaults, backend threads',
    memory: 'touched',
    environment,
  })
}

/** The same with the checksum of every byte. */
export function deepringSummed(context: BenchContext, task: Task, file: string): Contender {
  return stream(context, task, file, {
    name: 'deepring summed',
    configuration: "checksum: 'crc32c'",
    memory: 'touched',
    summed: true,
    environment: {},
  })
}

interface Variant {
  readonly name: string
  readonly configuration: string
  readonly memory: Memory
  readonly summed?: boolean
  readonly environment: Record<string, string>
}

function stream(
  context: BenchContext,
  task: Task,
  file: string,
  { name, configuration, memory, summed = false, environment }: Variant,
): Contender {
  const inEnvironment = fileEnvironment(context, task, file)
  const { bytes, scratch } = context
  return {
    name,
    configuration,
    run: () =>
      inEnvironment(({ path, seed }) =>
        runChild<StreamParameters>(
          'deepring-stream',
          { task, memory, summed, file: path, bytes, seed, source: scratch.source },
          environment,
        ),
      ),
  }
}

/** deepring reading pages of the large file at random from JavaScript, one promise each. */
export function deepringRandom(context: BenchContext, file: string, reads: Reads): Contender {
  const inEnvironment = fileEnvironment(context, 'read', file)
  const { bytes, scratch } = context
  const run = ({ path, seed }: RunTarget): Promise<Outcome> =>
    runChild<RandomParameters>('deepring-random', { ...reads, file: path, bytes, seed, source: scratch.source })
  return { name: 'deepring', configuration: `4K × ${reads.depth}, one promise each`, run: () => inEnvironment(run) }
}

/** The same without a ring, by this number of threads. */
export function deepringRandomThreads(context: BenchContext, file: string, reads: Reads, threads: number): Contender {
  const inEnvironment = fileEnvironment(context, 'read', file)
  const { bytes, scratch } = context
  const run = ({ path, seed }: RunTarget): Promise<Outcome> =>
    runChild<RandomParameters>('deepring-random', {
      ...reads,
      threads,
      file: path,
      bytes,
      seed,
      source: scratch.source,
    })
  return {
    name: 'deepring threads',
    configuration: `4K × ${reads.depth}, backend threads, ${threads} of them`,
    run: () => inEnvironment(run),
  }
}

/** The same from Rust, with no JavaScript in the process. */
export function deepringRandomRust(context: BenchContext, file: string, reads: Reads): Contender {
  const inEnvironment = fileEnvironment(context, 'read', file)
  const { bytes, native, scratch } = context
  const run = ({ path, seed }: RunTarget): Promise<Outcome> =>
    native.measure('random', { ...reads, file: path, bytes, seed, source: scratch.source })
  return {
    name: 'deepring in Rust',
    configuration: `4K × ${reads.depth}, one future each`,
    run: () => inEnvironment(run),
  }
}

/** deepring over the small files: one handle, all calls at once, one wait. */
export function deepringSmall(context: BenchContext, task: Task, tensors: Tensors): Contender {
  const inEnvironment = tensorEnvironment(context, task, tensors)
  const { source } = context.scratch
  return {
    name: 'deepring',
    configuration: 'defaults, AioHandle',
    run: () =>
      inEnvironment(({ path, seed }) =>
        runChild<SmallParameters>('deepring-small', { task, folder: path, sizes: tensors.sizes, seed, source }),
      ),
  }
}
