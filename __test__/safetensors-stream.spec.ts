/** Streams of tensors: order, leases, and the budget of memory. */

import { Worker } from 'node:worker_threads'
import test from 'ava'
import { Engine, stats } from '../index.ts'
import { openSafetensors, saveSafetensors, type AnyTensor } from '../lib/safetensors/index.ts'
import { collectUntil } from './collect.ts'
import { bytesIn, eventually, made, writeModel, type Made } from './model.ts'
import { contents, makeScratch, openDescriptors, pattern, rejected, same, testOnEachBackend } from './harness.ts'

const scratch = makeScratch()

function fileOf(tensors: readonly Made[]): string {
  const path = scratch.path('model.safetensors')
  writeModel(path, tensors)
  return path
}

/** Twenty tensors of 100 000 bytes. */
const TENSORS = Array.from({ length: 20 }, (_, n) => made(`t${n}`, 'U8', [100_000], 100_000, n + 1))

/** A budget with room for four groups of two of them each. */
const SMALL = 8 * 101_000

const nth = (tensor: AnyTensor): number => Number(tensor.name.slice(1))
const right = (tensor: AnyTensor): boolean => same(tensor.bytes, pattern(100_000, nth(tensor) + 1))

async function namesOf(stream: AsyncIterable<AnyTensor>): Promise<string[]> {
  const names: string[] = []
  for await (const { name } of stream) names.push(name)
  return names
}

testOnEachBackend(
  'a stream yields all tensors within its budget, in the order of the file or as given',
  async (t, engine) => {
    const model = await openSafetensors(fileOf(TENSORS), { engine })
    const names: string[] = []
    for await (const tensor of model.stream(undefined, { memory: SMALL })) {
      t.true(right(tensor), tensor.name)
      t.true(engine.stats().bufferBytes <= SMALL + 5 * 4096)
      names.push(tensor.name)
    }
    t.deepEqual(names, [...model.names()])
    const wanted = ['t7', 't3', 't19', 't0']
    const given: string[] = []
    for await (const tensor of model.stream(wanted, { memory: SMALL, order: 'given' })) {
      t.true(right(tensor))
      given.push(tensor.name)
    }
    t.deepEqual(given, wanted)
    const sorted: string[] = []
    for await (const { name } of model.stream(model.select(wanted))) sorted.push(name)
    t.deepEqual(sorted, ['t0', 't3', 't7', 't19'])
    for await (const tensor of model.stream(['t5'], { slices: new Map([['t5', [[10, 20]]]]) }))
      t.true(same(tensor.bytes, pattern(100_000, 6).subarray(10, 20)))
    t.deepEqual(await namesOf(model.stream([])), [])
    t.is(engine.stats().buffers, 0)
    await model.close()
  },
)

test('a tensor is valid until the stream passes on to what was read later; then it throws and its views are empty', async (t) => {
  const model = await openSafetensors(fileOf(TENSORS))
  const passed: { tensor: AnyTensor; view: Uint8Array; at: number }[] = []
  let step = 0
  for await (const tensor of model.stream(undefined, { memory: SMALL })) {
    for (const { tensor: old, view } of passed) {
      // It is either there with its own bytes, or gone: never anything else.
      if (old.released) {
        t.is(view.length, 0)
        const error = t.throws(() => old.data, { code: 'ERR_DEEPRING_RELEASED' })
        t.is((error as { tensor?: string }).tensor, old.name)
      } else t.true(same(view, pattern(100_000, nth(old) + 1)))
    }
    passed.push({ tensor, view: bytesIn(tensor.data), at: step })
    step += 1
  }
  t.true(passed.every(({ tensor, view }) => tensor.released && view.length === 0))
  t.is(step, 20)
  await model.close()
})

test('a tensor that is kept is the holder\u2019s until it is disposed, and counts', async (t) => {
  const engine = new Engine()
  const model = await openSafetensors(fileOf(TENSORS), { engine })
  const kept: AnyTensor[] = []
  for await (const tensor of model.stream(undefined, { memory: SMALL })) {
    if (nth(tensor) % 10 !== 3) continue
    const before = bytesIn(tensor.data)
    t.is(await tensor.keep(), tensor)
    t.is(await tensor.keep(), tensor)
    t.true(right(tensor))
    kept.push(tensor)
    t.true(before.length === 100_000)
  }
  t.deepEqual(
    kept.map(({ name }) => name),
    ['t3', 't13'],
  )
  t.true(kept.every(right))
  t.is(engine.stats().buffers, 2)
  for (const tensor of kept) tensor[Symbol.dispose]()
  t.is(engine.stats().buffers, 0)
  t.throws(() => kept[0]?.data, { code: 'ERR_DEEPRING_RELEASED' })
  await t.throwsAsync(async () => kept[0]?.keep(), { code: 'ERR_DEEPRING_RELEASED' })
  await model.close()
  await engine.close()
})

test('a tensor that has its group for itself is kept without a copy', async (t) => {
  const large = [made('t0', 'U8', [1_000_000], 1_000_000, 1), made('t1', 'U8', [1_000_000], 1_000_000, 2)]
  const model = await openSafetensors(fileOf(large))
  const views: Uint8Array[] = []
  for await (const tensor of model.stream(undefined, { memory: 2_010_000 })) {
    views.push(bytesIn(tensor.data))
    await tensor.keep()
  }
  for (const [n, view] of views.entries()) t.true(same(view, pattern(1_000_000, n + 1)))
  await model.close()
})

test('a tensor larger than the budget is refused before anything is read', async (t) => {
  const engine = new Engine()
  const model = await openSafetensors(fileOf(TENSORS), { engine })
  const { submitted } = engine.stats()
  const error = await rejected(t, () => model.stream(undefined, { memory: 99_999 }).next(), 'ERR_DEEPRING_BUDGET')
  t.deepEqual([error.needed, error.budget, typeof error.tensor], [100_000, 99_999, 'string'])
  t.is(engine.stats().submitted, submitted)
  // The largest fits exactly.
  t.is((await namesOf(model.stream(undefined, { memory: 100_000 }))).length, 20)
  await rejected(t, async () => model.stream(undefined, { memory: 0 }), 'ERR_DEEPRING_OUT_OF_RANGE')
  await rejected(t, async () => model.stream(undefined, { order: 'any' as never }), 'ERR_DEEPRING_INVALID_ARG_VALUE')
  await model.close()
  await engine.close()
})

test('a stream all of whose memory is kept ends with an error, and does not hang', async (t) => {
  const engine = new Engine()
  const model = await openSafetensors(fileOf(TENSORS), { engine })
  const kept: AnyTensor[] = []
  const stream = model.stream(undefined, { memory: 410_000 })
  const error = await rejected(
    t,
    async () => {
      for await (const tensor of stream) kept.push(await tensor.keep())
    },
    'ERR_DEEPRING_BUDGET',
  )
  t.is(error.budget, 410_000)
  t.true(kept.length >= 2 && kept.length <= 4, `${kept.length}`)
  t.true(kept.every(right))
  t.true(engine.stats().bufferBytes <= 410_000 + 5 * 4096)
  t.deepEqual(await stream.next(), { done: true, value: undefined })
  for (const tensor of kept) tensor[Symbol.dispose]()
  t.is(engine.stats().buffers, 0)
  // What was disposed in time makes room.
  let count = 0
  for await (const tensor of model.stream(undefined, { memory: 410_000 })) {
    const own = await tensor.keep()
    count += 1
    own[Symbol.dispose]()
  }
  t.is(count, 20)
  await model.close()
  await engine.close()
})

testOnEachBackend('a consumer that leaves, throws, aborts or never begins leaves nothing behind', async (t, engine) => {
  const path = fileOf(TENSORS)
  const model = await openSafetensors(path, { engine })
  const idle = (): boolean => engine.stats().buffers === 0 && engine.stats().inFlight === 0
  let left: AnyTensor | undefined
  for await (const tensor of model.stream(undefined, { memory: SMALL })) {
    left = tensor
    if (nth(tensor) === 5) break
  }
  t.throws(() => left?.data, { code: 'ERR_DEEPRING_RELEASED' })
  t.true(await eventually(idle), 'after a break')
  const why = new Error('why')
  await t.throwsAsync(
    async () => {
      for await (const tensor of model.stream(undefined, { memory: SMALL })) if (nth(tensor) === 5) throw why
    },
    { is: why },
  )
  t.true(await eventually(idle), 'after an error')
  for (let round = 0; round < 10; round += 1) {
    const controller = new AbortController()
    setTimeout(() => controller.abort(why), round / 2)
    const ended = (async () => {
      for (;;)
        for await (const tensor of model.stream(undefined, { memory: SMALL, signal: controller.signal }))
          t.true(right(tensor))
    })()
    const error = (await t.throwsAsync(ended)) as Error
    t.deepEqual([error.name, error.cause], ['AbortError', why])
    t.true(await eventually(idle), 'after an abort')
  }
  model.stream()
  const begun = model.stream(undefined, { memory: SMALL })
  await begun.next()
  await begun.return(undefined)
  t.true(await eventually(idle), 'after return')
  t.deepEqual(await begun.next(), { done: true, value: undefined })
  // A stream that is open when its file is closed ends.
  const open = model.stream(undefined, { memory: SMALL })
  await open.next()
  await model.close()
  await t.throwsAsync(
    async () => {
      for (;;) if ((await open.next()).done === true) return
    },
    { code: 'ERR_DEEPRING_CLOSED' },
  )
  t.true(await eventually(idle))
  t.true(await eventually(() => openDescriptors(path) === 0))
})

test.serial('what is dropped without disposal is collected', async (t) => {
  const engine = new Engine()
  const model = await openSafetensors(fileOf(TENSORS), { engine })
  const drop = async (): Promise<void> => {
    await model.load()
    const stream = model.stream(undefined, { memory: SMALL })
    await stream.next()
    const other = model.stream(undefined, { memory: SMALL })
    const { value } = await other.next()
    await value?.keep()
  }
  await drop()
  t.true(await collectUntil(() => engine.stats().buffers === 0))
  await model.close()
  await engine.close()
})

test('a stream takes no more memory than its tensors have', async (t) => {
  const engine = new Engine()
  const model = await openSafetensors(fileOf(TENSORS), { engine })
  let most = 0
  for await (const { byteLength } of model.stream(undefined, { memory: 2 ** 31 }))
    most = Math.max(most, engine.stats().bufferBytes, byteLength)
  t.true(most >= 100_000 && most <= 2_000_000 + 64 * 4096, `${most} bytes`)
  await model.close()
  await engine.close()
})

test('whatever is done with its tensors, a stream shows right bytes or none', async (t) => {
  const tensors = Array.from({ length: 60 }, (_, n) => made(`t${n}`, 'U8', [5000], 5000, n + 1))
  const expected = tensors.map(({ data }) => data)
  const model = await openSafetensors(fileOf(tensors))
  let seed = Date.now() >>> 0
  t.log(`seed ${seed}`)
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
    return (seed >>> 8) % below
  }
  for (let round = 0; round < 60; round += 1) {
    const held: { tensor: AnyTensor; view: Uint8Array }[] = []
    const check = (): void => {
      for (const { tensor, view } of held) {
        const bytes = expected[nth(tensor)] as Uint8Array
        if (view.length > 0 && !same(view, bytes)) t.fail(`a view of ${tensor.name} shows other bytes`)
        if (!tensor.released && !same(tensor.bytes, bytes)) t.fail(`${tensor.name} has other bytes`)
      }
    }
    for await (const tensor of model.stream(undefined, { memory: 30_000 + random(60_000) })) {
      held.push({ tensor, view: bytesIn(tensor.data) })
      const what = random(8)
      if (what === 0) await tensor.keep().catch((error: { code?: string }) => t.is(error.code, 'ERR_DEEPRING_BUDGET'))
      if (what === 1) tensor[Symbol.dispose]()
      if (what === 2) void tensor.keep().catch(() => {})
      if (what === 3) held[random(held.length)]?.tensor[Symbol.dispose]()
      check()
      if (random(200) === 0) break
      // Kept tensors must not end the stream.
      for (const each of held.slice(0, -3)) each.tensor[Symbol.dispose]()
    }
    check()
    for (const { tensor } of held) tensor[Symbol.dispose]()
  }
  await model.close()
  t.pass()
})

test.serial('a worker that is terminated while it loads, streams and saves leaves nothing behind', async (t) => {
  const path = fileOf(TENSORS)
  const { buffers } = stats()
  for (let round = 0; round < 8; round += 1) {
    const target = scratch.path('saved')
    const worker = new Worker(new URL('programs/tensors-worker.ts', import.meta.url), { workerData: { path, target } })
    await new Promise((resolve, reject) => {
      worker.once('message', resolve)
      worker.once('error', reject)
    })
    await new Promise((resolve) => void setTimeout(resolve, round * 3))
    await worker.terminate()
    t.true(await eventually(() => openDescriptors(path) === 0))
    t.true(await eventually(() => stats().inFlight === 0))
    // What is there is whole.
    const model = await openSafetensors(target).catch((error: { code: string }) => t.is(error.code, 'ENOENT'))
    if (typeof model === 'object') {
      t.true((await model.verify()).ok)
      await model.close()
    }
  }
  t.true(stats().buffers <= buffers)
})

test('a model is saved over the file that is being streamed', async (t) => {
  const path = fileOf(TENSORS)
  const model = await openSafetensors(path)
  const kept = new Map<string, AnyTensor>()
  for await (const tensor of model.stream()) kept.set(tensor.name, await tensor.keep())
  const stream = model.stream(undefined, { memory: SMALL })
  await stream.next()
  await saveSafetensors(path, kept)
  let count = 1
  for await (const tensor of stream) {
    t.true(right(tensor))
    count += 1
  }
  t.is(count, 20)
  await model.close()
  const saved = await openSafetensors(path)
  for await (const tensor of saved.stream()) t.true(right(tensor))
  await saved.close()
  t.true(contents(path).length > 2_000_000)
})
