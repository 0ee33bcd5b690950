/** A worker that writes its own file, reads it back, and reports whether the bytes are the same. */

import { parentPort, workerData } from 'node:worker_threads'
import { allocate, open } from '../../index.ts'

const { path, seed } = workerData as { path: string; seed: number }
const out = allocate(300_007).fill(seed)
const file = await open(path, 'w+')
for (let i = 0; i < 20; i += 1) await file.write(out, { position: i * out.length })
const back = new Uint8Array(out.length)
let right = true
for (let i = 0; i < 20; i += 1) {
  await file.read(back.fill(0), { position: i * out.length })
  right &&= Buffer.compare(back, out) === 0
}
await file.close()
// A worker's port has no origin.
// oxlint-disable-next-line unicorn/require-post-message-target-origin
parentPort?.postMessage(right)
