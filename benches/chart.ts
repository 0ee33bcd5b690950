/**
 * One SVG per benchmark: a bar for each contender's median, a line from its slowest to its fastest
 * run, and its CPU beside it.
 *
 * Self-contained and readable on light and dark pages. Every number drawn is also written out.
 */

import type { Result } from './bench-context.ts'
import { missing, summarize, UNITS } from './summary.ts'
import { digits } from '../lib/command/text.ts'

const WIDTH_PX = 960
const LABEL_PX = 300
const GAP_PX = 72
const ROW_PX = 40
const HEAD_PX = 92
const FOOT_PX = 40
const NOTE_PX = 18
const PANEL_PX = (WIDTH_PX - LABEL_PX - 2 * GAP_PX) / 2

const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 18px; font-weight: 600 } .small { font-size: 11px; fill: #59636e } .head { font-weight: 600 }
  .ours { fill: #2f6fde } .theirs { fill: #9aa4b0 } .whisker { stroke: #1f2328; stroke-width: 1.5 } .page { fill: #ffffff }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #9198a1 } .whisker { stroke: #e6edf3 } .page { fill: #0d1117 } .theirs { fill: #656c76 } }`

/** Draws a benchmark; null if there is nothing to draw. */
export function chart(result: Result, noise: number, machine: string): string | null {
  const lines = summarize(result, noise).flatMap(({ timing, ...line }) =>
    timing === null ? [] : [{ ...line, timing }],
  )
  if (lines.length === 0) return null
  const { speed, cpu } = UNITS[result.scale]
  const fastest = Math.max(...lines.map(({ timing }) => timing.fastest))
  const dearest = Math.max(...lines.map(({ timing }) => timing.cpu))
  const absent = missing(result)
  const end = HEAD_PX + lines.length * ROW_PX
  const height = end + absent.length * NOTE_PX + FOOT_PX
  const second = LABEL_PX + PANEL_PX + GAP_PX
  const parts = [
    `<rect class="page" width="${WIDTH_PX}" height="${height}"/>`,
    text(16, 30, result.title, 'title'),
    text(16, 50, machine, 'small'),
    text(LABEL_PX, 78, `${speed}, more is better`, 'head'),
    text(second, 78, `CPU ${cpu}, less is better`, 'head'),
    ...lines.flatMap(({ name, configuration, timing }, index) => {
      const top = HEAD_PX + index * ROW_PX
      const kind = name.startsWith('deepring') ? 'ours' : 'theirs'
      const at = (value: number): number => LABEL_PX + (value / fastest) * PANEL_PX
      const cost = (timing.cpu / dearest) * PANEL_PX
      return [
        text(16, top + 14, name, 'head'),
        text(16, top + 28, configuration, 'small'),
        bar(LABEL_PX, top + 6, at(timing.speed) - LABEL_PX, kind),
        whisker(at(timing.slowest), at(timing.fastest), top + 15),
        text(at(timing.fastest) + 6, top + 19, digits(timing.speed)),
        bar(second, top + 6, cost, kind),
        text(second + cost + 6, top + 19, digits(timing.cpu)),
      ]
    }),
    ...absent.map((reason, index) => text(16, end + NOTE_PX * (index + 1), `Missing: ${reason}`, 'small')),
    text(
      16,
      height - 14,
      'Bars are medians, lines reach from the slowest to the fastest run. GB is 10^9 bytes.',
      'small',
    ),
  ]
  const size = `viewBox="0 0 ${WIDTH_PX} ${height}" width="${WIDTH_PX}" height="${height}"`
  const open = `<svg xmlns="http://www.w3.org/2000/svg" ${size} role="img" aria-label="${escape(result.title)}">`
  return [open, `<style>${STYLE}\n</style>`, ...parts, '</svg>', ''].join('\n')
}

function whisker(from: number, to: number, y: number): string {
  return `<line class="whisker" x1="${px(from)}" x2="${px(to)}" y1="${y}" y2="${y}"/>`
}

function bar(x: number, y: number, width: number, kind: string): string {
  return `<rect class="${kind}" x="${px(x)}" y="${px(y)}" width="${px(Math.max(1, width))}" height="18" rx="2"/>`
}

function text(x: number, y: number, words: string, kind = ''): string {
  return `<text x="${px(x)}" y="${px(y)}"${kind === '' ? '' : ` class="${kind}"`}>${escape(words)}</text>`
}

function px(value: number): string {
  return String(Math.round(value * 10) / 10)
}

function escape(words: string): string {
  return words.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
}
