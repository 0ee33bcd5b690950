/**
 * `tensors-stream`: all tensors of a file, one after the other, within a budget of memory.
 */

import { idle, loading, parts } from '../contenders/tensors.ts'
import { outcomeFigure, pairFigure, ratioFigure } from '../figure.ts'
import { fewTensorsModel } from '../models/model.ts'
import { comparison, runRounds } from '../../lib/measure/rounds.ts'
import type { BenchContext, Result } from '../bench-context.ts'

const MIB = 2 ** 20

const LOAD_FLOOR = 0.95
const BUDGET_MIB = 256
const BEYOND_BUDGET_MIB = 96

/** A peak hardly varies. */
const FEW_ROUNDS = 3

/** The benchmark. */
export async function stream(context: BenchContext): Promise<Result> {
  const model = await fewTensorsModel(context)
  const whole = loading(context, 'deepring', 'tensors', 'touched', model)
  const streaming = parts(context, 'deepring stream', 'tensors-stream', `within ${BUDGET_MIB} MiB`, model)
  const speed = comparison([whole, streaming])
  const memory = comparison([idle(model), streaming], FEW_ROUNDS)
  await runRounds([speed, memory], context.rounds, context.showProgress)
  const figures = [
    ratioFigure(speed, {
      name: 'tensors-stream-vs-load',
      of: streaming.name,
      against: whole.name,
      metric: 'speed',
      floor: LOAD_FLOOR,
    }),
    pairFigure(
      'tensors-stream-memory',
      memory,
      [streaming.name, 'idle'],
      `peak memory less the idle process, with a budget of ${BUDGET_MIB} MiB`,
      'MiB',
      { ceiling: BUDGET_MIB + BEYOND_BUDGET_MIB },
      (mine, theirs) => (mine.peakBytes - theirs.peakBytes) / MIB,
    ),
    outcomeFigure(
      'tensors-stream-cache',
      speed,
      streaming.name,
      'what of the file is in the page cache afterwards',
      'MiB',
      { ceiling: 0 },
      ({ extra }) => (extra?.['residentBytes'] ?? NaN) / MIB,
    ),
  ]
  return {
    name: 'tensors-stream',
    title: 'Streaming all tensors within a budget',
    scale: 'bytes',
    sweeps: [],
    comparisons: [speed, memory],
    figures,
  }
}
