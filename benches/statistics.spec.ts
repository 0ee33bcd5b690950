/**
 * The arithmetic behind the figures: medians, ratios per round, bars.
 */

import test from 'ava'
import { holds, ratioFigure } from './figure.ts'
import { parseOptions } from './options.ts'
import { parseSize } from '../lib/command/text.ts'
import type { Outcome } from '../lib/measure/outcome.ts'
import { positions, sizes } from '../lib/measure/positions.ts'
import { comparison, runRounds, type Contender } from '../lib/measure/rounds.ts'
import { confidenceAbove, interval, median, quantile, spread } from '../lib/measure/statistics.ts'
import { sweep } from './sweep.ts'

const SECOND: Outcome = {
  wallSeconds: 1,
  userSeconds: 0.1,
  systemSeconds: 0.1,
  busySeconds: 0,
  peakBytes: 0,
  bytes: 1e9,
  operations: 1,
}

/** A contender whose runs take these seconds, one after the other. */
function scripted(name: string, seconds: readonly number[], order: string[] = []): Contender {
  let run = 0
  return {
    name,
    configuration: `${seconds.join(', ')} s`,
    run: async () => {
      order.push(name)
      const wallSeconds = seconds[run++ % seconds.length]!
      if (wallSeconds < 0) throw new Error('no such thing')
      return { ...SECOND, wallSeconds }
    },
  }
}

const quiet = (): void => {}

test('a median is the middle value, or the mean of the two middle ones', (t) => {
  t.is(median([3, 1, 2]), 2)
  t.is(median([4, 1, 2, 3]), 2.5)
  t.is(quantile([0, 10], 0.25), 2.5)
  t.deepEqual(spread([1, 2, 3, 4, 5]), { min: 1, lower: 2, upper: 4, max: 5 })
  t.throws(() => median([]), { instanceOf: RangeError })
})

test('rounds swap their order every time', async (t) => {
  const order: string[] = []
  const group = comparison([scripted('a', [1], order), scripted('b', [1], order)])
  await runRounds([group], 3, quiet)
  t.is(order.join(''), 'abbaab')
})

test('a figure is the median of the ratios of its rounds, so a slow minute that both share does not count', async (t) => {
  const group = comparison([scripted('a', [1, 10, 1]), scripted('b', [2, 20, 2])])
  await runRounds([group], 3, quiet)
  const figure = ratioFigure(group, { name: 'x', of: 'a', against: 'b', metric: 'speed', floor: 1.9 })
  t.is(figure.value, 2)
  t.is(figure.holds, true)
  t.is(figure.rounds, 3)
  t.deepEqual(figure.spread, { min: 2, lower: 2, upper: 2, max: 2 })
})

test('a figure whose rival is missing, or fails, has no value and does not hold', async (t) => {
  const group = comparison([
    scripted('a', [1]),
    scripted('b', [1, -1]),
    { name: 'fio', missing: 'fio is not installed' },
  ])
  await runRounds([group], 2, quiet)
  for (const [against, note] of [
    ['fio', 'fio is not installed'],
    ['b', 'b failed: no such thing'],
  ] as const) {
    const figure = ratioFigure(group, { name: 'x', of: 'a', against, metric: 'speed', floor: 0.5 })
    t.is(figure.value, null)
    t.is(figure.holds, false)
    t.is(figure.note, note)
  }
})

test('a bar is at least, more than, at most, or none', (t) => {
  t.is(holds(1, { floor: 1 }), true)
  t.is(holds(1, { floor: 1, exclusive: true }), false)
  t.is(holds(0.1, { ceiling: 0.1 }), true)
  t.is(holds(0.2, { ceiling: 0.1 }), false)
  t.is(holds(NaN, { ceiling: 0.1 }), false)
  t.is(holds(null, {}), null)
})

test('a sweep takes the best median, not the best run, and says which configuration failed', async (t) => {
  const lucky = scripted('r', [0.1, 3, 3])
  const steady = scripted('r', [1, 1, 1])
  const broken = scripted('r', [-1])
  const found = await sweep('r', [lucky, steady, broken], quiet)
  t.is(found.best, steady)
  t.is(found.sweep.best, steady.configuration)
  t.is(found.sweep.candidates[2]?.failure, 'no such thing')
  t.is(found.sweep.candidates[0]?.speeds.length, 3)
})

test('positions lie on pages in the file, sizes within their bounds, the same every time', (t) => {
  const places = positions(1000, 1 << 20, 7)
  t.true(places.every((place) => place % 4096 === 0 && place + 4096 <= 1 << 20))
  t.deepEqual(places, positions(1000, 1 << 20, 7))
  const drawn = sizes(1000, 65_536, 1_048_576, 2026)
  t.true(drawn.every((size) => size % 4096 === 0 && size >= 65_536 && size <= 1_048_576))
  t.true(new Set(drawn).size > 200)
})

test('a size is bytes, or a number with K, M or G; a wrong option is refused', (t) => {
  t.is(parseSize('1G'), 2 ** 30)
  t.is(parseSize('64MiB'), 64 * 2 ** 20)
  t.is(parseSize('one'), undefined)
  t.throws(() => parseOptions(['--size', 'one']), { message: /is not a size/ })
  t.throws(() => parseOptions(['--size', '1000000']), { message: /multiple of 8M/ })
  t.throws(() => parseOptions(['--rounds', '0']), { message: /positive/ })
  t.throws(() => parseOptions(['--rivals']))
  t.is(parseOptions(['--json', '/tmp/a/bench.json']).charts, '/tmp/a/bench-charts')
})

test('the interval of a median is as narrow as its confidence permits', (t) => {
  // Of six coins, one in 32 times all fall on one side.
  t.deepEqual(interval([6, 1, 5, 2, 4, 3]), { lower: 1, upper: 6, confidence: 1 - 2 / 64 })
  t.deepEqual(interval([3, 1, 2]), { lower: 1, upper: 3, confidence: 0.75 })
  // The table of order statistics has the 6th and the 15th of 20, with 95.86 %.
  const { lower, upper, confidence } = interval(Array.from({ length: 20 }, (_, index) => index + 1))
  t.deepEqual([lower, upper, confidence.toFixed(4)], [6, 15, '0.9586'])
})

test('the confidence that a median reaches a bar is that of the test of signs', (t) => {
  t.is(confidenceAbove([], 1), 0)
  t.is(confidenceAbove([0.5, 0.5], 1), 0)
  t.is(confidenceAbove([1, 2, 3, 4, 5], 1), 31 / 32)
  // Of ten, nine: one minus eleven of 1024.
  t.is(confidenceAbove([0, 1, 1, 1, 1, 1, 1, 1, 1, 1], 1), 1 - 11 / 1024)
})
