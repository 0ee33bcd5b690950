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
import type { Benchmark, Result, Setting } from '../setting.ts'
import { sweep, type Sweep } from '../sweep.ts'

const DEPTH = 128
const ORDER = 7

/** Enough for two to three seconds at 25 000 a second; a smaller file gets fewer. */
const OPERATIONS_MAX = 65_536
const BYTES_PER_OPERATION = 16_384

/** The one benchmark. */
export const RANDOMS: readonly Benchmark[] = [{ name: 'random-read', run }]

async function run(setting: Setting): Promise<Result> {
  const { bytes, tell, rounds } = setting
  const operations = Math.min(OPERATIONS_MAX, Math.ceil(bytes / BYTES_PER_OPERATION))
  const reads = { operations, depth: DEPTH, order: ORDER }
  const file = await setting.scratch.file('read', bytes)
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
