/**
 * Node moves many small files, a few at a time. What it reads is kept and compared after the
 * region.
 */

import { open, readFile, writeFile } from 'node:fs/promises'
import { Meter, report } from '../../lib/measure/meter.ts'
import { tensorPath } from '../scratch.ts'
import { Tiles } from '../tiles.ts'
import { parameters, type SmallParameters } from './parameters.ts'

const LANES = 16

const { task, folder, sizes, seed, source } = parameters<SmallParameters>()
const tiles = new Tiles(source)
const total = sizes.reduce((sum, size) => sum + size, 0)
const arena = Buffer.allocUnsafeSlow(task === 'read' ? 0 : total)
const offsets: number[] = []
let end = 0
for (const size of sizes) {
  offsets.push(end)
  end += size
}
const read: Buffer[] = []
if (task !== 'read')
  sizes.forEach((size, index) => tiles.fill(view(index, size), { origin: offsets[index]!, seed: seed + index }))

let next = 0
const lane = async (): Promise<void> => {
  while (next < sizes.length) {
    const index = next
    next += 1
    // oxlint-disable-next-line no-await-in-loop -- a lane has one file in progress; the lanes are the parallelism
    await move(index, tensorPath(folder, index))
  }
}
const meter = new Meter()
await Promise.all(Array.from({ length: LANES }, lane))
const outcome = meter.stop(total, sizes.length)
if (task === 'read')
  sizes.forEach((_, index) => tiles.check(read[index]!, { origin: offsets[index]!, seed: seed + index }))
report({ ...outcome, ran: 'buffered' })

async function move(index: number, path: string): Promise<void> {
  if (task === 'read') read[index] = await readFile(path)
  else if (task === 'new') await writeFile(path, view(index, sizes[index]!))
  else await overwrite(path, view(index, sizes[index]!))
}

function view(index: number, size: number): Uint8Array {
  return arena.subarray(offsets[index]!, offsets[index]! + size)
}

async function overwrite(path: string, data: Uint8Array): Promise<void> {
  await using handle = await open(path, 'r+')
  await handle.write(data, 0, data.length, 0)
}
