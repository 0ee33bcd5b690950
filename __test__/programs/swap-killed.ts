// Puts one tensor into a swap store and flushes, puts another, and is killed.
//
//   swap-killed.ts DIRECTORY DURABLE

import process from 'node:process'
import { openSwap } from '../../lib/swap/index.ts'

const [directory, durable] = process.argv.slice(2) as [string, string]
const store = await openSwap(directory, { memory: 1 << 20, create: true, durable: durable === 'true' })
const tensor = { dtype: 'U8', shape: [5000], data: new Uint8Array(5000).fill(7) }
await store.put('x', tensor)
await store.flush()
await store.put('y', tensor)
// It is written behind the program.
await store.evict('y')
process.kill(process.pid, 'SIGKILL')
