/**
 * Changes tensors of a swap store and a group of an optimizer swapper in their leases, and reads them again. Prints what was
 * seen, as JSON. Compiled code, for Nodes that cannot run TypeScript.
 *
 *   node swap-round-trip.mjs DIRECTORY
 */

import process from 'node:process'
import { openOptimizerSwapper, openSwap } from '../../dist/lib/swap/index.js'

const [path = ''] = process.argv.slice(2)
const seen = { right: 0, left: 0 }

/** Counts a view in which each number is its place plus something. */
const check = (view, plus) => {
  if (view.length === 3001 && view.every((value, i) => value === i + plus)) seen.right += 1
}
const numbers = Float32Array.from({ length: 3001 }, (_, i) => i)
const store = await openSwap(`${path}-store`, { memory: 1 << 20, create: true })
await store.put('x', { dtype: 'F32', shape: [3001], data: numbers })
const changing = await store.getMut('x')
const { data } = changing
check(data, 0)
for (const i of data.keys()) data[i] += 1
await changing.close()
seen.left += data.length
const [one, two] = await store.getMany(['x', 'x'])
check(one.data, 1)
check(two.data, 1)
await one.close()
check(two.data, 1)
await two.close()
const forgotten = await store.getMut('x')
forgotten.data.fill(7)
await forgotten.close({ write: false })
const again = await store.get('x')
check(again.data, 1)
await again.close()
await store.close()

const groups = [{ name: 'g', numel: 3001, states: ['m'] }]
const swapper = await openOptimizerSwapper(`${path}-optimizer`, { groups, create: true })
await swapper.initialize('g', { param: numbers })
for await (const { param, states } of swapper.step()) {
  for (const i of param.keys()) {
    param[i] += 1
    states.m[i] = i + 2
  }
}
for await (const { param, states } of swapper.step()) {
  check(param, 1)
  check(states.m, 2)
}
await swapper.close()
console.log(JSON.stringify(seen))
