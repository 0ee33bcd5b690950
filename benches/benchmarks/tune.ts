/**
 * `tune`: what `deepring tune` chooses, against the best of an exhaustive sweep, and the time that each takes.
 *
 * 1. The sweep: every window with every block, each for {@link SWEEP_SECONDS}, {@link SWEEP_RUNS} times in turns.
 * 2. The command, as a process, {@link CHOICES} times.
 * 3. Each choice beside the best of the sweep, in turns. The rival is the best of the sweep.
 */

import { join } from 'node:path'
import { examine } from '../../lib/command/bench/place.ts'
import { openGround } from '../../lib/command/tune/ground.ts'
import { streamRate, windowMax, type Direction, type Ground } from '../../lib/command/tune/stream.ts'
import { Meter } from '../../lib/measure/meter.ts'
import { execute } from '../../lib/measure/process.ts'
import { comparison, runRounds, type Comparison, type Contender } from '../../lib/measure/rounds.ts'
import type { BenchContext, Benchmark, Result } from '../bench-context.ts'
import { figure, ratioFigure, type Figure } from '../figure.ts'
import { ROOT } from '../native.ts'
import { sweep, type Sweep } from '../sweep.ts'

/** One point of the sweep, and one run of a comparison. */
const SWEEP_SECONDS = 1.5
const SWEEP_RUNS = 3

/** Tunings, each of which must be good. */
const CHOICES = 5

/** Below this, a median of ratios still moves with a single round. */
const ROUNDS_MIN = 9

const WINDOWS_BYTES = Array.from({ length: 9 }, (_, step) => 2 ** (20 + step))
const BLOCKS_BYTES = Array.from({ length: 5 }, (_, step) => 2 ** (18 + step))

const DIRECTIONS = ['read', 'write'] as const

/** The one benchmark. */
export const TUNES: readonly Benchmark[] = [{ name: 'tune', run }]

interface Point {
  readonly window: number
  readonly block: number
}

/** The part of the command's document that is needed. */
type Tuned = Readonly<Record<Direction, { readonly windowBytes: number; readonly blockBytes: number }>> & {
  readonly seconds: number
}

async function run({ bytes, scratch, rounds, showProgress }: BenchContext): Promise<Result> {
  const { signal } = new AbortController()
  const examined = await examine(scratch.folder, bytes, { files: 1, verb: 'the bench', signal })
  await using ground = await openGround(examined, Infinity, signal, () => {})
  const points = WINDOWS_BYTES.filter((window) => window <= windowMax(ground.memory.length)).flatMap((window) =>
    BLOCKS_BYTES.filter((block) => block <= window).map((block): Point => ({ window, block })),
  )
  const begin = performance.now()
  const best = new Map<Direction, Contender>()
  const sweeps: Sweep[] = []
  for (const direction of DIRECTIONS) {
    const candidates = points.map((point) => contender(ground, direction, 'sweep', point))
    // oxlint-disable-next-line no-await-in-loop -- one at a time, or they would measure each other
    const found = await sweep(`${direction}s`, candidates, showProgress, SWEEP_RUNS)
    if ('missing' in found.best) throw new Error(found.best.missing)
    best.set(direction, found.best)
    sweeps.push(found.sweep)
  }
  const sweepSeconds = (performance.now() - begin) / 1e3

  const comparisons: Comparison[] = []
  const figures: Figure[] = []
  const seconds: number[] = []
  for (let choice = 1; choice <= CHOICES; choice += 1) {
    showProgress(`choice ${choice} of ${CHOICES}`)
    // oxlint-disable-next-line no-await-in-loop -- as above
    const tuned = await tune(scratch.folder, bytes)
    seconds.push(tuned.seconds)
    for (const direction of DIRECTIONS) {
      const { windowBytes: window, blockBytes: block } = tuned[direction]
      const name = `${direction}, choice ${choice}`
      const group = comparison([
        best.get(direction) as Contender,
        contender(ground, direction, name, { window, block }),
      ])
      // oxlint-disable-next-line no-await-in-loop -- as above
      await runRounds([group], Math.max(ROUNDS_MIN, rounds), showProgress)
      comparisons.push(group)
      figures.push(
        ratioFigure(group, {
          name: `tune-${direction}-${choice}`,
          of: name,
          against: 'sweep',
          metric: 'speed',
          floor: 0.95,
        }),
      )
    }
  }
  figures.push(
    figure(
      'tune-time',
      `seconds of deepring tune by those of the sweep of ${points.length} points`,
      'x',
      { ceiling: 0.1 },
      seconds.map((each) => each / sweepSeconds),
    ),
  )
  return { name: 'tune', title: 'What deepring tune chooses', scale: 'bytes', sweeps, comparisons, figures }
}

function contender(ground: Ground, direction: Direction, name: string, { window, block }: Point): Contender {
  return {
    name,
    configuration: `${direction}s, ${window / 2 ** 20} MiB in flight in blocks of ${block / 1024} KiB`,
    run: async () => {
      const meter = new Meter()
      const rate = await streamRate(ground, direction, { window, block, seconds: SWEEP_SECONDS })
      const outcome = meter.stop(0, 1)
      return { ...outcome, bytes: rate * outcome.wallSeconds }
    },
  }
}

/** Runs the command. */
async function tune(folder: string, bytes: number): Promise<Tuned> {
  const main = join(ROOT, 'lib/command/main.ts')
  const words = ['tune', folder, '--json', '--io-size', String(bytes), '--output', join(folder, 'profile')]
  const { stdout } = await execute(process.execPath, [main, ...words])
  return JSON.parse(stdout) as Tuned
}
