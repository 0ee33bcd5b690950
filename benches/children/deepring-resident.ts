/**
 * deepring reads one large file that is in the page cache, or half of it, or none, in one of three ways.
 */

import { open as openPlain } from 'node:fs/promises'
import { allocate, open } from '../../index.ts'
import { Meter, report } from '../meter.ts'
import { Tiles } from '../tiles.ts'
import { parameters, type ResidentParameters } from './parameters.ts'
import { ranOf } from './ran.ts'

/** What alternates where half of the file is in the page cache. */
const STRETCH_BYTES = 16 << 20

const { file, bytes, direct, warm, length, seed, source } = parameters<ResidentParameters>()
const data = allocate(bytes)
data.fill(0x5a)
if (warm !== 'none') {
  const plain = await openPlain(file)
  const piece = Buffer.alloc(STRETCH_BYTES)
  // oxlint-disable-next-line no-await-in-loop -- one after the other
  for (let at = 0; at < bytes; at += STRETCH_BYTES * (warm === 'all' ? 1 : 2))
    await plain.read(piece, 0, STRETCH_BYTES, at)
  await plain.close()
}
await using handle = await open(file, 'r', { direct })
let next = 0
let ran = ''
const lane = async (): Promise<void> => {
  while (next < bytes) {
    const position = next
    next += length
    // oxlint-disable-next-line no-await-in-loop -- a lane has one read in flight
    const { receipt } = await handle.read(data, { position, offset: position, length })
    ran = ranOf(receipt)
  }
}
const meter = new Meter()
await Promise.all(Array.from({ length: 16 }, lane))
const outcome = meter.stop(bytes, bytes / length)
new Tiles(source).check(data, { origin: 0, seed })
report({ ...outcome, ran })
