/** A worker that reads and writes without end, in engine memory and its own, and reports when it has begun. */

import { parentPort, workerData } from 'node:worker_threads'
import { allocate, open } from '../../index.ts'
import { AioHandle } from '../../lib/aio/index.ts'

const { path, length } = workerData as { path: string; length: number }
const file = await open(path, 'r+')
const handle = new AioHandle()
const buffers = [allocate(length), new Uint8Array(length), Buffer.alloc(length)]
let begun = false
for (;;) {
  const requests = buffers.flatMap((buffer, i) => [
    file.read(buffer, { position: 0 }),
    file.write(buffer, { position: i * length }),
  ])
  handle.asyncPread(new Uint8Array(length), path, 0)
  // A worker's port has no origin.
  // oxlint-disable-next-line unicorn/require-post-message-target-origin
  if (!begun) parentPort?.postMessage('begun')
  begun = true
  await Promise.allSettled(requests)
  await handle.wait().catch(() => 0)
}
