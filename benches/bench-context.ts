/**
 * What every benchmark is handed: where it works, with which programs, at what size.
 */

import type { Figure } from './figure.ts'
import type { FioState } from './fio-state.ts'
import type { Lab } from './native.ts'
import type { Heat } from './rounds.ts'
import type { Scratch } from './scratch.ts'
import type { Sweep } from './sweep.ts'

/** The surroundings of a benchmark. */
export interface Setting {
  readonly lab: Lab
  readonly scratch: Scratch
  readonly fio: FioState
  /** Bytes of the one large file. */
  readonly bytes: number
  readonly rounds: number
  /** Shows what is going on. */
  readonly tell: (words: string) => void
}

/** What is shown of a benchmark's contenders beside time and memory. */
export type Scale = 'bytes' | 'operations' | 'none'

/** What a benchmark gives. */
export interface Result {
  readonly name: string
  readonly title: string
  readonly scale: Scale
  readonly sweeps: readonly Sweep[]
  readonly heats: readonly Heat[]
  readonly figures: readonly Figure[]
}

/** A benchmark: a name for `--only`, and how it is run. */
export interface Benchmark {
  readonly name: string
  readonly run: (setting: Setting) => Promise<Result>
}
