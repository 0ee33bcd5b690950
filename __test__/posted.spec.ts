/** What is posted to another thread moves, is copied where a copy was asked for, or fails: nothing is copied silently or empty. */

import { join } from 'node:path'
import test from 'ava'
import { nodes, run } from './packed.ts'

for (const [version, node] of nodes()) {
  test(`engine memory is not transferred, and files and engines are not cloned, on Node ${version}`, async (t) => {
    const program = join(import.meta.dirname, 'programs', 'posted.mjs')
    const { status, stdout, stderr } = await run(node, [program], import.meta.dirname)
    t.is(status, 0, stderr)
    const { copy, others, ...refused } = JSON.parse(stdout) as Record<string, unknown>
    t.true(copy, 'a clone without a transfer list is a copy')
    t.true(others, 'other memory is transferred as always')
    t.is(Object.keys(refused).length, 8)
    for (const [attempt, ended] of Object.entries(refused)) t.is(ended, 'DataCloneError', attempt)
  })
}
