/**
 * A training whose optimizer has four times the state that its memory holds, killed again and again, and equal to the bit.
 *
 *   node examples/training/main.ts                               12 MiB of state
 *   node examples/training/main.ts --width 21632 --kills 10      256 MiB, which is `npm run demo -- --train`
 *
 *   --width 1024     hidden neurons, a multiple of 32
 *   --steps N        default: what the kills need
 *   --kills 2        kills in each of: computing, writing behind, a snapshot, a commit
 *   --seed 7         of the weights, the pictures and the moments
 *   --plant-error    change one bit of the swapped state, to show that the comparison finds it (exit code 1)
 *
 * Run it in a checkout after `npm run build:native`, with Node 24 or newer (`await using`). In your own project the imports are
 * `from 'deepring/swap'`, `from 'deepring/checkpoint'` and `from 'deepring/aio'`. The optimizer is in swapped.ts, and its
 * checkpoints are in child.ts.
 */

import process from 'node:process'
import { parseArgs } from 'node:util'
import { Progress } from '../demo/progress.ts'
import { Workspace } from '../demo/workspace.ts'
import { compareTrainings } from './comparison.ts'
import { formatOutcome } from './report.ts'

const { values } = parseArgs({
  options: {
    width: { type: 'string', default: '1024' },
    steps: { type: 'string' },
    kills: { type: 'string', default: '2' },
    seed: { type: 'string', default: '7' },
    'plant-error': { type: 'boolean', default: false },
  },
})
try {
  const progress = new Progress(process.stdout)
  const outcome = await compareTrainings(new Workspace(process.cwd()), progress, {
    width: Number(values.width),
    steps: values.steps === undefined ? undefined : Number(values.steps),
    kills: Number(values.kills),
    seed: Number(values.seed),
    plantError: values['plant-error'],
  })
  progress.line(`\n${formatOutcome(outcome)}`)
} catch (error) {
  process.stderr.write(`training failed: ${(error as Error).stack}\n`)
  process.exitCode = 1
}
