/** Saves of checkpoints: their two moments, and failures, which are reported once and never crash a process. */

import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import { allocate, Engine, stats } from '../index.ts'
import { openCheckpoints, type CheckpointSave, type CheckpointStore } from '../lib/checkpoint/index.ts'
import { collectUntil } from './collect.ts'
import { makeScratch, pattern, pause, rejected, runProgram, same, testOnEachBackend } from './harness.ts'
import { eventually, u8 } from './model.ts'

const scratch = makeScratch()

async function newStore(engine?: Engine): Promise<{ readonly store: CheckpointStore; readonly directory: string }> {
  const directory = scratch.path('store')
  return { store: await openCheckpoints(directory, { create: true, engine, keep: 'all' }), directory }
}

/** What readers do not see. */
function leftIn(directory: string): string[] {
  return readdirSync(directory).filter((name) => name.startsWith('.tmp') || name.startsWith('.trash'))
}

const first = (directory: string): string => join(directory, '000000000001')

/** Something takes the number of the first generation, just before the save would. */
function fails(directory: string): { onProgress: () => void } {
  return {
    onProgress: () => {
      if (!existsSync(first(directory))) mkdirSync(first(directory))
    },
  }
}

/** Waits for the end of a save without a look at it: past its own `then`. */
async function ended(save: CheckpointSave): Promise<void> {
  await (Promise.prototype.then.call(save, ignore, ignore) as Promise<void>)
}

function ignore(): void {}

for (const [staging, title] of [
  [0, 'once it is written'],
  [64 << 20, 'once it is copied'],
] as const) {
  testOnEachBackend(
    `memory that changes after it was captured does not change the checkpoint: ${title}`,
    async (t, engine) => {
      const { store, directory } = await newStore(engine)
      const tensors = {
        large: u8(40_000_001),
        small: u8(100, 2),
        own: { ...u8(0), shape: [4096], data: allocate(4096) },
      }
      tensors.own.data.set(pattern(4096, 3))
      const save = store.save(tensors, { staging })
      t.is(save.committed, save)
      await save.captured
      // Its bytes are on the drive or in memory, and nothing is visible.
      t.false(existsSync(first(directory)))
      for (const { data } of Object.values(tensors)) data.fill(0)
      tensors.own.data[Symbol.dispose]()
      const moved = structuredClone(tensors.large.data.buffer, { transfer: [tensors.large.data.buffer] })
      t.is(moved.byteLength, 40_000_001)
      const { number } = await save
      const checkpoint = await store.open(number)
      const loaded = await checkpoint.load()
      for (const [name, length, seed] of [
        ['large', 40_000_001, 1],
        ['small', 100, 2],
        ['own', 4096, 3],
      ] as const)
        t.true(same(loaded.get(name)?.bytes as Uint8Array, pattern(length, seed)), name)
      loaded[Symbol.dispose]()
      await checkpoint.close()
      await store.close()
    },
  )
}

test('saves that overlap have the order of their calls, and each its own bytes', async (t) => {
  const { store } = await newStore()
  const data = pattern(2_000_000)
  const tensor = { dtype: 'U8', shape: [data.length], data }
  const saves: CheckpointSave[] = []
  for (let step = 1; step <= 5; step += 1) {
    data.fill(step)
    const save = store.save({ tensor }, { step, staging: 8 << 20 })
    saves.push(save)
    await save.captured
  }
  const numbers = await Promise.all(saves)
  t.deepEqual(
    numbers.map(({ number }) => number),
    [1, 2, 3, 4, 5],
  )
  // All at once.
  const others = [6, 7, 8, 9].map((step) => store.save({ a: u8(1000, step) }, { step }))
  await Promise.all(others)
  for (let number = 1; number <= 9; number += 1) {
    const checkpoint = await store.open(number)
    t.is(checkpoint.step, number)
    if (number <= 5) t.true((await checkpoint.tensor('tensor')).bytes.every((byte) => byte === number))
    await checkpoint.close()
  }
  await store.close()
})

test('a process whose saves fail lives on, if it looks at none of them', async (t) => {
  const { status, stdout, stderr } = await runProgram('unseen-failure.ts', scratch.path('store'))
  t.deepEqual([status, stderr], [0, ''])
  // The first failure is that of the first call that was refused.
  t.is(stdout, 'true true\nERR_DEEPRING_INVALID_ARG_VALUE\n')
})

test('a failure rejects both moments; after the first of them, only the second', async (t) => {
  const { store, directory } = await newStore()
  const early = store.save({ a: { ...u8(3), dtype: 'nothing' } })
  for (const moment of [early.captured, early.committed])
    await rejected(t, () => moment, 'ERR_DEEPRING_INVALID_ARG_VALUE')
  const late = store.save({ a: u8(3) }, fails(directory))
  await late.captured
  t.is((await rejected(t, () => late, 'ERR_DEEPRING_CONFLICT')).generation, 1)
  t.is((await rejected(t, () => late.committed, 'ERR_DEEPRING_CONFLICT')).generation, 1)
  await t.notThrowsAsync(late.captured)
  t.deepEqual([leftIn(directory), readdirSync(first(directory))], [[], []])
  // Both were seen.
  await store.close()
})

test('the next begin reports a failure that nothing has looked at, once', async (t) => {
  const { store, directory } = await newStore()
  const save = store.save({ a: u8(3) }, fails(directory))
  await save.captured
  await ended(save)
  t.deepEqual(leftIn(directory), [])
  await rejected(t, () => store.begin(), 'ERR_DEEPRING_CONFLICT')
  const writer = await store.begin()
  t.is(writer.generation, 2)
  await writer.abort()
  await store.close()
})

test('the next save reports it, does nothing else, and is looked at in its place', async (t) => {
  const { store, directory } = await newStore()
  await ended(store.save({ a: u8(3) }, fails(directory)))
  const next = store.save({ a: u8(3) })
  await rejected(t, () => next.captured, 'ERR_DEEPRING_CONFLICT')
  t.deepEqual(await store.list(), [1])
  t.is((await store.save({ a: u8(3) })).number, 2)
  await store.close()
})

test('a program that looks at nothing saves again after each failure, and close reports the first', async (t) => {
  const { store, directory } = await newStore()
  await ended(store.save({ a: u8(3) }, fails(directory)))
  // This one reports the failure, to nothing that looks.
  await ended(store.save({ a: u8(3) }))
  await ended(store.save({ a: u8(3) }))
  t.deepEqual(await store.list(), [1, 2])
  await rejected(t, () => store.close(), 'ERR_DEEPRING_CONFLICT')
})

test('close reports a failure that nothing has looked at, once', async (t) => {
  for (const looks of [false, true]) {
    const { store, directory } = await newStore()
    const save = store.save({ a: u8(3) }, fails(directory))
    // A look at the moment that did not fail is none.
    await save.captured
    if (looks) await t.throwsAsync(save, { code: 'ERR_DEEPRING_CONFLICT' })
    await ended(save)
    if (looks) await t.notThrowsAsync(store.close())
    else await rejected(t, () => store.close(), 'ERR_DEEPRING_CONFLICT')
    await store.close()
  }
})

for (const [look, how] of [
  [(save: CheckpointSave) => save.catch(() => {}), 'catch'],
  [(save: CheckpointSave) => save.then(undefined, () => {}), 'then'],
  [(save: CheckpointSave) => save.finally(() => {}).catch(() => {}), 'finally'],
  [(save: CheckpointSave) => Promise.allSettled([save]), 'Promise.allSettled'],
  [(save: CheckpointSave) => Promise.race([save.committed, pause(5000)]).catch(() => {}), 'Promise.race'],
  [async (save: CheckpointSave) => await save.catch(() => {}), 'an async function'],
] as const) {
  test(`a failure is looked at by ${how}`, async (t) => {
    const { store, directory } = await newStore()
    const looked = look(store.save({ a: u8(3) }, fails(directory)))
    await looked
    t.true(looked instanceof Promise)
    await t.notThrowsAsync(store.close())
  })
}

test.serial('a store that is collected warns of a failure that nothing has looked at', async (t) => {
  const warnings: (Error & { code?: string })[] = []
  const note = (warning: Error): void => void warnings.push(warning)
  process.on('warning', note)
  const directory = scratch.path('store')
  const fail = async (): Promise<void> => {
    const store = await openCheckpoints(directory, { create: true })
    await ended(store.save({ a: u8(3) }, fails(directory)))
  }
  await fail()
  t.true(await collectUntil(() => warnings.length > 0))
  process.off('warning', note)
  t.is(warnings[0]?.code, 'DEEPRING_FAILURE_UNREPORTED')
  t.regex(String(warnings[0]?.message), /something has the name of the generation, generation 1$/)
})

testOnEachBackend('an aborted save leaves nothing, or has saved', async (t, engine) => {
  const { store, directory } = await newStore(engine)
  let saved = 0
  for (let round = 0; round < 10; round += 1) {
    const controller = new AbortController()
    const staging = round % 2 === 0 ? 0 : 32 << 20
    const save = store.save({ large: u8(20_000_000) }, { staging, signal: controller.signal })
    setTimeout(() => controller.abort('enough'), round * 2)
    const outcome = await save.catch((error: unknown) => error)
    if (outcome instanceof Error) {
      t.deepEqual([outcome.name, outcome.cause], ['AbortError', 'enough'])
    } else {
      saved += 1
    }
    t.true(await eventually(() => leftIn(directory).length === 0))
    t.is((await store.list()).length, saved)
  }
  const { checkpoint, skipped } = await store.latest({ verify: 'all' })
  t.deepEqual([checkpoint === undefined, skipped], [saved === 0, []])
  await checkpoint?.close()
  const before = new AbortController()
  before.abort()
  const save = store.save({ a: u8(3) }, { signal: before.signal })
  await t.throwsAsync(save.captured, { name: 'AbortError' })
  // It was asked for, so nobody needs to be told.
  store.save({ a: u8(3) }, { signal: before.signal })
  await store.close()
})

test('an abort of what was captured still counts until it is visible', async (t) => {
  const { store, directory } = await newStore()
  const controller = new AbortController()
  const save = store.save({ large: u8(30_000_000) }, { staging: 32 << 20, signal: controller.signal })
  await save.captured
  controller.abort()
  await t.throwsAsync(save, { name: 'AbortError' })
  t.true(await eventually(() => leftIn(directory).length === 0))
  t.deepEqual(await store.list(), [])
  await store.close()
})

/** Tensors of 200 MB in all, and an engine that takes its time for them. */
const PART = u8(2_000_000)
const MANY = Object.fromEntries(Array.from({ length: 100 }, (_, n) => [`t${n}`, PART]))
const MANY_BYTES = 200_000_000
const SLOW = { queueDepth: 1, blockSize: 16_384 }

test('progress of a save ends once, with the bytes of all tensors, before anything is visible', async (t) => {
  await using engine = new Engine(SLOW)
  const { store, directory } = await newStore(engine)
  const seen: { bytes: number; total: number }[] = []
  const wasVisible: boolean[] = []
  await store.save(MANY, {
    onProgress: (each) => {
      seen.push(each)
      wasVisible.push(readdirSync(directory).some((name) => /^\d{12}$/.test(name)))
    },
  })
  t.deepEqual(seen.at(-1), { bytes: MANY_BYTES, total: MANY_BYTES })
  t.is(seen.filter(({ bytes, total }) => bytes === total).length, 1)
  t.true(seen.length > 1)
  t.true(seen.every(({ bytes, total }, nth) => total === MANY_BYTES && bytes > (seen[nth - 1]?.bytes ?? 0)))
  t.false(wasVisible.includes(true))
  t.is((await store.list()).length, 1)
})

test('what throws when it is told of progress rejects the save, and nothing has changed', async (t) => {
  await using engine = new Engine(SLOW)
  const { store, directory } = await newStore(engine)
  await store.save({ a: u8(100) })
  for (const isLast of [true, false]) {
    const why = new Error('why')
    const save = store.save(isLast ? { a: u8(1000) } : MANY, {
      onProgress: ({ bytes, total }) => {
        if ((bytes === total) === isLast) throw why
      },
    })
    t.is(await t.throwsAsync(save), why)
    t.true(await eventually(() => leftIn(directory).length === 0))
    t.deepEqual(await store.list(), [1])
  }
})

test('memory that is detached before it is captured is an error that names its tensor', async (t) => {
  const { store, directory } = await newStore()
  const foreign = new Uint8Array(30_000_000)
  const save = store.save({ foreign: { dtype: 'U8', shape: [foreign.length], data: foreign }, a: u8(3) })
  const moved = structuredClone(foreign.buffer, { transfer: [foreign.buffer] })
  t.is((await rejected(t, () => save.captured, 'ERR_DEEPRING_DETACHED')).tensor, 'foreign')
  t.is((await rejected(t, () => save, 'ERR_DEEPRING_DETACHED')).tensor, 'foreign')
  t.is(moved.byteLength, 30_000_000)
  const own = allocate(30_000_000)
  const second = store.save({ own: { dtype: 'U8', shape: [own.length], data: own } })
  own[Symbol.dispose]()
  t.is((await rejected(t, () => second, 'ERR_DEEPRING_DETACHED')).tensor, 'own')
  t.true(await eventually(() => leftIn(directory).length === 0))
  t.deepEqual(await store.list(), [])
  await store.close()
})

test('a store that is closed waits for its saves', async (t) => {
  const { store, directory } = await newStore()
  const saves = [store.save({ large: u8(20_000_000) }), store.save({ a: u8(3) }, { staging: 1 << 20 })]
  const closing = store.close()
  await rejected(t, async () => store.save({ a: u8(3) }), 'ERR_DEEPRING_CLOSED')
  await closing
  t.deepEqual(readdirSync(directory).filter((name) => /^\d+$/.test(name)).length, 2)
  t.is((await Promise.all(saves)).length, 2)
})

test('a save keeps its store and its memory alive, though nothing else does', async (t) => {
  const directory = scratch.path('store')
  const engine = new Engine()
  const save = await (async () => {
    const store = await openCheckpoints(directory, { create: true, engine })
    return [store.save({ large: u8(20_000_000, 5) }, { staging: 32 << 20 })]
  })()
  t.true(await collectUntil(() => existsSync(first(directory))))
  t.is((await save[0]!).number, 1)
  const store = await openCheckpoints(directory, { engine })
  const { checkpoint } = await store.latest()
  t.true(same((await checkpoint!.tensor('large')).bytes, pattern(20_000_000, 5)))
  await engine.close()
})

test.serial(
  'workers that are terminated in the middle of saves leave whole generations, and nothing in use',
  async (t) => {
    const { store, directory } = await newStore()
    const { buffers } = stats()
    for (let round = 0; round < 12; round += 1) {
      const url = new URL('programs/checkpoint-saving-worker.ts', import.meta.url)
      const worker = new Worker(url, { workerData: { directory } })
      await once(worker, 'message')
      await pause(round * 4)
      await worker.terminate()
      t.true(await eventually(() => stats().inFlight === 0))
      const { checkpoint, skipped } = await store.latest({ verify: 'all' })
      t.deepEqual(skipped, [])
      using loaded = await checkpoint?.load()
      for (const { bytes } of loaded?.values() ?? []) t.true(bytes.every((byte) => byte === 7))
      await checkpoint?.close()
      // What it has left is removed, or known to be dead by its locks once these are free.
      for (let look = 0; look < 100 && leftIn(directory).length > 0; look += 1) {
        await store.collect()
        await pause(5)
      }
      t.deepEqual(leftIn(directory), [])
    }
    t.true(stats().buffers <= buffers)
    await store.close()
  },
)
