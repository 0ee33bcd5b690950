/** `deepring/aio`: the module functions of DeepNVMe, with all seven parameters. */

import { statSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import test from 'ava'
import { allocate, allocateTensor, stats } from '../index.ts'
import { aioRead, aioReadSync, aioWrite, aioWriteSync, type AioOptions } from '../lib/aio/index.ts'
import { contents, makeScratch, pattern, rejected, same } from './harness.ts'

const scratch = makeScratch()

test('aioWrite writes a whole file, aioRead reads it, and both return 0', async (t) => {
  const path = scratch.path()
  t.is(await aioWrite(pattern(1_000_003), path), 0)
  t.true(same(contents(path), pattern(1_000_003)))
  const buffer = new Uint8Array(1_000_003)
  t.is(await aioRead(buffer, path), 0)
  t.true(same(buffer, pattern(1_000_003)))
})

test('the Sync functions do the same and block', (t) => {
  const path = scratch.path()
  t.is(aioWriteSync(pattern(1_000_003), path), 0)
  const buffer = allocate(1_000_003)
  t.is(aioReadSync(buffer, path), 0)
  t.true(same(buffer, pattern(1_000_003)))
  t.is(
    aioReadSync(buffer, path, {
      blockSize: 65_536,
      queueDepth: 4,
      singleSubmit: true,
      overlapEvents: false,
      validate: true,
    }),
    0,
  )
})

test('a sync call among pending promises: each gets its own bytes', async (t) => {
  const [one, two] = [scratch.file(pattern(500_000, 1)), scratch.file(pattern(500_000, 2))]
  const [a, b, c] = [new Uint8Array(500_000), new Uint8Array(500_000), new Uint8Array(500_000)]
  const before = aioRead(a, one)
  aioReadSync(b, two)
  t.true(same(b, pattern(500_000, 2)), 'the sync read is complete on return')
  await Promise.all([before, aioRead(c, one)])
  t.true(same(a, pattern(500_000, 1)))
  t.true(same(c, pattern(500_000, 1)))
})

const settings: AioOptions[] = []
for (const blockSize of [undefined, 1, 1024, 4096, 65_536, 1 << 20])
  for (const queueDepth of [undefined, 1, 3, 128])
    for (const singleSubmit of [false, true])
      for (const overlapEvents of [false, true])
        settings.push({ blockSize, queueDepth, singleSubmit, overlapEvents, validate: true })

test('every combination of the seven parameters moves every byte', async (t) => {
  const bytes = pattern(300_007)
  for (const options of settings) {
    const path = scratch.path()
    await aioWrite(bytes, path, options)
    const buffer = new Uint8Array(bytes.length)
    await aioRead(buffer, path, options)
    if (!same(buffer, bytes) || !same(contents(path), bytes)) return t.fail(JSON.stringify(options))
  }
  t.pass()
})

test('a longer file ends where the buffer ends', async (t) => {
  const path = scratch.file(pattern(100_000, 1))
  await aioWrite(pattern(30_001, 2), path)
  t.true(same(contents(path), pattern(30_001, 2)))
  aioWriteSync(pattern(7, 3), path)
  t.true(same(contents(path), pattern(7, 3)))
})

test('an empty buffer writes and reads an empty file', async (t) => {
  const path = scratch.file('abc')
  t.is(await aioWrite(new Uint8Array(0), path), 0)
  t.is(statSync(path).size, 0)
  t.is(await aioRead(new Uint8Array(0), path), 0)
})

test('tensors, URLs and Buffers are accepted', async (t) => {
  const path = scratch.path()
  const tensor = allocateTensor('F32', [10, 10])
  tensor.data.fill(1.5)
  await aioWrite(tensor, pathToFileURL(path), { validate: true })
  const back = { type: 'float32', dims: [100], data: new Float32Array(100) }
  await aioRead(back, Buffer.from(path), { validate: true })
  t.true(back.data.every((element) => element === 1.5))
})

test('many at once, more than can be in flight', async (t) => {
  const bytes = Array.from({ length: 200 }, (_, i) => pattern(10_000 + i, i + 1))
  const paths = bytes.map(() => scratch.path())
  await Promise.all(bytes.map((data, i) => aioWrite(data, paths[i]!, { queueDepth: 2 })))
  const buffers = bytes.map((data) => new Uint8Array(data.length))
  await Promise.all(buffers.map((buffer, i) => aioRead(buffer, paths[i]!)))
  t.true(buffers.every((buffer, i) => same(buffer, bytes[i]!)))
})

test('validate reports a write whose memory was changed in flight', async (t) => {
  // The purpose of validate: the file and the buffer differ, for any reason.
  const path = scratch.path()
  const memory = allocate(4_000_000)
  memory.fill(1)
  const writing = aioWrite(memory, path, { validate: true })
  memory[3_999_999] = 2
  // The change can come before or after the device has read the byte; in either case the answer is about the file as it
  // is.
  const outcome = await Promise.allSettled([writing])
  const byte = contents(path)[3_999_999]
  if (outcome[0].status === 'fulfilled') t.is(byte, 2)
  else {
    t.is((outcome[0].reason as { code: string }).code, 'ERR_DEEPRING_MISMATCH')
    t.is((outcome[0].reason as { position: number }).position, 3_999_999)
  }
})

test('a failed call leaves nothing in flight and the next one works', async (t) => {
  const path = scratch.file(pattern(1000))
  await rejected(t, () => aioRead(new Uint8Array(1001), path, { queueDepth: 4 }), 'ERR_DEEPRING_SIZE_MISMATCH')
  await rejected(t, () => aioRead(new Uint8Array(10), scratch.path(), { validate: true }), 'ENOENT')
  const buffer = new Uint8Array(1000)
  await aioRead(buffer, path)
  t.true(same(buffer, pattern(1000)))
  t.true(Number.isFinite(stats().inFlight))
})
