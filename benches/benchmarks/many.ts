/**
 * `many`: pages and records at random positions of the large file, thousands in one call, from Rust and from JavaScript.
 *
 * All contenders but fio read the same list of positions. fio draws its own, as evenly.
 */

import type { ManyParameters } from '../children/parameters.ts'
import { runChild } from '../contender.ts'
import { bestFio, fioRandomCandidates } from '../contenders/fio.ts'
import { warmed } from '../contenders/warm.ts'
import { figure, outcomeFigure, ratioFigure, type Figure, type Ratio } from '../figure.ts'
import type { Outcome } from '../../lib/measure/outcome.ts'
import { randomReads } from '../probe.ts'
import { comparison, runRounds, type Comparison, type Contender } from '../../lib/measure/rounds.ts'
import type { BenchContext, Benchmark, Result } from '../bench-context.ts'
import { fileEnvironment } from '../run-environment.ts'

const ORDER = 9
const PAGE_BYTES = 4096
const RECORD_BYTES = 128

/** Ranges of one call: 8 MiB of pages. */
const RANGES = 2048

/** Reads of the comparison with one promise each. */
const EACH = 100_000

/** Ranges in one call, for what it costs the event loop. */
const MOST = 1_000_000

/** Rounds of what hardly varies. */
const FEW = 3

/** The one benchmark. */
export const MANIES: readonly Benchmark[] = [{ name: 'many-read', run }]

async function run(context: BenchContext): Promise<Result> {
  const { bytes, native, scratch, showProgress, rounds } = context
  const file = await scratch.file('read', bytes)
  const inEnvironment = fileEnvironment(context, 'read', file)
  const reads = await randomReads(context, file, ORDER)
  const operations = Math.max(RANGES, Math.floor(reads.operations / RANGES) * RANGES)
  const fio = await bestFio(context, 'random', fioRandomCandidates(context, file, { ...reads, operations }))
  const script = (name: string, changes: Partial<ManyParameters>): Contender => {
    const parameters = { operations, order: ORDER, length: PAGE_BYTES, ranges: RANGES, delay: false, ...changes }
    const { ranges, length } = parameters
    return {
      name,
      configuration: ranges === 1 ? `${length} B × ${reads.depth}, one promise each` : `${length} B, ${ranges} a call`,
      run: () =>
        inEnvironment(({ path, seed }) =>
          runChild<ManyParameters>('deepring-many', { ...parameters, file: path, bytes, seed, source: scratch.source }),
        ),
    }
  }
  const rust: Contender = {
    name: 'deepring in Rust',
    configuration: `4K, ${RANGES} a call`,
    run: () =>
      inEnvironment(({ path, seed }) =>
        native.measure('scatter', {
          operations,
          order: ORDER,
          ranges: RANGES,
          file: path,
          bytes,
          seed,
          source: scratch.source,
        }),
      ),
  }
  const largest: Contender = {
    name: 'memory of a call',
    configuration: '2^20 ranges in Rust',
    run: () => inEnvironment(({ path }) => native.measure('scatter-memory', { file: path, bytes })),
  }
  const speed = comparison([rust, fio.best, script('deepring', {})])
  const pages = comparison(
    [script('pages', { operations: EACH, ranges: RANGES }), script('pages each', { operations: EACH, ranges: 1 })],
    FEW,
  )
  const records = comparison(
    [
      script('records', { operations: EACH, ranges: RANGES, length: RECORD_BYTES }),
      script('records each', { operations: EACH, ranges: 1, length: RECORD_BYTES }),
    ],
    FEW,
  )
  // The copy of its positions would else take faults of the host.
  const loop = comparison(
    [warmed(context, script('loop', { operations: MOST, ranges: MOST, length: RECORD_BYTES, delay: true }))],
    FEW,
  )
  const memory = comparison([largest], FEW)
  await runRounds([speed, pages, records, loop, memory], rounds, showProgress)

  const ratios: readonly Ratio[] = [
    { name: 'many-rust-vs-fio', of: 'deepring in Rust', against: 'fio', metric: 'speed', floor: 0.95 },
    { name: 'many-js-vs-fio', of: 'deepring', against: 'fio', metric: 'speed', floor: 0.9 },
    { name: 'many-js-cpu-vs-fio', of: 'deepring', against: 'fio', metric: 'cpu', ceiling: 1.25 },
  ]
  const figures = [
    ...ratios.map((ratio) => ratioFigure(speed, ratio)),
    mainCpu('many-main-cpu-pages', pages, 'pages', 'pages each'),
    mainCpu('many-main-cpu-records', records, 'records', 'records each'),
    outcomeFigure(
      'many-stall',
      loop,
      'loop',
      'longest delay of the event loop in a call of a million, less that of the idle process',
      'ms',
      { ceiling: 5 },
      stall,
    ),
    outcomeFigure(
      'many-memory',
      memory,
      'memory of a call',
      'memory of a call with 2^20 ranges, per range',
      'B',
      { ceiling: 40 },
      (outcome) => outcome.extra?.['bytesPerRange'],
    ),
    outcomeFigure(
      'many-memory-kept',
      memory,
      'memory of a call',
      'what of it is left afterwards, per range',
      'B',
      { ceiling: 4 },
      (outcome) => outcome.extra?.['keptPerRange'],
    ),
  ]
  return {
    name: 'many-read',
    title: 'Reading pages and records at random, thousands in one call',
    scale: 'operations',
    sweeps: fio.sweeps,
    comparisons: [speed, pages, records, loop, memory],
    figures,
  }
}

function stall({ extra }: Outcome): number | undefined {
  return extra === undefined ? undefined : (extra['busyMaxMs'] ?? NaN) - (extra['idleMaxMs'] ?? NaN)
}

/** The CPU of the JavaScript thread, as a ratio. */
function mainCpu(name: string, group: Comparison, of: string, against: string): Figure {
  const values = group.rounds.flatMap((round) => {
    const [one, other] = [round.get(of)?.extra?.['mainSeconds'], round.get(against)?.extra?.['mainSeconds']]
    return one === undefined || other === undefined ? [] : [one / other]
  })
  const reason = group.missing.get(of) ?? group.missing.get(against)
  return figure(name, `CPU of the JavaScript thread, ${of} / ${against}`, 'x', { ceiling: 0.15 }, values, reason)
}
