/**
 * The tensors of a file, saved in another, which is on the disk when the region ends; or as many bytes by one write, and a
 * flush.
 */

import { openSafetensors, saveSafetensors } from '../../lib/safetensors/index.ts'
import { Meter, report } from '../../lib/measure/meter.ts'
import { onPages, writeRaw, type MemoryTensor } from './on-pages.ts'
import { parameters, type TensorsSaveParameters } from './parameters.ts'
import { ranByEngine } from './ran.ts'

const { file, tensorBytes, to, method, aligned, verifies } = parameters<TensorsSaveParameters>()
await using model = await openSafetensors(file)
// Kept until the end: giving its memory back would fall into the region.
using loaded = await model.load()
if (method === 'raw')
  report({ ...(await writeRaw(to, onPages(loaded).memory.subarray(0, tensorBytes))), ran: await ranByEngine() })
else await save(aligned ? onPages(loaded).tensors : new Map(loaded))

async function save(tensors: Map<string, MemoryTensor>): Promise<void> {
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
