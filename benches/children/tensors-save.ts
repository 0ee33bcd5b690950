/**
 * The tensors of a file, saved in another, which is on the disk when the region ends; or as many bytes by one write, and a
 * flush.
 */

import { allocate, open, type TensorLike } from '../../index.ts'
import { openSafetensors, saveSafetensors } from '../../lib/safetensors/index.ts'
import { Meter, report } from '../meter.ts'
import { PAGE_BYTES, Tiles } from '../tiles.ts'
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
  const tensors = new Map<string, TensorLike & { readonly bytes: Uint8Array }>()
  await using model = await openSafetensors(file)
  // Kept until the end: giving its memory back would fall into the region.
  using loaded = await model.load()
  if (aligned) {
    // Of each, less than a page is wasted.
    const memory = allocate(tensorBytes + model.size * PAGE_BYTES)
    let at = 0
    for (const [name, { dtype, shape, bytes: from }] of loaded) {
      const place = memory.subarray(at, at + from.length)
      place.set(from)
      tensors.set(name, { dtype, shape, data: place, bytes: place })
      at += Math.ceil(from.length / PAGE_BYTES) * PAGE_BYTES
    }
  } else {
    for (const [name, tensor] of loaded) tensors.set(name, tensor)
  }
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
