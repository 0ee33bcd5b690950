/** A worker that loads, streams and saves without end, and reports when it has begun. */

import { parentPort, workerData } from 'node:worker_threads'
import { openSafetensors, saveSafetensors, SafetensorsWriter } from '../../lib/safetensors/index.ts'

const { path, target } = workerData as { path: string; target: string }
const model = await openSafetensors(path)
const own = new Uint8Array(100_000)
const foreign = { dtype: 'U8', shape: [4 << 20], data: new Uint8Array(4 << 20).fill(7) }
let begun = false
for (;;) {
  const layout = [{ name: 'a', dtype: 'U8', shape: [1 << 20] }]
  const work = [
    model.load(),
    model.tensor('t3', { into: own }),
    saveSafetensors(target, { foreign }, { checksum: 'crc32c' }),
    SafetensorsWriter.create(`${target}-written`, layout).then((writer) => writer.write('a', new Uint8Array(1 << 20))),
    (async () => {
      for await (const tensor of model.stream(undefined, { memory: 300_000 })) await tensor.keep().catch(() => {})
    })(),
  ]
  // A worker's port has no origin.
  // oxlint-disable-next-line unicorn/require-post-message-target-origin
  if (!begun) parentPort?.postMessage('begun')
  begun = true
  await Promise.allSettled(work)
}
