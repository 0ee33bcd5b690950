/**
 * Node reads pages at random past the page cache: `depth` lanes over libuv's pool of 64 threads,
 * page-aligned memory.
 */

import { constants, read } from 'node:fs'
import { open } from 'node:fs/promises'
import type { Calls } from '../contenders/node.ts'
import { Meter, report } from '../../lib/measure/meter.ts'
import { pageAligned } from '../page-aligned.ts'
import { PAGE_BYTES, positions } from '../../lib/measure/positions.ts'
import { Tiles } from '../tiles.ts'
import { parameters, type RandomParameters } from './parameters.ts'

const { calls, file, bytes, operations, depth, order, seed, source } = parameters<RandomParameters & { calls: Calls }>()
const places = positions(operations, bytes, order)
const memory = pageAligned(depth * PAGE_BYTES)
const pages = Array.from({ length: depth }, (_, lane) => memory.subarray(lane * PAGE_BYTES, (lane + 1) * PAGE_BYTES))
const last = pages.map(() => -1)
const handle = await open(file, constants.O_RDONLY | constants.O_DIRECT)
let next = 0

const byPromises = async (page: Uint8Array, lane: number): Promise<void> => {
  while (next < operations) {
    const position = places[next++]!
    // oxlint-disable-next-line no-await-in-loop -- a lane has one read in flight; the lanes are the depth
    const { bytesRead } = await handle.read(page, 0, PAGE_BYTES, position)
    if (bytesRead !== PAGE_BYTES) throw new Error(`read ${bytesRead} bytes at ${position}`)
    last[lane] = position
  }
}

const byCallbacks = (page: Uint8Array, lane: number): Promise<void> =>
  new Promise((resolve, reject) => {
    const step = (): void => {
      if (next >= operations) return resolve()
      const position = places[next++]!
      read(handle.fd, page, 0, PAGE_BYTES, position, (error, bytesRead) => {
        if (error !== null || bytesRead !== PAGE_BYTES)
          return reject(error ?? new Error(`read ${bytesRead} bytes at ${position}`))
        last[lane] = position
        step()
      })
    }
    step()
  })

const meter = new Meter()
await Promise.all(pages.map(calls === 'promises' ? byPromises : byCallbacks))
const outcome = meter.stop(operations * PAGE_BYTES, operations)
await handle.close()
const tiles = new Tiles(source)
for (const [lane, page] of pages.entries()) if (last[lane]! >= 0) tiles.check(page, { origin: 0, seed }, last[lane])
report({ ...outcome, ran: 'direct' })
