/**
 * Memory that is disposed while requests use it, in every form of request. Prints what was seen, as JSON. Compiled code,
 * for Nodes that cannot run TypeScript.
 *
 *   node disposed-in-flight.mjs FILE ROUNDS
 */

import { readFileSync, writeFileSync } from 'node:fs'
import process from 'node:process'
import { setImmediate } from 'node:timers/promises'
import { allocate, allocateTensor, open, stats } from '../../dist/index.js'
import { AioHandle, aioRead } from '../../dist/lib/aio/index.js'

const BYTES = 8 << 20
const [path = '', rounds = '1'] = process.argv.slice(2)
writeFileSync(path, Buffer.alloc(BYTES, 0xab))
const file = await open(path, 'r+')
const seen = {}

/** How a promise ended. */
const ended = (promise) =>
  promise.then(
    () => 'ok',
    ({ code }) => code,
  )
const count = (key, value) => {
  seen[key] ??= {}
  seen[key][value] = (seen[key][value] ?? 0) + 1
}

const [probe, handle] = [allocate(8192), new AioHandle()]
seen.pinned = handle.isPinned(probe)
seen.aligned = probe.byteLength === 8192
seen.counted = stats().buffers > 0

for (let round = 0; round < Number(rounds); round += 1) {
  const memory = allocate(BYTES)
  const reading = ended(file.read(memory, { position: 0 }))
  // Half of the rounds are at the device, half are not yet.
  let settled = false
  void reading.then(() => (settled = true))
  if (round % 2 === 0) await setImmediate()
  if (settled) {
    round -= 1
    continue
  }
  memory[Symbol.dispose]()
  memory[Symbol.dispose]()
  // Freed memory would be given out again, and the device would write into it.
  const other = new Uint8Array(BYTES)
  count('another', await ended(file.read(memory, { position: 0 })))
  count('read', await reading)
  count('left', memory.byteLength)
  for (let i = 0; i < BYTES; i += 4096) if (other[i] !== 0) count('overwritten', i)
}

for (let round = 0; round < Number(rounds); round += 1) {
  const [tensor, byPath] = [allocateTensor('U8', [BYTES]), allocate(BYTES)]
  for (let i = 0; i < 4; i += 1) handle.asyncPread(tensor, i % 2 === 0 ? file : path)
  const reading = ended(aioRead(byPath, path))
  const waiting = ended(handle.wait())
  count('freed', handle.freeCpuLockedTensor(tensor))
  byPath[Symbol.dispose]()
  const other = new Uint8Array(BYTES)
  count('queued', await waiting)
  count('byPath', await reading)
  count('left', tensor.data.byteLength + byPath.byteLength)
  for (let i = 0; i < BYTES; i += 4096) if (other[i] !== 0) count('overwritten', i)
}

for (let round = 0; round < Number(rounds); round += 1) {
  const memory = allocate(BYTES).fill(round + 1)
  const writing = ended(file.write(memory, { position: 0 }))
  const controller = new AbortController()
  const aborted = ended(file.write(memory, { position: 0, signal: controller.signal }))
  memory[Symbol.dispose]()
  controller.abort()
  count('write', await writing)
  await aborted
  count('left', memory.byteLength)
  count('written', readFileSync(path).equals(Buffer.alloc(BYTES, round + 1)))
}

const idle = allocate(4096)
idle[Symbol.dispose]()
count('left', idle.byteLength)
await file.close()
console.log(JSON.stringify(seen))
