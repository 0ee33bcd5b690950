/**
 * The promise **quiet**: the event loop turns while bytes move, an idle engine does nothing, and a process ends when
 * its work is done.
 */

import { statSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import test from 'ava'
import { Engine, open } from '../index.ts'
import { AioHandle } from '../lib/aio/index.ts'
import { makeScratch, pattern, pause, runProgram, same } from './harness.ts'

const scratch = makeScratch()

// Alone, so that what is measured is not what other tests do to the event loop.
test.serial('the event loop keeps running while a gigabyte is read into ordinary memory', async (t) => {
  const path = scratch.path()
  const file = await open(path, 'w+')
  const chunk = pattern(64 << 20)
  await file.write(chunk, { position: 0 })
  const buffers = [Buffer.alloc(64 << 20), Buffer.alloc(64 << 20)]
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  for (let i = 0; i < 8; i += 1) await Promise.all(buffers.map((buffer) => file.read(buffer, { position: 0 })))
  delay.disable()
  // A copy of 64 MiB on this thread would take 5 ms at the very best, and each read would make one.
  t.true(delay.percentile(99) / 1e6 < 20, `p99 is ${delay.percentile(99) / 1e6} ms`)
  t.true(buffers.every((buffer) => same(buffer, chunk)))
  await file.close()
})

test.serial('ten thousand small reads at once do not delay timers', async (t) => {
  const file = await open(scratch.file(pattern(1 << 20)))
  let ticks = 0
  const timer = setInterval(() => (ticks += 1), 1)
  for (let round = 0; round < 5; round += 1) {
    await Promise.all(
      Array.from({ length: 10_000 }, (_, i) => file.read(new Uint8Array(64), { position: (i * 97) % (1 << 19) })),
    )
  }
  clearInterval(timer)
  t.true(ticks > 5, `${ticks} ticks`)
  await file.close()
})

test.serial('a queued transfer runs while the caller computes', async (t) => {
  const engine = new Engine()
  const handle = new AioHandle({ engine })
  const path = scratch.file(pattern(100_000))
  await engine.info()
  const before = engine.stats().completed
  handle.asyncPread(new Uint8Array(100_000), path)
  const until = performance.now() + 2000
  while (engine.stats().completed === before && performance.now() < until);
  t.true(engine.stats().completed > before, 'done without the event loop having turned')
  t.is(await handle.wait(), 1)
  await engine.close()
})

test('a process ends by itself when its work is done, even with files and engines open', async (t) => {
  for (const program of ['round-trip.ts', 'left-open.ts']) {
    const { status, stderr } = await runProgram(program, scratch.path())
    t.deepEqual([status, stderr], [0, ''], program)
  }
})

test('a process does not end while a request is in flight', async (t) => {
  const path = scratch.path()
  const { status, stdout } = await runProgram('unawaited-write.ts', path)
  t.is(status, 0)
  t.is(stdout.trim(), '30000001')
  t.is(statSync(path).size, 30_000_001)
})

test('a process ends when its queued requests are done, without a wait, and not before', async (t) => {
  const paths = [scratch.path(), scratch.path(), scratch.path()]
  const { status, stderr } = await runProgram('unwaited-queue.ts', ...paths)
  t.deepEqual([status, stderr], [0, ''])
  for (const path of paths) t.is(statSync(path).size, 10_000_001)
})

test.serial('an idle engine takes no CPU time', async (t) => {
  const { stdout } = await runProgram('idle.ts', scratch.path())
  // Node itself takes about a millisecond per idle second.
  t.true(Number(stdout) < 20_000, `${stdout.trim()} us in a second`)
})

test('requests that are not awaited are done, too', async (t) => {
  const path = scratch.path()
  const file = await open(path, 'w')
  for (let i = 0; i < 100; i += 1) void file.write(pattern(1000, i + 1), { position: i * 1000 })
  await pause(0)
  await file.close()
  t.is(statSync(path).size, 100_000)
})

test.serial('the outcome of a request of the class latency does not wait behind those of others', async (t) => {
  const engine = new Engine()
  const file = await engine.open(scratch.file(pattern(1_000_000)))
  const settled: string[] = []
  const note = (name: string) => () => void settled.push(name)
  const reads = Array.from({ length: 2000 }, (_, i) =>
    file.read(new Uint8Array(100), { position: i * 100 }).then(note('other')),
  )
  reads.push(file.read(new Uint8Array(100), { position: 0, priority: 'latency' }).then(note('latency')))
  // All are done before this thread looks at any.
  while (engine.stats().queued > 0) continue
  await Promise.all(reads)
  t.true(settled.indexOf('latency') < 256, `${settled.indexOf('latency')} others were first`)
  t.is(settled.length, 2001)
  await file.close()
  await engine.close()
})
