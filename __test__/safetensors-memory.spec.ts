/** Loaded memory: its `ArrayBuffer`s are made when the first bytes are asked for, and all of it goes back. */

import test from 'ava'
import { Engine } from '../index.ts'
import {
  openSafetensors,
  type AnyTensor,
  type Progress,
  type SafetensorsFile,
  type TensorMap,
} from '../lib/safetensors/index.ts'
import { collectUntil } from './collect.ts'
import { makeScratch, pause, same } from './harness.ts'
import { eventually, made, writeModel } from './model.ts'

const scratch = makeScratch()

const GROUPS = 4
const GROUP_BYTES = 8 << 20
/** A group begins at the offset that its bytes have from a page of the file. */
const GROUP_ROOM = GROUP_BYTES + 4096
const TENSOR_BYTES = GROUP_BYTES / 2

/** Less than this is the noise of other objects. */
const NOISE_BYTES = GROUP_BYTES / 4

const path = scratch.path('model.safetensors')
const tensors = Array.from({ length: GROUPS * 2 }, (_, n) => made(`t${n}`, 'U8', [TENSOR_BYTES], TENSOR_BYTES, n + 1))
writeModel(path, tensors)

async function withModel(body: (model: SafetensorsFile, engine: Engine) => Promise<void>): Promise<void> {
  await using engine = new Engine()
  await using model = await openSafetensors(path, { engine })
  await body(model, engine)
}

const load = (model: SafetensorsFile): Promise<TensorMap> => model.load(undefined, { groupBytes: GROUP_ROOM })

function throwAtTheEnd({ bytes, total }: Progress): void {
  if (bytes === total) throw new Error('enough')
}

/** Bytes that the garbage collector counts beside its own heap. */
function external(): number {
  return process.memoryUsage().external
}

/** How many groups became ArrayBuffers, or ceased to be some, since `before`. */
function exposedSince(before: number): number {
  const groups = (external() - before) / GROUP_BYTES
  const whole = Math.round(groups)
  return Math.abs(groups - whole) * GROUP_BYTES < NOISE_BYTES ? whole : groups
}

test.serial('no memory of a load is an ArrayBuffer before its bytes are asked for', async (t) => {
  await withModel(async (model, engine) => {
    const before = external()
    const loaded = await load(model)
    t.is(engine.stats().buffers, GROUPS)
    t.is([...loaded.keys()].length, tensors.length)
    for (const [name, tensor] of loaded) {
      t.is(tensor.name, name)
      t.false(tensor.released)
      t.is(tensor.byteLength, TENSOR_BYTES)
      // oxlint-disable-next-line no-await-in-loop -- it does nothing
      t.is(await tensor.keep(), tensor)
    }
    t.is(exposedSince(before), 0)
    const [third, fourth] = [loaded.get('t2') as AnyTensor, loaded.get('t3') as AnyTensor]
    t.true(same(third.bytes, tensors[2]!.data))
    // All, because one by one each would make V8 collect.
    t.is(exposedSince(before), GROUPS)
    t.true(same(fourth.bytes, tensors[3]!.data))
    t.is(third.bytes.buffer, fourth.bytes.buffer)
    for (const [n, { name, data }] of tensors.entries()) t.true(same(loaded.get(name)!.bytes, data), `tensor ${n}`)
    t.is(exposedSince(before), GROUPS)
    loaded[Symbol.dispose]()
    t.is(engine.stats().buffers, 0)
  })
})

test.serial(
  'memory that was never asked for goes back with the map, or with the last tensor of its group',
  async (t) => {
    await withModel(async (model, engine) => {
      const before = external()
      const loaded = await load(model)
      const [first, second] = [loaded.get('t0') as AnyTensor, loaded.get('t1') as AnyTensor]
      first[Symbol.dispose]()
      t.is(engine.stats().buffers, GROUPS)
      second[Symbol.dispose]()
      second[Symbol.dispose]()
      t.is(engine.stats().buffers, GROUPS - 1)
      const shown = loaded.get('t2') as AnyTensor
      const view = shown.data
      const hidden = loaded.get('t4') as AnyTensor
      loaded[Symbol.dispose]()
      loaded[Symbol.dispose]()
      t.is(engine.stats().buffers, 0)
      t.is(view.length, 0)
      for (const tensor of [first, second, shown, hidden, loaded.get('t6') as AnyTensor]) {
        t.true(tensor.released)
        t.throws(() => tensor.bytes, { code: 'ERR_DEEPRING_RELEASED' })
        // oxlint-disable-next-line no-await-in-loop -- one after the other is enough
        await t.throwsAsync(tensor.keep(), { code: 'ERR_DEEPRING_RELEASED' })
      }
      t.true(exposedSince(before) <= GROUPS)
    })
  },
)

test.serial('memory that was never asked for is collected with its tensors', async (t) => {
  await withModel(async (model, engine) => {
    const kept = (await load(model)).get('t7') as AnyTensor
    t.true(await collectUntil(() => engine.stats().buffers === 1), 'only the group of what is held is there')
    t.true(same(kept.bytes, tensors[7]!.data))
    // Its neighbor was never asked for, and has a share, too.
    kept[Symbol.dispose]()
    t.true(await collectUntil(() => engine.stats().buffers === 0))
  })
})

test.serial('models that are dropped without a look at them are collected while others are loaded', async (t) => {
  await withModel(async (model, engine) => {
    const loads = 40
    let most = 0
    for (let nth = 0; nth < loads; nth += 1) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      t.is((await load(model)).size, tensors.length)
      // oxlint-disable-next-line no-await-in-loop -- finalizers are tasks
      await pause(5)
      most = Math.max(most, engine.stats().buffers)
    }
    t.true(most < (loads / 2) * GROUPS, `${most} groups were there at once`)
  })
})

test.serial('memory of a load that was aborted, or whose report threw, goes back', async (t) => {
  await withModel(async (model, engine) => {
    const controller = new AbortController()
    const loading = model.load(undefined, { groupBytes: GROUP_ROOM, signal: controller.signal })
    controller.abort()
    await t.throwsAsync(loading, { name: 'AbortError' })
    t.true(await eventually(() => engine.stats().buffers === 0))
    await t.throwsAsync(model.load(undefined, { groupBytes: GROUP_ROOM, onProgress: throwAtTheEnd }), {
      message: 'enough',
    })
    t.is(engine.stats().buffers, 0)
  })
})
