/**
 * The promise **owned**: memory that the kernel can use stays alive and in place, across workers that are terminated,
 * processes that exit, and everything else that drops it too early.
 */

import { once } from 'node:events'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import { open, stats } from '../index.ts'
import { makeScratch, pattern, pause, runProgram } from './harness.ts'

const scratch = makeScratch()

function work(program: string, workerData: unknown): Worker {
  return new Worker(join(import.meta.dirname, 'programs', program), { workerData })
}

test('workers read and write in parallel, each with its own promises', async (t) => {
  const answers = await Promise.all(
    Array.from({ length: 6 }, async (_, i) => {
      const worker = work('reading-worker.ts', { path: scratch.path(), seed: i + 1 })
      // Listen for both from the start: the end can come together with the message.
      const ended = once(worker, 'exit')
      const [right] = (await once(worker, 'message')) as [boolean]
      const [code] = (await ended) as [number]
      return right && code === 0
    }),
  )
  t.deepEqual(
    answers,
    Array.from({ length: 6 }, () => true),
  )
})

test('workers terminated in the middle of requests do not crash the process', async (t) => {
  const length = 500_001
  for (let i = 0; i < 12; i += 1) {
    const worker = work('busy-worker.ts', { path: scratch.file(pattern(3 * length)), length })
    await once(worker, 'message')
    await pause(i * 2)
    t.is(await worker.terminate(), 1)
  }
  const path = scratch.file(pattern(1000))
  const file = await open(path)
  t.is((await file.read(new Uint8Array(1000), { position: 0 })).bytesRead, 1000, 'the main thread works as before')
  await file.close()
  for (let i = 0; i < 200 && stats().inFlight > 0; i += 1) await pause(10)
  t.is(stats().inFlight, 0, 'no request of the dead workers is in flight')
})

test('process.exit during requests ends the process cleanly', async (t) => {
  for (let i = 0; i < 5; i += 1) {
    const { status, stderr } = await runProgram('exit-in-flight.ts', scratch.path())
    t.deepEqual([status, stderr], [0, ''])
  }
})
