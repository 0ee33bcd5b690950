/** The limits of an engine: its options and their ranges. */

import { invalidValue } from '../core/errors.ts'
import type { EngineConfig } from '../core/native.ts'
import { booleanOf, integerOf, optionsOf, wordOf } from '../core/options.ts'

/** The largest queue depth. An io_uring takes 32768 entries, and the limits of devices are far below. */
export const QUEUE_DEPTH_MAX = 65_536

/** The largest block: 1 GiB, more than any device takes at once. */
const BLOCK_SIZE_MAX = 1_073_741_824

/** Block sizes are rounded up to the block of common file systems: smaller writes are punted to worker threads. */
const BLOCK_SIZE_UNIT = 4096

/** The largest `maxQueued`: 2^23 promises already take about 4 GiB of a JavaScript heap. */
const QUEUED_MAX = 2 ** 23

/** The most threads for one file system. */
const THREADS_MAX = 256

/** Limits of an engine. Absent ones take deepring's defaults, which `info()` reports. */
export interface EngineOptions {
  /**
   * What moves the bytes. A backend that does not work here throws; over node:fs, each does. Default: io_uring if it works,
   * else threads.
   */
  backend?: 'uring' | 'threads' | undefined
  /** Blocks in flight at most, per device: 1 to 65536. Default, and limit: half of what the device's queue holds. */
  queueDepth?: number | undefined
  /** Bytes per block: 1 to 2^30, rounded up to a multiple of 4096. Default 4 MiB, or `inFlightBytes` if that is less. */
  blockSize?: number | undefined
  /** Bytes in flight at most, per device: at least one block. Default 256 MiB; with a fixed window 64 MiB. */
  inFlightBytes?: number | undefined
  /**
   * `'auto'`: the engine finds how much each device needs in flight, within `queueDepth` and `inFlightBytes`. `'fixed'`:
   * it keeps as much in flight as these allow. Default `'auto'`.
   */
  window?: 'auto' | 'fixed' | undefined
  /**
   * Requests accepted and not yet settled, in flight included: 1 to 2^23. One more fails with `ERR_DEEPRING_QUEUE_FULL`.
   * Default 2^20.
   */
  maxQueued?: number | undefined
  /**
   * Threads that move bytes where io_uring does not, for each file system: 1 to 256. Each carries out one block at a time. Small
   * reads at random positions gain from more than the default, 8.
   */
  threads?: number | undefined
  /**
   * False: a profile of the device, which `deepring tune` writes, is ignored. Default true: the search for windows begins where
   * it says. The variable `DEEPRING_PROFILE` names another file, or with `off` none.
   */
  profile?: boolean | undefined
}

const ENGINE_KEYS: ReadonlySet<string> = new Set([
  'backend',
  'queueDepth',
  'blockSize',
  'inFlightBytes',
  'window',
  'maxQueued',
  'threads',
  'profile',
])

/** Checks the options of an engine. */
export function configOf(options: EngineOptions | undefined): EngineConfig {
  const given = optionsOf(options, ENGINE_KEYS)
  const config: EngineConfig = {}
  if (given.backend !== undefined) config.backend = wordOf(given.backend, 'options.backend', ['uring', 'threads'])
  if (given.queueDepth !== undefined)
    config.queueDepth = integerOf(given.queueDepth, 'options.queueDepth', 1, QUEUE_DEPTH_MAX)
  if (given.blockSize !== undefined) config.blockSize = blockSizeOf(given.blockSize, 'options.blockSize')
  if (given.inFlightBytes !== undefined) {
    config.inFlightBytes = integerOf(given.inFlightBytes, 'options.inFlightBytes', 1, Number.MAX_SAFE_INTEGER)
    if (config.inFlightBytes < (config.blockSize ?? 0)) {
      throw invalidValue(
        'options.inFlightBytes',
        `It contradicts options.blockSize: it is less than one block of ${config.blockSize} bytes.`,
        given.inFlightBytes,
      )
    }
  }
  if (given.window !== undefined) config.window = wordOf(given.window, 'options.window', ['auto', 'fixed'])
  if (given.maxQueued !== undefined) config.maxQueued = integerOf(given.maxQueued, 'options.maxQueued', 1, QUEUED_MAX)
  if (given.threads !== undefined) config.threads = integerOf(given.threads, 'options.threads', 1, THREADS_MAX)
  if (given.profile !== undefined) config.profile = booleanOf(given.profile, 'options.profile', true)
  return config
}

/** A block size, rounded up to the effective one. */
export function blockSizeOf(value: unknown, name: string): number {
  return Math.ceil(integerOf(value, name, 1, BLOCK_SIZE_MAX) / BLOCK_SIZE_UNIT) * BLOCK_SIZE_UNIT
}
