/** Engine memory: `allocate`, `allocateUnsafe`, disposal, and what disposal during a request does. */

import { totalmem } from 'node:os'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import { allocate, allocateUnsafe, Engine, open, type EngineBuffer } from '../index.ts'
import { collectUntil } from './collect.ts'
import { contents, makeScratch, pattern, rejected, same, testOnEachBackend } from './harness.ts'

const scratch = makeScratch()

test('allocate returns zeroed bytes of exactly the requested length', (t) => {
  for (const length of [0, 1, 4095, 4096, 4097, 1_000_003, 64 << 20]) {
    const memory = allocate(length)
    t.true(memory instanceof Uint8Array)
    t.is(memory.byteLength, length)
    t.true(memory.every((byte) => byte === 0))
    memory[Symbol.dispose]()
  }
  t.is(allocate(5n).byteLength, 5)
})

test('allocate zeroes memory from the pool again', (t) => {
  for (let i = 0; i < 50; i += 1) {
    const used = allocateUnsafe(300_000)
    used.fill(0xee)
    used[Symbol.dispose]()
    const fresh = allocate(300_000)
    t.true(fresh.every((byte) => byte === 0))
    fresh[Symbol.dispose]()
  }
})

test('allocateUnsafe returns writable memory of the requested length', (t) => {
  const memory = allocateUnsafe(100_001)
  memory.fill(3)
  t.is(memory.byteLength, 100_001)
  t.true(memory.every((byte) => byte === 3))
})

test('views of any kind can be made on it', (t) => {
  const memory = allocate(64)
  new DataView(memory.buffer, memory.byteOffset, 64).setFloat64(8, Math.PI, true)
  t.is(new Float64Array(memory.buffer, memory.byteOffset, 8)[1], Math.PI)
  t.is(new BigUint64Array(memory.buffer, memory.byteOffset, 8)[0], 0n)
})

test('more than 4 GiB can be allocated, and written at its end', (t) => {
  const length = 2 ** 32 + 4096
  const memory = allocateUnsafe(length)
  t.is(memory.byteLength, length)
  memory[length - 1] = 42
  t.is(memory[length - 1], 42)
  memory[Symbol.dispose]()
})

test('dispose detaches every view and can be called again', (t) => {
  const memory = allocate(4096)
  const floats = new Float32Array(memory.buffer, memory.byteOffset, 1024)
  memory[Symbol.dispose]()
  t.is(memory.byteLength, 0)
  t.is(floats.length, 0)
  t.notThrows(() => memory[Symbol.dispose]())
  const nothing = allocate(0)
  t.notThrows(() => nothing[Symbol.dispose]())
})

test('using disposes', (t) => {
  let kept: EngineBuffer
  {
    using memory = allocate(100)
    kept = memory
    t.is(kept.byteLength, 100)
  }
  t.is(kept.byteLength, 0)
})

test('disposed memory is refused', async (t) => {
  const file = await open(scratch.file('abc'), 'r+')
  const memory = allocate(3)
  memory[Symbol.dispose]()
  await rejected(t, () => file.read(memory, { position: 0 }), 'ERR_DEEPRING_DETACHED')
  await rejected(t, () => file.write(memory, { position: 0 }), 'ERR_DEEPRING_DETACHED')
  await file.close()
})

testOnEachBackend('memory disposed during a write is still written', async (t, engine) => {
  const path = scratch.path()
  const file = await engine.open(path, 'w')
  const bytes = pattern(20_000_003)
  const memory = engine.allocate(bytes.length)
  memory.set(bytes)
  const writing = file.write(memory, { position: 0 })
  memory[Symbol.dispose]()
  t.is(memory.byteLength, 0, 'at once')
  // New tenants of the pool must not get the memory while the device still reads it.
  for (let i = 0; i < 10; i += 1) engine.allocateUnsafe(bytes.length).fill(i)
  t.is((await writing).bytesWritten, bytes.length)
  await file.close()
  t.true(same(contents(path), bytes))
})

testOnEachBackend(
  'a read whose memory was disposed fails, and the next owner of the memory sees no bytes',
  async (t, engine) => {
    const file = await engine.open(scratch.file(pattern(20_000_000)))
    const memory = engine.allocate(20_000_000)
    const reading = file.read(memory, { position: 0 })
    memory[Symbol.dispose]()
    const tenants = Array.from({ length: 5 }, () => engine.allocate(20_000_000))
    await rejected(t, () => reading, 'ERR_DEEPRING_DETACHED')
    for (const tenant of tenants) t.true(tenant.every((byte) => byte === 0))
    await file.close()
  },
)

test('a request whose foreign memory was transferred fails', async (t) => {
  const path = scratch.file(pattern(3_000_000))
  const file = await open(path, 'r+')
  const view = new Uint8Array(3_000_000)
  const reading = file.read(view, { position: 0 })
  // The new owner keeps it, as someone who posts it to a worker would.
  const moved = structuredClone(view.buffer, { transfer: [view.buffer] })
  const error = await rejected(t, () => reading, 'ERR_DEEPRING_DETACHED')
  t.is(error.path, path)
  t.is(error.syscall, 'read')
  t.is(moved.byteLength, 3_000_000)
  await file.close()
})

test('what is kept of disposed memory is bounded, serves other sizes, is counted, and is given up by trim', async (t) => {
  const MIB = 1 << 20
  const engine = new Engine()
  for (const [size, count] of [
    [MIB, 320],
    [128 << 10, 2560],
    [64 << 10, 5120],
    [40 * MIB, 8],
    [300 * MIB, 1],
  ] as const) {
    const all = Array.from({ length: count }, () => engine.allocateUnsafe(size).fill(1))
    const { bufferBytes, pooledBytes } = engine.stats()
    t.is(bufferBytes, size * count)
    t.true(pooledBytes <= 256 * MIB)
    for (const memory of all) memory[Symbol.dispose]()
    t.true(engine.stats().pooledBytes >= 128 * MIB)
    // One piece that is larger is kept as well.
    t.true(engine.stats().pooledBytes <= (256 + (size > 256 * MIB ? size / MIB : 0)) * MIB)
  }
  engine.trim()
  t.is(engine.stats().pooledBytes, 0)
  t.true(engine.allocate(3 * MIB).every((byte) => byte === 0))
  await engine.close()
})

test('the garbage collector frees dropped memory', async (t) => {
  const engine = new Engine()
  const drop = (): void => {
    for (let i = 0; i < 20; i += 1) engine.allocate(1 << 20).fill(1)
  }
  drop()
  t.true(await collectUntil(() => engine.stats().buffers === 0), 'all came back')
  t.is(engine.stats().bufferBytes, 0)
  await engine.close()
})

testOnEachBackend('memory that only a request holds stays alive until the request has settled', async (t, engine) => {
  const path = scratch.path()
  const file = await engine.open(path, 'w')
  const bytes = pattern(10_000_001)
  const write = (): Promise<unknown> => {
    const memory = engine.allocate(bytes.length)
    memory.set(bytes)
    return file.write(memory, { position: 0 }).then(() => true)
  }
  const writing = write()
  await collectUntil(() => true)
  await writing
  await file.close()
  t.true(same(contents(path), bytes))
})

testOnEachBackend('memory outlives its engine', async (t) => {
  const engine = new Engine()
  const memory = engine.allocate(100_000)
  await engine.close()
  memory.fill(7)
  t.true(memory.every((byte) => byte === 7))
  const file = await open(scratch.path(), 'w+')
  await file.write(memory, { position: 0 })
  await file.close()
  memory[Symbol.dispose]()
  t.is(memory.byteLength, 0)
})

test('a transfer during a request does not take engine memory away', async (t) => {
  const file = await open(scratch.file(pattern(1_000_000)))
  const memory = allocate(1_000_000)
  const reading = file.read(memory, { position: 0 })
  t.throws(() => structuredClone(memory.buffer, { transfer: [memory.buffer] }), { name: 'DataCloneError' })
  await reading
  t.true(same(memory, pattern(1_000_000)))
  await file.close()
})

test('memory larger than the machine is refused at once, not when its bytes are used', async (t) => {
  const size = 2 ** 40
  if (totalmem() > size / 4) {
    t.pass('this machine could have it')
    return
  }
  const error = t.throws(() => allocate(size), { code: 'ENOMEM' }) as Error & { requested?: number }
  t.is(error.requested, size)
})

test('growable shared memory is read into and written from without a copy, while it grows', async (t) => {
  const bytes = pattern(1 << 20)
  const path = scratch.path()
  const file = await open(path, 'w+')
  const Growable = SharedArrayBuffer as unknown as new (
    length: number,
    options: { maxByteLength: number },
  ) => SharedArrayBuffer & { grow(length: number): void }
  const shared = new Growable(1 << 20, { maxByteLength: 2 << 20 })
  const tracking = new Uint8Array(shared)
  tracking.set(bytes)
  const writing = file.write(tracking, { position: 0 })
  shared.grow(1 << 21)
  t.is((await writing).bytesWritten, 1 << 20)
  t.is(tracking.byteLength, 2 << 20)
  tracking.fill(0)
  const { receipt } = await file.read(new Uint8Array(shared, 0, 1 << 20), { position: 0 })
  t.is(receipt.bounced, 0)
  const source =
    "const { parentPort, workerData } = require('worker_threads'); parentPort.postMessage(workerData.subarray(0, 1 << 20))"
  const worker = new Worker(source, { eval: true, workerData: tracking })
  const seen = await new Promise<Uint8Array>((resolve) => worker.once('message', resolve))
  t.true(same(seen, bytes))
  await worker.terminate()
  await file.close()
  t.true(same(contents(path), bytes))
})
