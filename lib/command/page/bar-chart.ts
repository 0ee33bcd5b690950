/** Bars from zero, in groups, with their values beside them. */

import { html, type Content, type Html } from './html.ts'
import { acrossAxis, chart, FONT_PX, line, px, text, widest, type Area } from './plot.ts'
import { fromZero } from './scale.ts'

/** A bar. */
export interface Bar {
  readonly name: string
  /** A class of the style sheet. */
  readonly kind: string
  readonly value: number
  readonly lower?: number
  readonly upper?: number
  /** The value, as it is written beside the bar. */
  readonly words: string
}

/** Bars that are compared with each other. */
export interface BarGroup {
  readonly name: string
  readonly bars: readonly Bar[]
}

/** See the module. */
export interface BarChart {
  readonly label: string
  readonly title: string
  readonly groups: readonly BarGroup[]
}

const BAR_PX = 13
const ROW_PX = 20
const GAP_PX = 14
const HEAD_PX = 20
const FOOT_PX = 46

/** Draws it. */
export function barChart({ label, title, groups }: BarChart): Html {
  const bars = groups.flatMap((group) => group.bars)
  const most = Math.max(...bars.map(({ value, upper = value }) => Math.max(value, upper)))
  return chart(label, ({ name, width }) => {
    const isWide = name === 'wide'
    const groupsPx = isWide ? widest(groups.map((group) => group.name)) + 14 : 0
    const area: Area = {
      left: groupsPx + widest(bars.map((bar) => bar.name)) + 12,
      right: width - widest(bars.map(({ words }) => words)) - 12,
      top: 0,
      bottom: 0,
    }
    const scale = fromZero(most, isWide ? 8 : 4)
    const at = (value: number): number => area.left + scale.at(value) * (area.right - area.left)
    let y = 4
    const rows: Content[] = []
    for (const group of groups) {
      // On a phone a group has its name above it.
      rows.push(text(0, y + (isWide ? BAR_PX - 2 : FONT_PX), group.name, 'group'))
      if (!isWide) y += HEAD_PX
      const top = y - 2
      for (const bar of group.bars) {
        rows.push(drawn(bar, y, at, area.left))
        y += ROW_PX
      }
      rows.push(line(area.left, top, area.left, y - ROW_PX + BAR_PX + 2, 'axis'))
      y += GAP_PX
    }
    const bottom = y - GAP_PX + 2
    return {
      height: bottom + FOOT_PX,
      parts: [acrossAxis({ ...area, bottom }, scale, title), rows],
    }
  })
}

function drawn(
  { name, kind, value, lower, upper, words }: Bar,
  y: number,
  at: (value: number) => number,
  left: number,
): Content {
  const middle = y + BAR_PX / 2
  const end = at(Math.max(value, upper ?? value))
  return [
    text(left - 8, y + BAR_PX - 2, name, 'tick', 'end'),
    html`<rect
      x="${px(left)}"
      y="${px(y)}"
      width="${px(Math.max(1, at(value) - left))}"
      height="${BAR_PX}"
      class="bar ${kind}"
    />`,
    lower === undefined || upper === undefined
      ? undefined
      : line(at(lower), middle, at(upper), middle, `whisker ${kind}`),
    text(end + 8, y + BAR_PX - 2, words, 'value'),
  ]
}
