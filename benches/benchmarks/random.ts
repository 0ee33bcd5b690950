/**
 * `random`: pages of 4 KiB at random places of the large file, 128 at a time, from Rust and from JavaScript.
 *
 * Everybody but fio reads the same list of positions; fio draws its own, as evenly.
 */

import { deepringRandom, deepringRandomRust } from '../contenders/deepring.ts'
import { fioRandomCandidates } from '../contenders/fio.ts'
import { nodeRandomCandidates } from '../contenders/node.ts'
import { ratioFigure, type Ratio } from '../figure.ts'
import { heat, race, type Entry } from '../rounds.ts'
import type { Benchmark, Result, Setting } from '../bench-context.ts'
import { sweep, type Sweep } from '../sweep.ts'

const DEPTH = 128
const ORDER = 7

/** A run takes about so long, whatever the disk is: what a process costs before its code is warm shall not decide a figure per read. */
const SECONDS = 2.5
const PROBE_OPERATIONS = 16_384
/** At most so many of the file's pages are read, so that few are read twice. */
const BYTES_PER_OPERATION_MIN = 4096

/** The one benchmark. */
export const RANDOMS: readonly Benchmark[] = [{ name: 'random-read', run }]

async function run(setting: Setting): Promise<Result> {
  const { bytes, tell, rounds } = setting
  const file = await setting.scratch.file('read', bytes)
  const all = Math.ceil(bytes / BYTES_PER_OPERATION_MIN)
  const some = { operations: Math.min(PROBE_OPERATIONS, all), depth: DEPTH, order: ORDER }
  const probe = await deepringRandomRust(setting, file, some).run()
  const operations = Math.min(all, Math.ceil((some.operations / probe.wallSeconds) * SECONDS))
  const reads = { ...some, operations }
  const sweeps: Sweep[] = []
  let fio: Entry = { name: 'fio', missing: 'missing' in setting.fio ? setting.fio.missing : '' }
  if ('version' in setting.fio) {
    const found = await sweep('fio random', fioRandomCandidates(setting, file, reads), tell)
    sweeps.push(found.sweep)
    fio = found.best
  }
  const node = await sweep('node random', nodeRandomCandidates(setting, file, reads), tell)
  sweeps.push(node.sweep)

  const rust = heat([fio, deepringRandomRust(setting, file, reads)])
  const script = heat([deepringRandom(setting, file, reads), node.best])
  await race([rust, script], rounds, tell)
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
    heats: [rust, script],
    figures,
  }
}
