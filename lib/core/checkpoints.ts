/**
 * What crosses to the binding and back for checkpoints. `crates/deepring-node/src/checkpoints*.rs` is the other side.
 * `__test__/record.spec.ts` compares both.
 */

import type { Failure } from './record.ts'
import type { OpenedTable } from './tensors.ts'

/** How to begin a generation. What is absent takes the default. */
export interface BeginRequest {
  step?: number
  writers: number
  /** The generation to take over from; 0 is the newest one that is whole. */
  reference?: number
  patienceMs?: number
  staging: number
  /** See `DIRECT` of record.ts. */
  direct: number
}

/** A writer that has begun or joined a generation. */
export interface BegunCheckpoint {
  writer: number
  generation: number
  token: string
}

/** A generation that was opened. */
export interface OpenedCheckpoint {
  table: OpenedTable
  generation: number
  step?: number
  /** JSON. */
  meta: string
  createdMs: number
}

/** A generation that is damaged. */
export interface SkippedGeneration {
  generation: number
  failure: Failure
}

/** The newest generation that is whole, and those after it. */
export interface LatestCheckpoint {
  checkpoint?: OpenedCheckpoint
  skipped: SkippedGeneration[]
}

/** Bytes that were taken over from an older generation. */
export interface Reused {
  linked: number
  cloned: number
  copied: number
}

/** What a commit has made. */
export interface Committed {
  number: number
  bytes: number
  files: number
  reused: Reused
}

/** What was removed from a store. */
export interface Collected {
  generations: number[]
  temporaries: number
  bytes: number
}
