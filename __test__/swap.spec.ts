/** Swap stores: what was put is read again within the budget, and every error is what it says it is. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import { allocate, allocateTensor, Engine, open, readFile, type TensorLike } from '../index.ts'
import { openCheckpoints } from '../lib/checkpoint/index.ts'
import { convertTensor, openSafetensors, saveSafetensors, tensorTable } from '../lib/safetensors/index.ts'
import { openSwap, SwapStore, type NamedTensors, type OpenSwapOptions, type SwapLease } from '../lib/swap/index.ts'
import { makeScratch, pattern, pause, rejected, runProgram, same, testOnEachBackend } from './harness.ts'
import { bytesIn, eventually, ofEveryType, u8, writeModel, made } from './model.ts'

const scratch = makeScratch()

const MIB = 1 << 20

async function withSwap(
  body: (store: SwapStore, directory: string) => Promise<void>,
  options?: Partial<OpenSwapOptions>,
): Promise<void> {
  const directory = scratch.path('swap')
  const store = await openSwap(directory, { memory: MIB, create: true, ...options })
  await body(store, directory)
  await store.close()
}

/** Memory as a tensor. */
function tensorOf(data: Uint8Array): TensorLike {
  return { dtype: 'U8', shape: [data.length], data }
}

/** The bytes of a tensor, copied out of a lease. */
async function bytesOf(store: SwapStore, name: string): Promise<Uint8Array> {
  const lease = await store.get(name)
  const bytes = lease.bytes.slice()
  await lease.close()
  return bytes
}

testOnEachBackend('what is put is read again, of every element type', async (t, engine) => {
  await withSwap(
    async (store, directory) => {
      const tensors = ofEveryType()
      await store.putMany(tensors)
      for (const [name, tensor] of tensors as Map<string, { dtype: string; shape: number[]; data: Uint8Array }>) {
        const lease = await store.get(name)
        t.deepEqual([lease.name, lease.dtype, lease.shape], [name, tensor.dtype, tensor.shape] as never)
        t.true(same(lease.bytes, tensor.data), name)
        t.true(same(bytesIn(lease.data), tensor.data), name)
        await lease.close()
        const info = store.info(name)
        t.deepEqual([info?.dtype, info?.shape, info?.byteLength], [
          tensor.dtype,
          tensor.shape,
          tensor.data.length,
        ] as never)
      }
      t.deepEqual(store.names(), [...tensors.keys()].toSorted())
      t.is(store.directory, directory)
      t.regex(inspect(store), /^SwapStore {\s+directory: '.*',\s+closed: false\s+}$/)
      await store.close()
      const again = await openSwap(directory, { memory: 8 * MIB, engine })
      for (const [name, { data }] of tensors) t.true(same(await bytesOf(again, name), data), name)
      await again.close()
    },
    { engine, memory: 8 * MIB },
  )
})

test('tensors of four times the budget come and go, and the budget is kept', async (t) => {
  await withSwap(async (store) => {
    const names = Array.from({ length: 40 }, (_, nth) => `layer.${nth}`)
    for (const [nth, name] of names.entries()) await store.put(name, u8(100_000, nth))
    store.plan(names, { repeat: true })
    for (let pass = 0; pass < 3; pass += 1) {
      for (const [nth, name] of names.entries()) t.true(same(await bytesOf(store, name), pattern(100_000, nth)), name)
    }
    const stats = store.stats()
    t.true(stats.usedMax <= stats.memory, inspect(stats))
    t.is(stats.memory, MIB)
    t.true(stats.read > 0 && stats.evicted > 0 && stats.prefetched > 0, inspect(stats))
    t.is(stats.leased, 0)
  })
})

test('a lease can change its tensor, and what is disposed is forgotten', async (t) => {
  await withSwap(async (store) => {
    await store.put('x', u8(5000))
    const writing = await store.getMut('x')
    t.true(writing.writable)
    writing.bytes[4999] = 255
    await writing.close()
    await writing.close()
    t.is((await bytesOf(store, 'x'))[4999], 255)
    {
      const forgotten = await store.getMut('x')
      forgotten.bytes.fill(7)
      forgotten[Symbol.dispose]()
      await t.throwsAsync(forgotten.close({ write: true }), { code: 'ERR_DEEPRING_RELEASED' })
    }
    const kept = await store.getMut('x')
    kept.bytes.fill(7)
    await kept.close({ write: false })
    const bytes = await bytesOf(store, 'x')
    t.deepEqual([bytes[0], bytes[4999]], [pattern(1)[0], 255])

    const fresh = await store.lease('y', 'F32', [3])
    t.deepEqual(fresh.data, new Float32Array(3))
    t.is(store.info('y'), undefined, 'it exists once it is closed')
    fresh.data[1] = 0.5
    await fresh.close()
    t.deepEqual((await store.get('y')).data, new Float32Array([0, 0.5, 0]))
  })
})

test('memory that was given back cannot be seen', async (t) => {
  await withSwap(async (store) => {
    await store.put('x', u8(5000))
    const lease = await store.get('x')
    const { data, bytes } = lease
    t.regex(
      inspect(lease),
      /^SwapLease {\s+name: 'x',\s+dtype: 'U8',\s+shape: \[ 5000 \],\s+byteLength: 5000,\s+writable: false,/,
    )
    t.deepEqual([lease.type, lease.dims, lease.location, lease.released], ['uint8', [5000], 'cpu', false])
    await lease.close()
    t.deepEqual([data.length, bytes.length, lease.released], [0, 0, true])
    const released = { code: 'ERR_DEEPRING_RELEASED', name: 'DeepringError' }
    t.is(t.throws(() => lease.data, released)?.message.includes('"x"'), true)
    t.throws(() => lease.bytes, released)
    await t.throwsAsync(lease.keep(), released as never)
    lease[Symbol.dispose]()
    await lease.close()
    const unseen = await store.get('x')
    unseen[Symbol.dispose]()
    t.throws(() => unseen.data, released)
  })
})

test('several leases read a tensor at once, and each ends alone', async (t) => {
  await withSwap(async (store) => {
    await store.put('x', u8(5000))
    const [one, two] = (await store.getMany(['x', 'x'])) as [SwapLease, SwapLease]
    const three = await store.get('x')
    const expected = pattern(5000)
    t.true(same(one.bytes, expected) && same(two.bytes, expected) && same(three.bytes, expected))
    const { bytes } = two
    await one.close()
    t.true(same(bytes, expected))
    await two.close()
    t.is(bytes.length, 0)
    t.true(same(three.bytes, expected))
    // A new version comes in between, and the lease keeps its own.
    await store.put('x', u8(5000, 2))
    t.true(same(three.bytes, expected))
    await three.close()
    t.true(same(await bytesOf(store, 'x'), pattern(5000, 2)))
    t.deepEqual(await store.getMany([]), [])
  })
})

test('requests that use the memory of a lease end before it does', async (t) => {
  await withSwap(async (store) => {
    await store.put('x', u8(500_000))
    const target = scratch.path()
    const file = await open(target, 'w')
    const lease = await store.get('x')
    const writing = file.write(lease, { position: 0 })
    const closing = lease.close()
    await t.throwsAsync(file.write(lease, { position: 0 }), { code: 'ERR_DEEPRING_RELEASED' })
    await Promise.all([writing, closing])
    await file.close()
    t.true(same(readFileSync(target), pattern(500_000)))

    writeFileSync(target, pattern(500_000, 3))
    const source = await open(target)
    const reading = await store.getMut('x')
    await source.read(reading, { position: 0 })
    await reading.close()
    t.true(same(await bytesOf(store, 'x'), pattern(500_000, 3)))
    // The program could not see what is read into a lease that it closes, so that the read fails.
    const hasty = await store.getMut('x')
    const read = source.read(hasty, { position: 0 })
    hasty[Symbol.dispose]()
    await t.throwsAsync(read, { code: 'ERR_DEEPRING_DETACHED' })
    await source.close()
    t.true(same(await bytesOf(store, 'x'), pattern(500_000, 3)))
  })
})

test('a tensor is read into memory of the program', async (t) => {
  await withSwap(async (store) => {
    await store.put('x', { dtype: 'F32', shape: [2], data: new Float32Array([1, 2]) })
    const into = new Float32Array(2)
    await store.getInto('x', into)
    t.deepEqual(into, new Float32Array([1, 2]))
    await store.flush()
    await store.evict('x')
    t.is(store.info('x')?.state, 'stored')
    into.fill(0)
    await store.getInto('x', into)
    t.deepEqual(into, new Float32Array([1, 2]))
    t.is(store.info('x')?.state, 'stored')
    await rejected(t, () => store.getInto('x', new Uint8Array(9)), 'ERR_DEEPRING_INVALID')
    t.is((await rejected(t, () => store.getInto('y', new Uint8Array(9)), 'ERR_DEEPRING_NOT_FOUND')).tensor, 'y')
  })
})

test('a slice is read alone and counts its own bytes', async (t) => {
  await withSwap(async (store) => {
    const data = pattern(2 * 500 * 500)
    await store.put('x', { dtype: 'BF16', shape: [500, 500], data })
    await store.evict('x')
    const rows = await store.get('x', { slice: [[10, 20]] })
    t.deepEqual([rows.name, rows.dtype, rows.shape, rows.writable], ['x', 'BF16', [10, 500], false] as never)
    t.true(same(rows.bytes, data.subarray(10_000, 20_000)))
    const { used, leased, read } = store.stats()
    t.deepEqual([used, leased, read, store.info('x')?.state], [12_288, 12_288, 10_000, 'stored'])
    const { bytes } = rows
    await rejected(t, () => rows.close({ write: true }), 'ERR_DEEPRING_INVALID_ARG_VALUE')
    await rows.close()
    t.deepEqual([bytes.length, store.stats().used], [0, 0])
    const whole = await store.get('x')
    const column = await store.get('x', { slice: [null, [7, 8]] })
    t.deepEqual(column.shape, [500, 1])
    t.true(Array.from({ length: 500 }, (_, row) => row).every((row) => column.bytes[2 * row] === data[1000 * row + 14]))
    await column.close()
    await whole.close()
    const all = await store.get('x', { slice: [] })
    t.true(same(all.bytes, data))
    await all.close()
    const none = await store.get('x', { slice: [[5, 5]] })
    t.deepEqual([none.shape, none.data.length], [[0, 500], 0])
    await none.close()

    for (const slice of [[[0, 501]], [null, null, null], [[2, 1]], [[-1, 1]], [[0.5, 1]]] as never[])
      t.is((await rejected(t, () => store.get('x', { slice }), 'ERR_DEEPRING_SLICE')).tensor, 'x')
    for (const slice of [7, [7], [[1]]] as never[])
      await rejected(t, () => store.get('x', { slice }), 'ERR_DEEPRING_INVALID_ARG_TYPE')
    await rejected(t, () => store.get('y', { slice: [] }), 'ERR_DEEPRING_NOT_FOUND')
    // A slice only reads.
    await rejected(t, () => store.get('x', { slice: [], write: true } as never), 'ERR_DEEPRING_INVALID_ARG_VALUE')
    await rejected(t, () => store.getMut('x', { slice: [] } as never), 'ERR_DEEPRING_INVALID_ARG_VALUE')
    t.is(store.stats().leased, 0)
  })
  const path = scratch.path('sliced')
  writeModel(path, [made('x', 'F32', [100, 100], 40_000), made('odd', 'X9', [3], 3)])
  const model = await openSafetensors(path)
  const over = SwapStore.over(model, { memory: 16_384 })
  const row = await over.get('x', { slice: [[99, 100]] })
  t.deepEqual(row.data, (await model.tensor('x', { slice: [[99, 100]] })).data as never)
  await row.close()
  await rejected(t, () => over.get('x'), 'ERR_DEEPRING_BUDGET')
  await rejected(t, () => over.get('odd', { slice: [[0, 1]] }), 'ERR_DEEPRING_SLICE')
  await over.close()
  await model.close()
})

test('a tensor is pinned and converted when it is put', async (t) => {
  await withSwap(async (store) => {
    const source = { dtype: 'F32', shape: [1000], data: Float32Array.from({ length: 1000 }, (_, i) => i / 7) }
    await store.putMany(
      { x: source, same: { dtype: 'BF16', shape: [1], data: new Uint16Array([7]) } },
      { convert: 'BF16', pin: true },
    )
    t.deepEqual(store.stats().leased, 8192)
    const lease = await store.get('x')
    t.is(lease.dtype, 'BF16')
    t.deepEqual(lease.data, (await convertTensor(source, 'BF16')).data)
    await lease.close()
    await store.flush()
    await rejected(t, () => store.evict('x'), 'ERR_DEEPRING_INVALID')
    const large = await rejected(t, () => store.put('large', u8(MIB - 4096), { pin: true }), 'ERR_DEEPRING_BUDGET')
    t.is(large.tensor, 'large')
    store.unpin('x')
    await store.evict('x')
    t.is((await bytesOf(store, 'x')).length, 2000)
    const [type, value] = ['ERR_DEEPRING_INVALID_ARG_TYPE', 'ERR_DEEPRING_INVALID_ARG_VALUE']
    for (const [options, code] of [
      [{ pin: 1 }, type],
      [{ adopt: 'yes' }, type],
      [{ convert: 'F64' }, value],
      [{ convert: 7 }, type],
      [{ convert: 'F32' }, value],
      [{ pined: true }, value],
    ] as [never, string][])
      await rejected(t, () => store.put('y', u8(4), options), code)
    t.is(store.info('y'), undefined)
  })
})

test('memory that is adopted is not copied, and is the store’s from then on', async (t) => {
  await withSwap(async (store) => {
    const numbers = Float32Array.from({ length: 30_000 }, (_, i) => i)
    const tensor = allocateTensor('F32', [30_000])
    tensor.data.set(numbers)
    const { data } = tensor
    const putting = store.put('x', tensor, { adopt: true })
    t.is(data.length, 0, 'it is detached at once')
    await putting
    t.is(store.stats().adopted, 122_880)
    tensor[Symbol.dispose]()
    {
      using lease = await store.get('x')
      t.deepEqual(lease.data, numbers)
    }
    const path = scratch.file(pattern(5000))
    const file = await readFile(path)
    const used = allocate(4096)
    await store.putMany(
      {
        file: { dtype: 'U8', shape: [5000], data: file },
        used: { dtype: 'U8', shape: [4096], data: used },
        empty: { dtype: 'U8', shape: [0], data: new Uint8Array(0) },
      },
      { adopt: true, pin: true },
    )
    t.true(same(await bytesOf(store, 'file'), pattern(5000)))
    t.is(store.stats().adopted, 122_880 + 8192 + 4096)
    // A request that uses the memory ends first.
    const target = await open(path, 'w')
    const filled = allocate(5000)
    filled.set(pattern(5000, 2))
    const writing = target.write(filled, { position: 0 })
    await store.put('filled', { dtype: 'U8', shape: [5000], data: filled }, { adopt: true })
    await writing
    await target.close()
    t.true(same(readFileSync(path), pattern(5000, 2)))
    t.deepEqual([file.length, used.length, filled.length], [0, 0, 0])
    await store.evict('filled')
    t.true(same(await bytesOf(store, 'filled'), pattern(5000, 2)))
  })
})

test('memory that is not the engine’s, or not all of it, cannot be adopted and stays as it is', async (t) => {
  await withSwap(async (store) => {
    await store.put('x', u8(5000))
    const lease = await store.get('x')
    const memory = allocate(8192)
    const tensors = [new Uint8Array(5000), memory.subarray(0, 4096), memory.subarray(4096), lease.bytes]
    for (const data of tensors) {
      const error = await rejected(
        t,
        () => store.put('y', tensorOf(data), { adopt: true }),
        'ERR_DEEPRING_INVALID_ARG_VALUE',
      )
      t.regex(error.message, /"y" is not all that one allocation of the engine has returned/)
    }
    const twice = { a: tensorOf(memory), b: tensorOf(memory) }
    await rejected(t, () => store.putMany(twice, { adopt: true }), 'ERR_DEEPRING_INVALID_ARG_VALUE')
    const numbers = allocateTensor('F32', [4])
    await rejected(t, () => store.put('y', numbers, { adopt: true, convert: 'F16' }), 'ERR_DEEPRING_INVALID_ARG_VALUE')
    t.deepEqual([memory.length, numbers.data.length, lease.bytes.length, store.names()], [
      8192,
      4,
      5000,
      ['x'],
    ] as never)
    await lease.close()
    // One that fails later has taken it.
    const huge = allocate(2 * MIB)
    await rejected(t, () => store.put('y', tensorOf(huge), { adopt: true }), 'ERR_DEEPRING_BUDGET')
    t.is(huge.length, 0)
    t.is(store.stats().adopted, 0)
  })
})

test('a store says that a tensor is being written', async (t) => {
  await withSwap(
    async (store) => {
      const seen = new Set<string | undefined>()
      for (let round = 0; round < 50 && !seen.has('writing'); round += 1) {
        await store.put('x', u8(16 * MIB, round))
        t.is(store.info('x')?.state, 'dirty')
        const flushing = store.flush()
        let state = store.info('x')?.state
        for (; state !== 'resident'; state = store.info('x')?.state) {
          seen.add(state)
          await pause(0)
        }
        await flushing
        t.is(store.info('x')?.state, 'resident')
      }
      t.true(seen.has('writing'), inspect(seen))
    },
    { memory: 256 * MIB },
  )
})

test('what is pinned stays, what is evicted or removed goes, and a guess is read', async (t) => {
  await withSwap(async (store) => {
    await store.putMany({ x: u8(5000), y: u8(6000) })
    await store.pin('x')
    await rejected(t, () => store.evict('x'), 'ERR_DEEPRING_INVALID')
    t.true(store.stats().leased >= 8192)
    store.unpin('x')
    store.unpin('x')
    await store.evict('x')
    t.is(store.info('x')?.state, 'stored')
    await store.evict('y')
    store.prefetch(['x', 'none'], { expiresMs: 60_000 })
    t.true(await eventually(() => store.info('x')?.state === 'resident'))
    await store.remove('x')
    t.is(store.info('x'), undefined)
    t.deepEqual(store.names(), ['y'])
    const error = await rejected(t, () => store.get('x'), 'ERR_DEEPRING_NOT_FOUND')
    t.deepEqual([error.tensor, error.message], ['x', 'there is no such tensor, tensor "x"'])
    await rejected(t, () => store.evict('x'), 'ERR_DEEPRING_NOT_FOUND')
    await rejected(t, () => store.remove('x'), 'ERR_DEEPRING_NOT_FOUND')
    await rejected(t, () => store.pin('x'), 'ERR_DEEPRING_NOT_FOUND')
    await rejected(t, () => store.getMut('x'), 'ERR_DEEPRING_NOT_FOUND')
  })
})

test('what cannot fit fails at once, and what does not fit yet waits', async (t) => {
  await withSwap(async (store) => {
    const error = await rejected(t, () => store.put('x', u8(2 * MIB)), 'ERR_DEEPRING_BUDGET')
    t.deepEqual([error.tensor, error.needed, error.budget], ['x', 2 * MIB, MIB])
    await rejected(t, () => store.lease('x', 'U8', [2 * MIB]), 'ERR_DEEPRING_BUDGET')
    await store.put('a', u8(600_000))
    await store.put('b', u8(600_000, 2))
    const first = await store.get('a')
    let come = false
    const second = store.get('b').then((lease) => {
      come = true
      return lease
    })
    await pause(30)
    t.false(come)
    await first.close()
    await (await second).close()

    const holding = await store.get('a')
    const controller = new AbortController()
    const waiting = store.get('b', { signal: controller.signal })
    await pause(10)
    controller.abort()
    await t.throwsAsync(waiting, { code: 'ABORT_ERR' })
    await holding.close()
    t.true(same(await bytesOf(store, 'b'), pattern(600_000, 2)))
  })
})

test('a lease that was given to an aborted call goes back', async (t) => {
  await withSwap(async (store) => {
    await store.put('a', u8(600_000))
    for (let nth = 0; nth < 20; nth += 1) {
      const controller = new AbortController()
      const getting = store.getMut('a', { signal: controller.signal })
      if (nth % 2 === 1) await pause(1)
      controller.abort()
      await getting.then(
        (lease) => lease.close({ write: false }),
        () => {},
      )
    }
    const lease = await store.getMut('a')
    await lease.close()
    t.true(same(await bytesOf(store, 'a'), pattern(600_000)))
  })
})

test('a store is open once: not again here, in a worker or in another process', async (t) => {
  await withSwap(async (store, directory) => {
    const error = await rejected(t, () => openSwap(directory, { memory: MIB }), 'ERR_DEEPRING_BUSY')
    t.is(error.path, directory)
    const program = join(import.meta.dirname, 'programs', 'swap-open.ts')
    const codes: unknown[] = []
    const worker = new Worker(program, { argv: [directory], stdout: true })
    for await (const chunk of worker.stdout) codes.push(String(chunk))
    const child = spawn(process.execPath, [program, directory], { stdio: ['ignore', 'pipe', 'inherit'] })
    for await (const chunk of child.stdout) codes.push(String(chunk))
    t.deepEqual(codes, ['ERR_DEEPRING_BUSY', 'ERR_DEEPRING_BUSY'])
    await store.put('x', u8(5))
    t.true(same(await bytesOf(store, 'x'), pattern(5)))
  })
})

test('sizes at the edges of a page, and many small tensors, come back from the drive', async (t) => {
  await withSwap(
    async (store, directory) => {
      const sizes = [0, 1, 4095, 4096, 4097, 700_000]
      for (const [nth, size] of sizes.entries()) await store.put(`t${nth}`, u8(size, nth))
      const small = Array.from({ length: 10_000 }, (_, nth) => [`small.${nth}`, u8(128, nth)] as const)
      await store.putMany(new Map(small))
      for (const [nth, size] of sizes.entries()) {
        await store.evict(`t${nth}`)
        t.true(same(await bytesOf(store, `t${nth}`), pattern(size, nth)), `${size}`)
      }
      await store.close()
      t.true(statSync(join(directory, 'index')).size < 100 * 10_000)
      const again = await openSwap(directory, { memory: MIB })
      t.is(again.names().length, sizes.length + small.length)
      for (let nth = 0; nth < small.length; nth += 61)
        t.true(same(await bytesOf(again, `small.${nth}`), pattern(128, nth)))
      t.true(again.stats().usedMax <= MIB)
      await again.close()
    },
    { checksum: 'crc32c' },
  )
})

test('a version, a change and a removal in the middle of a read, a write and a lease keep their order', async (t) => {
  for (const durable of [false, true]) {
    await withSwap(
      async (store) => {
        const size = 200_000
        const put = (version: number): Promise<void> => store.put('x', u8(size, version))
        const is = async (version: number): Promise<void> =>
          void t.true(same(await bytesOf(store, 'x'), pattern(size, version)), `${version}, durable: ${durable}`)
        for (let round = 1; round < 40; round += 4) {
          await put(round)
          await store.evict('x')
          // Read, and a version comes.
          const [lease] = await Promise.all([store.get('x'), put(round + 1)])
          t.true([round, round + 1].some((version) => same(lease.bytes, pattern(size, version))))
          await is(round + 1)
          await lease.close()
          // Written, and another one comes, and is changed.
          const writing = store.evict('x')
          await put(round + 2)
          await writing
          await is(round + 2)
          const [changing] = await Promise.all([store.getMut('x'), store.flush()])
          changing.bytes.set(pattern(size, round + 3))
          await changing.close()
          await is(round + 3)
          // Leased, and removed as soon as it is not.
          const leased = await store.get('x')
          let gone = false
          const removing = store.remove('x').then(() => (gone = true))
          await pause(5)
          t.false(gone)
          await leased.close()
          await removing
          t.is((await rejected(t, () => store.get('x'), 'ERR_DEEPRING_NOT_FOUND')).tensor, 'x')
        }
      },
      { durable, checksum: 'crc32c' },
    )
  }
})

test('a plan that lies costs reads and nothing else, and what is read ahead can be given up', async (t) => {
  await withSwap(async (store) => {
    const names = Array.from({ length: 16 }, (_, nth) => `t${nth}`)
    for (const [nth, name] of names.entries()) await store.put(name, u8(100_000, nth))
    store.plan(['t9', 'nothing', 't3', 't3', 't15'], { repeat: true })
    for (const [nth, name] of [...names.entries()].toReversed()) {
      // A consumer that is slower than the drive.
      const lease = await store.get(name)
      await pause(2)
      t.true(same(lease.bytes, pattern(100_000, nth)), name)
      await lease.close()
      const { used, memory } = store.stats()
      t.true(used <= memory)
    }
    t.is((await rejected(t, () => store.get('nothing'), 'ERR_DEEPRING_NOT_FOUND')).tensor, 'nothing')
    store.prefetch(names, { expiresMs: 60_000 })
    store.plan([])
    await store.remove('t4')
    await store.put('t5', u8(100_000, 77))
    t.true(same(await bytesOf(store, 't5'), pattern(100_000, 77)))
    await rejected(t, () => store.get('t4'), 'ERR_DEEPRING_NOT_FOUND')
    t.true(await eventually(() => store.stats().reading === 0))
    const stats = store.stats()
    t.true(stats.usedMax <= stats.memory && stats.leased === 0, inspect(stats))
  })
})

test('a snapshot of a store is a checkpoint of its tensors, as of then', async (t) => {
  const checkpoints = await openCheckpoints(scratch.path('checkpoints'), { create: true })
  for (const durable of [false, true]) {
    await withSwap(
      async (store) => {
        await store.putMany({ x: u8(8192, 1), y: { dtype: 'F32', shape: [3], data: new Float32Array([1, 2, 3]) } })
        const writer = await checkpoints.begin()
        await store.snapshot(writer)
        await store.put('x', u8(8192, 2))
        const { cloned, copied } = (await writer.commit()).reused
        t.is(cloned + copied, 8192 + 12)
        const { checkpoint } = await checkpoints.latest()
        t.true(same(bytesIn((await checkpoint?.tensor('x'))?.data as Uint8Array), pattern(8192, 1)))
        t.deepEqual((await checkpoint?.tensor('y'))?.data, new Float32Array([1, 2, 3]))
        await checkpoint?.close()
        t.true(same(await bytesOf(store, 'x'), pattern(8192, 2)))
        await t.throwsAsync(store.snapshot({} as never), { code: 'ERR_DEEPRING_INVALID_ARG_TYPE' })
        await rejected(t, () => store.snapshot(writer), 'ERR_DEEPRING_CLOSED')
      },
      { durable },
    )
  }
  await checkpoints.close()
})

test('a store that was not flushed before its process ended is torn, or as it was flushed', async (t) => {
  for (const durable of [false, true]) {
    const directory = scratch.path('torn')
    const program = join(import.meta.dirname, 'programs', 'swap-killed.ts')
    const child = spawn(process.execPath, [program, directory, String(durable)], { stdio: 'inherit' })
    t.deepEqual(await once(child, 'exit'), [null, 'SIGKILL'])
    const options = { memory: MIB, durable }
    if (durable) {
      const store = await openSwap(directory, options)
      t.deepEqual(store.names(), ['x'])
      t.true(same(await bytesOf(store, 'x'), new Uint8Array(5000).fill(7)))
      await store.close()
    } else {
      const error = await rejected(t, () => openSwap(directory, options), 'ERR_DEEPRING_TORN')
      t.is(error.path, directory)
      const store = await openSwap(directory, { ...options, create: true })
      t.deepEqual(store.names(), [])
      await store.close()
    }
  }
})

test('a store that is damaged is refused by its reason, and a damaged tensor by its name', async (t) => {
  const directory = scratch.path('damaged')
  await rejected(t, () => openSwap(directory, { memory: MIB }), 'ENOENT')
  const create = async (): Promise<void> => {
    rmSync(directory, { recursive: true, force: true })
    const store = await openSwap(directory, { memory: MIB, create: true, checksum: 'crc32c', capacity: MIB })
    await store.put('x', u8(5000))
    t.is(store.stats().capacity, MIB)
    await store.close()
  }
  await create()
  truncateSync(join(directory, 'data'), 4096)
  t.is((await rejected(t, () => openSwap(directory, { memory: MIB }), 'ERR_DEEPRING_FORMAT')).reason, 'truncated')
  await create()
  const index = readFileSync(join(directory, 'index'))
  writeFileSync(join(directory, 'index'), index.subarray(0, index.length - 3))
  t.is((await rejected(t, () => openSwap(directory, { memory: MIB }), 'ERR_DEEPRING_FORMAT')).reason, 'index')
  await create()
  const data = readFileSync(join(directory, 'data'))
  data[100] = (data[100] as number) ^ 1
  writeFileSync(join(directory, 'data'), data)
  const store = await openSwap(directory, { memory: MIB, checksum: 'crc32c' })
  const error = await rejected(t, () => store.get('x'), 'ERR_DEEPRING_CHECKSUM')
  t.deepEqual([error.tensor, typeof error.expected, typeof error.actual], ['x', 'number', 'number'])
  await store.close()
})

test('experts are read from their safetensors by a plan that repeats', async (t) => {
  const path = scratch.path('model')
  const experts = Array.from({ length: 32 }, (_, nth) => made(`expert.${nth}`, 'BF16', [100, 250], 50_000, nth))
  writeModel(path, [...experts, made('odd', 'X9', [3], 3)])
  const model = await openSafetensors(path)
  const store = SwapStore.over(model, { memory: 400_000 })
  t.is(store.directory, undefined)
  t.is(store.names().length, 33)
  t.deepEqual(store.info('expert.3'), {
    name: 'expert.3',
    dtype: 'BF16',
    shape: [100, 250],
    byteLength: 50_000,
    state: 'stored',
  })
  store.plan(
    experts.map(({ name }) => name),
    { repeat: true },
  )
  for (let pass = 0; pass < 3; pass += 1) {
    for (const { name, data } of experts) t.true(same(await bytesOf(store, name), data), name)
  }
  const { usedMax, memory, prefetched, written } = store.stats()
  t.true(usedMax <= memory && prefetched > 0)
  t.is(written, 0)
  const odd = await store.get('odd')
  t.deepEqual([odd.dtype, odd.data.length], ['X9', 3] as never)
  await odd.close()
  for (const call of [
    () => store.put('x', u8(5)),
    () => store.getMut('odd'),
    () => store.lease('x', 'U8', [1]),
    () => store.remove('odd'),
  ])
    await rejected(t, call, 'ERR_DEEPRING_INVALID')
  await model.close()
  t.true(same(await bytesOf(store, 'expert.5'), experts[5]?.data as Uint8Array), 'its files are open')
  t.throws(() => SwapStore.over(model, { memory: MIB }), { code: 'ERR_DEEPRING_CLOSED' })
  await store.close()
})

test('checkpoints and tables of rows are served too', async (t) => {
  const checkpoints = await openCheckpoints(scratch.path('checkpoints'), { create: true })
  await checkpoints.save({ x: u8(5000) })
  const { checkpoint } = await checkpoints.latest()
  if (checkpoint === undefined) return t.fail()
  const store = SwapStore.over(checkpoint, { memory: MIB })
  await checkpoint.close()
  await rejected(t, () => checkpoints.remove(1), 'ERR_DEEPRING_CONFLICT')
  t.true(same(await bytesOf(store, 'x'), pattern(5000)))
  await store.close()
  await checkpoints.remove(1)
  await checkpoints.close()

  const path = scratch.file(pattern(1000))
  const table = await tensorTable([{ name: 'r', dtype: 'U8', shape: [100], path, position: 33, length: 100 }])
  const rows = SwapStore.over(table, { memory: 8192 })
  t.true(same(await bytesOf(rows, 'r'), pattern(1000).subarray(33, 133)))
  await rows.close()
  await table.close()
})

test('a store that is closed refuses calls, and so does one whose engine is', async (t) => {
  const engine = new Engine()
  const directory = scratch.path('closed')
  const store = await openSwap(directory, { memory: MIB, create: true, engine })
  await store.put('x', u8(5))
  const lease = await store.get('x')
  const writing = await store.lease('y', 'U8', [5])
  await store.close()
  await store.close()
  t.true(same(lease.bytes, pattern(5)))
  await lease.close()
  await rejected(t, () => writing.close(), 'ERR_DEEPRING_INVALID')
  await rejected(t, () => store.get('x'), 'ERR_DEEPRING_CLOSED')
  t.throws(() => store.names(), { code: 'ERR_DEEPRING_CLOSED' })
  t.throws(() => store.plan(['x']), { code: 'ERR_DEEPRING_CLOSED' })
  const other = await openSwap(directory, { memory: MIB, engine })
  await engine.close()
  await rejected(t, () => other.get('x'), 'ERR_DEEPRING_CLOSED')
  await using again = await openSwap(directory, { memory: MIB })
  t.deepEqual(again.names(), ['x'])
})

test('memory that is transferred during a call or a lease is an error', async (t) => {
  await withSwap(async (store) => {
    const data = new Uint8Array(500_000)
    const putting = store.put('x', { dtype: 'U8', shape: [500_000], data })
    structuredClone(data.buffer, { transfer: [data.buffer] })
    t.is((await rejected(t, () => putting, 'ERR_DEEPRING_DETACHED')).tensor, 'x')
    await store.put('z', { dtype: 'U8', shape: [500_000], data: pattern(500_000) })
    const into = new Uint8Array(500_000)
    const getting = store.getInto('z', into)
    structuredClone(into.buffer, { transfer: [into.buffer] })
    const { tensor, syscall, message } = await rejected(t, () => getting, 'ERR_DEEPRING_DETACHED')
    t.deepEqual([tensor, syscall], ['z', 'read'])
    t.regex(message, /was detached while it was read/)
    if (typeof (ArrayBuffer.prototype as { transfer?: unknown }).transfer !== 'function') return
    const lease = await store.lease('y', 'U8', [5000])
    const moved = (lease.bytes.buffer as ArrayBuffer & { transfer(): ArrayBuffer }).transfer()
    t.is((await rejected(t, () => lease.close(), 'ERR_DEEPRING_DETACHED')).tensor, 'y')
    t.deepEqual([moved.byteLength, store.info('y')], [5000, undefined])
  })
})

test('arguments are checked before anything happens', async (t) => {
  const directory = scratch.path('checked')
  const [type, value, range] = ['TYPE', 'VALUE', 'RANGE'].map((end) =>
    end === 'RANGE' ? 'ERR_DEEPRING_OUT_OF_RANGE' : `ERR_DEEPRING_INVALID_ARG_${end}`,
  ) as [string, string, string]
  for (const [options, code] of [
    [undefined, type],
    [{}, type],
    [{ memory: '1' }, type],
    [{ memory: -1 }, range],
    [{ memory: 1.5 }, range],
    [{ memory: 1, capacity: -1 }, range],
    [{ memory: 1, durable: 1 }, type],
    [{ memory: 1, checksum: 'md5' }, value],
    [{ memory: 1, checksum: true }, type],
    [{ memory: 1, create: 'yes' }, type],
    [{ memory: 1, direct: 'maybe' }, value],
    [{ memory: 1, engine: {} }, type],
    [{ memory: 1, signal: 7 }, type],
    [{ memory: 1, durabel: true }, value],
  ] as const)
    await rejected(t, () => openSwap(directory, options as never), code)
  await rejected(t, () => openSwap(7 as never, { memory: 1 }), type)
  t.false(existsSync(directory))
  t.throws(() => SwapStore.over({} as never, { memory: 1 }), { code: type })
  t.throws(() => Reflect.construct(SwapStore, [{}]), { code: type })

  await withSwap(async (store) => {
    await store.put('x', u8(5))
    for (const [call, code] of [
      [() => store.put(7 as never, u8(5)), type],
      [() => store.put('\ud800', u8(5)), value],
      [() => store.put('y', new Uint8Array(5) as never), type],
      [() => store.put('y', { dtype: 'U8', shape: [4], data: new Uint8Array(5) }), value],
      [() => store.put('y', { dtype: 'X9', shape: [5], data: new Uint8Array(5) }), value],
      [() => store.put('y', u8(5), { durable: true } as never), value],
      [() => store.putMany(7 as never), type],
      [() => store.get(7 as never), type],
      [() => store.get('x', { signal: {} } as never), type],
      [() => store.getMany('x' as never), type],
      [() => store.getMany([7] as never), type],
      [() => store.getMut(undefined as never), type],
      [() => store.lease('y', 'X9' as never, [1]), value],
      [() => store.lease('y', 'F4', [1]), value],
      [() => store.lease('y', 'U8', [-1]), value],
      [() => store.lease('y', 'U8', 5 as never), type],
      [() => store.getInto('x', 5 as never), type],
      [() => store.evict(5 as never), type],
      [() => store.remove(5 as never), type],
      [() => store.pin(5 as never), type],
    ] as [() => Promise<unknown>, string][])
      await rejected(t, call, code)
    for (const [call, code] of [
      [() => store.prefetch('x' as never), type],
      [() => store.prefetch(['x'], { expiresMs: -1 }), range],
      [() => store.prefetch(['x'], { expires: 1 } as never), value],
      [() => store.plan(['x'], { repeat: 1 } as never), type],
      [() => store.unpin(7 as never), type],
      [() => store.info(7 as never), type],
    ] as [() => unknown, string][])
      t.throws(call, { code })
    const lease = await store.get('x')
    await rejected(t, () => lease.close({ write: true }), value)
    await rejected(t, () => lease.close({ write: 1 } as never), type)
    await rejected(t, () => lease.close({ wirte: true } as never), value)
    t.true(same(lease.bytes, pattern(5)))
    await lease.close()
  })
})

test('a lease that is collected with its views goes back', async (t) => {
  const { status, stdout, stderr } = await runProgram('swap-collected.ts', scratch.path('collected'))
  t.deepEqual([status, stdout, stderr], [0, 'what was collected went back\n', ''])
})

test('an empty directory is no store, and a directory that is made is', async (t) => {
  const directory = scratch.directory('empty')
  const tensors: NamedTensors = new Map([['x', u8(1)]])
  const store = await openSwap(directory, { memory: MIB, create: true, durable: true, direct: 'auto' })
  await store.putMany(tensors)
  await store.flush()
  await store.close()
  await saveSafetensors(scratch.path('model'), tensors)
  const again = await openSwap(directory, { memory: BigInt(MIB), durable: true })
  t.deepEqual(again.names(), ['x'])
  await again.close()
})

test('a worker that is terminated with leases and in a step leaves its stores to others', async (t) => {
  const directories = Array.from({ length: 3 }, () => scratch.path('worker'))
  for (const path of directories) {
    const worker = new Worker(new URL('programs/swap-worker.ts', import.meta.url), { workerData: { path } })
    await once(worker, 'message')
    await worker.terminate()
    const store = await openSwap(`${path}-store`, { memory: MIB, create: true })
    await store.put('x', u8(5))
    await store.close()
  }
  t.pass()
})
