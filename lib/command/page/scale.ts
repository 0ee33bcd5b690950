/** Scales of axes: where a value is, between 0 and 1, and which values are written at the axis. */

/** A value that is written at an axis. */
export interface Tick {
  readonly value: number
  readonly label: string
}

/** See the module. */
export interface Scale {
  readonly ticks: readonly Tick[]
  at(value: number): number
}

/** From zero, where lengths are compared. The axis ends at a tick. */
export function fromZero(max: number, ticksMost: number): Scale {
  const top = max > 0 && Number.isFinite(max) ? max : 1
  const step = stepFor(top / ticksMost)
  const count = Math.ceil(top / step - 1e-9)
  const decimals = Math.min(20, Math.max(0, (isQuarter(step) ? 1 : 0) - Math.floor(Math.log10(step) + 1e-9)))
  const ticks = Array.from({ length: count + 1 }, (_, nth) => {
    const value = nth * step
    return { value, label: value.toFixed(value === 0 ? 0 : decimals) }
  })
  return { ticks, at: (value) => value / (count * step) }
}

/** 1, 2, 2.5 or 5 times a power of ten, that is at least `least`. */
function stepFor(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least))
  const factor = [1, 2, 2.5, 5].find((candidate) => candidate * power >= least * (1 - 1e-9)) ?? 10
  return factor * power
}

function isQuarter(step: number): boolean {
  const mantissa = step / 10 ** Math.floor(Math.log10(step) + 1e-9)
  return Math.abs(mantissa - 2.5) < 1e-6
}

/** By powers of two: of depths and of bytes. */
export function powersOfTwo(min: number, max: number, ticksMost: number, labelOf: (value: number) => string): Scale {
  const first = Math.floor(Math.log2(min))
  const last = Math.max(first + 1, Math.ceil(Math.log2(max)))
  const every = Math.ceil((last - first) / Math.max(1, ticksMost - 1))
  const ticks: Tick[] = []
  for (let power = last; power >= first; power -= every)
    ticks.unshift({ value: 2 ** power, label: labelOf(2 ** power) })
  return { ticks, at: (value) => (Math.log2(value) - first) / (last - first) }
}

/** By powers of ten, with steps between them where there are few: of durations. */
export function decades(min: number, max: number, labelOf: (value: number) => string): Scale {
  const all = steps(min, max, [1, 2, 5])
  const low = all.findLast((value) => value <= min * (1 + 1e-9)) ?? min
  const high = all.find((value) => value >= max * (1 - 1e-9) && value > low) ?? max
  const span = Math.log10(high / low)
  const inside = steps(low, high, span > 2.5 ? [1] : [1, 2, 5]).filter(
    (value) => value >= low * (1 - 1e-9) && value <= high * (1 + 1e-9),
  )
  return {
    ticks: inside.map((value) => ({ value, label: labelOf(value) })),
    at: (value) => Math.log10(value / low) / span,
  }
}

/** Multiples of all powers of ten around a range. */
function steps(from: number, to: number, factors: readonly number[]): number[] {
  const values: number[] = []
  for (let power = Math.floor(Math.log10(from)) - 1; power <= Math.ceil(Math.log10(to)); power += 1)
    values.push(...factors.map((factor) => factor * 10 ** power))
  return values
}

/** By how many are left above a percent: 90, 99, 99.9 and 99.99 are equally far apart. */
export function percents(values: readonly number[]): Scale {
  const [first, last] = [ninesOf(Math.min(...values)), ninesOf(Math.max(...values))]
  const marks = [50, 90, 99, 99.9, 99.99].filter((mark) => values.includes(mark))
  return {
    ticks: marks.map((value) => ({ value, label: `${value} %` })),
    at: (value) => (last === first ? 0.5 : (ninesOf(value) - first) / (last - first)),
  }
}

/** 1 of 90 %, 2 of 99 %. */
function ninesOf(percent: number): number {
  return -Math.log10(1 - percent / 100)
}
