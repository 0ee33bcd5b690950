/**
 * The failures that were reproduced in DeepNVMe, each with the outcome it should have had. The numbers are those of
 * docs/porting-from-deepnvme.md.
 */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, statSync } from 'node:fs'
import test from 'ava'
import { allocate, Engine, open } from '../index.ts'
import { AioHandle } from '../lib/aio/index.ts'
import { contents, makeScratch, pattern, pause, rejected, runProgram, same, testOnEachBackend } from './harness.ts'

const scratch = makeScratch()

testOnEachBackend('1: a write of 10000 bytes leaves 10000 bytes, not only the 8192 aligned ones', async (t, engine) => {
  const path = scratch.path()
  t.is(await new AioHandle({ engine, blockSize: 4096 }).pwrite(pattern(10_000), path), 1)
  t.true(same(contents(path), pattern(10_000)))
})

testOnEachBackend('1: an unaligned buffer is written and does not leave an empty file', async (t, engine) => {
  const path = scratch.path()
  const memory = engine.allocate(20_000)
  memory.set(pattern(16_384), 7)
  t.is(await new AioHandle({ engine }).pwrite(memory.subarray(7, 7 + 16_384), path), 1)
  t.true(same(contents(path), pattern(16_384)))
})

testOnEachBackend(
  '1: a read past the end of the file fails and reports how many bytes there were',
  async (t, engine) => {
    const path = scratch.file(pattern(8192))
    const handle = new AioHandle({ engine })
    const error = await rejected(t, () => handle.pread(engine.allocate(16_384), path), 'ERR_DEEPRING_EOF')
    t.is(error.transferred, 8192)
    t.is(error.requested, 16_384)
    handle.asyncPread(engine.allocate(16_384), path)
    await rejected(t, () => handle.wait(), 'ERR_DEEPRING_EOF')
  },
)

testOnEachBackend(
  '2: far more blocks than fit in the queue are all waited for, none of them twice',
  async (t, engine) => {
    const bytes = pattern(8_000_000)
    for (const [queueDepth, singleSubmit, overlapEvents] of [
      [1, false, false],
      [1, true, true],
      [3, true, false],
      [3, false, true],
    ] as const) {
      const handle = new AioHandle({ engine, blockSize: 4096, queueDepth, singleSubmit, overlapEvents })
      const path = scratch.path()
      t.is(await handle.pwrite(bytes, path), 1)
      const back = engine.allocate(bytes.length)
      t.is(await handle.pread(back, path), 1)
      t.true(same(back, bytes))
    }
  },
)

testOnEachBackend('3: a bad descriptor is an error, neither an abort nor a hang', async (t, engine) => {
  const handle = new AioHandle({ engine })
  const path = scratch.file(pattern(100))
  const reader = await engine.open(path, 'r')
  handle.asyncPwrite(pattern(100), reader)
  await rejected(t, () => handle.wait(), 'EBADF')
  await reader.close()
  handle.asyncPread(new Uint8Array(100), reader)
  await rejected(t, () => handle.wait(), 'ERR_DEEPRING_CLOSED')
  t.is(await handle.pread(new Uint8Array(100), path), 1, 'and the handle is as usable as before')
})

testOnEachBackend('4: an impossible queue depth is refused, and the greatest accepted one works', async (t, engine) => {
  t.throws(() => new AioHandle({ engine, queueDepth: 70_000 }), { code: 'ERR_DEEPRING_OUT_OF_RANGE' })
  const bytes = pattern(300_000)
  const path = scratch.file(bytes)
  for (const overlapEvents of [false, true]) {
    const handle = new AioHandle({ engine, queueDepth: 65_536, blockSize: 4096, overlapEvents })
    const buffer = new Uint8Array(bytes.length)
    t.is(await handle.pread(buffer, path), 1)
    t.true(same(buffer, bytes))
  }
})

test('4: many handles take nothing from a system-wide limit', async (t) => {
  const handles = Array.from({ length: 300 }, () => new AioHandle({ queueDepth: 128, intraOpParallelism: 8 }))
  const path = scratch.file(pattern(1000))
  for (const handle of handles) handle.asyncPread(new Uint8Array(1000), path)
  for (const handle of handles) t.is(await handle.wait(), 1)
})

testOnEachBackend(
  '5: 128 blocks of 16 MiB, 2 GiB in all, do not overflow: the file gets its 10000 bytes and no byte of the heap',
  async (t, engine) => {
    for (const overlapEvents of [false, true]) {
      const handle = new AioHandle({ engine, queueDepth: 128, blockSize: 16 << 20, overlapEvents })
      const path = scratch.path()
      t.is(await handle.pwrite(pattern(10_000), path), 1)
      t.true(same(contents(path), pattern(10_000)))
      const memory = engine.allocate(40_000).fill(0xa5)
      t.is(await handle.pread(memory.subarray(10_000, 20_000), path), 1)
      t.true(same(memory.subarray(10_000, 20_000), pattern(10_000)))
      t.true(
        memory.subarray(0, 10_000).every((byte) => byte === 0xa5),
        'nothing before the buffer is overwritten',
      )
      t.true(
        memory.subarray(20_000).every((byte) => byte === 0xa5),
        'nothing behind it',
      )
    }
  },
)

test('5: /dev/null, where the defect was seen, is refused', async (t) => {
  const handle = new AioHandle({ queueDepth: 128, blockSize: 16 << 20 })
  await rejected(t, () => handle.pwrite(pattern(10_000), '/dev/null'), 'ERR_DEEPRING_UNSUPPORTED')
})

test.serial('6: signals that interrupt a wait of either kind do no harm', async (t) => {
  const interrupted = { times: 0 }
  const count = (): void => void (interrupted.times += 1)
  process.on('SIGUSR2', count)
  const bytes = pattern(10_000_000)
  const path = scratch.file(bytes)
  const handle = new AioHandle({ blockSize: 65_536, queueDepth: 2 })
  const sender = spawn('sh', ['-c', `while kill -USR2 ${process.pid} 2>/dev/null; do :; done`])
  try {
    const [a, b] = [allocate(bytes.length), allocate(bytes.length)]
    for (let i = 0; i < 10 || interrupted.times < 20; i += 1) {
      a.fill(0)
      b.fill(0)
      handle.asyncPread(a, path)
      t.is(handle.syncPread(b, path), 1)
      t.is(await handle.wait(), 1)
      t.true(same(a, bytes) && same(b, bytes))
      // Signal handlers run when the event loop turns; the blocking call can have fetched both outcomes.
      await pause(0)
    }
  } finally {
    sender.kill('SIGKILL')
    await once(sender, 'close')
    process.off('SIGUSR2', count)
  }
})

testOnEachBackend(
  '7: a parallelism that leaves no aligned slice, or does not divide the size, moves every byte',
  async (t, engine) => {
    for (const [intraOpParallelism, length] of [
      [16, 4096],
      [3, 10_000],
      [7, 1],
      [1024, 100_003],
    ] as const) {
      const handle = new AioHandle({ engine, intraOpParallelism, blockSize: 1024, queueDepth: 2 })
      const path = scratch.path()
      t.is(await handle.pwrite(pattern(length), path, { validate: true }), 1)
      const back = new Uint8Array(length)
      t.is(await handle.pread(back, path), 1)
      t.true(same(back, pattern(length)), `${length} bytes by ${intraOpParallelism}`)
    }
  },
)

testOnEachBackend('8: a read into part of a buffer fills that part and no other', async (t, engine) => {
  const path = scratch.file(pattern(9999))
  const whole = engine.allocate(30_000).fill(0xa5)
  const part = whole.subarray(1001, 1001 + 9999)
  t.is(await new AioHandle({ engine }).pread(part, path), 1)
  t.true(same(part, pattern(9999)))
  t.true(whole.subarray(0, 1001).every((byte) => byte === 0xa5))
  t.true(whole.subarray(1001 + 9999).every((byte) => byte === 0xa5))
})

test('8: a tensor whose data has gaps is refused and not discarded', async (t) => {
  const strided = { dtype: 'F32', shape: [2, 2], data: new Float32Array(6) }
  await rejected(t, () => new AioHandle().pread(strided, scratch.file(pattern(16))), 'ERR_DEEPRING_INVALID_ARG_VALUE')
})

test('9: tensors of several dimensions in ordinary memory are read', async (t) => {
  const path = scratch.file(pattern(96))
  const tensor = { dtype: 'F32', shape: [2, 3, 4], data: new Float32Array(24) }
  t.is(await new AioHandle().pread(tensor, path), 1)
  t.deepEqual(new Uint8Array(tensor.data.buffer), pattern(96))
})

test('12: a handle dropped with operations in flight finishes them', async (t) => {
  const path = scratch.path()
  const bytes = pattern(5_000_000)
  const drop = (): void => void new AioHandle().asyncPwrite(bytes, path)
  drop()
  for (let i = 0; i < 500 && (statSync(path, { throwIfNoEntry: false })?.size ?? 0) < bytes.length; i += 1)
    await pause(10)
  const file = await open(path)
  await file.sync()
  await file.close()
  t.true(same(contents(path), bytes))
})

test('14: 5000 operations by path are queued at once, with few descriptors', async (t) => {
  const engine = new Engine({ queueDepth: 8 })
  const handle = new AioHandle({ engine })
  const path = scratch.file(pattern(100))
  const before = readdirSync('/proc/self/fd').length
  for (let i = 0; i < 5000; i += 1) handle.asyncPread(new Uint8Array(100), path)
  t.true(readdirSync('/proc/self/fd').length - before < 200)
  t.is(await handle.wait(), 5000)
  await engine.close()
})

test('17: nothing is printed', async (t) => {
  const { status, stdout, stderr } = await runProgram('round-trip.ts', scratch.path())
  t.deepEqual([status, stdout, stderr], [0, '', ''])
})
