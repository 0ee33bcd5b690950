/**
 * `tensors-many`: a file of many small tensors into memory, and what that does to the event loop.
 */

import { rmSync } from 'node:fs'
import type { ModelParameters } from '../children/parameters.ts'
import { runChild } from '../contender.ts'
import { loading, modelParameters } from '../contenders/tensors.ts'
import { warmed } from '../contenders/warm.ts'
import { outcomeFigure, ratioFigure } from '../figure.ts'
import { manyTensorsModels } from '../models/model.ts'
import type { Outcome } from '../../lib/measure/outcome.ts'
import { comparison, runRounds, type Contender } from '../../lib/measure/rounds.ts'
import type { BenchContext, Result } from '../bench-context.ts'
import { bounced, milliseconds } from './tensors-figures.ts'

const RAW_FLOOR = 0.85
const STALL_CEILING_MS = 10

/** Rounds of what is only reported, or hardly varies. */
const FEW_ROUNDS = 3

/** The benchmark. */
export async function loadMany(context: BenchContext): Promise<Result> {
  const { scratch, rounds, showProgress } = context
  const [model, small] = await manyTensorsModels(context)
  const raw = loading(context, 'raw read fresh', 'raw', 'fresh', model)
  const touched = loading(context, 'raw read', 'raw', 'touched', model)
  const fresh = loading(context, 'deepring fresh', 'tensors', 'fresh', model)
  const stalling: Contender = {
    name: 'deepring watched',
    configuration: `${model.label}, opened, loaded, and all names looked at`,
    run: async () => {
      await scratch.evict(model.file)
      const words = { ...modelParameters(model), warm: small.file }
      return runChild<ModelParameters & { warm: string }>('tensors-stall', words)
    },
  }
  const equal = comparison([raw, fresh, touched].map((contender) => warmed(context, contender)))
  const loop = comparison([warmed(context, stalling)], FEW_ROUNDS)
  await runRounds([equal, loop], rounds, showProgress)
  for (const { file } of [model, small]) rmSync(file)
  const longest = ({ extra = {} }: Outcome) => Math.max(...STALLS.map(([key]) => extra[key] ?? NaN))
  const figures = [
    ratioFigure(equal, {
      name: 'tensors-many-vs-raw',
      of: fresh.name,
      against: raw.name,
      metric: 'speed',
      floor: RAW_FLOOR,
    }),
    ratioFigure(equal, { name: 'tensors-many-vs-raw-touched', of: fresh.name, against: touched.name, metric: 'speed' }),
    bounced('tensors-many-bounced', equal, fresh.name),
    outcomeFigure(
      'tensors-many-stall',
      loop,
      stalling.name,
      `longest stall of the event loop: ${model.count} tensors opened, loaded, all names looked at`,
      'ms',
      { ceiling: STALL_CEILING_MS },
      longest,
    ),
    ...STALLS.map(([key, name, what]) =>
      milliseconds(name, loop, stalling.name, key, `longest stall of the event loop while ${what}`, {}),
    ),
  ]
  const title = `Loading a file of ${model.count} tensors (${model.label})`
  return {
    name: 'tensors-many',
    title,
    scale: 'bytes',
    sweeps: [],
    comparisons: [equal, loop],
    figures,
  }
}

const STALLS = [
  ['openMs', 'tensors-many-stall-open', 'the file is opened'],
  ['loadMs', 'tensors-many-stall-load', 'it is loaded'],
  ['walkMs', 'tensors-many-stall-names', 'all names are looked at'],
] as const
