/**
 * `loop`: how late the event loop's timers are while deepring reads ten times the large file.
 */

import type { FileParameters } from '../children/parameters.ts'
import { runChild, type Contender } from '../contender.ts'
import { figure } from '../figure.ts'
import { heat, race } from '../rounds.ts'
import type { Benchmark, Result, Setting } from '../bench-context.ts'
import { fileStage } from '../run-environment.ts'

const PASSES = 10
const CEILING_MS = 5

/** Ten gigabytes a round make a p99 of thousands of samples; three rounds show whether it is the same twice. */
const ROUNDS = 3

type Parameters = FileParameters & { readonly passes: number }

/** The one benchmark. */
export const LOOPS: readonly Benchmark[] = [{ name: 'loop-delay', run }]

async function run(setting: Setting): Promise<Result> {
  const { bytes, scratch, tell } = setting
  const file = await scratch.file('read', bytes)
  const stage = fileStage(setting, 'read', file)
  const deepring: Contender = {
    name: 'deepring',
    configuration: `defaults, ${PASSES} passes`,
    run: () =>
      stage(({ target, seed }) =>
        runChild<Parameters>('deepring-delay', { file: target, bytes, seed, source: scratch.source, passes: PASSES }),
      ),
  }
  const group = heat([deepring])
  await race([group], Math.min(ROUNDS, setting.rounds), tell)
  const outcomes = group.rounds.flatMap((round) => [...round.values()])
  const late = outcomes.map(({ extra }) => (extra?.['busyP99Ms'] ?? NaN) - (extra?.['idleP99Ms'] ?? NaN))
  const latest = outcomes.map(({ extra }) => extra?.['busyMaxMs'] ?? NaN)
  const reason = group.missing.get('deepring')
  const figures = [
    figure(
      'loop-delay-p99',
      'event-loop delay p99 while reading, less that of the idle process',
      'ms',
      { ceiling: CEILING_MS },
      late,
      reason,
    ),
    figure('loop-delay-max', 'largest event-loop delay while reading', 'ms', {}, latest, reason),
  ]
  return {
    name: 'loop-delay',
    title: 'The event loop while reading',
    scale: 'bytes',
    sweeps: [],
    heats: [group],
    figures,
  }
}
