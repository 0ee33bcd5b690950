/**
 * deepring moves one large file. An existing file is opened before the timed region, a new one
 * inside it. Memory is allocated and touched, or filled, before the region, unless the figure is
 * about memory that is not.
 */

import { allocate, open } from '../../index.ts'
import { Meter, report } from '../../lib/measure/meter.ts'
import { Tiles } from '../tiles.ts'
import { parameters, type StreamParameters } from './parameters.ts'
import { ranOf } from './ran.ts'

const { task, memory, summed, file, bytes, seed, source } = parameters<StreamParameters>()
const options = summed ? ({ position: 0, checksum: 'crc32c' } as const) : { position: 0 }
const pattern = { origin: 0, seed }
if (task === 'read') await read()
else await write()

/** Memory of the kind that the figure is about. */
function allocateOf(): Uint8Array {
  if (memory === 'buffer') return Buffer.allocUnsafeSlow(bytes)
  return memory === 'copied' ? new Uint8Array(new ArrayBuffer(bytes + 1), 1) : allocate(bytes)
}

async function read(): Promise<void> {
  const allocated = memory === 'allocating' ? null : allocateOf()
  if (memory !== 'fresh') allocated?.fill(0x5a)
  await using handle = await open(file, 'r')
  const meter = new Meter()
  const data = allocated ?? allocate(bytes)
  const { receipt } = await handle.read(data, options)
  const outcome = meter.stop(bytes, 1)
  new Tiles(source).check(data, pattern)
  report({ ...outcome, ran: ranOf(receipt) })
}

async function write(): Promise<void> {
  const data = allocateOf()
  // The tiles are filled in words, which unaligned memory does not have.
  const filled = memory === 'copied' ? allocate(bytes) : data
  new Tiles(source).fill(filled, pattern)
  if (filled !== data) data.set(filled)
  const opened = task === 'overwrite' ? await open(file, 'r+') : null
  const meter = new Meter()
  await using handle = opened ?? (await open(file, 'w'))
  const { receipt } = await handle.write(data, options)
  if (task === 'sync') await handle.datasync()
  report({ ...meter.stop(bytes, 1), ran: ranOf(receipt) })
}
