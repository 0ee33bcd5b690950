/** Saving models: in one file, in several, and tensor by tensor. Nothing that was there is ever destroyed. */

import {
  chmodSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { allocate, allocateTensor, Engine, type DType, type TensorLike } from '../index.ts'
import { openSafetensors, saveSafetensors, SafetensorsWriter, type SaveOptions } from '../lib/safetensors/index.ts'
import { eventually, ofEveryType, u8 } from './model.ts'
import { contents, makeScratch, pattern, rejected, same, testOnEachBackend } from './harness.ts'

const scratch = makeScratch()

function folder(): string {
  const path = scratch.directory('folder')
  return path
}

const bias = { dtype: 'F32', shape: [2], data: new Float32Array([1, 2]) }
/** The JSON of a file's header. */
function headerOf(path: string): Record<string, { data_offsets: [number, number] } & Record<string, string>> {
  const bytes = readFileSync(path)
  const length = Number(bytes.readBigUInt64LE())
  return JSON.parse(bytes.subarray(8, 8 + length).toString())
}

testOnEachBackend('what is saved is loaded again, of every element type', async (t, engine) => {
  const path = join(folder(), 'model.safetensors')
  const tensors = ofEveryType()
  const { bytes, files, direct } = await saveSafetensors(path, tensors, { engine, checksum: 'crc32c' })
  t.deepEqual([bytes, files, direct], [statSync(path).size, 1, true])
  const model = await openSafetensors(path, { engine })
  t.is(model.size, tensors.size)
  const loaded = await model.load(undefined, { verify: true })
  for (const [name, { shape, data }] of tensors as Map<string, { shape: number[]; data: Uint8Array }>) {
    t.deepEqual(loaded.get(name)?.shape, shape)
    t.true(same(loaded.get(name)?.bytes as Uint8Array, data), name)
  }
  t.is((await model.verify()).ok, true)
  await model.close()
  // What was loaded is saved like anything else.
  const again = join(folder(), 'again.safetensors')
  await saveSafetensors(again, loaded, { engine, checksum: 'crc32c' })
  t.true(same(contents(again), contents(path)))
})

test('tensors of other libraries are saved, and a header says what was asked for', async (t) => {
  const path = scratch.path('model.safetensors')
  const foreign = { type: 'float32', dims: [2], data: new Float32Array([3, 4]), location: 'cpu' }
  await saveSafetensors(path, { foreign, bias }, { metadata: { note: 'ä' } })
  const header = headerOf(path)
  t.deepEqual(header['__metadata__'] as unknown, { format: 'pt', note: 'ä' })
  t.is(header['foreign']?.['dtype'], 'F32')
  const other = scratch.path('model.safetensors')
  await saveSafetensors(other, [['bias', bias]], { metadata: new Map([['format', 'np']]), align: 8 })
  t.deepEqual(headerOf(other)['__metadata__'] as unknown, { format: 'np' })
  t.true(statSync(other).size < 200)
})

test('the order of the tensors is the one that was asked for', async (t) => {
  const path = scratch.path('model.safetensors')
  const tensors = { b: u8(10), c: u8(8192), a: u8(20), d: { dtype: 'F32', shape: [1], data: new Float32Array(1) } }
  const order = async (how: SaveOptions['order']): Promise<string[]> => {
    await saveSafetensors(path, tensors, { order: how })
    const entries = Object.entries(headerOf(path)).filter(([name]) => name !== '__metadata__')
    return entries.toSorted(([, x], [, y]) => x.data_offsets[0] - y.data_offsets[0]).map(([name]) => name)
  }
  t.deepEqual(await order('given'), ['b', 'c', 'a', 'd'])
  t.deepEqual(await order('reference'), ['d', 'a', 'b', 'c'])
  t.deepEqual(await order('blocks'), ['d', 'c', 'a', 'b'])
  t.deepEqual(await order(undefined), ['d', 'c', 'a', 'b'])
})

test('what cannot be written is refused, and nothing is created', async (t) => {
  const directory = folder()
  const path = join(directory, 'model.safetensors')
  const refused = (code: string, tensors: unknown, options?: object): Promise<unknown> =>
    rejected(t, () => saveSafetensors(path, tensors as never, options), code)
  const invalid = 'ERR_DEEPRING_INVALID_ARG_VALUE'
  await refused(invalid, [
    ['a', bias],
    ['a', bias],
  ])
  await refused(invalid, { __metadata__: bias })
  await refused(invalid, { 'half\ud800': bias })
  await refused(invalid, { a: { dtype: 'F4', shape: [3], data: new Uint8Array(2) } })
  await refused(invalid, { a: { dtype: 'int4', shape: [2], data: new Uint8Array(1) } })
  await refused(invalid, { a: { dtype: 'F32', shape: [3], data: new Float32Array(2) } })
  await refused('ERR_DEEPRING_INVALID_ARG_TYPE', { a: new Uint8Array(3) })
  await refused('ERR_DEEPRING_INVALID_ARG_TYPE', { a: bias }, { metadata: { step: 7 } })
  await refused('ERR_DEEPRING_INVALID_ARG_TYPE', 'tensors')
  await refused('ERR_DEEPRING_OUT_OF_RANGE', { a: bias }, { align: 24 })
  await refused('ERR_DEEPRING_OUT_OF_RANGE', { a: bias }, { shardBytes: 0 })
  await refused(invalid, { a: bias }, { durrable: true })
  await refused('ERR_DEEPRING_INVALID', { a: bias }, { metadata: { long: 'x'.repeat(100_000_001) } })
  const disposed = allocateTensor('F32', [2])
  disposed[Symbol.dispose]()
  await refused('ERR_DEEPRING_DETACHED', { disposed })
  t.deepEqual(readdirSync(directory), [])
})

test('the old file is replaced with its mode, a link is replaced itself, and other names keep the old bytes', async (t) => {
  const directory = folder()
  const at = (name: string): string => join(directory, name)
  writeFileSync(at('private'), 'old')
  chmodSync(at('private'), 0o600)
  await saveSafetensors(at('private'), { bias })
  t.is(statSync(at('private')).mode & 0o777, 0o600)
  await saveSafetensors(at('new'), { bias }, { mode: 0o640 })
  t.is(statSync(at('new')).mode & 0o777, 0o640 & ~process.umask())

  writeFileSync(at('target'), 'target')
  symlinkSync('target', at('link'))
  await saveSafetensors(at('link'), { bias })
  t.false(lstatSync(at('link')).isSymbolicLink())
  t.is(readFileSync(at('target'), 'utf8'), 'target')

  writeFileSync(at('one'), 'one')
  linkSync(at('one'), at('two'))
  await saveSafetensors(at('one'), { bias })
  t.is(readFileSync(at('two'), 'utf8'), 'one')

  mkdirSync(at('directory'))
  await rejected(t, () => saveSafetensors(at('directory'), { bias }), 'EISDIR')
  await rejected(t, () => saveSafetensors(at('none/model'), { bias }), 'ENOENT')
  t.deepEqual(
    readdirSync(directory).filter((name) => name.endsWith('.tmp')),
    [],
  )
})

test('memory that is detached during a save is an error, and the old file stays', async (t) => {
  const directory = folder()
  const path = join(directory, 'model.safetensors')
  writeFileSync(path, 'old')
  const foreign = new Uint8Array(30_000_000)
  const saving = saveSafetensors(path, { foreign: { dtype: 'U8', shape: [foreign.length], data: foreign }, bias })
  const moved = structuredClone(foreign.buffer, { transfer: [foreign.buffer] })
  const error = await rejected(t, () => saving, 'ERR_DEEPRING_DETACHED')
  t.is(error.tensor, 'foreign')
  const own = allocateTensor('U8', [30_000_000])
  const second = saveSafetensors(path, { own })
  own[Symbol.dispose]()
  t.is((await rejected(t, () => second, 'ERR_DEEPRING_DETACHED')).tensor, 'own')
  t.deepEqual([readFileSync(path, 'utf8'), readdirSync(directory)], ['old', ['model.safetensors']])
  t.is(moved.byteLength, 30_000_000)
})

testOnEachBackend('an aborted save leaves the old file and nothing else', async (t, engine) => {
  const directory = folder()
  const path = join(directory, 'model.safetensors')
  writeFileSync(path, 'old')
  for (let round = 0; round < 8; round += 1) {
    const controller = new AbortController()
    const saving = saveSafetensors(path, { large: u8(20_000_000) }, { engine, signal: controller.signal })
    setTimeout(() => controller.abort(), round)
    const saved = await saving.then(
      () => true,
      (error: Error) => t.is(error.name, 'AbortError') && false,
    )
    t.true(await eventually(() => readdirSync(directory).length === 1))
    if (saved) {
      t.true(statSync(path).size > 20_000_000)
      writeFileSync(path, 'old')
    }
    t.is(readFileSync(path, 'utf8'), 'old')
  }
  const why = new Error('why')
  const fail = (): never => {
    throw why
  }
  t.is(await t.throwsAsync(() => saveSafetensors(path, { bias }, { engine, onProgress: fail })), why)
  t.deepEqual([readFileSync(path, 'utf8'), readdirSync(directory)], ['old', ['model.safetensors']])
})

test('progress of a save ends once, with the size of the file', async (t) => {
  const path = scratch.path('model.safetensors')
  const seen: { bytes: number; total: number }[] = []
  const { bytes } = await saveSafetensors(
    path,
    { large: u8(20_000_000) },
    { onProgress: (each) => void seen.push(each) },
  )
  t.deepEqual(seen.at(-1), { bytes, total: bytes })
  t.is(seen.filter((each) => each.bytes === each.total).length, 1)
})

test('two savers of one file leave the whole file of one of them', async (t) => {
  const path = join(folder(), 'model.safetensors')
  for (let round = 0; round < 10; round += 1) {
    await Promise.all([1, 2, 3].map((seed) => saveSafetensors(path, { data: u8(500_000, seed) }, { durable: false })))
    const model = await openSafetensors(path)
    const { bytes } = await model.tensor('data')
    t.true([1, 2, 3].some((seed) => same(bytes, pattern(500_000, seed))))
    await model.close()
  }
})

testOnEachBackend('several files replace a model as a whole, and none of the old ones is left', async (t, engine) => {
  const directory = folder()
  const names = (): string[] => readdirSync(directory).toSorted()
  const tensors = Object.fromEntries(Array.from({ length: 10 }, (_, n) => [`t${n}`, u8(10_000, n + 1)]))
  const first = await saveSafetensors(directory, tensors, { engine, shardBytes: 20_000, checksum: 'crc32c' })
  t.is(first.files, 5)
  t.deepEqual(names(), [
    ...[1, 2, 3, 4, 5].map((n) => `model-0000${n}-of-00005.safetensors`),
    'model.safetensors.index.json',
  ])
  const index = JSON.parse(readFileSync(join(directory, 'model.safetensors.index.json'), 'utf8')) as {
    metadata: { total_size: number }
    weight_map: Record<string, string>
  }
  t.is(index.metadata.total_size, 100_000)
  t.is(Object.keys(index.weight_map).length, 10)
  const check = async (): Promise<void> => {
    const model = await openSafetensors(directory, { engine })
    t.true((await model.verify()).ok)
    for await (const { name, bytes } of model.stream()) t.true(same(bytes, pattern(10_000, Number(name.slice(1)) + 1)))
    await model.close()
  }
  await check()
  const second = await saveSafetensors(directory, tensors, { engine, shardBytes: 40_000n, checksum: 'crc32c' })
  t.is(second.files, 3)
  t.is(names().length, 4)
  await check()
  // A first tensor that is larger than a file may be makes no empty file.
  const other = folder()
  const { files } = await saveSafetensors(other, { large: u8(50_000), small: u8(10) }, { engine, shardBytes: 20_000 })
  t.is(files, 2)
  await rejected(t, () => saveSafetensors(join(other, 'none'), tensors, { engine, shardBytes: 1 }), 'ENOENT')
  // A failure leaves the model that was there.
  const gone = new Uint8Array(5_000_000)
  const saving = saveSafetensors(
    directory,
    { gone: { dtype: 'U8', shape: [gone.length], data: gone } },
    { engine, shardBytes: 1e9 },
  )
  // The new owner keeps it, as someone who posts it to a worker would.
  const moved = structuredClone(gone.buffer, { transfer: [gone.buffer] })
  await rejected(t, () => saving, 'ERR_DEEPRING_DETACHED')
  t.is(moved.byteLength, 5_000_000)
  t.is(names().length, 4)
  await check()
})

test('an index decides which tensors there are', async (t) => {
  const directory = folder()
  const save = (name: string, tensors: Record<string, TensorLike>): Promise<unknown> =>
    saveSafetensors(join(directory, name), tensors)
  await save('1.safetensors', { a: u8(4, 1), stale: u8(4, 9) })
  await save('2.safetensors', { b: u8(4, 2), a: u8(4, 8) })
  await save('empty.safetensors', {})
  const path = join(directory, 'model.safetensors.index.json')
  const index = (weights: unknown, rest: object = {}): void =>
    writeFileSync(path, JSON.stringify({ ...rest, weight_map: weights }))
  index({ a: '1.safetensors', b: '2.safetensors' }, { metadata: { total_size: 'many' } })
  const model = await openSafetensors(directory)
  t.deepEqual([...model.names()], ['a', 'b'])
  t.deepEqual([...model.unindexed].toSorted(), ['a', 'stale'])
  t.true(same((await model.tensor('a')).bytes, pattern(4, 1)))
  await model.close()

  const reasonOf = async (): Promise<unknown> => {
    const error = await rejected(t, () => openSafetensors(path), 'ERR_DEEPRING_FORMAT')
    return error.reason
  }
  for (const name of ['../1.safetensors', '/1.safetensors', 'a/../../b', '', '.', 'x\0']) {
    index({ a: name })
    t.is(await reasonOf(), 'path', name)
  }
  index({ a: '1.safetensors', c: '1.safetensors' })
  const error = await rejected(t, () => openSafetensors(path), 'ERR_DEEPRING_FORMAT')
  t.deepEqual([error.reason, error.tensor, error.message.includes('1.safetensors')], ['index', 'c', true])
  const lenient = await openSafetensors(path, { strict: false })
  t.deepEqual([lenient.missing, [...lenient.names()]], [['c'], ['a']])
  await lenient.close()
  index({ a: '3.safetensors' })
  const missing = await rejected(t, () => openSafetensors(path), 'ENOENT')
  t.deepEqual([missing.tensor, missing.path?.endsWith('3.safetensors')], ['a', true])
  index(['a'])
  t.is(await reasonOf(), 'index')
  writeFileSync(path, '{"weight_map":{"a":"1.safetensors","a":"2.safetensors"}}')
  t.is(await reasonOf(), 'duplicate')

  // A cache of downloads: links that lead out of the directory.
  const cache = folder()
  symlinkSync(join(directory, '1.safetensors'), join(cache, '1.safetensors'))
  writeFileSync(join(cache, 'model.safetensors.index.json'), '{"weight_map":{"a":"1.safetensors"}}')
  const linked = await openSafetensors(cache)
  t.is(linked.size, 1)
  await linked.close()
  t.true(readlinkSync(join(cache, '1.safetensors')).startsWith('/'))

  const several = folder()
  await rejected(t, () => openSafetensors(several), 'ENOENT')
  await saveSafetensors(join(several, 'x.safetensors'), { bias })
  const only = await openSafetensors(several)
  await only.close()
  await saveSafetensors(join(several, 'y.safetensors'), { bias })
  t.is((await rejected(t, () => openSafetensors(several), 'ERR_DEEPRING_FORMAT')).reason, 'ambiguous')
})

test('damage is found, and named', async (t) => {
  const path = scratch.path('model.safetensors')
  await saveSafetensors(path, { one: u8(10_000, 1), two: u8(5000, 2), empty: u8(0) }, { checksum: 'crc32c' })
  const good = contents(path)
  const model = await openSafetensors(path)
  const { position } = model.info('two')
  t.deepEqual(await model.verify(), { ok: true, verified: 3, unverifiable: 0, damaged: [] })
  await model.close()
  const flipped = async (at: number): Promise<string[]> => {
    const bytes = good.slice()
    bytes[at] = (bytes[at] as number) ^ 4
    writeFileSync(path, bytes)
    const damaged = await openSafetensors(path)
    const found = await damaged.verify()
    t.false(found.ok)
    if (found.damaged[0]?.part === 'tensor') {
      const { tensor = '', expected, actual } = found.damaged[0]
      for (const call of [
        () => damaged.load(undefined, { verify: true }),
        () => damaged.tensor(tensor, { verify: true }),
        () => damaged.tensor(tensor, { verify: true, into: new Uint8Array(damaged.info(tensor).byteLength) }),
        () => damaged.stream(undefined, { verify: true }).next(),
      ]) {
        const error = await rejected(t, call, 'ERR_DEEPRING_CHECKSUM')
        t.deepEqual([error.tensor, error.expected, error.actual], [tensor, expected, actual])
      }
      // Without `verify`, the bytes are what they are.
      t.is((await damaged.load()).size, 3)
    }
    await damaged.close()
    return found.damaged.map(({ part, tensor }) => tensor ?? part)
  }
  t.deepEqual(await flipped(position + 4999), ['two'])
  t.deepEqual(await flipped(position - 1), ['one'])
  // In the padding of the header: a space becomes another kind of whitespace only if it stays JSON.
  const tab = good.slice()
  tab[4000] = 9
  writeFileSync(path, tab)
  const padded = await openSafetensors(path)
  const { damaged } = await padded.verify()
  t.deepEqual(
    damaged.map(({ part, tensor, position: at }) => [part, tensor, at]),
    [['header', undefined, 0]],
  )
  await padded.close()
})

testOnEachBackend('a writer takes tensors in any order and in parts, several at a time', async (t, engine) => {
  const directory = folder()
  const path = join(directory, 'model.safetensors')
  writeFileSync(path, 'old')
  const layout = [
    { name: 'a', dtype: 'U8', shape: [1_000_000] },
    { name: 'b', dtype: 'BF16', shape: [3] },
    { name: 'empty', dtype: 'F32', shape: [0] },
  ]
  const writer = await SafetensorsWriter.create(path, layout, { engine, checksum: 'crc32c' })
  const bytes = pattern(1_000_000)
  const parts = [700_001, 0, 400_000].map((start, n) => ({ start, end: [1_000_000, 400_000, 700_001][n] as number }))
  await Promise.all([
    ...parts.map(({ start, end }) => writer.write('a', bytes.subarray(start, end), { start })),
    writer.write('b', new Uint16Array([1, 2, 3])),
  ])
  t.is(readFileSync(path, 'utf8'), 'old')
  await rejected(t, () => writer.write('a', bytes.subarray(5, 9), { start: 5 }), 'ERR_DEEPRING_INVALID')
  await rejected(t, () => writer.write('a', bytes, { start: 1 }), 'ERR_DEEPRING_OUT_OF_RANGE')
  t.is((await rejected(t, () => writer.write('c', bytes), 'ERR_DEEPRING_NOT_FOUND')).tensor, 'c')
  const { files } = await writer.finish()
  t.is(files, 1)
  await rejected(t, () => writer.write('b', new Uint8Array(6)), 'ERR_DEEPRING_CLOSED')
  await rejected(t, () => writer.finish(), 'ERR_DEEPRING_CLOSED')
  await writer.abort()
  const model = await openSafetensors(path, { engine })
  t.true((await model.verify()).ok)
  t.true(same((await model.tensor('a')).bytes, bytes))
  await model.close()
})

test('a writer that is not finished leaves what was there', async (t) => {
  const directory = folder()
  const path = join(directory, 'model.safetensors')
  writeFileSync(path, 'old')
  const layout = [{ name: 'a', dtype: 'U8', shape: [10] }]
  const untouched = (): unknown =>
    t.deepEqual([readFileSync(path, 'utf8'), readdirSync(directory)], ['old', ['model.safetensors']])
  const aborted = await SafetensorsWriter.create(path, layout)
  await aborted.write('a', new Uint8Array(4))
  t.is(readdirSync(directory).length, 2)
  await aborted.abort()
  untouched()
  const incomplete = await SafetensorsWriter.create(path, layout)
  await incomplete.write('a', new Uint8Array(4))
  await rejected(t, () => incomplete.finish(), 'ERR_DEEPRING_INVALID')
  t.true(await eventually(() => readdirSync(directory).length === 1))
  untouched()
  {
    await using left = await SafetensorsWriter.create(path, layout)
    await left.write('a', new Uint8Array(4))
  }
  untouched()
  const spoiled = await SafetensorsWriter.create(path, [{ name: 'a', dtype: 'U8', shape: [30_000_000] }])
  const view = new Uint8Array(30_000_000)
  const writing = spoiled.write('a', view)
  const moved = structuredClone(view.buffer, { transfer: [view.buffer] })
  await rejected(t, () => writing, 'ERR_DEEPRING_DETACHED')
  t.is(moved.byteLength, 30_000_000)
  await rejected(t, () => spoiled.finish(), 'ERR_DEEPRING_DETACHED')
  untouched()
  const invalid = 'ERR_DEEPRING_INVALID_ARG_VALUE'
  await rejected(t, () => SafetensorsWriter.create(path, [...layout, ...layout]), invalid)
  await rejected(t, () => SafetensorsWriter.create(path, [{ name: 'a', dtype: 'float32', shape: [1] }]), invalid)
  await rejected(t, () => SafetensorsWriter.create(path, [{ name: 'a', dtype: 'F6_E2M3', shape: [2] }]), invalid)
  t.throws(() => Reflect.construct(SafetensorsWriter, []), { code: 'ERR_DEEPRING_INVALID_ARG_TYPE' })
  untouched()
})

test('two models are merged tensor by tensor', async (t) => {
  const [one, two, merged] = ['one', 'two', 'merged'].map((name) => scratch.path(name)) as [string, string, string]
  await saveSafetensors(one, { 'a.x': u8(1000, 1), 'a.y': u8(2000, 2) })
  await saveSafetensors(two, { 'b.x': u8(3000, 3) })
  const models = [await openSafetensors(one), await openSafetensors(two)]
  const layout = models.flatMap((model) => Array.from(model.names(), (name) => model.info(name)))
  const writer = await SafetensorsWriter.create(merged, layout)
  for (const model of models) for await (const tensor of model.stream()) await writer.write(tensor.name, tensor)
  await writer.finish()
  for (const model of models) await model.close()
  const result = await openSafetensors(merged)
  t.deepEqual([...result.names()].toSorted(), ['a.x', 'a.y', 'b.x'])
  t.true(same((await result.tensor('b.x')).bytes, pattern(3000, 3)))
  await result.close()
})

test('an engine that is closed waits for a save', async (t) => {
  const engine = new Engine()
  const path = scratch.path('model.safetensors')
  const saving = saveSafetensors(
    path,
    { large: u8(5_000_000), kept: { dtype: 'U8' as DType, shape: [4], data: allocate(4) } },
    { engine },
  )
  await engine.close()
  t.is((await saving).bytes, statSync(path).size)
  await rejected(t, () => saveSafetensors(path, { bias }, { engine }), 'ERR_DEEPRING_CLOSED')
})
