/**
 * `random`: pages of 4 KiB at random positions of the large file, 128 at a time, from Rust and from
 * JavaScript.
 *
 * All contenders but fio read the same list of positions. fio draws its own, as evenly.
 */

import { deepringRandom, deepringRandomRust } from '../contenders/deepring.ts'
import { fioRandomCandidates } from '../contenders/fio.ts'
import { nodeRandomCandidates } from '../contenders/node.ts'
import { ratioFigure, type Ratio } from '../figure.ts'
import { comparison, runRounds, type Entry } from '../rounds.ts'
import type { BenchContext, Benchmark, Result } from '../bench-context.ts'
import { sweep, type Sweep } from '../sweep.ts'

const DEPTH = 128
const ORDER = 7

/**
 * Approximate length of a run on any disk. It is long enough that a process's warm-up does not
 * decide a figure per read.
 */
const SECONDS = 2.5
const PROBE_OPERATIONS = 16_384
/** At most one read per this many bytes of the file, so that few pages are read twice. */
const BYTES_PER_OPERATION_MIN = 4096

/** The one benchmark. */
export const RANDOMS: readonly Benchmark[] = [{ name: 'random-read', run }]

async function run(context: BenchContext): Promise<Result> {
  const { bytes, showProgress, rounds } = context
  const file = await context.scratch.file('read', bytes)
  const all = Math.ceil(bytes / BYTES_PER_OPERATION_MIN)
  const some = { operations: Math.min(PROBE_OPERATIONS, all), depth: DEPTH, order: ORDER }
  const probe = await deepringRandomRust(context, file, some).run()
  const operations = Math.min(all, Math.ceil((some.operations / probe.wallSeconds) * SECONDS))
  const reads = { ...some, operations }
  const sweeps: Sweep[] = []
  let fio: Entry = { name: 'fio', missing: 'missing' in context.fio ? context.fio.missing : '' }
  if ('version' in context.fio) {
    const found = await sweep('fio random', fioRandomCandidates(context, file, reads), showProgress)
    sweeps.push(found.sweep)
    fio = found.best
  }
  const node = await sweep('node random', nodeRandomCandidates(context, file, reads), showProgress)
  sweeps.push(node.sweep)

  const rust = comparison([fio, deepringRandomRust(context, file, reads)])
  const script = comparison([deepringRandom(context, file, reads), node.best])
  await runRounds([rust, script], rounds, showProgress)
  const against = node.best.name
  const ofRust: Ratio[] = [
    { name: 'random-rust-vs-fio', of: 'deepring in Rust', against: 'fio', metric: 'speed', floor: 0.9 },
    { name: 'random-rust-cpu-vs-fio', of: 'deepring in Rust', against: 'fio', metric: 'cpu' },
  ]
  const ofScript: Ratio[] = [
    { name: 'random-js-vs-node', of: 'deepring', against, metric: 'speed', floor: 1 },
    { name: 'random-js-cpu-vs-node', of: 'deepring', against, metric: 'cpu', ceiling: 0.5 },
  ]
  const figures = [
    ...ofRust.map((ratio) => ratioFigure(rust, ratio)),
    ...ofScript.map((ratio) => ratioFigure(script, ratio)),
  ]
  return {
    name: 'random-read',
    title: 'Reading 4 KiB pages at random, 128 at a time',
    scale: 'operations',
    sweeps,
    comparisons: [rust, script],
    figures,
  }
}
