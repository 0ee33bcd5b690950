/**
 * One direction of a device, tuned: {@link tuneDirection}.
 *
 * ```text
 *   search: the engine's own, under a stream ──► windows, in turns ──► blocks of that window ──► small requests ──► the choice
 *                                                                                                beside the best, in turns
 * ```
 */

import { interval, median, confidenceAbove } from '../../measure/statistics.ts'
import { choose, type Choice } from './choose.ts'
import type { Tuned } from './profile.ts'
import {
  onEngine,
  PIECE_BYTES,
  smallRate,
  stream,
  streamRate,
  windowMax,
  type Direction,
  type Ground,
} from './stream.ts'

/** What matters: the most that a drive gives, or less that waits. */
export type Aim = 'throughput' | 'latency'

/** The shares of the best rate that are kept: alone, shared, and of small requests. */
const KEPT: Readonly<Record<Aim, readonly [alone: number, shared: number, small: number]>> = {
  throughput: [0.97, 0.94, 0.95],
  latency: [0.94, 0.9, 0.9],
}

/** What a choice has to reach of the best that was measured, to be called good. */
export const BAR = 0.95

/** The smallest window that an engine searches for, and the largest that is tried: what a drive answers in this time. */
const WINDOW_BYTES_MIN = 1 << 20
const WINDOW_SECONDS = 0.1

/** Blocks that are tried: the engine cuts none smaller for the sake of the window. */
const BLOCKS_BYTES = [256 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20]
const BLOCK_BYTES_MIN = 256 << 10
const BLOCKS_IN_WINDOW = 4

/** Of the time of a direction, what each part ends at; the last one has the rest. */
const ENDS = { search: 0.28, windows: 0.6, blocks: 0.7, small: 0.78 }

/** Of the time of a direction, what one measurement takes, and within which bounds. */
const SLOT_SHARE = 1 / 90
const [SLOT_MIN, SLOT_MAX] = [0.05, 0.3]

/** Rounds in which the choice and the best run in turns, at most. */
const CONFIRMATIONS = 9

/** How often the engine's window is noted while it searches. */
const NOTED_MS = 250

/** A moment of the engine's search. */
export interface Noted {
  readonly seconds: number
  readonly windowBytes: number
}

/** What was found, and how. */
export interface Found extends Tuned {
  /** The rate of the choice, in GB/s. */
  readonly gigabytesPerSecond: number
  /** Small requests per second. */
  readonly requestsPerSecond: number
  /** How sure it is that the choice has at least 0.95 of the best rate. */
  readonly confidence: number
  /** The choice by the best that was measured, in turns: the median, and each round. */
  readonly shareOfBest: number
  readonly shares: readonly number[]
  /** The window that the engine's own search had found, and its way there. */
  readonly searched: { readonly windowBytes: number; readonly steps: readonly Noted[] }
  /** The grid: rates by window, by block at the chosen window, and by small requests at once. */
  readonly grid: {
    readonly windows: readonly Cell[]
    readonly blocks: readonly Cell[]
    readonly small: readonly Cell[]
  }
}

/** A size that was tried. */
export interface Cell {
  readonly size: number
  /** The median, in GB/s, or of small requests per second; and a range that has the true one. */
  readonly rate: number
  readonly lower: number
  readonly upper: number
  /** Its rate by that of the best, as estimated from all rounds. */
  readonly share: number
  readonly rounds: number
}

/** Tunes one direction within `seconds`. */
export async function tuneDirection(
  ground: Ground,
  direction: Direction,
  {
    aim,
    seconds,
    depthMax,
    show,
  }: {
    readonly aim: Aim
    readonly seconds: number
    /** Requests that the device's queue takes. */
    readonly depthMax: number
    readonly show: (what: string) => void
  },
): Promise<Found> {
  const begin = performance.now()
  const isPast = (share: number) => (): boolean => performance.now() - begin >= seconds * share * 1e3
  const [alone, shared, small] = KEPT[aim]
  const slot = Math.min(SLOT_MAX, Math.max(SLOT_MIN, seconds * SLOT_SHARE))
  show('the engine searches')
  const { searched, rate } = await search(ground, direction, seconds * ENDS.search)

  const most = Math.min(windowMax(ground.memory.length), Math.max(WINDOW_BYTES_MIN, rate * WINDOW_SECONDS))
  const ladder = ladderTo(most)
  const windows = await choose({
    ladder,
    found: searched.windowBytes,
    kept: alone,
    measure: (window) => streamRate(ground, direction, { window, block: blockOf(window), seconds: slot }),
    isOver: isPast(ENDS.windows),
    showRound: (round) => show(`windows, round ${round}`),
  })
  const windowBytes = windows.size
  const sharedBytes = windows.measured.find(({ pooledShare }) => pooledShare >= shared)?.size ?? windowBytes

  // Backwards: a larger block is better than a smaller one that is as fast, because it takes less of the processor.
  const blocks = await choose({
    ladder: BLOCKS_BYTES.filter((block) => block <= windowBytes)
      .map((block) => -block)
      .toReversed(),
    found: -blockOf(windowBytes),
    kept: alone,
    measure: (block) => streamRate(ground, direction, { window: windowBytes, block: -block, seconds: slot }),
    isOver: isPast(ENDS.blocks),
    showRound: (round) => show(`blocks, round ${round}`),
  })
  const blockBytes = -blocks.size

  const depths = laddersOfDepth(depthMax)
  const requests = await choose({
    ladder: depths,
    found: depths.at(-1) as number,
    kept: small,
    measure: (depth) => smallRate(ground, direction, { depth, seconds: slot }),
    isOver: isPast(ENDS.small),
    showRound: (round) => show(`small requests, round ${round}`),
  })

  const best = fastest(windows)
  const shares: number[] = []
  const rates: number[] = []
  const chosen = { window: windowBytes, block: blockBytes, seconds: slot }
  const rival = { window: best, block: blockOf(best), seconds: slot }
  while (shares.length < CONFIRMATIONS && (shares.length < 3 || !isPast(1)())) {
    show(`the choice beside the best, round ${shares.length + 1}`)
    const order = shares.length % 2 === 0 ? [chosen, rival] : [rival, chosen]
    const found = new Map<object, number>()
    // oxlint-disable-next-line no-await-in-loop -- one at a time, or they would measure each other
    for (const point of order) found.set(point, await streamRate(ground, direction, point))
    rates.push(found.get(chosen) as number)
    shares.push((found.get(chosen) as number) / (found.get(rival) as number))
  }
  const requestsPerSecond = Math.max(...requests.measured.map(({ rates: each }) => median(each)))
  const bestRate = Math.max(...windows.measured.map(({ rates: each }) => median(each)))
  return {
    windowBytes,
    sharedBytes,
    blockBytes,
    blocks: requests.size,
    gapBytes: Math.max(0, Math.round(bestRate / requestsPerSecond) - 4096),
    gigabytesPerSecond: median(rates) / 1e9,
    requestsPerSecond,
    confidence: confidenceAbove(shares, BAR),
    shareOfBest: median(shares),
    shares,
    searched,
    grid: {
      windows: cellsOf(windows, 1e9),
      blocks: cellsOf(blocks, 1e9),
      small: cellsOf(requests, 1),
    },
  }
}

/** Lets the engine search while a stream runs. */
async function search(
  ground: Ground,
  direction: Direction,
  seconds: number,
): Promise<{ readonly searched: Found['searched']; readonly rate: number }> {
  return onEngine(ground, direction, {}, async (engine, file) => {
    const begin = performance.now()
    const steps: Noted[] = []
    const window = (): number => engine.stats().windows[0]?.[direction].bytes ?? 0
    const note = (): void => {
      const now = performance.now() - begin
      if (steps.length > 0 && now < steps.length * NOTED_MS) return
      steps.push({ seconds: now / 1e3, windowBytes: window() })
    }
    const rate = await stream(ground, direction, file, {
      window: windowMax(ground.memory.length),
      seconds,
      onPiece: note,
    })
    return { searched: { windowBytes: window(), steps }, rate }
  })
}

/** Powers of two. */
function ladderTo(most: number): number[] {
  const sizes: number[] = []
  for (let size = WINDOW_BYTES_MIN; size <= most; size *= 2) sizes.push(size)
  return sizes
}

function laddersOfDepth(most: number): number[] {
  const sizes: number[] = []
  for (let size = Math.min(8, most); size < most; size *= 2) sizes.push(size)
  return [...sizes, most]
}

/** What an engine without a profile cuts a window into. */
function blockOf(window: number): number {
  return Math.min(PIECE_BYTES, Math.max(BLOCK_BYTES_MIN, window / BLOCKS_IN_WINDOW))
}

/** The size with the best median. */
function fastest({ measured }: Choice): number {
  return measured.reduce((best, each) => (median(each.rates) > median(best.rates) ? each : best)).size
}

function cellsOf({ measured }: Choice, unit: number): Cell[] {
  const cells = measured.map(({ size, rates, share }) => {
    const { lower, upper } = interval(rates)
    return {
      size: Math.abs(size),
      rate: median(rates) / unit,
      lower: lower / unit,
      upper: upper / unit,
      share,
      rounds: rates.length,
    }
  })
  return cells.toSorted((a, b) => a.size - b.size)
}
