/**
 * DeepNVMe's tuning parameters: how the blocks of one request are handed to the device.
 *
 * In the binding they are the limits of a *handle*, shared by the requests that name it. Batched submission and a
 * sliding window are the default and the fastest everywhere we measured. The other settings are for ports and
 * comparisons.
 */

import { blockSizeOf, QUEUE_DEPTH_MAX } from '../engine/limits.ts'
import type { HandleLimits } from '../core/native.ts'
import { booleanOf, integerOrDefault, priorityOf, type Priority } from '../core/options.ts'

/** How the blocks of one request are handed to the device: DeepNVMe's parameters, under their names, and its class. */
export interface AioTuning {
  /** Bytes per block: 1 to 2^30, rounded up to a multiple of 4096. Default: the engine's, 4 MiB. */
  blockSize?: number | undefined
  /**
   * Blocks of this request in flight at most: 1 to 65536. The engine's limit per device is never exceeded. Default: the
   * engine's.
   */
  queueDepth?: number | undefined
  /**
   * True: one system call per block, as DeepNVMe does with `single_submit`. Default false: blocks are submitted in
   * batches.
   */
  singleSubmit?: boolean | undefined
  /**
   * False: `queueDepth` blocks are submitted, and no more until all of them have completed. Default true: a block is
   * submitted as soon as another has completed.
   */
  overlapEvents?: boolean | undefined
  /** The class of the requests. Default: that of the file, `'throughput'` for a path. */
  priority?: Priority | undefined
}

/** The keys of {@link AioTuning}. */
export const TUNING_KEYS: readonly (keyof AioTuning)[] = [
  'blockSize',
  'queueDepth',
  'singleSubmit',
  'overlapEvents',
  'priority',
]

/** The limits in the options; 0 stands for the engine's default. */
export function handleLimitsOf(options: Readonly<AioTuning>): HandleLimits {
  return {
    queueDepth: integerOrDefault(options.queueDepth, 'options.queueDepth', 1, QUEUE_DEPTH_MAX),
    blockSize: options.blockSize === undefined ? 0 : blockSizeOf(options.blockSize, 'options.blockSize'),
    singleSubmit: booleanOf(options.singleSubmit, 'options.singleSubmit', false),
    refillWhenEmpty: !booleanOf(options.overlapEvents, 'options.overlapEvents', true),
    priority: priorityOf(options.priority),
  }
}

/** True if any option is set. */
export function isTuned(options: Readonly<AioTuning>): boolean {
  return TUNING_KEYS.some((key) => options[key] !== undefined)
}
