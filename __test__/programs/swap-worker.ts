/** A worker with leases, calls that wait and a step that has not ended, which reports when it is in the middle of all. */

import { parentPort, workerData } from 'node:worker_threads'
import { openOptimizerSwapper, openSwap } from '../../lib/swap/index.ts'

const { path } = workerData as { path: string }
const store = await openSwap(`${path}-store`, { memory: 1 << 20, create: true })
const tensorOf = (bytes: number) => ({ dtype: 'U8', shape: [bytes], data: new Uint8Array(bytes) })
await store.putMany({ x: tensorOf(300_000), y: tensorOf(300_000) })
const reading = await store.get('x')
const writing = await store.getMut('y')
writing.bytes.fill(reading.bytes[0] ?? 0)
store.get('y').catch(() => {})
store.put('z', tensorOf(900_000)).catch(() => {})

const groups = Array.from({ length: 5 }, (_, nth) => ({ name: `${nth}`, numel: 10_000, states: ['m'] }))
const swapper = await openOptimizerSwapper(`${path}-optimizer`, { groups, create: true })
let begun = false
for (;;) {
  for await (const { name, param } of swapper.step()) {
    param[0] = 1
    // A worker's port has no origin.
    // oxlint-disable-next-line unicorn/require-post-message-target-origin
    if (!begun && name === '3') parentPort?.postMessage('begun')
    begun ||= name === '3'
  }
}
