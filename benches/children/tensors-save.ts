/**
 * The tensors of a file, saved in another, which is on the disk when the region ends; or as many bytes by one write, and a
 * flush.
 */

import { allocate, open } from '../../index.ts'
import { openSafetensors, saveSafetensors } from '../../lib/safetensors/index.ts'
import { Meter, report } from '../meter.ts'
import { Tiles } from '../tiles.ts'
import { onPages, type MemoryTensor } from './on-pages.ts'
import { parameters, type TensorsSaveParameters } from './parameters.ts'
import { ranByEngine, ranOf } from './ran.ts'

const { file, tensorBytes, bytes, to, source, origin, seed, method, aligned, verifies } =
  parameters<TensorsSaveParameters>()
if (method === 'raw') await writeRaw()
else await save()

async function writeRaw(): Promise<void> {
  const data = allocate(bytes)
  new Tiles(source).fill(data, { origin, seed })
  const meter = new Meter()
  await using handle = await open(to, 'w')
  const { receipt } = await handle.write(data, { position: 0 })
  await handle.sync()
  report({ ...meter.stop(bytes, 1), ran: ranOf(receipt) })
}

async function save(): Promise<void> {
  await using model = await openSafetensors(file)
  // Kept until the end: giving its memory back would fall into the region.
  using loaded = await model.load()
  const tensors: Map<string, MemoryTensor> = aligned ? onPages(loaded) : new Map(loaded)
  const meter = new Meter()
  const receipt = await saveSafetensors(to, tensors)
  const outcome = meter.stop(tensorBytes, tensors.size)
  if (verifies) {
    await using saved = await openSafetensors(to)
    for await (const { name, bytes: found } of saved.stream()) {
      if (Buffer.compare(found, tensors.get(name)!.bytes) !== 0) throw new Error(`${name} is not what was saved`)
    }
    if (saved.size !== tensors.size) throw new Error(`${saved.size} tensors were saved, not ${tensors.size}`)
  }
  report({ ...outcome, ran: await ranByEngine(), extra: { bounced: receipt.bounced } })
}
