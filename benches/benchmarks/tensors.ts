/**
 * `tensors`: files of tensors of real models, loaded, streamed, sliced, saved and opened.
 */

import type { Benchmark } from '../bench-context.ts'
import { openHeader } from './tensors-header.ts'
import { loadFew } from './tensors-load.ts'
import { loadMany } from './tensors-many.ts'
import { save } from './tensors-save.ts'
import { slices } from './tensors-slices.ts'
import { stream } from './tensors-stream.ts'

/** The six benchmarks. */
export const TENSORS: readonly Benchmark[] = [
  { name: 'tensors-load', run: loadFew },
  { name: 'tensors-many', run: loadMany },
  { name: 'tensors-slices', run: slices },
  { name: 'tensors-stream', run: stream },
  { name: 'tensors-save', run: save },
  { name: 'tensors-header', run: openHeader },
]
