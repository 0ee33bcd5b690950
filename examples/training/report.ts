/** What a comparison of trainings prints at its end. */

import { formatSize } from '../demo/size.ts'
import { formatTable } from '../demo/table.ts'
import { countsOf, type Outcome } from './comparison.ts'

export function formatOutcome(outcome: Outcome): string {
  const { costs, losses, kills, repeated, stateBytes } = outcome
  const [inMemory] = costs
  const rows = costs.map(({ title, stepMs, read, written, overlap, peak }) => [
    title,
    `${stepMs.toFixed(1)} ms`,
    `${(stepMs / inMemory!.stepMs).toFixed(2)}`,
    formatSize(read),
    formatSize(written),
    overlap === undefined ? '' : overlap.toFixed(2),
    formatSize(peak),
  ])
  const header = [`a step, ${formatSize(stateBytes)}`, 'time', 'to memory', 'read', 'written', 'overlap', 'peak memory']
  return [
    formatTable(header, rows),
    `The peak is of the whole process. The budget is ${formatSize(outcome.memory)}.`,
    '',
    `loss        ${losses[0]!.toFixed(4)} to ${losses.at(-1)!.toFixed(4)} in ${losses.length} steps`,
    `killed      ${countsOf(kills)}; ${repeated} steps were computed again`,
    `moved       at least ${formatSize(outcome.read)} read and ${formatSize(outcome.written)} written by optimizers that were killed, with at most ${formatSize(outcome.peak)} of memory`,
    'every loss and every bit of the state is what it is in memory',
  ].join('\n')
}
