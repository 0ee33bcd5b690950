/**
 * The tensors of a file, saved as a checkpoint: until it is durable, by one writer or by one here and one in a worker; or until
 * their memory is the program's again. Or their memory, written at once.
 */

import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { join } from 'node:path'
import { openCheckpoints } from '../../lib/checkpoint/index.ts'
import { openSafetensors } from '../../lib/safetensors/index.ts'
import { Meter, report } from '../../lib/measure/meter.ts'
import type { Outcome } from '../../lib/measure/outcome.ts'
import { onPages, writeRaw } from './on-pages.ts'
import { parameters, type CheckpointParameters } from './parameters.ts'
import { ranByEngine } from './ran.ts'

const { file, tensorBytes, folder, method, verifies } = parameters<CheckpointParameters>()
await using model = await openSafetensors(file)
const names = [...model.names()]
await using store = await openCheckpoints(folder, { keep: 'all' })
const outcome = await (method === 'two' ? shared() : alone())
if (verifies && method !== 'raw') await verify()
report({ ...outcome, ran: await ranByEngine() })

async function alone(): Promise<Outcome> {
  // Kept until the end: giving its memory back would fall into the region.
  using loaded = await model.load()
  const { tensors, memory } = onPages(loaded)
  if (method === 'raw') return writeRaw(join(folder, 'raw'), memory.subarray(0, tensorBytes))
  if (method === 'one') {
    const meter = new Meter()
    await store.save(tensors)
    return meter.stop(tensorBytes, tensors.size)
  }
  // A little more than the tensors have, so that no block is missing.
  const options = { staging: Math.ceil(tensorBytes * (1 + 1 / 64)) }
  const before = await store.save(tensors, options)
  await store.remove(before.number)
  const meter = new Meter()
  const save = store.save(tensors, options)
  await save.captured
  const captured = meter.stop(tensorBytes, tensors.size)
  await save
  return captured
}

/** Every other tensor is that of a worker. */
async function shared(): Promise<Outcome> {
  const workerData = { file, folder, names: names.filter((_, number) => number % 2 === 1) }
  const worker = new Worker(new URL('checkpoint-writer.ts', import.meta.url), { workerData })
  const ended = once(worker, 'exit')
  using loaded = await model.load(names.filter((_, number) => number % 2 === 0))
  const { tensors } = onPages(loaded)
  await once(worker, 'message')
  const meter = new Meter()
  const writer = await store.begin({ writers: 2 })
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a worker has no origin
  worker.postMessage(writer.token)
  await writer.putAll(tensors)
  await writer.commit()
  const measured = meter.stop(tensorBytes, names.length)
  await ended
  return measured
}

async function verify(): Promise<void> {
  const { checkpoint } = await store.latest()
  if (checkpoint === undefined) throw new Error('there is no checkpoint')
  if (checkpoint.size !== names.length) throw new Error(`${checkpoint.size} tensors were saved, not ${names.length}`)
  using expected = await model.load()
  for await (const { name, bytes } of checkpoint.stream()) {
    if (Buffer.compare(bytes, expected.get(name)!.bytes) !== 0) throw new Error(`${name} is not what was saved`)
  }
  await checkpoint.close()
}
