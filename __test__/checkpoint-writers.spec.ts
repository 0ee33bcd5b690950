/** Several writers of one generation: in one thread, in workers, and in processes, some of which end before their part. */

import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { Worker } from 'node:worker_threads'
import test, { type ExecutionContext } from 'ava'
import { inspect } from 'node:util'
import {
  openCheckpoints,
  type BeginOptions,
  type CheckpointStore,
  type CheckpointWriter,
} from '../lib/checkpoint/index.ts'
import { collectUntil } from './collect.ts'
import { makeScratch, rejected, same, testOnEachBackend } from './harness.ts'
import { bytesIn, eventually, u8 } from './model.ts'
import type { WriterParameters } from './programs/checkpoint-writer.ts'
import { rowsOf } from './rows.ts'

const scratch = makeScratch()
const program = join(import.meta.dirname, 'programs', 'checkpoint-writer.ts')

/** A store, and its writers of one generation. */
async function writersOf(
  count: number,
  options: BeginOptions = {},
): Promise<{ store: CheckpointStore; directory: string; writers: [CheckpointWriter, ...CheckpointWriter[]] }> {
  const directory = scratch.path('store')
  const store = await openCheckpoints(directory, { create: true, keep: 'all' })
  const first = await store.begin({ writers: count, ...options })
  const others = Array.from({ length: count - 1 }, (_, nth) => store.join(first.token, nth + 1))
  return { store, directory, writers: [first, ...(await Promise.all(others))] }
}

function leftIn(directory: string): string[] {
  return readdirSync(directory).filter((name) => name.startsWith('.tmp') || name.startsWith('.trash'))
}

testOnEachBackend(
  'pieces of several writers are one tensor again, by rows, by columns, and in slices',
  async (t, engine) => {
    const directory = scratch.path('store')
    const store = await openCheckpoints(directory, { create: true, engine })
    const first = await store.begin({ writers: 3, step: 5 })
    const writers = [first, await store.join(first.token, 1), await store.join(first.token, 2, { staging: 8 << 20 })]
    t.deepEqual(
      writers.map(({ writer, generation, token }) => [writer, generation, token]),
      [0, 1, 2].map((nth) => [nth, 1, first.token]),
    )
    const [rows, columns] = [96, 1000]
    const table = Int32Array.from({ length: rows * columns }, (_, place) => place)
    const half = Uint16Array.from({ length: 12 }, (_, place) => place)
    await Promise.all(
      writers.map(async (writer, nth) => {
        const own = table.subarray((nth * rows * columns) / 3, ((nth + 1) * rows * columns) / 3)
        const piece = { dtype: 'I32', shape: [rows / 3, columns], data: own }
        await writer.put('rows', piece, { shape: [rows, columns], start: [(nth * rows) / 3, 0] })
        // Columns nth of [6, 3], of an element type without a view of its own.
        const column = {
          dtype: 'BF16',
          shape: [4, 1],
          data: Uint16Array.from({ length: 4 }, (_, row) => half[row * 3 + nth]!),
        }
        await writer.put('columns', column, { shape: [4, 3], start: [0, nth] })
        await writer.put(`own.${nth}`, u8(100 + nth, nth + 1))
      }),
    )
    writers[1]!.meta = 'of no one'
    first.meta = { of: 'the first' }
    const parts = await Promise.all(writers.map((writer) => writer.commit()))
    t.deepEqual(
      parts.map(({ number }) => number),
      [1, 1, 1],
    )
    const checkpoint = await store.open(1)
    t.deepEqual([checkpoint.size, checkpoint.step, checkpoint.meta], [5, 5, { of: 'the first' }])
    t.deepEqual(checkpoint.info('rows').shape, [rows, columns])
    const loaded = await checkpoint.load()
    t.true(same(loaded.get('rows')!.bytes, bytesIn(table)))
    t.true(same(loaded.get('columns')!.bytes, bytesIn(half)))
    // Another number of readers: two, of 48 rows each, which lie in the pieces of two writers.
    for (const nth of [0, 1]) {
      const slice = [[nth * 48, (nth + 1) * 48]] as const
      const part = await checkpoint.tensor('rows', { slice })
      t.true(same(part.bytes, bytesIn(table.subarray(nth * 48 * columns, (nth + 1) * 48 * columns))))
    }
    const inner = await checkpoint.tensor('rows', {
      slice: [
        [31, 33],
        [998, 1000],
      ],
    })
    t.deepEqual([...(inner.data as Int32Array)], [31_998, 31_999, 32_998, 32_999])
    const seen = new Set<string>()
    for await (const { name, bytes } of checkpoint.stream(undefined, { memory: 4 << 20 })) {
      seen.add(name)
      t.true(same(bytes, loaded.get(name)!.bytes), name)
    }
    t.is(seen.size, 5)
    t.true((await checkpoint.verify()).ok)
    await checkpoint.close()
    await store.close()
  },
)

const TABLE = { writers: 3, rows: 200, columns: 5000 } as const

/** What a program that writes a part reports, and how it is ended. */
interface Running {
  reached(step: WriterParameters['waits']): Promise<void>
  end(): Promise<unknown>
  readonly exited: Promise<unknown>
}

function startThread(parameters: WriterParameters): Running {
  const worker = new Worker(program, { workerData: parameters })
  const steps: string[] = []
  worker.on('message', (step: string) => void steps.push(step))
  return { ...waiting(steps), end: () => worker.terminate(), exited: once(worker, 'exit') }
}

function startProcess(parameters: WriterParameters): Running {
  const child: ChildProcess = spawn(process.execPath, [program, JSON.stringify(parameters)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const steps: string[] = []
  child.stdout?.setEncoding('utf8').on('data', (text: string) => void steps.push(...text.split('\n')))
  const exited = once(child, 'exit')
  const end = (): Promise<unknown> => {
    child.kill('SIGKILL')
    return exited
  }
  return { ...waiting(steps), end, exited }
}

function waiting(steps: readonly string[]): Pick<Running, 'reached'> {
  return {
    reached: async (step) => {
      if (!(await eventually(() => steps.includes(step)))) throw new Error(`it has only ${steps.join(', ')}`)
    },
  }
}

async function checkTable(t: ExecutionContext, store: CheckpointStore, number: number): Promise<void> {
  const { writers, rows, columns } = TABLE
  const checkpoint = await store.open(number)
  const { bytes } = await checkpoint.tensor('table')
  for (let writer = 0; writer < writers; writer += 1) {
    const own = bytes.subarray(writer * rows * columns, (writer + 1) * rows * columns)
    t.true(same(own, rowsOf(writer, rows, columns)), `the rows of writer ${writer}`)
  }
  t.true((await checkpoint.verify()).ok)
  await checkpoint.close()
}

for (const [kind, start] of [
  ['threads', startThread],
  ['processes', startProcess],
] as const) {
  const begun = async (): Promise<{
    store: CheckpointStore
    directory: string
    first: CheckpointWriter
    others: (waits: WriterParameters['waits'][]) => Running[]
  }> => {
    const {
      store,
      directory,
      writers: [first],
    } = await writersOf(1)
    await first.abort()
    const { writers, rows, columns } = TABLE
    const writer = await store.begin({ writers, step: 1 })
    const own = { dtype: 'U8', shape: [rows, columns], data: rowsOf(0, rows, columns) }
    await writer.put('table', own, { shape: [writers * rows, columns], start: [0, 0] })
    const others = (waits: WriterParameters['waits'][]): Running[] =>
      waits.map((each, nth) => start({ ...TABLE, directory, token: writer.token, writer: nth + 1, waits: each }))
    return { store, directory, first: writer, others }
  }

  test(`${kind} write one generation together`, async (t) => {
    const { store, first, others } = await begun()
    const running = others(['committed', 'committed'])
    const { number } = await first.commit()
    await checkTable(t, store, number)
    await Promise.all(running.map(({ exited }) => exited))
    await store.close()
  })

  test(`a writer in ${kind} that ends before its part makes the commit fail, which names it`, async (t) => {
    for (const waits of ['joined', 'put'] as const) {
      const { store, directory, first, others } = await begun()
      const [dying, whole] = others([waits, 'committed']) as [Running, Running]
      await dying.reached(waits)
      const committing = first.commit()
      await whole.reached('committed')
      await dying.end()
      const error = await rejected(t, () => committing, 'ERR_DEEPRING_INCOMPLETE')
      t.deepEqual([error.writers, error.generation], [[1], first.generation])
      t.regex(error.message, /^no part came from writer 1, generation \d+$/)
      await whole.exited
      t.deepEqual([leftIn(directory), await store.list()], [[], []])
      await store.close()
    }
  })

  test(`a part of a writer in ${kind} counts after its end`, async (t) => {
    const { store, first, others } = await begun()
    const running = others(['committed', 'committed'])
    for (const each of running) {
      await each.reached('committed')
      await each.end()
    }
    const { number } = await first.commit()
    await checkTable(t, store, number)
    await store.close()
  })
}

test('what a first writer leaves that was killed is removed by the next collect, and its parts are worth nothing', async (t) => {
  const directory = scratch.path('store')
  const store = await openCheckpoints(directory, { create: true })
  await store.save({ a: u8(1000) })
  const killed = `
    const { openCheckpoints } = await import(process.argv[1])
    const store = await openCheckpoints(process.argv[2])
    const writer = await store.begin({ writers: 2 })
    await writer.put('a', { dtype: 'U8', shape: [1000], data: new Uint8Array(1000) })
    console.log(writer.token)
    setInterval(() => {}, 1000)`
  const index = new URL('../lib/checkpoint/index.ts', import.meta.url).href
  const child = spawn(process.execPath, ['--input-type=module', '-e', killed, index, directory])
  const [token] = (await once(child.stdout.setEncoding('utf8'), 'data')) as [string]
  const second = await store.join(token.trim(), 1)
  await second.put('b', u8(10))
  await second.commit()
  const alive = await store.collect()
  t.deepEqual([alive.temporaries, leftIn(directory).length], [0, 1])
  child.kill('SIGKILL')
  await once(child, 'exit')
  await rejected(t, () => store.join(token.trim(), 1), 'ERR_DEEPRING_NOT_FOUND')
  t.is((await store.collect()).temporaries, 1)
  t.deepEqual([leftIn(directory), await store.list()], [[], [1]])
  await store.close()
})

test('a writer joins once, with a number of the generation, while it is in progress', async (t) => {
  const { store, writers } = await writersOf(2)
  const [first] = writers
  await rejected(t, () => store.join(first.token, 1), 'ERR_DEEPRING_CONFLICT')
  for (const number of [0, 2, -1, 1.5])
    await rejected(t, () => store.join(first.token, number), 'ERR_DEEPRING_OUT_OF_RANGE')
  const other = await openCheckpoints(scratch.path('other'), { create: true })
  await rejected(t, () => other.join(first.token, 1), 'ERR_DEEPRING_NOT_FOUND')
  await other.close()
  await first.abort()
  t.is((await rejected(t, () => store.join(first.token, 1), 'ERR_DEEPRING_NOT_FOUND')).generation, 1)
  await writers[1]!.abort()
  await store.close()
})

/** A piece of a tensor: where it begins, how many elements it has, and their type. */
type Piece = readonly [start: number, length: number, dtype: string]

test('writers that do not agree, or leave a hole, make nothing', async (t) => {
  const cases: readonly (readonly [string, Piece, Piece])[] = [
    ['a hole at the end', [0, 4, 'U8'], [4, 3, 'U8']],
    ['an overlap', [0, 5, 'U8'], [4, 4, 'U8']],
    ['another type', [0, 4, 'U8'], [4, 4, 'I8']],
  ]
  for (const [title, ...pieces] of cases) {
    const { store, directory, writers } = await writersOf(2)
    for (const [nth, [start, length, dtype]] of pieces.entries()) {
      const tensor = { dtype, shape: [length], data: new Uint8Array(length) }
      await writers[nth]!.put('table', tensor, { shape: [8], start: [start] })
    }
    await writers[1]!.commit()
    const error = await rejected(t, () => writers[0].commit(), 'ERR_DEEPRING_CONFLICT')
    t.regex(error.message, /table/, title)
    t.deepEqual([leftIn(directory), await store.list()], [[], []])
    await store.close()
  }
})

test('a writer that has not joined is waited for as long as patience says', async (t) => {
  const directory = scratch.path('store')
  const store = await openCheckpoints(directory, { create: true })
  const first = await store.begin({ writers: 3, patienceMs: 0 })
  const second = await store.join(first.token, 1)
  await second.commit()
  t.deepEqual((await rejected(t, () => first.commit(), 'ERR_DEEPRING_INCOMPLETE')).writers, [2])
  await store.close()
})

test('an abort of a commit that waits for others leaves nothing', async (t) => {
  const { store, directory, writers } = await writersOf(2)
  const controller = new AbortController()
  const committing = writers[0].commit({ signal: controller.signal })
  setTimeout(() => controller.abort(), 30)
  await t.throwsAsync(committing, { name: 'AbortError' })
  t.true(await eventually(() => leftIn(directory).length === 0))
  await writers[0].abort()
  await rejected(t, () => writers[0].commit(), 'ERR_DEEPRING_CLOSED')
  await writers[1]!.abort()
  t.deepEqual(await store.list(), [])
  await store.close()
})

test('what is put is checked', async (t) => {
  const {
    store,
    writers: [writer],
  } = await writersOf(1)
  const invalid = 'ERR_DEEPRING_INVALID_ARG_VALUE'
  await writer.put('a', u8(10))
  await rejected(t, () => writer.put('a', u8(10)), 'ERR_DEEPRING_INVALID')
  await rejected(t, () => writer.put('__metadata__', u8(10)), invalid)
  await rejected(t, () => writer.put('half\ud800', u8(10)), invalid)
  await rejected(t, () => writer.put(7 as never, u8(10)), 'ERR_DEEPRING_INVALID_ARG_TYPE')
  await rejected(t, () => writer.put('b', new Uint8Array(3) as never), 'ERR_DEEPRING_INVALID_ARG_TYPE')
  await rejected(t, () => writer.put('b', { ...u8(10), shape: [11] }), invalid)
  await rejected(t, () => writer.put('b', { dtype: 'F4', shape: [3], data: new Uint8Array(2) }), invalid)
  await rejected(t, () => writer.put('b', u8(10), { shape: [20] }), 'ERR_DEEPRING_INVALID_ARG_TYPE')
  await rejected(t, () => writer.put('b', u8(10), { shape: [20, 1], start: [0] }), invalid)
  await rejected(t, () => writer.put('b', u8(10), { shape: [20], start: [-1] }), 'ERR_DEEPRING_OUT_OF_RANGE')
  await rejected(t, () => writer.put('b', u8(10), { shape: [20], start: [11] }), 'ERR_DEEPRING_INVALID')
  await rejected(t, () => writer.put('b', u8(10), { group: 'a/b' }), invalid)
  await rejected(t, () => writer.putAll({ a: u8(3) }), 'ERR_DEEPRING_INVALID')
  await rejected(t, () => writer.referenceGroup(undefined as never), 'ERR_DEEPRING_INVALID_ARG_TYPE')
  t.throws(() => (writer.meta = undefined), { code: invalid })
  writer.meta = [1]
  t.deepEqual(writer.meta, [1])
  t.is(inspect(writer), 'CheckpointWriter { generation: 1, writer: 0, ended: false }')
  // None of this has made it fail.
  t.is((await writer.commit()).number, 1)
  for (const call of [() => writer.put('c', u8(1)), () => writer.putAll({}), () => writer.reference('a')])
    await rejected(t, call, 'ERR_DEEPRING_CLOSED')
  const checkpoint = await store.open(1)
  t.deepEqual([...checkpoint.names()], ['a'])
  await checkpoint.close()
  await store.close()
})

test('a put that was aborted, or whose memory has gone, makes the commit fail', async (t) => {
  for (const how of ['abort', 'detach'] as const) {
    const {
      store,
      directory,
      writers: [writer],
    } = await writersOf(1)
    const controller = new AbortController()
    const large = u8(30_000_000)
    const putting = writer.put('large', large, { signal: controller.signal })
    await writer.put('small', u8(10))
    if (how === 'abort') controller.abort()
    const moved = how === 'detach' ? structuredClone(large.data.buffer, { transfer: [large.data.buffer] }) : undefined
    const outcome = await putting.then(
      () => undefined,
      (error: Error & { code?: string }) => error,
    )
    if (outcome === undefined) {
      // It had ended before.
      await writer.abort()
    } else {
      t.is(outcome.code, how === 'abort' ? 'ABORT_ERR' : 'ERR_DEEPRING_DETACHED')
      t.is(await t.throwsAsync(() => writer.commit()), outcome)
    }
    t.is(moved?.byteLength ?? 30_000_000, 30_000_000)
    t.true(await eventually(() => leftIn(directory).length === 0))
    t.deepEqual(await store.list(), [])
    await store.close()
  }
})

test('a commit and an abort wait for the calls before them', async (t) => {
  const {
    store,
    directory,
    writers: [writer],
  } = await writersOf(1)
  const puts = [writer.put('a', u8(10_000_000)), writer.putAll({ b: u8(10_000_000, 2), c: u8(0) }, { group: 'rest' })]
  const { number, files } = await writer.commit()
  await Promise.all(puts)
  t.deepEqual([number, files], [1, 2])
  const other = await store.begin()
  const putting = other.put('a', u8(10_000_000))
  await other.abort()
  await putting
  await other.abort()
  t.deepEqual([leftIn(directory), await store.list()], [[], [1]])
  {
    await using left = await store.begin()
    await left.put('a', u8(10))
  }
  t.deepEqual(leftIn(directory), [])
  await store.close()
})

test.serial('a writer that is collected removes what it wrote', async (t) => {
  const directory = scratch.path('store')
  const store = await openCheckpoints(directory, { create: true })
  const drop = async (): Promise<void> => {
    const writer = await store.begin()
    await writer.put('a', u8(100_000))
  }
  await drop()
  t.is(leftIn(directory).length, 1)
  t.true(await collectUntil(() => leftIn(directory).length === 0))
  await store.close()
})

test('writers go on when their store is closed', async (t) => {
  const { store, directory, writers } = await writersOf(2)
  await store.close()
  await Promise.all(writers.map((writer, nth) => writer.put(`${nth}`, u8(100, nth + 1))))
  await writers[1]!.commit()
  await writers[0].commit()
  const again = await openCheckpoints(directory)
  t.deepEqual(await again.list(), [1])
  await again.close()
})
