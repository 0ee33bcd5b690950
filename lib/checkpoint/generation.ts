/** What commits and references did. */

import type { Committed, Reused as ReusedBytes } from '../core/checkpoints.ts'
import type { Operation } from '../core/operation.ts'
import type { RecordView } from '../core/record.ts'

/** Bytes that came from an older generation, by how they came. */
export interface Reused {
  /** Bytes of files that both generations have: they cost nothing. */
  readonly linked: number
  /** Bytes that share blocks of the file system with the older generation. */
  readonly cloned: number
  /** Bytes that were read and written. */
  readonly copied: number
}

/** What a commit has made. */
export interface Generation {
  /** Its number in the store. */
  readonly number: number
  /** Bytes of the data files of this writer, with those that were taken over. */
  readonly bytes: number
  /** How many data files this writer has. */
  readonly files: number
  /** What this writer has taken over. */
  readonly reused: Reused
}

/** What was taken over, from its record. */
export function finishReused(_operation: Operation, { detail }: RecordView): Reused {
  return reusedOf(detail as ReusedBytes)
}

/** What was committed, from its record. */
export function finishCommitted(_operation: Operation, { detail }: RecordView): Generation {
  const { number, bytes, files, reused } = detail as Committed
  return Object.freeze({ number, bytes, files, reused: reusedOf(reused) })
}

function reusedOf({ linked, cloned, copied }: ReusedBytes): Reused {
  return Object.freeze({ linked, cloned, copied })
}
