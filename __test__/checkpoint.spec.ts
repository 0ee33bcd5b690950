/** Stores of checkpoints: what was saved is read again, what is damaged is named, and what is kept stays. */

import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { inspect } from 'node:util'
import test from 'ava'
import { Engine, type TensorLike } from '../index.ts'
import {
  openCheckpoints,
  type CheckpointStore,
  type OpenCheckpointsOptions,
  type Progress,
} from '../lib/checkpoint/index.ts'
import { openSafetensors } from '../lib/safetensors/index.ts'
import { makeScratch, pattern, rejected, same, testOnEachBackend } from './harness.ts'
import { ofEveryType, u8 } from './model.ts'

const scratch = makeScratch()

async function withStore(
  body: (store: CheckpointStore, directory: string) => Promise<void>,
  options?: OpenCheckpointsOptions,
): Promise<void> {
  const directory = scratch.path('store')
  const store = await openCheckpoints(directory, { create: true, ...options })
  await body(store, directory)
  await store.close()
}

/** The directory of a generation. */
function generationIn(directory: string, number: number): string {
  return join(directory, String(number).padStart(12, '0'))
}

/** The data files of a generation. */
function dataIn(directory: string, number: number): string[] {
  const generation = generationIn(directory, number)
  return readdirSync(generation)
    .filter((name) => name.startsWith('data-'))
    .map((name) => join(generation, name))
}

function flip(path: string, position: number): void {
  const bytes = readFileSync(path)
  bytes[position] = (bytes[position] as number) ^ 1
  writeFileSync(path, bytes)
}

testOnEachBackend('what is saved is loaded again, of every element type', async (t, engine) => {
  await withStore(
    async (store, directory) => {
      const tensors = ofEveryType()
      const { number, bytes, files, reused } = await store.save(tensors, { step: 7, meta: { loss: [0.5, 'ä'] } })
      t.deepEqual([number, files, reused], [1, 1, { linked: 0, cloned: 0, copied: 0 }])
      t.is(bytes, readFileSync(dataIn(directory, 1)[0] as string).length)

      const checkpoint = await store.open(1)
      t.deepEqual([checkpoint.number, checkpoint.step, checkpoint.meta], [1, 7, { loss: [0.5, 'ä'] }])
      t.true(Math.abs(checkpoint.created.getTime() - Date.now()) < 60_000)
      t.is(checkpoint.size, tensors.size)
      const loaded = await checkpoint.load()
      for (const [name, { shape, data }] of tensors as Map<string, { shape: number[]; data: Uint8Array }>) {
        t.deepEqual(loaded.get(name)?.shape, shape)
        t.true(same(loaded.get(name)?.bytes as Uint8Array, data), name)
      }
      let streamed = 0
      for await (const { name, bytes: each } of checkpoint.stream(undefined, { memory: 16 << 20 })) {
        t.true(same(each, tensors.get(name)?.data as Uint8Array), name)
        streamed += 1
      }
      t.is(streamed, tensors.size)
      const into = new Uint8Array(5)
      const some = await checkpoint.load(['__proto__', 'large'], {
        into: new Map([['__proto__', into]]),
        slices: new Map([['large', [[1_500_000, 3_000_000]] as const]]),
      })
      t.true(same(into, pattern(5)))
      t.true(same(some.get('large')?.bytes as Uint8Array, pattern(3_000_001, 7).subarray(1_500_000, 3_000_000)))
      t.deepEqual(await checkpoint.verify(), { ok: true, verified: tensors.size, unverifiable: 0, damaged: [] })
      t.regex(inspect(checkpoint), /^Checkpoint \{ number: 1, tensors: /)
      loaded[Symbol.dispose]()
      some[Symbol.dispose]()
      await checkpoint.close()
    },
    { engine },
  )
})

test('a generation of which nothing was said has no step, and null as meta; one without tensors is one', async (t) => {
  await withStore(async (store) => {
    await store.save({})
    const checkpoint = await store.open(1)
    t.deepEqual([checkpoint.size, checkpoint.step, checkpoint.meta], [0, undefined, null])
    await checkpoint.close()
    await rejected(t, () => checkpoint.load(), 'ERR_DEEPRING_CLOSED')
    await rejected(t, () => checkpoint.copyTo(scratch.path()), 'ERR_DEEPRING_CLOSED')
  })
})

test('other readers of safetensors open a generation as it is', async (t) => {
  await withStore(async (store, directory) => {
    const writer = await store.begin()
    await writer.put('a', u8(1000, 2))
    await writer.putAll({ b: u8(5000, 3) }, { group: 'rest' })
    await writer.commit()
    const model = await openSafetensors(generationIn(directory, 1))
    t.deepEqual([...model.names()].toSorted(), ['a', 'b'])
    t.true(same((await model.tensor('b')).bytes, pattern(5000, 3)))
    await model.close()
  })
})

test('every MiB that is read whole is compared, unless it is not to be', async (t) => {
  await withStore(async (store, directory) => {
    await store.save({ sound: u8(1000), hurt: u8((3 << 20) + 100, 2) })
    const [file = ''] = dataIn(directory, 1)
    const before = await store.open(1)
    const { position } = before.info('hurt')
    await before.close()
    flip(file, position + (1 << 20) + 5)

    const checkpoint = await store.open(1)
    const calls = [
      () => checkpoint.load(),
      () => checkpoint.tensor('hurt'),
      () => checkpoint.tensor('hurt', { into: new Uint8Array((3 << 20) + 100) }),
      () => checkpoint.tensor('hurt', { slice: [[1 << 20, 2 << 20]] }),
      () => checkpoint.stream(['hurt']).next(),
    ]
    for (const call of calls) {
      const { tensor, path, position: at } = await rejected(t, call, 'ERR_DEEPRING_CHECKSUM')
      t.deepEqual([tensor, path, at], ['hurt', file, position + (1 << 20)])
    }
    // What does not need those bytes, or no comparison, is read.
    t.true(same((await checkpoint.tensor('sound')).bytes, pattern(1000)))
    t.is((await checkpoint.tensor('hurt', { slice: [[0, 1 << 20]] })).byteLength, 1 << 20)
    t.is((await checkpoint.tensor('hurt', { verify: false })).byteLength, (3 << 20) + 100)
    t.is((await checkpoint.load(undefined, { verify: false })).size, 2)
    for await (const { name } of checkpoint.stream(['hurt'], { verify: false })) t.is(name, 'hurt')

    const seen: number[] = []
    const found = await checkpoint.verify({ onProgress: ({ bytes, total }) => void seen.push(bytes / total) })
    t.deepEqual([found.ok, found.verified, found.damaged.length, seen.at(-1)], [false, 1, 1, 1])
    const { part, tensor, path, position: at, length } = found.damaged[0]!
    t.deepEqual([part, tensor, path, at, length], ['tensor', 'hurt', file, position + (1 << 20), 1 << 20])
    const copy = scratch.path('copy')
    t.is((await rejected(t, () => checkpoint.copyTo(copy), 'ERR_DEEPRING_CHECKSUM')).tensor, 'hurt')
    t.deepEqual(
      readdirSync(copy).filter((name) => !name.startsWith('.lock')),
      [],
    )
    await checkpoint.close()
  })
})

test('latest steps back over generations that are damaged, and says which and why', async (t) => {
  await withStore(
    async (store, directory) => {
      t.deepEqual(await store.latest(), { checkpoint: undefined, skipped: [] })
      for (let seed = 1; seed <= 5; seed += 1) await store.save({ a: u8((1 << 20) + 1, seed) }, { step: seed })
      const manifest = join(generationIn(directory, 5), 'manifest.json')
      flip(manifest, 60)
      const [gone = ''] = dataIn(directory, 4)
      rmSync(gone)
      const [short = ''] = dataIn(directory, 3)
      truncateSync(short, 1 << 20)
      const [silent = ''] = dataIn(directory, 2)
      flip(silent, 1 << 20)

      const { checkpoint, skipped } = await store.latest()
      t.is(checkpoint?.number, 2)
      t.deepEqual(
        skipped.map(({ generation, reason }) => [generation, reason.code, reason.reason, reason.path]),
        [
          [5, 'ERR_DEEPRING_FORMAT', 'manifest', manifest],
          [4, 'ERR_DEEPRING_FORMAT', 'part', gone],
          [3, 'ERR_DEEPRING_FORMAT', 'truncated', short],
        ],
      )
      await checkpoint?.close()
      for (const { generation, reason } of skipped) {
        const error = await rejected(t, () => store.open(generation), 'ERR_DEEPRING_FORMAT')
        t.deepEqual([error.reason, error.path, error.message], [reason.reason, reason.path, reason.message])
      }
      const whole = await store.latest({ verify: 'all' })
      t.is(whole.checkpoint?.step, 1)
      const last = whole.skipped.at(-1)
      t.deepEqual([last?.generation, last?.reason.code, last?.reason.tensor], [2, 'ERR_DEEPRING_CHECKSUM', 'a'])
      await whole.checkpoint?.close()
      t.deepEqual(await store.list(), [1, 2, 3, 4, 5])
      // The next one is begun behind all of them, and what is whole is not removed for what is damaged.
      t.is((await store.save({ a: u8(5) })).number, 6)
      t.deepEqual(await store.list(), [1, 2, 3, 4, 5, 6])
    },
    { keep: 'all' },
  )
})

test('the newest generations are kept, those of certain steps, pinned ones, and open ones', async (t) => {
  await withStore(
    async (store) => {
      const save = async (step: number): Promise<void> => void (await store.save({ a: u8(10, step) }, { step }))
      for (const step of [10, 11, 12, 13]) await save(step)
      // 10 is a multiple of 5.
      t.deepEqual(await store.list(), [1, 3, 4])
      await store.pin(3)
      t.deepEqual([await store.isPinned(3), await store.isPinned(4)], [true, false])
      const reader = await store.open(4)
      for (const step of [14, 16, 17]) await save(step)
      t.deepEqual(await store.list(), [1, 3, 4, 6, 7])
      t.is((await rejected(t, () => store.remove(3), 'ERR_DEEPRING_CONFLICT')).generation, 3)
      t.is((await rejected(t, () => store.remove(4), 'ERR_DEEPRING_CONFLICT')).generation, 4)
      t.is((await rejected(t, () => store.remove(2), 'ERR_DEEPRING_NOT_FOUND')).generation, 2)
      t.is((await rejected(t, () => store.pin(2), 'ERR_DEEPRING_NOT_FOUND')).generation, 2)
      t.is((await rejected(t, () => store.open(2), 'ERR_DEEPRING_NOT_FOUND')).generation, 2)
      // A reader has all of it until it closes.
      t.true(same((await reader.tensor('a')).bytes, pattern(10, 13)))
      await store.unpin(3)
      await store.unpin(3)
      t.deepEqual((await store.collect()).generations, [3])
      await reader.close()
      const { generations, temporaries, bytes } = await store.collect()
      t.deepEqual([generations, temporaries, bytes > 0], [[4], 0, true])
      await store.remove(1)
      t.deepEqual(await store.list(), [6, 7])
    },
    { keep: { last: 2, every: 5 } },
  )
})

test('a copy of a generation is a generation of the other store, whichever way it was copied', async (t) => {
  await withStore(async (store, directory) => {
    await store.save({ a: u8(2_000_000, 3) }, { step: 9, meta: 'kept' })
    const checkpoint = await store.open(1)
    const [byCall, byHand] = [scratch.path('by-call'), scratch.path('by-hand')]
    await checkpoint.copyTo(byCall)
    cpSync(directory, byHand, { recursive: true })
    for (const path of [byCall, byHand]) {
      const copies = await openCheckpoints(path)
      const { checkpoint: copy, skipped } = await copies.latest({ verify: 'all' })
      t.deepEqual([copy?.number, copy?.step, copy?.meta, skipped], [1, 9, 'kept', []])
      t.true(same((await copy!.tensor('a')).bytes, pattern(2_000_000, 3)))
      await copy!.close()
      t.deepEqual((await copies.collect()).generations, [])
      await copies.close()
    }
    t.is((await rejected(t, () => checkpoint.copyTo(byCall), 'ERR_DEEPRING_CONFLICT')).generation, 1)
    const controller = new AbortController()
    const copying = checkpoint.copyTo(scratch.path('aborted'), { signal: controller.signal })
    controller.abort()
    await t.throwsAsync(copying, { name: 'AbortError' })
    await checkpoint.close()
  })
})

test('a copy of a generation reports its progress', async (t) => {
  await withStore(async (store) => {
    await store.save({ a: u8(30_000_000, 3), b: u8(7, 1) }, { step: 9 })
    const checkpoint = await store.open(1)
    const reports: Progress[] = []
    await checkpoint.copyTo(scratch.path('copy'), { onProgress: (progress) => void reports.push(progress) })
    t.deepEqual(reports.at(-1), { bytes: 30_000_007, total: 30_000_007 })
    for (const { bytes, total } of reports.slice(0, -1)) t.true(bytes > 0 && bytes < total && total === 30_000_007)
    const error = new Error('enough')
    const onProgress = (): void => {
      throw error
    }
    t.is(await t.throwsAsync(checkpoint.copyTo(scratch.path('copy'), { onProgress })), error)
    await rejected(
      t,
      () => checkpoint.copyTo(scratch.path('copy'), { onProgress: 1 } as never),
      'ERR_DEEPRING_INVALID_ARG_TYPE',
    )
    await checkpoint.close()
  })
})

test('a store is opened where a directory is', async (t) => {
  const missing = scratch.path('missing')
  const error = await rejected(t, () => openCheckpoints(missing), 'ENOENT')
  t.is(error.path, missing)
  t.false(existsSync(missing))
  const nested = join(missing, 'a', 'b')
  const store = await openCheckpoints(nested, { create: true })
  t.is(store.directory, nested)
  t.deepEqual(readdirSync(nested), [])
  t.regex(inspect(store), /^CheckpointStore \{\s+directory: '.*',\s+closed: false\s+\}$/)
  await store.close()
  await store.close()
  for (const call of [
    () => store.list(),
    () => store.latest(),
    () => store.open(1),
    () => store.begin(),
    () => store.pin(1),
    () => store.collect(),
  ])
    await rejected(t, call, 'ERR_DEEPRING_CLOSED')
  await rejected(t, async () => store.save({ a: u8(1) }), 'ERR_DEEPRING_CLOSED')
  await rejected(t, () => openCheckpoints(scratch.file('text')), 'ENOTDIR')
})

test('what is no option or argument is refused, and nothing is made', async (t) => {
  await withStore(async (store, directory) => {
    const [type, value, range] = ['TYPE', 'VALUE', 'RANGE'].map((kind) =>
      kind === 'RANGE' ? 'ERR_DEEPRING_OUT_OF_RANGE' : `ERR_DEEPRING_INVALID_ARG_${kind}`,
    ) as [string, string, string]
    const bad = (options: object): (() => Promise<unknown>) => {
      return () => openCheckpoints(directory, options as OpenCheckpointsOptions)
    }
    await rejected(t, bad({ keep: 'last' }), type)
    await rejected(t, bad({ keep: { last: 0 } }), range)
    await rejected(t, bad({ keep: { latest: 1 } }), value)
    await rejected(t, bad({ create: 1 }), type)
    await rejected(t, () => openCheckpoints('a\0b'), value)
    const begin = (options: object) => () => store.begin(options)
    await rejected(t, begin({ step: 0.5 }), range)
    await rejected(t, begin({ writers: 0 }), range)
    await rejected(t, begin({ writers: 65_537 }), range)
    await rejected(t, begin({ reference: 'newest' }), value)
    await rejected(t, begin({ reference: 0 }), range)
    await rejected(t, begin({ staging: -1 }), range)
    await rejected(t, begin({ direct: 'yes' }), value)
    await rejected(t, begin({ meta: 1 }), value)
    const save = (tensors: unknown, options?: object) => async () => store.save(tensors as never, options)
    await rejected(t, save({ a: u8(1), __metadata__: u8(1) }), value)
    await rejected(
      t,
      save([
        ['a', u8(1)],
        ['a', u8(1)],
      ]),
      value,
    )
    await rejected(t, save({ a: new Uint8Array(1) }), type)
    await rejected(t, save('tensors'), type)
    await rejected(t, save({ a: u8(1) }, { group: 'A' }), value)
    await rejected(t, save({ a: u8(1) }, { group: null }), type)
    await rejected(t, save({ a: u8(1) }, { writers: 2 }), value)
    await rejected(t, save({ a: u8(1) }, { onProgress: 1 }), type)
    const circle: unknown[] = []
    circle.push(circle)
    for (const meta of [circle, 1n, () => {}, Symbol('x'), 'x'.repeat(16 << 20)])
      await rejected(t, save({ a: u8(1) }, { meta }), value)
    await rejected(t, () => store.join(7 as never, 1), type)
    await rejected(t, () => store.join('token', 1), value)
    await rejected(t, () => store.open('1' as never), type)
    await rejected(t, () => store.open(0), range)
    await rejected(t, () => store.latest({ verify: 'some' as never }), value)
    t.deepEqual(readdirSync(directory), [])
    const signal = AbortSignal.abort()
    await t.throwsAsync(() => store.list({ signal }), { name: 'AbortError' })
    await t.throwsAsync(() => openCheckpoints(directory, { signal }), { name: 'AbortError' })
  })
})

test('a reference to what is not there is an error', async (t) => {
  await withStore(async (store) => {
    t.is((await rejected(t, () => store.begin({ reference: 3 }), 'ERR_DEEPRING_NOT_FOUND')).generation, 3)
    const writer = await store.begin({ reference: 'latest' })
    t.is((await rejected(t, () => writer.reference('a'), 'ERR_DEEPRING_NOT_FOUND')).tensor, 'a')
    t.is((await rejected(t, () => writer.referenceGroup('frozen'), 'ERR_DEEPRING_NOT_FOUND')).tensor, 'frozen')
    await writer.abort()
  })
})

test('what did not change is taken over, and the receipt says how', async (t) => {
  await withStore(async (store, directory) => {
    const first = await store.begin()
    await first.putAll({ 'frozen.a': u8(3_000_000, 1), 'frozen.b': u8(100, 2) }, { group: 'frozen' })
    await first.putAll({ hot: u8(50_000, 3), warm: u8(60_000, 4) })
    await first.commit()
    const second = await store.begin({ reference: 1 })
    const group = await second.referenceGroup('frozen')
    const file = dataIn(directory, 1).find((path) => path.includes('frozen')) as string
    t.is(group.linked + group.cloned + group.copied, readFileSync(file).length)
    const one = await second.reference('warm')
    t.deepEqual([one.linked, one.cloned + one.copied], [0, 60_000])
    await second.put('hot', u8(50_000, 5))
    await rejected(t, () => second.put('warm', u8(1)), 'ERR_DEEPRING_INVALID')
    const { reused, number } = await second.commit()
    t.deepEqual(reused, {
      linked: group.linked,
      cloned: group.cloned + one.cloned,
      copied: group.copied + one.copied,
    })
    // What was taken over does not need the old one.
    await store.remove(1)
    const checkpoint = await store.open(number)
    const loaded = await checkpoint.load()
    for (const [name, length, seed] of [
      ['frozen.a', 3_000_000, 1],
      ['frozen.b', 100, 2],
      ['hot', 50_000, 5],
      ['warm', 60_000, 4],
    ] as const)
      t.true(same(loaded.get(name)?.bytes as Uint8Array, pattern(length, seed)), name)
    t.true((await checkpoint.verify()).ok)
    await checkpoint.close()
  })
})

test('a generation whose number is taken is a conflict, and nothing is replaced', async (t) => {
  await withStore(async (store, directory) => {
    const writer = await store.begin()
    t.is(writer.generation, 1)
    await writer.put('a', u8(10))
    mkdirSync(generationIn(directory, 1))
    const error = await rejected(t, () => writer.commit(), 'ERR_DEEPRING_CONFLICT')
    t.is(error.generation, 1)
    t.regex(error.message, /, generation 1$/)
    t.deepEqual(readdirSync(generationIn(directory, 1)), [])
    t.deepEqual(
      readdirSync(directory).filter((name) => name.startsWith('.tmp')),
      [],
    )
  })
})

test('the event loop turns while fifty thousand tensors are saved and opened', async (t) => {
  await withStore(async (store) => {
    const data = pattern(64)
    const tensors = Array.from({ length: 50_000 }, (_, n): [string, TensorLike] => [
      `layers.${n}.weight`,
      { dtype: 'U8', shape: [64], data },
    ])
    let ticks = 0
    const timer = setInterval(() => (ticks += 1), 1)
    const saving = store.save(tensors)
    const { number } = await saving
    const checkpoint = await store.open(number)
    clearInterval(timer)
    t.true(ticks > 5, `${ticks} ticks`)
    t.is(checkpoint.size, 50_000)
    t.true(same((await checkpoint.tensor('layers.49999.weight')).bytes, data))
    await checkpoint.close()
  })
})

test('an engine that is closed closes its stores, after their saves', async (t) => {
  const engine = new Engine()
  const directory = scratch.path('store')
  const store = await openCheckpoints(directory, { create: true, engine })
  const saving = store.save({ a: u8(5_000_000) })
  await engine.close()
  t.is((await saving).number, 1)
  await rejected(t, () => store.list(), 'ERR_DEEPRING_CLOSED')
  const other = await openCheckpoints(directory)
  t.deepEqual(await other.list(), [1])
  await other.close()
})

test('files of two generations cannot be mixed', async (t) => {
  await withStore(async (store, directory) => {
    for (const seed of [1, 2]) await store.save({ a: u8(100_000, seed) })
    const [[older = ''], [newer = '']] = [dataIn(directory, 1), dataIn(directory, 2)]
    copyFileSync(older, newer)
    const error = await rejected(t, () => store.open(2), 'ERR_DEEPRING_FORMAT')
    t.deepEqual([error.reason, error.path], ['identity', newer])
  })
})
