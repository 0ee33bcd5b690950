/** Lines over a scale, named at their ends. */

import { html, type Content, type Html } from './html.ts'
import {
  acrossAxis,
  apart,
  chart,
  FONT_PX,
  line,
  px,
  text,
  upAxis,
  widest,
  widthOf,
  type Area,
  type Canvas,
} from './plot.ts'
import type { Scale } from './scale.ts'

/** A point of a line. */
export interface Point {
  readonly x: number
  readonly y: number
  /** What was measured is between these, with the confidence of the page. */
  readonly lower?: number
  readonly upper?: number
  /** For those who point at it. */
  readonly words?: string
}

/** A line. */
export interface Series {
  readonly name: string
  /** A class of the style sheet. */
  readonly kind: string
  readonly points: readonly Point[]
}

/** A place on the horizontal axis that is named. */
export interface Mark {
  readonly x: number
  /** A class of the style sheet. */
  readonly kind?: string
  readonly words: string
}

/** See the module. */
export interface LineChart {
  readonly label: string
  readonly across: { readonly title: string; readonly scale: (canvas: Canvas) => Scale }
  readonly up: { readonly title: string; readonly scale: Scale }
  readonly series: readonly Series[]
  /** A value holds until the next one. */
  readonly steps?: boolean
  readonly marks?: readonly Mark[]
}

const PLOT_PX = { wide: 250, narrow: 210 }

/** Above the plot: the title of the vertical axis, and the words of a mark. */
const TITLE_PX = 26
const MARK_PX = 20

/** Between the plot and the names of lines. */
const NAME_PX = 18

/** Below it: the ticks and the title of the horizontal axis. */
const FOOT_PX = 46

/** Draws it. */
export function lineChart(given: LineChart): Html {
  return chart(given.label, (canvas) => {
    const { series, up, marks = [] } = given
    const top = TITLE_PX + marks.length * MARK_PX
    const area: Area = {
      left: 8 + widest(up.scale.ticks.map(({ label }) => label)),
      right: canvas.width - NAME_PX - 2 - widest(series.map(({ name }) => name)),
      top,
      bottom: top + PLOT_PX[canvas.name],
    }
    const across = given.across.scale(canvas)
    const place = {
      x: (value: number) => area.left + across.at(value) * (area.right - area.left),
      y: upIn(area, up.scale),
    }
    const parts = [
      text(0, FONT_PX, up.title, 'title'),
      upAxis(area, up.scale),
      acrossAxis(area, across, given.across.title),
      line(area.left, area.bottom, area.right, area.bottom, 'axis'),
      marks.map((mark, nth) => marked(area, place.x(mark.x), mark, top - 13 - nth * MARK_PX, canvas)),
      // The first is drawn last, above the others.
      series.toReversed().map((one) => drawn(one, place, given.steps === true)),
      names(series, area, place),
    ]
    return { height: area.bottom + FOOT_PX, parts }
  })
}

function upIn({ top, bottom }: Area, scale: Scale): (value: number) => number {
  return (value) => bottom - scale.at(value) * (bottom - top)
}

interface Place {
  readonly x: (value: number) => number
  readonly y: (value: number) => number
}

function drawn({ kind, points }: Series, { x, y }: Place, steps: boolean): Content {
  const path = points.map((point, nth) => {
    if (nth === 0) return `M${px(x(point.x))} ${px(y(point.y))}`
    return steps ? `H${px(x(point.x))}V${px(y(point.y))}` : `L${px(x(point.x))} ${px(y(point.y))}`
  })
  return html`<g class="${kind}"
    ><path d="${path.join('')}" class="line" />${steps ? undefined : points.map((point) => dot(point, { x, y }))}</g
  >`
}

function dot({ x, y, lower, upper, words }: Point, place: Place): Content {
  return [
    lower === undefined || upper === undefined
      ? undefined
      : line(place.x(x), place.y(lower), place.x(x), place.y(upper), 'whisker'),
    html`<circle cx="${px(place.x(x))}" cy="${px(place.y(y))}" r="3" class="dot"
      >${words === undefined ? undefined : html`<title>${words}</title>`}</circle
    >`,
  ]
}

/** Names at the right, each with a thin line from the end of its own. */
function names(series: readonly Series[], { right, top, bottom }: Area, { x, y }: Place): Content {
  const ends = series.map(({ points }) => ({ x: x(points.at(-1)?.x ?? 0), y: y(points.at(-1)?.y ?? 0) }))
  const places = apart(
    ends.map((end) => end.y),
    FONT_PX + 4,
    // Not beside the words of a mark.
    top + 4,
    bottom,
  )
  return series.map(({ name, kind }, nth) => {
    const [end, place] = [ends[nth] as (typeof ends)[number], places[nth] as number]
    return html`<g class="${kind}"
      >${line(end.x, end.y, right + NAME_PX - 4, place, 'leader')}${text(right + NAME_PX, place + 4, name, 'name')}</g
    >`
  })
}

/** A line down the plot, with words above it that stay on the canvas; several have them in rows. */
function marked({ bottom }: Area, x: number, { words, kind = '' }: Mark, y: number, canvas: Canvas): Content {
  const half = widthOf(words) / 2
  const middle = Math.max(half, Math.min(canvas.width - half, x))
  return html`<g class="${kind}">${line(x, y + 5, x, bottom, 'mark')}${text(middle, y, words, 'marked', 'middle')}</g>`
}
