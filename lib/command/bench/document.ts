/** What `deepring bench --json` prints. */

import type { AioHandleOptions } from '../../aio/index.ts'
import type { Machine } from '../machine.ts'
import type { TaskFigures } from './figures.ts'
import type { Change, Result } from './history.ts'
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
  /** What results of the device are kept under. */
  readonly deviceId: string
  readonly inMemory: boolean
  readonly backend: string
  readonly kernel: string
  /** The version of deepring. */
  readonly version: string
  /** The engine began with the profile of the device. */
  readonly usesProfile: boolean
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
  /** False: a rate is below its minimum, or has become worse. */
  readonly ok: boolean
  readonly notes: readonly string[]
  readonly tasks: readonly TaskFigures[]
  readonly window: readonly WindowSample[]
  /** What `deepring info --json` prints of the folder. */
  readonly machine: Machine
  /** What has changed; `null` without `--compare`. */
  readonly comparison: BenchComparison | null
  /** The file in which it was kept; `null` without `--save`. */
  readonly saved: string | null
}

/** What has changed since another result. */
export interface BenchComparison extends Pick<Result, 'deviceId' | 'measuredAt' | 'version' | 'kernel'> {
  /** Its file. */
  readonly path: string
  readonly changes: readonly Change[]
}
