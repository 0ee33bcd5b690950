/**
 * `tensors-save`: tensors in memory, saved in a new file that is on the disk at the end.
 */

import { saving } from '../contenders/tensors.ts'
import { ratioFigure } from '../figure.ts'
import { fewTensorsModel } from '../models/model.ts'
import { comparison, runRounds } from '../../lib/measure/rounds.ts'
import type { BenchContext, Result } from '../bench-context.ts'
import { bounced } from './tensors-figures.ts'

const RAW_FLOOR = 0.9
const REFERENCE_FLOOR = 1.2

/** Rounds of what is only reported, or hardly varies. */
const FEW_ROUNDS = 3

/** The benchmark. */
export async function save(context: BenchContext): Promise<Result> {
  const model = await fewTensorsModel(context)
  const raw = saving(context, 'raw write', 'raw', model)
  const ours = saving(context, 'deepring', 'tensors', model)
  const reference = saving(context, 'serialize_to_file', 'reference', model)
  const loaded = saving(context, 'deepring as loaded', 'loaded', model)
  const group = comparison([raw, ours, reference])
  const path = comparison([loaded, ours], FEW_ROUNDS)
  await runRounds([group, path], context.rounds, context.showProgress)
  const speed = { metric: 'speed' } as const
  const figures = [
    ratioFigure(group, { name: 'tensors-save-vs-raw', of: ours.name, against: raw.name, ...speed, floor: RAW_FLOOR }),
    ratioFigure(group, {
      name: 'tensors-save-vs-reference',
      of: ours.name,
      against: reference.name,
      ...speed,
      floor: REFERENCE_FLOOR,
    }),
    ratioFigure(group, {
      name: 'tensors-save-cpu-vs-reference',
      of: ours.name,
      against: reference.name,
      metric: 'cpu',
    }),
    ratioFigure(path, { name: 'tensors-save-as-loaded', of: loaded.name, against: ours.name, ...speed }),
    bounced('tensors-save-bounced', group, ours.name),
  ]
  return {
    name: 'tensors-save',
    title: `Saving ${model.count} tensors, on the disk at the end`,
    scale: 'bytes',
    sweeps: [],
    comparisons: [group, path],
    figures,
  }
}
