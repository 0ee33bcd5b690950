/** A worker that saves checkpoints without end, in every way, and reports when it has begun. */

import { parentPort, workerData } from 'node:worker_threads'
import { openCheckpoints } from '../../lib/checkpoint/index.ts'

const { directory } = workerData as { directory: string }
const store = await openCheckpoints(directory, { keep: { last: 2 } })
const large = { dtype: 'U8', shape: [4 << 20], data: new Uint8Array(4 << 20).fill(7) }
const small = { dtype: 'U8', shape: [100], data: new Uint8Array(100).fill(7) }
let begun = false

async function saveTogether(): Promise<void> {
  const first = await store.begin({ writers: 2, reference: 'latest' })
  const second = await store.join(first.token, 1)
  await Promise.all([first.put('large', large), second.putAll({ small })])
  await Promise.all([second.commit(), first.commit()])
}

async function load(): Promise<void> {
  const { checkpoint } = await store.latest()
  await checkpoint?.load()
  await checkpoint?.close()
}

for (;;) {
  const work = [
    store.save({ large, small }),
    store.save({ large, small }, { staging: 8 << 20 }),
    saveTogether(),
    load(),
  ]
  // A worker's port has no origin.
  // oxlint-disable-next-line unicorn/require-post-message-target-origin
  if (!begun) parentPort?.postMessage('begun')
  begun = true
  await Promise.allSettled(work)
}
