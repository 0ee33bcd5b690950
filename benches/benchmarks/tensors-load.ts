/**
 * `tensors-load`: all tensors of one file into memory.
 *
 * | comparison | its middle | around it |
 * |---|---|---|
 * | a load brings its memory | deepring | one read into touched memory; the same tensors as deepring saves them |
 * | memory never touched | deepring | the mapped reference; one read |
 * | reported | deepring | `fs.readFile` and views; the mapping, lazily; the wheel |
 */

import { rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { runChild } from '../contender.ts'
import { loading, mapped, modelParameters } from '../contenders/tensors.ts'
import { warmed } from '../contenders/warm.ts'
import { wheel } from '../contenders/wheel.ts'
import { ratioFigure } from '../figure.ts'
import { fewTensorsModel, type Model } from '../models/model.ts'
import { comparison, runRounds, type Contender } from '../../lib/measure/rounds.ts'
import type { BenchContext, Result } from '../bench-context.ts'
import { bounced } from './tensors-figures.ts'

const RAW_FLOOR = 0.9
const MAPPED_CPU_CEILING = 0.3

/** Rounds of what is only reported, or hardly varies. */
const FEW_ROUNDS = 3

/** The benchmark. */
export async function loadFew(context: BenchContext): Promise<Result> {
  const model = await fewTensorsModel(context)
  const rewritten = await rewrittenOf(context, model)
  const raw = loading(context, 'raw read', 'raw', 'touched', model)
  const loaded = backed(loading(context, 'deepring', 'tensors', 'fresh', model))
  const fresh = loading(context, 'deepring fresh', 'tensors', 'fresh', model)
  const blocks = backed(loading(context, 'deepring blocks', 'tensors', 'fresh', rewritten, model))
  const copied = mapped(context, 'mapped', 'copy', model)
  const equal = comparison([raw, loaded, blocks])
  const rivals = comparison([copied, fresh, loading(context, 'raw read fresh', 'raw', 'fresh', model)].map(backed))
  const reported = comparison(
    [
      loading(context, 'fs.readFile', 'subarray', 'fresh', model),
      loading(context, 'deepring fresh', 'tensors', 'fresh', model),
      mapped(context, 'mapped lazily', 'touch', model),
      wheel(context, model),
    ].map((entry) => ('missing' in entry ? entry : backed(entry))),
    FEW_ROUNDS,
  )
  const comparisons = [equal, rivals, reported]
  await runRounds(comparisons, context.rounds, context.showProgress)
  rmSync(rewritten.file)
  const speed = { metric: 'speed' } as const
  const figures = [
    ratioFigure(equal, {
      name: 'tensors-load-vs-raw',
      of: 'deepring',
      against: 'raw read',
      ...speed,
      floor: RAW_FLOOR,
    }),
    ratioFigure(equal, {
      name: 'tensors-load-blocks-vs-shipped',
      of: 'deepring blocks',
      against: 'deepring',
      ...speed,
    }),
    bounced('tensors-load-bounced', equal, 'deepring'),
    bounced('tensors-load-blocks-bounced', equal, 'deepring blocks'),
    ratioFigure(rivals, {
      name: 'tensors-load-fresh-vs-raw-fresh',
      of: fresh.name,
      against: 'raw read fresh',
      ...speed,
      floor: RAW_FLOOR,
    }),
    ratioFigure(rivals, {
      name: 'tensors-load-vs-mapped',
      of: fresh.name,
      against: copied.name,
      ...speed,
      floor: 1,
      exclusive: true,
    }),
    ratioFigure(rivals, {
      name: 'tensors-load-cpu-vs-mapped',
      of: fresh.name,
      against: copied.name,
      metric: 'cpu',
      ceiling: MAPPED_CPU_CEILING,
    }),
    ratioFigure(reported, {
      name: 'tensors-load-vs-mapped-lazily',
      of: fresh.name,
      against: 'mapped lazily',
      ...speed,
    }),
    ratioFigure(reported, { name: 'tensors-load-vs-readfile', of: fresh.name, against: 'fs.readFile', ...speed }),
    ratioFigure(reported, {
      name: 'tensors-load-vs-python',
      of: fresh.name,
      against: 'safetensors in Python',
      ...speed,
    }),
  ]
  return {
    name: 'tensors-load',
    title: `Loading a file of ${model.count} tensors (${model.label})`,
    scale: 'bytes',
    sweeps: [],
    comparisons,
    figures,
  }

  function backed(contender: Contender): Contender {
    return warmed(context, contender)
  }
}

/** The same tensors as deepring saves them by default. */
async function rewrittenOf(context: BenchContext, model: Model): Promise<Model> {
  const file = join(context.scratch.folder, 'rewritten')
  await runChild('tensors-save', {
    ...modelParameters(model),
    to: file,
    method: 'tensors',
    aligned: false,
    verifies: true,
  })
  const { size } = statSync(file)
  return { ...model, file, bytes: size, start: size - model.tensorBytes, label: `${model.label}, rewritten` }
}
