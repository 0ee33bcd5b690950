// Terminates workers in the middle of their requests, one after the other and in parallel. Nothing must crash, hang or
// remain: no thread, no descriptor, no engine memory. And memory must not change after the worker that used it is gone.

import { setTimeout as pause } from 'node:timers/promises'
import process from 'node:process'
import { Worker } from 'node:worker_threads'
import { open } from 'deepring'
import { code, misplaced } from './coded.mjs'
import { expect, parameters, report, waitUntil } from './host.mjs'
import { expectNothingLeft, footprint } from './leftovers.mjs'
import { Victims } from './victims.mjs'

const { paths, bytes, terminations, seed, ways } = parameters

/** A worker that takes longer to end hangs. */
const END_MS_MAX = 30_000

let state = seed >>> 0
/** A whole number below `bound`, from the seed. */
function random(bound) {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0
  return Math.floor((state / 2 ** 32) * bound)
}

/** The bytes that the workers write; made once, because that takes longer than the rest of a worker. */
const content = new SharedArrayBuffer(bytes)
code(new Uint8Array(content), 3, 1, 0)

const victims = new Victims()
const file = await open(paths[0])
const own = new Uint8Array(100_000)
await file.read(own, { position: 0 })
let terminated = 0
let busy = 0

async function terminateOne(path, way) {
  const shared = new SharedArrayBuffer(8)
  const counts = new Int32Array(shared)
  const worker = new Worker(new URL('./busy-worker.mjs', import.meta.url), {
    workerData: { path, bytes, way, shared, content },
  })
  let fault
  worker.on('error', (error) => (fault ??= error))
  // Some in the first requests, some later, and some before the first.
  const requests = random(10) === 0 ? 0 : 1 + random(16)
  expect(await waitUntil(() => counts[1] >= requests || fault !== undefined), `a worker (${way}) begins its requests`)
  if (fault !== undefined) throw fault
  if (random(2) === 0) await pause(random(4))
  if (counts[0] > 0) busy += 1
  const ended = worker.terminate().then(() => 'ended')
  const timer = new AbortController()
  const outcome = await Promise.race([ended, pause(END_MS_MAX, 'hangs', { signal: timer.signal })])
  timer.abort()
  expect(outcome === 'ended', `a terminated worker (${way}) ends`)
  terminated += 1
}

/** Terminates one after the other until this many had requests in flight. */
async function terminateUntil(path, first, count) {
  for (let i = first; busy < count; i += 1) {
    await terminateOne(path, ways[i % ways.length])
    victims.take(1, 300_008)
    if (victims.count < 300) continue
    const disturbed = victims.disturbed()
    expect(disturbed.length === 0, disturbed.join('; '))
    victims.release()
  }
}

// The first worker adds what the runtime keeps for workers.
await terminateUntil(paths[0], 0, 1)
const before = footprint()
const rssBefore = process.memoryUsage().rss
await Promise.all(paths.map((path, i) => terminateUntil(path, i, terminations)))

await expectNothingLeft(before)
const disturbed = victims.disturbed()
expect(disturbed.length === 0, disturbed.join('; '))

await file.read(own.fill(0), { position: 0 })
expect(misplaced(own, 3, [0, 1], 0) === undefined, 'the main thread works as before')
await file.close()
const grownMiB = Math.round((process.memoryUsage().rss - rssBefore) / 2 ** 20)
report({ terminated, busy, seed, grownMiB })
