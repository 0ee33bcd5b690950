/**
 * deepring reads one large file that may be in the page cache, in one of three ways.
 */

import { allocate, open } from '../../index.ts'
import { Meter, report } from '../../lib/measure/meter.ts'
import { Tiles } from '../tiles.ts'
import { parameters, type ResidentParameters } from './parameters.ts'
import { ranOf } from './ran.ts'

const { file, bytes, direct, length, seed, source } = parameters<ResidentParameters>()
const data = allocate(bytes)
data.fill(0x5a)
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
