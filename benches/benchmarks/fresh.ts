/**
 * `fresh`: one read of the large file into memory that was never touched, in a guest whose memory
 * the host has backed.
 */

import { deepringStream } from '../contenders/deepring.ts'
import { nodeStream } from '../contenders/node.ts'
import { warmed } from '../contenders/warm.ts'
import { figure, ratioFigure, type Ratio } from '../figure.ts'
import { cpuSeconds } from '../../lib/measure/outcome.ts'
import { comparison, runRounds } from '../../lib/measure/rounds.ts'
import type { BenchContext, Benchmark, Result } from '../bench-context.ts'

const TOUCHED_FLOOR = 0.9
const CPU_CEILING = 0.3
const GB = 1e9

/** The one benchmark. */
export const FRESH: readonly Benchmark[] = [{ name: 'fresh-read', run }]

async function run(context: BenchContext): Promise<Result> {
  const file = await context.scratch.file('read', context.bytes)
  const group = comparison(
    [
      deepringStream(context, 'read', file),
      deepringStream(context, 'read', file, 'fresh'),
      nodeStream(context, 'read', file, 'freshHandles'),
    ].map((contender) => warmed(context, contender)),
  )
  await runRounds([group], context.rounds, context.showProgress)
  const ratios: readonly Ratio[] = [
    {
      name: 'fresh-read-vs-touched',
      of: 'deepring fresh',
      against: 'deepring',
      metric: 'speed',
      floor: TOUCHED_FLOOR,
    },
    {
      name: 'fresh-read-vs-filehandles',
      of: 'deepring fresh',
      against: '4 FileHandles fresh',
      metric: 'speed',
      floor: 1,
      exclusive: true,
    },
  ]
  const cpu = group.rounds.flatMap((round) => {
    const outcome = round.get('deepring fresh')
    return outcome === undefined ? [] : [cpuSeconds(outcome) / (outcome.bytes / GB)]
  })
  const figures = [
    ...ratios.map((ratio) => ratioFigure(group, ratio)),
    figure(
      'fresh-read-cpu',
      'CPU of deepring fresh',
      's/GB',
      { ceiling: CPU_CEILING },
      cpu,
      group.missing.get('deepring fresh'),
    ),
  ]
  return {
    name: 'fresh-read',
    title: 'Reading one large file into memory never touched',
    scale: 'bytes',
    sweeps: [],
    comparisons: [group],
    figures,
  }
}
