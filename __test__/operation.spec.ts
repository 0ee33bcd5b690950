/** What V8 has compiled for requests outlives them. */

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import test from 'ava'
import { Engine } from '../index.ts'
import { operationsInFlight } from '../lib/core/completions.ts'
import { Operation, Rare, Watch } from '../lib/core/operation.ts'
import { makeScratch, pattern } from './harness.ts'

const scratch = makeScratch()

setFlagsFromString('--allow-natives-syntax')
const haveOneShape = runInNewContext('(one, other) => %HaveSameMap(one, other)') as (
  one: object,
  other: object,
) => boolean

test('requests have the shapes of those that stay, whatever their positions, results and signals', async (t) => {
  await using engine = new Engine({ queueDepth: 1 })
  await using file = await engine.open(scratch.file(pattern(100_000)), 'r+')
  for (let burst = 0; burst < 3; burst += 1) {
    const controller = new AbortController()
    const requests = Array.from({ length: 2000 }, (_, nth) => {
      const position = nth % 2 === 0 ? nth : 2 ** 40
      return file.read(new Uint8Array(10), { position, signal: controller.signal })
    })
    const operations = operationsInFlight()
    t.is(operations.length, requests.length)
    for (const operation of operations) {
      if (!haveOneShape(operation, Operation.shape)) t.fail('an operation has a shape of its own')
      if (!haveOneShape(operation.extra, Rare.shape)) t.fail('what few requests have, has a shape of its own')
      if (!haveOneShape(operation.extra.watch!, Watch.shape)) t.fail('a watch has a shape of its own')
    }
    controller.abort()
    // oxlint-disable-next-line no-await-in-loop -- one burst after the other
    await Promise.allSettled(requests)
  }
})
