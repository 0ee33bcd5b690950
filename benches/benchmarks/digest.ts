/**
 * `digest`: one large file, read and overwritten, with the checksum of every byte and without.
 */

import { deepringStream, deepringSummed } from '../contenders/deepring.ts'
import { figure, ratioFigure, type Figure } from '../figure.ts'
import { cpuSeconds } from '../../lib/measure/outcome.ts'
import { comparison, runRounds, type Comparison } from '../../lib/measure/rounds.ts'
import type { BenchContext, Benchmark, Result } from '../bench-context.ts'
import type { Task } from '../task.ts'

const FLOOR = 0.97

/** What the sums may cost, in seconds of CPU per 10^9 bytes. */
const CPU_CEILING = 0.11

/** The two benchmarks. */
export const DIGESTS: readonly Benchmark[] = [
  { name: 'digest-read', run: (context) => run(context, 'read', 'Reading one large file with checksums') },
  {
    name: 'digest-overwrite',
    run: (context) => run(context, 'overwrite', 'Overwriting one large file with checksums'),
  },
]

async function run(context: BenchContext, task: Task, title: string): Promise<Result> {
  const file = await context.scratch.file(task === 'read' ? 'read' : 'overwritten', context.bytes)
  const [summed, plain] = [deepringSummed(context, task, file), deepringStream(context, task, file)]
  const group = comparison([summed, plain])
  await runRounds([group], context.rounds, context.showProgress)
  const name = `digest-${task}`
  const speed = {
    name: `${name}-vs-plain`,
    of: summed.name,
    against: plain.name,
    metric: 'speed',
    floor: FLOOR,
  } as const
  return {
    name,
    title,
    scale: 'bytes',
    sweeps: [],
    comparisons: [group],
    figures: [ratioFigure(group, speed), cost(`${name}-cpu`, group, summed.name, plain.name)],
  }
}

/** What the sums cost, round by round. */
function cost(name: string, group: Comparison, summed: string, plain: string): Figure {
  const values = group.rounds.flatMap((round) => {
    const [with_, without] = [round.get(summed), round.get(plain)]
    if (with_ === undefined || without === undefined) return []
    return [((cpuSeconds(with_) - cpuSeconds(without)) / with_.bytes) * 1e9]
  })
  const reason = group.missing.get(summed) ?? group.missing.get(plain)
  return figure(name, `CPU of ${summed} beyond that of ${plain}`, 's/GB', { ceiling: CPU_CEILING }, values, reason)
}
