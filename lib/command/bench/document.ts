/** What `deepring bench --json` prints. */

import type { AioHandleOptions } from '../../aio/index.ts'
import type { Machine } from '../machine.ts'
import type { TaskFigures } from './figures.ts'
import type { WindowSample } from './window.ts'

/** See the module. */
export interface BenchDocument {
  /** When the rounds began, as ISO 8601. */
  readonly measuredAt: string
  /** How long all rounds took. */
  readonly seconds: number
  readonly folder: string
  readonly fileSystem: string
  readonly device: string
  readonly inMemory: boolean
  /** Bytes of a file. */
  readonly ioBytes: number
  /** Rounds behind the one that warms up. */
  readonly loops: number
  /** CPU seconds per second that other processes used before. */
  readonly idleNoise: number
  /** The version of fio; `null`: it did not run. */
  readonly fio: string | null
  /** DeepNVMe's options, if streams went through an `AioHandle`. */
  readonly handle: AioHandleOptions | null
  /** False: a rate is below its minimum. */
  readonly ok: boolean
  readonly notes: readonly string[]
  readonly tasks: readonly TaskFigures[]
  readonly window: readonly WindowSample[]
  /** What `deepring info --json` prints of the folder. */
  readonly machine: Machine
}
