/**
 * DeepNVMe's tuning parameters: how the blocks of one request are handed to the device.
 *
 * In the binding they are the limits of a *handle*, which the requests that name it share. Batched submission and a sliding
 * window are the default and the fastest everywhere we measured; the other settings are kept for ports and comparisons.
 */

import { blockSizeOf, QUEUE_DEPTH_MAX } from '../engine/limits.ts'
import type { HandleLimits } from '../core/native.ts'
import { booleanOf, integerOrDefault } from '../core/options.ts'

/** How the blocks of one request are handed to the device: DeepNVMe's parameters, under their names. */
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
   * False: a window of `queueDepth` blocks is waited for as a whole before the next begins. Default true: it slides.
   */
  overlapEvents?: boolean | undefined
}

/** The keys of {@link AioTuning}. */
export const TUNING_KEYS: readonly (keyof AioTuning)[] = ['blockSize', 'queueDepth', 'singleSubmit', 'overlapEvents']

/** The limits that the options ask for; 0 stands for the engine's default. */
export function handleLimitsOf(options: Readonly<AioTuning>): HandleLimits {
  return {
    queueDepth: integerOrDefault(options.queueDepth, 'options.queueDepth', 1, QUEUE_DEPTH_MAX),
    blockSize: options.blockSize === undefined ? 0 : blockSizeOf(options.blockSize, 'options.blockSize'),
    singleSubmit: booleanOf(options.singleSubmit, 'options.singleSubmit', false),
    refillWhenEmpty: !booleanOf(options.overlapEvents, 'options.overlapEvents', true),
  }
}

/** True if the options ask for anything but the defaults of the engine. */
export function isTuned(options: Readonly<AioTuning>): boolean {
  return TUNING_KEYS.some((key) => options[key] !== undefined)
}
