// Drops everything in the middle of requests (the memory, the promises, the file, the handle, the engine), collects
// garbage at once, allocates the freed memory, and checks that nothing still writes there. The files are checked by
// the program that started this one.

import process from 'node:process'
import { AioHandle } from 'deepring/aio'
import { Engine, open } from 'deepring'
import { code, coded, misplaced } from './coded.mjs'
import { collect, collectUntil, expect, parameters, report, threads } from './host.mjs'
import { Victims } from './victims.mjs'

const { path, bytes, out, rounds } = parameters

/** Not a multiple of a sector, so that each transfer has edges that go through bounce blocks. */
const LENGTH = 400_008
const PER_ROUND = 12

/** One block at a time: most requests are still queued when their memory is dropped. */
const NARROW = { queueDepth: 1, blockSize: 65_536 }

const warnings = []
process.on('warning', ({ code: name }) => warnings.push(name))
// A dropped promise must not fail unnoticed.
process.on('unhandledRejection', (error) => {
  throw error
})

const victims = new Victims()
let right = 0
let wrong = ''

function judge({ buffer }, position) {
  const fault = misplaced(buffer, 1, [0], position)
  if (fault === undefined) right += 1
  else wrong ||= fault
}

/** Starts requests and keeps no references. */
async function start(round) {
  const engine = new Engine(NARROW)
  const file = await engine.open(path)
  const target = await engine.open(out, 'r+')
  const handle = new AioHandle({ engine })
  const kinds = [
    (size) => engine.allocate(size),
    (size) => new Uint8Array(size),
    (size) => new Uint8Array(size + 8).subarray(8),
  ]
  for (let i = 0; i < PER_ROUND; i += 1) {
    const position = ((i * 37 + round * 11) * 4096 + i * 8) % (bytes - LENGTH)
    const take = kinds[i % kinds.length]
    void file.read(take(LENGTH), { position }).then((result) => judge(result, position))
    handle.asyncPread(take(LENGTH), path, position)
    const memory = take(LENGTH)
    const place = (round * PER_ROUND + i) * LENGTH
    code(memory, 2, 1, place)
    void target.write(memory, { position: place })
  }
}

for (let round = 0; round < rounds; round += 1) {
  await start(round)
  collect()
  victims.take(PER_ROUND * 2, LENGTH)
  collect()
  victims.take(PER_ROUND, 1 << 20)
}

const reads = rounds * PER_ROUND
expect(await collectUntil(() => right === reads || wrong !== ''), `all reads arrive; ${right} of ${reads} did`)
expect(wrong === '', wrong)
// Files first, because an engine waits for its files.
const leaked = (name) => warnings.filter((warning) => warning === name).length
expect(
  await collectUntil(() => leaked('DEEPRING_FILE_LEAKED') === rounds * 2),
  `each file is closed: ${warnings.length}`,
)
expect(
  await collectUntil(() => leaked('DEEPRING_ENGINE_LEAKED') === rounds),
  `each engine is closed: ${warnings.length}`,
)
expect(await collectUntil(() => threads('deepring').length === 0), 'no thread of a dropped engine is left')
const disturbed = victims.disturbed()
expect(disturbed.length === 0, disturbed.join('; '))

// Memory that is dropped without a request is freed, too, and its next owner finds no old bytes.
const engine = new Engine()
;(() => {
  for (let i = 0; i < 30; i += 1) engine.allocate(1 << 20).fill(0xee)
})()
expect(await collectUntil(() => engine.stats().buffers === 0), `memory comes back: ${engine.stats().buffers} are left`)
expect(
  engine.allocate(1 << 20).every((byte) => byte === 0),
  'allocate returns zeros',
)
await engine.close()

const file = await open(path)
const last = new Uint8Array(LENGTH)
await file.read(last, { position: 8 })
expect(Buffer.compare(last, coded(1, 0, 8, LENGTH)) === 0, 'the default engine works as before')
await file.close()
report({ reads, writes: reads, queued: reads, victims: victims.count })
