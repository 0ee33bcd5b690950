/**
 * The bench: deepring against fio, against Node's own file API, and against the predecessor's
 * algorithm.
 *
 * 1. Build the rivals, describe the machine, measure its idle noise, make the scratch folder.
 * 2. For each benchmark: find each rival's best configuration with a sweep, then alternate it with
 *    deepring, round by round.
 * 3. Print tables, write charts and JSON. With `--check`, exit with 1 if a figure misses its bar.
 *
 * `docs/benchmarks.md` explains the results.
 */

import { CHECKPOINTS } from './benchmarks/checkpoint.ts'
import { DIGESTS } from './benchmarks/digest.ts'
import { FRESH } from './benchmarks/fresh.ts'
import { ISOLATEDS } from './benchmarks/isolated.ts'
import { LATENCIES } from './benchmarks/latency.ts'
import { ABORTS } from './benchmarks/abort.ts'
import { LOOPS } from './benchmarks/loop.ts'
import { MANIES } from './benchmarks/many.ts'
import { MEMORIES } from './benchmarks/memory.ts'
import { RANDOMS } from './benchmarks/random.ts'
import { RESIDENTS } from './benchmarks/resident.ts'
import { SMALLS } from './benchmarks/small.ts'
import { STORES } from './benchmarks/store.ts'
import { STREAMS } from './benchmarks/stream.ts'
import { SWAPS } from './benchmarks/swap.ts'
import { TENSORS } from './benchmarks/tensors.ts'
import { TUNES } from './benchmarks/tune.ts'
import { WHOLES } from './benchmarks/whole.ts'
import { findFio } from './contenders/fio.ts'
import type { Figure } from './figure.ts'
import { NativeProgram } from './native.ts'
import { NOISE_MAX } from '../lib/measure/meter.ts'
import { describeMachine, machineLine } from './machine.ts'
import { parseOptions, USAGE, type Options } from './options.ts'
import { writeCharts, writeReport } from './report.ts'
import { Scratch } from './scratch.ts'
import type { BenchContext, Benchmark, Result } from './bench-context.ts'
import { contenderTable, figureTable } from './table.ts'

const BENCHMARKS: readonly Benchmark[] = [
  ...STREAMS,
  ...RANDOMS,
  ...MANIES,
  ...SMALLS,
  ...LATENCIES,
  ...ISOLATEDS,
  ...LOOPS,
  ...ABORTS,
  ...MEMORIES,
  ...FRESH,
  ...RESIDENTS,
  ...DIGESTS,
  ...TENSORS,
  ...CHECKPOINTS,
  ...SWAPS,
  ...WHOLES,
  ...STORES,
  ...TUNES,
]

/**
 * Large files on the disk at once: one read, one overwritten, one of tensors, and one new or the same tensors in another order.
 * The small files come on top.
 */
const FILES = 4
const SMALL_FILES_BYTES = 2 * 2 ** 30

/** Below this, a median of ratios still moves with a single round. */
const ROUNDS_MIN = 7

/** Exit code for a wrong command line: a misspelled option, or a benchmark that does not exist. */
const MISUSE = 2

function fits(word: string, { name }: Benchmark): boolean {
  return name === word || name.startsWith(`${word}-`)
}

function chosen(only: readonly string[]): readonly Benchmark[] {
  const unknown = only.find((word) => !BENCHMARKS.some((benchmark) => fits(word, benchmark)))
  if (unknown !== undefined)
    throw new Error(
      `--only ${unknown} does not name a benchmark; the benchmarks are ${BENCHMARKS.map(({ name }) => name).join(', ')}`,
    )
  return only.length === 0 ? BENCHMARKS : BENCHMARKS.filter((benchmark) => only.some((word) => fits(word, benchmark)))
}

async function bench(options: Options, benchmarks: readonly Benchmark[]): Promise<readonly Figure[]> {
  const started = new Date()
  const native = await NativeProgram.build()
  const fio = await findFio()
  const ownBytes = benchmarks.reduce((sum, benchmark) => sum + (benchmark.ownBytes ?? 0), 0)
  const scratch = new Scratch(options.folder, native, FILES * options.bytes + SMALL_FILES_BYTES + ownBytes)
  const abandon = (): void => {
    scratch.close()
    process.exit(130)
  }
  process.once('SIGINT', abandon).once('SIGTERM', abandon)
  try {
    const machine = await describeMachine(scratch.folder)
    console.log(machineLine(machine))
    console.log('missing' in fio ? `MISSING: ${fio.missing}; every figure against fio fails` : fio.version)
    if (machine.idleNoise > NOISE_MAX) {
      console.log(
        `BUSY: other processes use ${machine.idleNoise.toFixed(2)} seconds of CPU per second on this machine; wait until they finish`,
      )
    }
    const results: Result[] = []
    for (const { name, run } of benchmarks) {
      const context: BenchContext = {
        native,
        scratch,
        fio,
        bytes: options.bytes,
        rounds: options.rounds,
        showProgress: (words) => showProgress(`${name}: ${words}`),
      }
      // oxlint-disable-next-line no-await-in-loop -- one at a time, or they would measure each other
      const result = await run(context)
      showProgress('')
      results.push(result)
      console.log(`\n${contenderTable(result, machine.idleNoise)}`)
    }
    const figures = results.flatMap((result) => result.figures)
    console.log(`\n${figureTable(figures)}\n`)
    console.log(`charts: ${writeCharts(results, machine, options.charts).join(', ')}`)
    if (options.json !== null) {
      writeReport(options.json, results, figures, machine, 'missing' in fio ? 'missing' : fio.version, options, started)
      console.log(`report: ${options.json}`)
    }
    return figures
  } finally {
    scratch.close()
  }
}

/** Shows progress on a terminal, in one line that is overwritten. A log gets only the tables. */
function showProgress(words: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001B[K${words.slice(0, (process.stderr.columns ?? 80) - 1)}`)
}

// What a user of this machine has tuned is not what is measured, neither here nor in the processes of contenders.
process.env['DEEPRING_PROFILE'] = 'off'

let options: Options
let benchmarks: readonly Benchmark[]
try {
  options = parseOptions(process.argv.slice(2))
  benchmarks = chosen(options.only)
} catch (error) {
  console.error(`${(error as Error).message}\n\n${USAGE}`)
  process.exit(MISUSE)
}
if (options.help) {
  console.log(USAGE)
} else {
  const figures = await bench(options, benchmarks)
  if (options.rounds < ROUNDS_MIN)
    console.log(`\nfewer than ${ROUNDS_MIN} rounds: these figures are only an indication`)
  const failed = figures.filter(({ holds }) => holds === false)
  if (failed.length > 0)
    console.log(
      `\n${failed.length} of ${figures.length} figures do not reach their bar: ${failed.map(({ name }) => name).join(', ')}`,
    )
  else console.log('\nevery figure reaches its bar')
  if (options.check && failed.length > 0) process.exitCode = 1
}
