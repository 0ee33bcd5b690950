/**
 * What charts have in common. A chart is drawn twice, for wide pages and for phones, because text in a picture that is scaled
 * down is too small to read; the style sheet shows the one that fits. Text has no width here: widths are of the widest font that
 * a page meets.
 */

import { html, type Content, type Html } from './html.ts'
import type { Scale } from './scale.ts'

/** What a chart is drawn for. */
export interface Canvas {
  readonly name: 'wide' | 'narrow'
  readonly width: number
}

const CANVASES: readonly Canvas[] = [
  { name: 'wide', width: 720 },
  { name: 'narrow', width: 336 },
]

/** Of the text of charts. */
export const FONT_PX = 12

/** Of a digit, in bold, in the widest of the fonts; letters are narrower on average. */
const CHARACTER_PX = 8

/** How wide words can be. */
export function widthOf(words: string): number {
  return words.length * CHARACTER_PX
}

/** How wide the longest can be. */
export function widest(words: readonly string[]): number {
  return Math.max(0, ...words.map(widthOf))
}

/** A chart, drawn twice. `label` says to those who can not see it what it shows. */
export function chart(
  label: string,
  draw: (canvas: Canvas) => { readonly height: number; readonly parts: Content },
): Html {
  const drawn = CANVASES.map((canvas) => {
    const { height, parts } = draw(canvas)
    return html`<svg
      class="${canvas.name}"
      viewBox="0 0 ${canvas.width} ${px(height)}"
      role="img"
      aria-label="${label}"
    >
      ${parts}
    </svg> `
  })
  return html`<div class="chart">${drawn}</div>`
}

/** Words at a place. */
export function text(
  x: number,
  y: number,
  words: string,
  kind: string,
  anchor: 'start' | 'middle' | 'end' = 'start',
): Html {
  return html`<text x="${px(x)}" y="${px(y)}" class="${kind} ${anchor}">${words}</text>`
}

/** A straight line. */
export function line(x1: number, y1: number, x2: number, y2: number, kind: string): Html {
  return html`<line x1="${px(x1)}" y1="${px(y1)}" x2="${px(x2)}" y2="${px(y2)}" class="${kind}" />`
}

/** A coordinate. */
export function px(value: number): string {
  return String(Math.round(value * 10) / 10)
}

/** Between two labels of an axis, at each. */
const TICK_GAP_PX = 3

/** Where a plot is on its canvas. */
export interface Area {
  readonly left: number
  readonly right: number
  readonly top: number
  readonly bottom: number
}

/** The ticks of the horizontal axis, with lines through the plot, and its title. */
export function acrossAxis({ left, right, top, bottom }: Area, scale: Scale, title: string): Content {
  const at = (value: number): number => left + scale.at(value) * (right - left)
  const places = scale.ticks.map(({ value, label }) => ({ at: at(value), half: widthOf(label) / 2 + TICK_GAP_PX }))
  const ticks = scale.ticks.filter(fitting(places))
  return [
    ticks.map(({ value }) => line(at(value), top, at(value), bottom, 'grid')),
    ticks.map(({ value, label }) => text(at(value), bottom + 18, label, 'tick', 'middle')),
    text((left + right) / 2, bottom + 38, title, 'title', 'middle'),
  ]
}

/** The same of the vertical axis, without a title. */
export function upAxis({ left, right, top, bottom }: Area, scale: Scale): Content {
  const at = (value: number): number => bottom - scale.at(value) * (bottom - top)
  const places = scale.ticks.map(({ value }) => ({ at: -at(value), half: FONT_PX / 2 + TICK_GAP_PX }))
  return scale.ticks
    .filter(fitting(places))
    .map(({ value, label }) => [
      line(left, at(value), right, at(value), 'grid'),
      text(left - 8, at(value) + 4, label, 'tick', 'end'),
    ])
}

/** Which labels have room: the last, the first, and those between that touch none of them. */
function fitting(
  places: readonly { readonly at: number; readonly half: number }[],
): (tick: unknown, nth: number) => boolean {
  const kept = new Set<number>()
  for (const nth of [places.length - 1, ...places.keys()]) {
    const { at, half } = places[nth] as (typeof places)[number]
    const isFree = Array.from(kept, (other) => places[other] as (typeof places)[number]).every(
      (other) => Math.abs(other.at - at) >= half + other.half,
    )
    if (isFree) kept.add(nth)
  }
  return (_tick, nth) => kept.has(nth)
}

/** Moves places apart that are closer than `gap`, as little as that takes; they stay between two ends. */
export function apart(places: readonly number[], gap: number, least: number, most: number): number[] {
  const order = places.map((_, nth) => nth).toSorted((a, b) => (places[a] as number) - (places[b] as number))
  // Groups of places that touch: each keeps its middle where the middle of its places is.
  const groups: { members: number[]; start: number }[] = []
  const startOf = (members: readonly number[]): number => {
    const middle = members.reduce((sum, nth) => sum + (places[nth] as number), 0) / members.length
    const length = (members.length - 1) * gap
    return Math.max(least, Math.min(most - length, middle - length / 2))
  }
  for (const nth of order) {
    let group = { members: [nth], start: startOf([nth]) }
    for (
      let last = groups.at(-1);
      last !== undefined && last.start + last.members.length * gap > group.start;
      last = groups.at(-1)
    ) {
      groups.pop()
      const members = [...last.members, ...group.members]
      group = { members, start: startOf(members) }
    }
    groups.push(group)
  }
  const moved = [...places]
  for (const { members, start } of groups) for (const [at, nth] of members.entries()) moved[nth] = start + at * gap
  return moved
}
