/** What needs the native binding: checkpoints, swap stores, and what only they use. */

import type { Native } from '../core/native.ts'
import { refusal, unsupported } from './failure.ts'
import type { Session } from './session.ts'

/** Requests with their number first. All but those that open something cannot be reached. */
const REQUESTS = [
  'openStore',
  'closeStore',
  'beginCheckpoint',
  'joinCheckpoint',
  'listGenerations',
  'openGeneration',
  'openLatest',
  'pinGeneration',
  'isGenerationPinned',
  'removeGeneration',
  'collectGenerations',
  'copyGeneration',
  'putTensor',
  'putTensors',
  'takeOver',
  'prepareCheckpoint',
  'publishCheckpoint',
  'abandonCheckpoint',
  'abortCheckpoint',
  'openSwap',
  'closeSwap',
  'putSwap',
  'getSwap',
  'getSwapSlice',
  'getSwapMut',
  'leaseSwap',
  'getSwapInto',
  'pinSwap',
  'evictSwap',
  'removeSwap',
  'flushSwap',
  'snapshotSwap',
  'openSwapper',
  'closeSwapper',
  'initializeGroup',
  'initializeGroupFrom',
  'putGradient',
  'flushGradients',
  'flushSwapper',
  'snapshotSwapper',
  'restoreSwapper',
  'nextGroupLease',
] as const

/** Other functions of theirs. */
const FUNCTIONS = [
  'writersOf',
  'dropCheckpointWriter',
  'swapOver',
  'dropSwap',
  'prefetchSwap',
  'planSwap',
  'unpinSwap',
  'swapInfo',
  'swapNames',
  'swapStats',
  'dropSwapper',
  'resetGroup',
  'beginStep',
  'endStep',
  'swapperStats',
  'leaseMemory',
  'endLease',
  'dropLease',
] as const

const WHAT = 'A checkpoint or a swap store'

function fail(): never {
  throw refusal(WHAT, 'open')
}

/** The functions of the binding that are refused here. */
export function refusedOf({ delivery }: Session): Pick<Native, (typeof REQUESTS | typeof FUNCTIONS)[number]> {
  const refuse = (id: number): void => delivery.fail(id, unsupported(WHAT, 'open').failure)
  return Object.fromEntries([
    ...REQUESTS.map((name) => [name, refuse] as const),
    ...FUNCTIONS.map((name) => [name, fail] as const),
  ]) as never
}
