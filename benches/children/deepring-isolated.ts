/**
 * Single 4 KiB reads of the large file at random, with nothing in flight beside them: by deepring, by node:fs, and blocking.
 */

import { closeSync, constants, openSync, readSync } from 'node:fs'
import { open as openByNode } from 'node:fs/promises'
import { setImmediate as turn } from 'node:timers/promises'
import { allocate, open } from '../../index.ts'
import { Meter, report } from '../../lib/measure/meter.ts'
import { PAGE_BYTES, positions } from '../../lib/measure/positions.ts'
import { median } from '../../lib/measure/statistics.ts'
import { Tiles } from '../tiles.ts'
import { parameters, type RandomParameters } from './parameters.ts'
import { ranOf } from './ran.ts'

/** The first reads also compile what they run. */
const WARM_UP = 50

const { file, bytes, operations, order, seed, source } = parameters<RandomParameters>()
const page = allocate(PAGE_BYTES)
const tiles = new Tiles(source)
const flags = constants.O_RDONLY | constants.O_DIRECT
const descriptor = openSync(file, flags)
const node = await openByNode(file, flags)
const handle = await open(file, 'r')

const ways: Readonly<Record<string, (position: number) => Promise<unknown> | number>> = {
  drive: (position) => readSync(descriptor, page, 0, PAGE_BYTES, position),
  node: (position) => node.read(page, 0, PAGE_BYTES, position),
  deepring: (position) => handle.read(page, { position }),
}
const names = Object.keys(ways)
const took: Record<string, number[]> = Object.fromEntries(names.map((name) => [name, []]))
const places = positions((operations + WARM_UP) * names.length, bytes, order)

const meter = new Meter()
for (const [nth, position] of places.entries()) {
  const name = names[nth % names.length] as string
  await turn()
  const started = performance.now()
  const answer = ways[name]!(position)
  // A blocking read has returned already; to await it would add a turn.
  if (typeof answer !== 'number') await answer
  const us = (performance.now() - started) * 1e3
  if (nth >= WARM_UP * names.length) took[name]!.push(us)
  tiles.check(page, { origin: 0, seed }, position)
  // oxlint-disable-next-line no-array-fill-with-reference-type -- not the method of arrays
  page.fill(0)
}
const outcome = meter.stop(operations * PAGE_BYTES, operations)
const ran = ranOf((await handle.read(page, { position: 0 })).receipt)
closeSync(descriptor)
await node.close()
await handle.close()
const [drive, byNode, byDeepring] = names.map((name) => median(took[name]!)) as [number, number, number]
report({ ...outcome, ran, extra: { driveUs: drive, 'added-by-nodeUs': byNode - drive, addedUs: byDeepring - drive } })
