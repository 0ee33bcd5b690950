/** What the processes of a training are asked for, and what they report. */

import type { Durations, Moment } from './moments.ts'
import type { Shape } from './network.ts'

interface Common {
  readonly shape: Shape
  readonly steps: number
  /** The budget of the swapper, in bytes. */
  readonly memory: number
  /** For the files of the optimizer. */
  readonly directory: string
  /** For checkpoints. */
  readonly store: string
  /** The cgroup that the process joins. */
  readonly cgroup: string | undefined
}

/** Trains from the latest checkpoint to the last step, unless it dies before. */
export interface TrainTask extends Common {
  readonly kind: 'train'
  /** Steps from one checkpoint to the next. */
  readonly every: number
  readonly durations: Durations
  /** When it dies. */
  readonly moment: Moment | undefined
  /** Changes one bit after this step. */
  readonly plantAfter: number | undefined
}

/** Does steps from the beginning, and reports how long they took. */
export interface MeasureTask extends Common {
  readonly kind: 'measure'
  readonly way: 'swapped' | 'one-by-one'
}

export type Task = TrainTask | MeasureTask

/** What steps took, without the first one, whose states are zeros. */
export interface Measured {
  readonly losses: readonly number[]
  /** Per step. */
  readonly stepMs: number
  /** Bytes per step. */
  readonly read: number
  readonly written: number
  /** Of a swapper. */
  readonly overlap: number | undefined
  readonly durations: Durations | undefined
}

export type Report =
  | { readonly kind: 'resumed'; readonly step: number; readonly losses: readonly number[] }
  | { readonly kind: 'stepped'; readonly step: number; readonly loss: number }
  | { readonly kind: 'committed'; readonly step: number }
  /** So far. */
  | { readonly kind: 'moved'; readonly read: number; readonly written: number; readonly peak: number }
  | { readonly kind: 'measured'; readonly measured: Measured }
  | { readonly kind: 'failed'; readonly why: string }
