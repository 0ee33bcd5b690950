/**
 * What every benchmark receives: its working folder, its programs, its sizes.
 */

import type { Figure } from './figure.ts'
import type { FioState } from './fio-state.ts'
import type { NativeProgram } from './native.ts'
import type { Comparison } from '../lib/measure/rounds.ts'
import type { Scratch } from './scratch.ts'
import type { Sweep } from './sweep.ts'

/** The context of a benchmark. */
export interface BenchContext {
  readonly native: NativeProgram
  readonly scratch: Scratch
  readonly fio: FioState
  /** Bytes of the one large file. */
  readonly bytes: number
  readonly rounds: number
  /** Shows progress on the terminal. */
  readonly showProgress: (words: string) => void
}

/** The unit in which a benchmark counts speed and CPU; `none` if it is not timed. */
export type Scale = 'bytes' | 'operations' | 'none'

/** The result of a benchmark. */
export interface Result {
  readonly name: string
  readonly title: string
  readonly scale: Scale
  readonly sweeps: readonly Sweep[]
  readonly comparisons: readonly Comparison[]
  readonly figures: readonly Figure[]
}

/** A benchmark: its name for `--only`, and how to run it. */
export interface Benchmark {
  readonly name: string
  /** Bytes of its own files on the disk, if it has any. */
  readonly ownBytes?: number
  readonly run: (context: BenchContext) => Promise<Result>
}
