/**
 * deepring moves many small files: an AioHandle with its defaults, one asynchronous call per file,
 * one wait. Opening and closing are in the region. The tensors lie one after another in one
 * allocation, like those of a model.
 */

import { allocate } from '../../index.ts'
import { AioHandle } from '../../lib/aio/index.ts'
import { Meter, report } from '../../lib/measure/meter.ts'
import { tensorPath } from '../scratch.ts'
import { Tiles } from '../tiles.ts'
import { parameters, type SmallParameters } from './parameters.ts'
import { ranByEngine } from './ran.ts'

const { task, folder, sizes, seed, source } = parameters<SmallParameters>()
const arena = allocate(sizes.reduce((sum, size) => sum + size, 0))
let end = 0
const tensors = sizes.map((size, index) => {
  const offset = end
  end += size
  return {
    data: arena.subarray(offset, end),
    path: tensorPath(folder, index),
    pattern: { origin: offset, seed: seed + index },
  }
})
if (task === 'read') arena.fill(0x5a)
else {
  const tiles = new Tiles(source)
  for (const { data, pattern } of tensors) tiles.fill(data, pattern)
}

const handle = new AioHandle()
const meter = new Meter()
for (const { data, path } of tensors) {
  if (task === 'read') handle.asyncPread(data, path)
  else handle.asyncPwrite(data, path)
}
const settled = await handle.wait()
const outcome = meter.stop(end, sizes.length)
if (settled !== sizes.length) throw new Error(`wait() returned ${settled} for ${sizes.length} operations`)
if (task === 'read') {
  const tiles = new Tiles(source)
  for (const { data, pattern } of tensors) tiles.check(data, pattern)
}
report({ ...outcome, ran: await ranByEngine() })
