/**
 * `tensors-slices`: an eighth of the rows of every matrix of a file.
 */

import { loading, parts } from '../contenders/tensors.ts'
import { outcomeFigure, ratioFigure } from '../figure.ts'
import { fewTensorsModel } from '../models/model.ts'
import { comparison, runRounds } from '../../lib/measure/rounds.ts'
import type { BenchContext, Result } from '../bench-context.ts'
import { bounced } from './tensors-figures.ts'

const RAW_FLOOR = 0.8
const READ_CEILING = 1.05

/** The benchmark. */
export async function slices(context: BenchContext): Promise<Result> {
  const model = await fewTensorsModel(context)
  const raw = loading(context, 'raw read', 'raw', 'touched', model)
  const eighth = parts(context, 'deepring slices', 'tensors-slices', '1/8 of the rows of each matrix', model)
  const group = comparison([raw, eighth])
  await runRounds([group], context.rounds, context.showProgress)
  const figures = [
    outcomeFigure(
      'tensors-slices-read',
      group,
      eighth.name,
      'bytes read from the device / bytes of the slices',
      'x',
      { ceiling: READ_CEILING },
      ({ bytes, extra }) => (extra?.['deviceBytes'] ?? NaN) / bytes,
    ),
    ratioFigure(group, {
      name: 'tensors-slices-vs-raw',
      of: eighth.name,
      against: raw.name,
      metric: 'speed',
      floor: RAW_FLOOR,
    }),
    bounced('tensors-slices-bounced', group, eighth.name),
  ]
  return {
    name: 'tensors-slices',
    title: 'Loading 1/8 of the rows of each matrix',
    scale: 'bytes',
    sweeps: [],
    comparisons: [group],
    figures,
  }
}
