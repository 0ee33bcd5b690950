/**
 * What every benchmark is handed: where it works, with which programs, at what size.
 */

import type { Figure } from './figure.ts'
import type { FioState } from './fio-state.ts'
import type { NativeProgram } from './native.ts'
import type { Comparison } from './rounds.ts'
import type { Scratch } from './scratch.ts'
import type { Sweep } from './sweep.ts'

/** The surroundings of a benchmark. */
export interface BenchContext {
  readonly native: NativeProgram
  readonly scratch: Scratch
  readonly fio: FioState
  /** Bytes of the one large file. */
  readonly bytes: number
  readonly rounds: number
  /** Shows what is going on. */
  readonly showProgress: (words: string) => void
}

/** What is shown of a benchmark's contenders beside time and memory. */
export type Scale = 'bytes' | 'operations' | 'none'

/** What a benchmark gives. */
export interface Result {
  readonly name: string
  readonly title: string
  readonly scale: Scale
  readonly sweeps: readonly Sweep[]
  readonly comparisons: readonly Comparison[]
  readonly figures: readonly Figure[]
}

/** A benchmark: a name for `--only`, and how it is run. */
export interface Benchmark {
  readonly name: string
  readonly run: (context: BenchContext) => Promise<Result>
}
