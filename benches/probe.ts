/**
 * How many random reads a run makes, so that it takes about as long on any disk.
 */

import { PAGE_BYTES } from '../lib/measure/positions.ts'
import type { Reads } from './children/parameters.ts'
import type { BenchContext } from './bench-context.ts'
import { deepringRandomRust } from './contenders/deepring.ts'

const DEPTH = 128

/**
 * Approximate length of a run on any disk. It is long enough that a process's warm-up does not
 * decide a figure per read.
 */
const SECONDS = 2.5
const PROBE_OPERATIONS = 16_384

/** Reads of pages of the large file, at most one per page of it, so that few are read twice. */
export async function randomReads(context: BenchContext, file: string, order: number): Promise<Reads> {
  const all = Math.ceil(context.bytes / PAGE_BYTES)
  const some = { operations: Math.min(PROBE_OPERATIONS, all), depth: DEPTH, order }
  const probe = await deepringRandomRust(context, file, some).run()
  return { ...some, operations: Math.min(all, Math.ceil((some.operations / probe.wallSeconds) * SECONDS)) }
}
