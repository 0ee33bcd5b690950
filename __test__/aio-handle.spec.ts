/** `AioHandle`: every option and method of DeepNVMe's `aio_handle`. */

import { statSync } from 'node:fs'
import test from 'ava'
import { allocate, allocateTensor, DeepringError, Engine, open } from '../index.ts'
import { AioHandle } from '../lib/aio/index.ts'
import { track } from '../lib/core/completions.ts'
import { stateOf } from '../lib/file/file.ts'
import { pathOf } from '../lib/core/path.ts'
import { keepName, stageVerification } from '../lib/aio/transfer.ts'
import { collectUntil } from './collect.ts'
import { contents, makeScratch, pattern, pause, rejected, same, testOnEachBackend } from './harness.ts'

const scratch = makeScratch()

test('getters return effective values, of options and of defaults', async (t) => {
  const engine = new Engine({ queueDepth: 64, blockSize: 1 << 19 })
  const plain = new AioHandle({ engine })
  t.is(plain.getBlockSize(), 1 << 19)
  t.is(plain.getQueueDepth(), 64)
  t.false(plain.getSingleSubmit())
  t.true(plain.getOverlapEvents())
  t.is(plain.getIntraOpParallelism(), 1)
  t.is(plain.getAlignment(), 4096)
  const tuned = new AioHandle({
    engine,
    blockSize: 5000,
    queueDepth: 8,
    singleSubmit: true,
    overlapEvents: false,
    intraOpParallelism: 3,
  })
  t.is(tuned.getBlockSize(), 8192, 'rounded up')
  t.is(tuned.getQueueDepth(), 8)
  t.true(tuned.getSingleSubmit())
  t.false(tuned.getOverlapEvents())
  t.is(tuned.getIntraOpParallelism(), 3)
  t.is(tuned.getAlignment(), 4096, 'it does not grow with the parallelism')
  t.is(new AioHandle({ engine, queueDepth: 65_536 }).getQueueDepth(), 64, 'the engine’s limit is not exceeded')
  await engine.close()
})

test('getAlignment of a file returns the alignment of the file', async (t) => {
  const file = await open(scratch.file('abc'))
  t.is(new AioHandle().getAlignment(file), file.alignment.offset)
  t.throws(() => new AioHandle().getAlignment({} as never), { code: 'ERR_DEEPRING_INVALID_ARG_TYPE' })
  await file.close()
})

testOnEachBackend('every method reads and writes by path', async (t, engine) => {
  const handle = new AioHandle({ engine, blockSize: 65_536, queueDepth: 4, intraOpParallelism: 2 })
  const bytes = pattern(200_001)
  const write = {
    write: async (path: string) => t.is(await handle.write(bytes, path), 0),
    pwrite: async (path: string) => t.is(await handle.pwrite(bytes, path), 1),
    syncPwrite: async (path: string) => t.is(handle.syncPwrite(bytes, path), 1),
    asyncPwrite: async (path: string) => {
      t.is(handle.asyncPwrite(bytes, path), 0)
      t.is(await handle.wait(), 1)
    },
  }
  const read = {
    read: async (buffer: Uint8Array, path: string) => t.is(await handle.read(buffer, path), 0),
    pread: async (buffer: Uint8Array, path: string) => t.is(await handle.pread(buffer, path), 1),
    syncPread: async (buffer: Uint8Array, path: string) => t.is(handle.syncPread(buffer, path), 1),
    asyncPread: async (buffer: Uint8Array, path: string) => {
      t.is(handle.asyncPread(buffer, path), 0)
      t.is(await handle.wait(), 1)
    },
  }
  for (const [name, put] of Object.entries(write)) {
    const path = scratch.file(pattern(300_000, 9))
    await put(path)
    t.true(same(contents(path), bytes), `${name} writes the whole file and ends it`)
    for (const [other, get] of Object.entries(read)) {
      const buffer = new Uint8Array(bytes.length)
      await get(buffer, path)
      t.true(same(buffer, bytes), `${other} after ${name}`)
    }
  }
})

testOnEachBackend(
  'every method reads and writes by file, at any offset, and never shortens the file',
  async (t, engine) => {
    const handle = new AioHandle({ engine })
    const path = scratch.path()
    const file = await engine.open(path, 'w+')
    const wanted = pattern(50_000, 7)
    await file.write(wanted, { position: 0 })
    const put = (bytes: Uint8Array, at: number): Uint8Array => {
      wanted.set(bytes, at)
      return bytes
    }
    await handle.write(put(pattern(1000, 1), 0), file)
    await handle.write(put(pattern(1000, 2), 1001), file, { fileOffset: 1001 })
    await handle.pwrite(put(pattern(1000, 3), 5000), file, { fileOffset: 5000n })
    handle.syncPwrite(put(pattern(1000, 4), 9999), file, 9999)
    handle.asyncPwrite(put(pattern(1000, 5), 20_001), file, { fileOffset: 20_001, validate: true })
    handle.asyncPwrite(put(pattern(1000, 6), 30_001), file, 30_001n)
    t.is(await handle.wait(), 2)
    t.true(same(contents(path), wanted))
    const expect = (view: Uint8Array, at: number): void =>
      void t.true(same(view, wanted.subarray(at, at + view.length)), `at ${at}`)
    const [a, b, c, d, e] = Array.from({ length: 5 }, () => new Uint8Array(777))
    await handle.read(a!, file)
    await handle.read(b!, file, { fileOffset: 123, validate: true })
    await handle.pread(c!, file, { fileOffset: 4567 })
    handle.syncPread(d!, file, { fileOffset: 8910 })
    handle.asyncPread(e!, file, 20_000)
    t.is(await handle.wait(), 1)
    expect(a!, 0)
    expect(b!, 123)
    expect(c!, 4567)
    expect(d!, 8910)
    expect(e!, 20_000)
    await file.close()
  },
)

testOnEachBackend('partitions of one file, written and read by path at their offsets', async (t, engine) => {
  // The partitions of DeepNVMe's own test, and odd ones, several in flight.
  const handle = new AioHandle({ engine, queueDepth: 2, intraOpParallelism: 2 })
  for (const sizes of [
    [1024, 1024, 1024],
    [1024, 1024, 2048],
    [1024, 2048, 1024],
    [2048, 1024, 1024],
    [1, 4095, 4097, 333, 70_000],
  ]) {
    const path = scratch.path()
    const bytes = pattern(sizes.reduce((sum, size) => sum + size, 0))
    let at = 0
    for (const size of sizes) {
      t.is(handle.asyncPwrite(bytes.subarray(at, at + size), path, at), 0)
      at += size
    }
    t.is(await handle.wait(), sizes.length)
    t.true(same(contents(path), bytes), `written as ${sizes.join(', ')}`)
    const back = new Uint8Array(bytes.length)
    at = 0
    for (const size of sizes) {
      handle.asyncPread(back.subarray(at, at + size), path, at)
      at += size
    }
    t.is(await handle.wait(), sizes.length)
    t.true(same(back, bytes), `read as ${sizes.join(', ')}`)
  }
})

test('a write at offset 0 keeps the bytes behind it; one without an offset does not', async (t) => {
  const handle = new AioHandle()
  const path = scratch.file(pattern(10_000))
  await handle.pwrite(pattern(10, 2), path, { fileOffset: 0 })
  t.is(statSync(path).size, 10_000)
  await handle.pwrite(pattern(10, 2), path)
  t.is(statSync(path).size, 10)
})

test('pread reads part of a file; read requires the whole file', async (t) => {
  const handle = new AioHandle()
  const path = scratch.file(pattern(10_000))
  const buffer = new Uint8Array(4000)
  t.is(await handle.pread(buffer, path), 1)
  t.true(same(buffer, pattern(10_000).subarray(0, 4000)))
  await rejected(t, () => handle.read(buffer, path), 'ERR_DEEPRING_SIZE_MISMATCH')
  t.is(await handle.read(buffer, path, { fileOffset: 6000 }), 0)
  t.true(same(buffer, pattern(10_000).subarray(6000)))
  await rejected(t, () => handle.pread(buffer, path, { fileOffset: 6001 }), 'ERR_DEEPRING_EOF')
})

testOnEachBackend('many operations in flight are counted by one wait', async (t, engine) => {
  const handle = new AioHandle({ engine, blockSize: 4096, queueDepth: 2 })
  const bytes = Array.from({ length: 300 }, (_, i) => pattern(1 + i * 37, i + 1))
  const paths = bytes.map(() => scratch.path())
  for (const [i, data] of bytes.entries()) handle.asyncPwrite(data, paths[i]!)
  t.is(await handle.wait(), 300)
  const back = bytes.map((data) => allocate(data.length))
  for (const [i, memory] of back.entries()) handle.asyncPread(memory, paths[i]!)
  t.is(await handle.wait(), 300)
  t.true(back.every((memory, i) => same(memory, bytes[i]!)))
})

test('wait with nothing pending returns 0 at every call', async (t) => {
  const handle = new AioHandle()
  t.is(await handle.wait(), 0)
  t.is(await handle.wait(), 0)
  t.deepEqual(await Promise.all([handle.wait(), handle.wait()]), [0, 0])
})

test('two waits at once count each operation once, and both end after all operations', async (t) => {
  const handle = new AioHandle()
  const path = scratch.path()
  const bytes = pattern(5_000_000)
  handle.asyncPwrite(bytes, path)
  const first = handle.wait()
  const second = handle.wait()
  t.is(await second, 0)
  t.true(same(contents(path), bytes), 'the second wait, too, ends after the write')
  t.is(await first, 1)
})

test('asyncPread never returns a promise, and a failure without a wait does not end the process', async (t) => {
  const handle = new AioHandle()
  t.is(handle.asyncPread(new Uint8Array(10), scratch.path('missing')), 0)
  await pause(50)
  const error = await rejected(t, () => handle.wait(), 'ENOENT')
  t.is(error.errors?.length, 1)
  t.is(await handle.wait(), 0, 'reported once')
})

test('wait rejects with the first failure in the order of queueing and lists all in errors; the others are done', async (t) => {
  const handle = new AioHandle()
  const [good, short, missing, also] = [
    scratch.path(),
    scratch.file(pattern(5)),
    scratch.path('missing'),
    scratch.path(),
  ]
  handle.asyncPwrite(pattern(100_000), good)
  handle.asyncPread(new Uint8Array(10), short)
  handle.asyncPread(new Uint8Array(10), missing)
  handle.asyncPwrite(pattern(100), also)
  const error = await rejected(t, () => handle.wait(), 'ERR_DEEPRING_EOF')
  t.is(error.path, short)
  t.is(error.transferred, 5)
  t.deepEqual(
    error.errors?.map((each) => (each as DeepringError).code),
    ['ERR_DEEPRING_EOF', 'ENOENT'],
  )
  t.regex(error.message, /the first of 2 failures in 4 operations/)
  t.true(same(contents(good), pattern(100_000)))
  t.true(same(contents(also), pattern(100)))
})

test('operations queued during a wait belong to the next', async (t) => {
  const handle = new AioHandle()
  handle.asyncPwrite(pattern(100_000), scratch.path())
  const first = handle.wait()
  handle.asyncPwrite(pattern(10), scratch.path())
  handle.asyncPwrite(pattern(10), scratch.path())
  t.is(await first, 1)
  t.is(await handle.wait(), 2)
})

test('a wait ends with its own operations, even if more were queued since', async (t) => {
  const engine = new Engine({ queueDepth: 1, blockSize: 4096 })
  const handle = new AioHandle({ engine })
  const path = scratch.file(pattern(4_000_000))
  handle.asyncPread(new Uint8Array(100), path, 0)
  const first = handle.wait()
  for (let i = 0; i < 20; i += 1) handle.asyncPread(engine.allocate(4_000_000), path)
  t.is(await first, 1)
  t.true(engine.stats().queued > 0, 'the others are still in flight')
  t.is(await handle.wait(), 20)
  await engine.close()
})

test('an awaited operation settles at once, while queued ones continue', async (t) => {
  const engine = new Engine({ queueDepth: 1, blockSize: 4096 })
  const handle = new AioHandle({ engine })
  const path = scratch.file(pattern(4_000_000))
  for (let i = 0; i < 20; i += 1) handle.asyncPread(engine.allocate(4_000_000), path)
  t.is(await handle.pread(new Uint8Array(100), path), 1)
  t.true(engine.stats().queued > 0, 'the others are still in flight')
  t.is(await handle.wait(), 20)
  await engine.close()
})

test('failures before, during and after a request are reported in the order of queueing', async (t) => {
  const engine = new Engine()
  const handle = new AioHandle({ engine })
  const closed = await engine.open(scratch.file(pattern(100)), 'r')
  await closed.close()
  handle.asyncPread(new Uint8Array(10), scratch.path('missing'))
  handle.asyncPread(new Uint8Array(10), closed)
  handle.asyncPread(new Uint8Array(10), scratch.path('missing'), { validate: true })
  handle.asyncPread(new Uint8Array(10), scratch.file(pattern(5)))
  const error = await rejected(t, () => handle.wait(), 'ENOENT')
  t.deepEqual(
    error.errors?.map((each) => (each as DeepringError).code),
    ['ENOENT', 'ERR_DEEPRING_CLOSED', 'ENOENT', 'ERR_DEEPRING_EOF'],
  )
  await engine.close()
})

test('sync and awaited operations do not count queued ones', async (t) => {
  const handle = new AioHandle()
  const path = scratch.file(pattern(1000))
  for (let i = 0; i < 5; i += 1) handle.asyncPwrite(pattern(10_000, i + 1), scratch.path())
  t.is(handle.syncPread(new Uint8Array(1000), path), 1)
  t.is(await handle.pread(new Uint8Array(1000), path), 1)
  t.is(await handle.read(new Uint8Array(1000), path), 0)
  t.is(await handle.wait(), 5)
})

test('aborting a wait cancels its operations and rejects with an AbortError', async (t) => {
  const engine = new Engine({ queueDepth: 1, blockSize: 4096 })
  const handle = new AioHandle({ engine })
  const path = scratch.file(pattern(10_000_000))
  for (let i = 0; i < 20; i += 1) handle.asyncPread(engine.allocate(10_000_000), path)
  const controller = new AbortController()
  const waiting = handle.wait({ signal: controller.signal })
  const reason = new Error('enough')
  controller.abort(reason)
  t.like(await t.throwsAsync(waiting), { name: 'AbortError', code: 'ABORT_ERR', cause: reason })
  t.is(engine.stats().inFlight, 0)
  t.is(await handle.wait(), 0)
  await engine.close()
})

test('validate accepts a correct file', async (t) => {
  const handle = new AioHandle()
  const path = scratch.path()
  t.is(await handle.write(pattern(70_001), path, { validate: true }), 0)
  t.is(await handle.pwrite(pattern(3, 2), path, { fileOffset: 4097, validate: true }), 1)
  t.is(handle.syncPread(new Uint8Array(70_001), path, { validate: true }), 1)
  handle.asyncPread(new Uint8Array(100), path, { fileOffset: 777, validate: true })
  t.is(await handle.wait(), 1)
})

testOnEachBackend('validate reports the first byte that differs, by path and by file', async (t, engine) => {
  const bytes = pattern(300_000)
  const path = scratch.file(bytes)
  const file = await engine.open(path)
  for (const [position, length, wrong] of [
    [0, 300_000, 0],
    [0, 300_000, 299_999],
    [5, 100_001, 70_000],
    [4096, 8192, 4096],
    [9, 1, 9],
  ] as const) {
    const view = bytes.slice(position, position + length)
    for (const target of [pathOf(path), stateOf(file)]) {
      const transfer = { engine, write: true, source: view, view, target, position, whole: false, validate: true }
      await t.notThrowsAsync(track(stageVerification(transfer, keepName(transfer)), null))
      view[wrong - position]! ^= 1
      view[length - 1]! ^= 2
      const error = await rejected(
        t,
        () => track(stageVerification(transfer, keepName(transfer)), null),
        'ERR_DEEPRING_MISMATCH',
      )
      t.is(error.position, wrong)
      t.is(error.path, path)
      view[wrong - position]! ^= 1
      view[length - 1]! ^= 2
    }
  }
  await file.close()
})

test('a file of another engine is refused', async (t) => {
  const engine = new Engine()
  const file = await engine.open(scratch.file('abc'), 'r+')
  const handle = new AioHandle()
  await rejected(t, () => handle.read(new Uint8Array(3), file), 'ERR_DEEPRING_INVALID_ARG_VALUE')
  t.throws(() => handle.asyncPwrite(new Uint8Array(3), file), { code: 'ERR_DEEPRING_INVALID_ARG_VALUE' })
  await engine.close()
})

test('a closed file is reported where the outcome is', async (t) => {
  const handle = new AioHandle()
  const file = await open(scratch.file('abc'), 'r+')
  await file.close()
  await rejected(t, () => handle.read(new Uint8Array(3), file), 'ERR_DEEPRING_CLOSED')
  t.throws(() => handle.syncPwrite(new Uint8Array(3), file), { code: 'ERR_DEEPRING_CLOSED' })
  t.is(handle.asyncPwrite(new Uint8Array(3), file), 0)
  await rejected(t, () => handle.wait(), 'ERR_DEEPRING_CLOSED')
})

test('locked tensors are zeroed, pinned and of the example’s type, and are freed once', (t) => {
  const handle = new AioHandle()
  for (const [example, dtype, bytes] of [
    [new Float32Array(), 'F32', 4],
    [Buffer.alloc(0), 'U8', 1],
    [new BigInt64Array(), 'I64', 8],
    [new DataView(new ArrayBuffer(1)), 'U8', 1],
    [{ type: 'float64', dims: [0], data: new Float64Array() }, 'F64', 8],
    [allocateTensor('BF16', [2]), 'BF16', 2],
  ] as const) {
    const tensor = handle.newCpuLockedTensor(1000, example)
    t.is(tensor.dtype, dtype)
    t.deepEqual(tensor.shape, [1000])
    t.is(tensor.byteLength, 1000 * bytes)
    t.true(handle.isPinned(tensor))
    t.true(handle.isPinned(tensor.data))
    t.true(handle.isPinned(new Uint8Array(tensor.data.buffer, tensor.data.byteOffset + 1, 10)), 'a part of it, too')
    t.false(
      handle.freeCpuLockedTensor(new Uint8Array(tensor.data.buffer, tensor.data.byteOffset, 10)),
      'a part cannot be freed',
    )
    t.true(handle.freeCpuLockedTensor(tensor))
    t.is(tensor.data.length, 0)
    t.false(handle.isPinned(tensor))
    t.false(handle.freeCpuLockedTensor(tensor), 'freed once')
  }
  t.false(handle.isPinned(new Uint8Array(4096)))
  t.false(handle.isPinned({ type: 'uint8', dims: [8], data: new Uint8Array(8) }))
  t.false(handle.freeCpuLockedTensor(new Uint8Array(4096)))
  t.true(handle.isPinned(allocate(10)), 'any engine memory is pinned')
  for (const none of [undefined, null, 5, {}, { data: [1] }] as never[]) {
    t.throws(() => handle.isPinned(none), { code: 'ERR_DEEPRING_INVALID_ARG_TYPE' })
    t.throws(() => handle.freeCpuLockedTensor(none), { code: 'ERR_DEEPRING_INVALID_ARG_TYPE' })
    t.throws(() => handle.newCpuLockedTensor(1, none))
  }
})

function dropFailing(): void {
  new AioHandle().asyncPread(new Uint8Array(1), scratch.path('missing'))
}

test.serial('a handle that is dropped with unreported failures leaves a warning', async (t) => {
  const codes: (string | undefined)[] = []
  const listener = (warning: Error & { code?: string }): void => void codes.push(warning.code)
  process.on('warning', listener)
  dropFailing()
  t.true(await collectUntil(() => codes.includes('DEEPRING_FAILURE_UNREPORTED')))
  process.off('warning', listener)
})
