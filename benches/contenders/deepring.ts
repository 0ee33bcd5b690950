/**
 * deepring with its default options, from JavaScript through the facade; and from Rust where a figure asks for that.
 */

import type { FileParameters, RandomParameters, Reads, SmallParameters } from '../children/parameters.ts'
import { runChild, type Contender } from '../contender.ts'
import type { Outcome } from '../outcome.ts'
import type { Tensors } from '../scratch.ts'
import type { Setting } from '../bench-context.ts'
import { fileStage, tensorStage, type Props } from '../run-environment.ts'
import type { Task } from '../task.ts'

/** Whose memory takes the bytes: deepring's, touched before; deepring's, allocated in the timed region; an ordinary Buffer, touched. */
export type Memory = 'touched' | 'allocating' | 'buffer'

const MEMORY: Readonly<Record<Memory, { name: string; configuration: string }>> = {
  touched: { name: 'deepring', configuration: 'defaults' },
  allocating: { name: 'deepring allocating', configuration: 'defaults, allocation inside' },
  buffer: { name: 'deepring into Buffer', configuration: 'defaults, ordinary Buffer' },
}

/** deepring over the one large file. */
export function deepringStream(setting: Setting, task: Task, file: string, memory: Memory = 'touched'): Contender {
  return stream(setting, task, file, { ...MEMORY[memory], memory, environment: {} })
}

/** The same on the backend without io_uring. */
export function deepringThreads(setting: Setting, task: Task, file: string): Contender {
  const environment = { DEEPRING_BACKEND: 'threads' }
  return stream(setting, task, file, {
    name: 'deepring threads',
    configuration: 'defaults, backend threads',
    memory: 'touched',
    environment,
  })
}

interface Variant {
  readonly name: string
  readonly configuration: string
  readonly memory: Memory
  readonly environment: Record<string, string>
}

function stream(
  setting: Setting,
  task: Task,
  file: string,
  { name, configuration, memory, environment }: Variant,
): Contender {
  const stage = fileStage(setting, task, file)
  const { bytes, scratch } = setting
  return {
    name,
    configuration,
    run: () =>
      stage(({ target, seed }) =>
        runChild<FileParameters & { task: Task; memory: Memory }>(
          'deepring-stream',
          { task, memory, file: target, bytes, seed, source: scratch.source },
          environment,
        ),
      ),
  }
}

/** deepring reading pages of the large file at random from JavaScript, one promise each. */
export function deepringRandom(setting: Setting, file: string, reads: Reads): Contender {
  const stage = fileStage(setting, 'read', file)
  const { bytes, scratch } = setting
  const run = ({ target, seed }: Props): Promise<Outcome> =>
    runChild<RandomParameters>('deepring-random', { ...reads, file: target, bytes, seed, source: scratch.source })
  return { name: 'deepring', configuration: `4K × ${reads.depth}, one promise each`, run: () => stage(run) }
}

/** The same from Rust, with no JavaScript in the process. */
export function deepringRandomRust(setting: Setting, file: string, reads: Reads): Contender {
  const stage = fileStage(setting, 'read', file)
  const { bytes, lab, scratch } = setting
  const run = ({ target, seed }: Props): Promise<Outcome> =>
    lab.measure('random', { ...reads, file: target, bytes, seed, source: scratch.source })
  return { name: 'deepring in Rust', configuration: `4K × ${reads.depth}, one future each`, run: () => stage(run) }
}

/** deepring over the small files: one handle, all calls at once, one wait. */
export function deepringSmall(setting: Setting, task: Task, tensors: Tensors): Contender {
  const stage = tensorStage(setting, task, tensors)
  const { source } = setting.scratch
  return {
    name: 'deepring',
    configuration: 'defaults, AioHandle',
    run: () =>
      stage(({ target, seed }) =>
        runChild<SmallParameters>('deepring-small', { task, folder: target, sizes: tensors.sizes, seed, source }),
      ),
  }
}
