/** Options that functions on whole files share. */

import type { SignalOptions } from '../core/options.ts'
import type { ProgressOptions } from '../core/progress.ts'
import type { Engine, OpenOptions } from '../engine/engine.ts'

/** Options of functions that read a whole file. */
export interface WholeFileOptions extends SignalOptions, ProgressOptions {
  /** As in `open`. Default `'prefer'`. */
  direct?: OpenOptions['direct']
  /** The engine. Default: that of the process. */
  engine?: Engine | undefined
}

export const WHOLE_KEYS: readonly string[] = ['direct', 'engine', 'onProgress', 'signal']

/** Options of functions that write a whole file. */
export interface OutputOptions extends WholeFileOptions {
  /**
   * True: a new file takes the place of the old one when it is complete: at any moment, also after a power cut, there is one of the
   * two, and never a part. It keeps the permissions of the old file. A symbolic link is replaced, not followed. Default
   * false: the file is emptied and written.
   */
  replace?: boolean | undefined
  /** True: the promise settles when the bytes and the name survive a power cut. Default: as `replace`. */
  durable?: boolean | undefined
}

export const OUTPUT_KEYS: readonly string[] = [...WHOLE_KEYS, 'replace', 'durable']
