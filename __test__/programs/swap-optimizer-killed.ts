// Initializes a group of an optimizer swapper and flushes, changes it in a step, and is killed.
//
//   swap-optimizer-killed.ts DIRECTORY DURABLE

import process from 'node:process'
import { openOptimizerSwapper } from '../../lib/swap/index.ts'

const [directory, durable] = process.argv.slice(2) as [string, string]
const groups = [{ name: 'a', numel: 1000 }]
const swapper = await openOptimizerSwapper(directory, { groups, create: true, durable: durable === 'true' })
await swapper.initialize('a', { param: new Float32Array(1000).fill(1) })
await swapper.flush()
for await (const { param } of swapper.step()) param.fill(2)
// The next step reads what was written.
for await (const group of swapper.step()) {
  await group.close({ write: false })
  process.kill(process.pid, 'SIGKILL')
}
