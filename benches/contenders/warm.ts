/**
 * A contender that finds the guest's memory backed by the host.
 *
 * A virtual machine's first use of a page costs a fault of the host, many times that of the guest.
 * So a process of its own touches as much memory as the contender uses, and ends.
 */

import type { Contender } from '../../lib/measure/rounds.ts'
import type { FileParameters } from '../children/parameters.ts'
import { runChild } from '../contender.ts'
import { READ_SEED } from '../scratch.ts'
import type { BenchContext } from '../bench-context.ts'

/** The contender, each of whose runs follows such a process. `bytes` are those that it moves. */
export function warmed(context: BenchContext, contender: Contender, bytes: number = context.bytes): Contender {
  const { scratch } = context
  return {
    ...contender,
    run: async () => {
      await runChild<FileParameters>('warm-memory', { file: '', bytes, seed: READ_SEED, source: scratch.source })
      return contender.run()
    },
  }
}
