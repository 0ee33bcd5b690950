/** The options of an `AioHandle` and of its methods. */

import type { Engine } from '../engine/engine.ts'
import type { SignalOptions } from '../core/options.ts'
import { TUNING_KEYS, type AioTuning } from './tuning.ts'

/** The largest `intraOpParallelism`. It only multiplies the queue depth, and 1024 x 65536 is still exact. */
export const PARALLELISM_MAX = 1024

/** Options of {@link AioHandle}. */
export interface AioHandleOptions extends AioTuning {
  /**
   * DeepNVMe's number of worker threads: 1 to 1024. Here it starts no threads. It multiplies the handle's limit on
   * blocks in flight. Sizes need not be divisible by it. Default 1.
   */
  intraOpParallelism?: number | undefined
  /** The engine that does the work. Default: the default engine of the process. */
  engine?: Engine | undefined
}

/** Options of `AioHandle`'s `asyncPread`, `asyncPwrite`, `syncPread` and `syncPwrite`. */
export interface AioQueueOptions {
  /** Where in the file to begin, in bytes, with any alignment. If it is absent for a path: the whole file. */
  fileOffset?: number | bigint | undefined
  /**
   * True: compares the file with the buffer afterwards, through a separate descriptor that leaves no page in the cache.
   * A difference fails with `ERR_DEEPRING_MISMATCH`. Default false.
   */
  validate?: boolean | undefined
}

/** Options of `AioHandle`'s `read`, `write`, `pread` and `pwrite`. */
export interface AioTransferOptions extends AioQueueOptions, SignalOptions {}

export const HANDLE_KEYS: ReadonlySet<string> = new Set([...TUNING_KEYS, 'intraOpParallelism', 'engine'])
export const QUEUE_KEYS: ReadonlySet<string> = new Set(['fileOffset', 'validate'])
export const TRANSFER_KEYS: ReadonlySet<string> = new Set([...QUEUE_KEYS, 'signal'])

/** In DeepNVMe, the third parameter is the file offset. */
export function fromOffset(options: number | bigint | AioQueueOptions | undefined): AioQueueOptions | undefined {
  return typeof options === 'number' || typeof options === 'bigint' ? { fileOffset: options } : options
}
