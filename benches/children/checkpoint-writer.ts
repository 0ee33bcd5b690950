/** The second writer of a checkpoint, in a worker: it loads its tensors of a file, and waits for the token of the first. */

import { once } from 'node:events'
import { parentPort, workerData } from 'node:worker_threads'
import { openCheckpoints } from '../../lib/checkpoint/index.ts'
import { openSafetensors } from '../../lib/safetensors/index.ts'
import { onPages } from './on-pages.ts'

const { file, folder, names } = workerData as {
  readonly file: string
  readonly folder: string
  readonly names: readonly string[]
}
const port = parentPort!
await using model = await openSafetensors(file)
using loaded = await model.load(names)
const { tensors } = onPages(loaded)
await using store = await openCheckpoints(folder)
port.postMessage('ready')
const [token] = (await once(port, 'message')) as [string]
const writer = await store.join(token, 1)
await writer.putAll(tensors)
await writer.commit()
port.close()
