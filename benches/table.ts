/**
 * The report's tables for the terminal.
 */

import { styleText } from 'node:util'
import type { Figure } from './figure.ts'
import type { Result } from './bench-context.ts'
import { digits, grid } from '../lib/command/text.ts'
import { downgrades, missing, summarize, UNITS, type Timing } from './summary.ts'

/** The contenders of a benchmark. */
export function contenderTable(result: Result, noise: number): string {
  const { speed, cpu } = UNITS[result.scale]
  const timed = result.scale !== 'none'
  const head = [
    'contender',
    'configuration',
    'path',
    ...(timed ? [speed, 'from', 'to', `CPU ${cpu}`, `machine ${cpu}`] : []),
    'peak MiB',
    'runs',
  ]
  const lines = summarize(result, noise)
  const rows = lines.map(({ name, configuration, ran, timing, peakMiB, runs }) =>
    [name, configuration, ran].concat(timingCells(timing), peakMiB.toFixed(0), String(runs)),
  )
  const lost = missing(result).map((reason) => styleText('red', `  MISSING: ${reason}`))
  const other = downgrades(lines).map((words) => styleText('red', `  DOWNGRADED: ${words}`))
  return [styleText('bold', result.title), table([head, ...rows], 3), ...lost, ...other].join('\n')
}

function timingCells(timing: Timing | null): string[] {
  if (timing === null) return []
  return [timing.speed, timing.slowest, timing.fastest, timing.cpu, timing.machine].map(digits)
}

/** The figures. */
export function figureTable(figures: readonly Figure[]): string {
  const rows = figures.map(({ name, unit, value, holds, rounds, spread, note, meaning, ...bar }) => [
    holds === null ? ' ' : holds ? '✓' : '✗',
    name,
    value === null ? 'none' : `${digits(value)} ${unit}`,
    bar.floor !== undefined
      ? `${bar.exclusive === true ? '>' : '≥'} ${bar.floor}`
      : bar.ceiling !== undefined
        ? `≤ ${bar.ceiling}`
        : 'reported',
    spread === null ? '' : `${digits(spread.lower)} to ${digits(spread.upper)}`,
    spread === null ? '' : `${digits(spread.min)} to ${digits(spread.max)}`,
    String(rounds),
    note ?? meaning,
  ])
  return table([['', 'figure', 'median', 'bar', 'middle half', 'all rounds', 'rounds', 'of'], ...rows], 2)
}

/** Aligned columns, indented: the first `texts` and the last to the left, the others to the right. */
function table(rows: readonly (readonly string[])[], texts: number): string {
  const columns = rows[0]!.length
  const sides = '<'.repeat(texts) + '>'.repeat(columns - texts - 1)
  return grid(rows, `${sides}<`)
    .map((row, index) => (index === 0 ? styleText('dim', `  ${row}`) : `  ${row}`))
    .join('\n')
}
