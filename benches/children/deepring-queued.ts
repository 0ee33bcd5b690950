/**
 * What a queued read takes in memory: the heap and the resident memory of this process, while a hundred thousand reads wait,
 * per read. A first round grows what stays; a second one is measured.
 */

import { setTimeout as sleep } from 'node:timers/promises'
import { allocate, open } from '../../index.ts'
import { Meter, report } from '../../lib/measure/meter.ts'
import { positions } from '../../lib/measure/positions.ts'
import { collect } from './collect.ts'
import { parameters, type RandomParameters } from './parameters.ts'
import { ranOf } from './ran.ts'

const LENGTH = 4096

/** Finalizers run in tasks of their own. */
const SETTLE_MS = 100

const { file, bytes, operations, order } = parameters<RandomParameters>()
const places = positions(operations, bytes, order)
const page = allocate(LENGTH)
await using handle = await open(file, 'r')

async function round(queued?: () => void): Promise<string> {
  const reads = Array.from({ length: operations }, (_, nth) => handle.read(page, { position: places[nth]! }))
  queued?.()
  const [first] = await Promise.all(reads)
  return ranOf(first!.receipt)
}

await round()
for (let pass = 0; pass < 2; pass += 1) {
  collect()
  // oxlint-disable-next-line no-await-in-loop -- one after the other
  await sleep(SETTLE_MS)
}
const before = process.memoryUsage()
const extra: Record<string, number> = {}
const meter = new Meter()
const ran = await round(() => {
  collect()
  const { heapUsed, rss } = process.memoryUsage()
  extra['heapBytes'] = (heapUsed - before.heapUsed) / operations
  extra['residentBytes'] = (rss - before.rss) / operations
})
report({ ...meter.stop(operations * LENGTH, operations), ran, extra })
