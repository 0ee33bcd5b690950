/**
 * deepring reads pages at random from JavaScript: `depth` lanes, each read with its own promise.
 */

import { allocate, Engine } from '../../index.ts'
import { Meter, report } from '../../lib/measure/meter.ts'
import { PAGE_BYTES, positions } from '../../lib/measure/positions.ts'
import { Tiles } from '../tiles.ts'
import { parameters, type RandomParameters } from './parameters.ts'
import { ranOf } from './ran.ts'

const { file, bytes, operations, depth, order, seed, source, threads } = parameters<RandomParameters>()
const places = positions(operations, bytes, order)
const memory = allocate(depth * PAGE_BYTES)
const pages = Array.from({ length: depth }, (_, lane) => memory.subarray(lane * PAGE_BYTES, (lane + 1) * PAGE_BYTES))
const last = pages.map(() => -1)
const engine = threads === undefined ? Engine.default : new Engine({ backend: 'threads', threads })
await using handle = await engine.open(file, 'r')
let next = 0
let ran = ''

const lane = async (page: Uint8Array, index: number): Promise<void> => {
  while (next < operations) {
    const position = places[next++]!
    // oxlint-disable-next-line no-await-in-loop -- a lane has one read in flight; the lanes are the depth
    const { receipt } = await handle.read(page, { position })
    last[index] = position
    if (ran === '') ran = ranOf(receipt)
  }
}
const meter = new Meter()
await Promise.all(pages.map(lane))
const outcome = meter.stop(operations * PAGE_BYTES, operations)
const tiles = new Tiles(source)
for (const [index, page] of pages.entries()) if (last[index]! >= 0) tiles.check(page, { origin: 0, seed }, last[index])
report({ ...outcome, ran })
