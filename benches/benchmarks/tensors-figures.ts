/** Figures that several benchmarks of tensors have. */

import { outcomeFigure, type Bar, type Figure } from '../figure.ts'
import type { Comparison } from '../../lib/measure/rounds.ts'

/** A figure of what an outcome has in milliseconds under a key. */
export function milliseconds(
  name: string,
  group: Comparison,
  of: string,
  key: string,
  meaning: string,
  bar: Bar,
): Figure {
  return outcomeFigure(name, group, of, meaning, 'ms', bar, ({ extra }) => extra?.[key])
}

/** What a load or a save had to copy, as a share. */
export function bounced(name: string, group: Comparison, of: string): Figure {
  return outcomeFigure(
    name,
    group,
    of,
    `bytes that ${of} had to copy / all bytes`,
    'x',
    {},
    ({ bytes, extra }) => (extra?.['bounced'] ?? NaN) / bytes,
  )
}
