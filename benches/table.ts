/**
 * The report's tables for the terminal.
 */

import { styleText } from 'node:util'
import type { Figure } from './figure.ts'
import type { Result } from './bench-context.ts'
import { downgrades, missing, summarize, UNITS, type Timing } from './summary.ts'

/** Three significant digits, without an exponent. */
export function digits(value: number): string {
  if (!Number.isFinite(value)) return '-'
  const size = Math.abs(value)
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : size >= 0.01 ? 3 : 4)
}

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
  return [styleText('bold', result.title), grid([head, ...rows], 3), ...lost, ...other].join('\n')
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
  return grid([['', 'figure', 'median', 'bar', 'middle half', 'all rounds', 'rounds', 'of'], ...rows], 2)
}

/**
 * Aligned columns, two spaces apart: the first `texts` and the last to the left, the others to the
 * right.
 */
function grid(rows: readonly (readonly string[])[], texts: number): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)))
  const last = widths.length - 1
  return rows
    .map((row, index) => {
      const cells = row.map((cell, column) =>
        column < texts || column === last
          ? cell.padEnd(column === last ? 0 : widths[column]!)
          : cell.padStart(widths[column]!),
      )
      const text = `  ${cells.join('  ')}`
      return index === 0 ? styleText('dim', text) : text
    })
    .join('\n')
}
