/** Opening safetensors files, looking tensors up, and loading them. */

import { closeSync, ftruncateSync, openSync, renameSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import test from 'ava'
import { DTYPES, Engine, open, type DeepringError, type DType } from '../index.ts'
import { openSafetensors, tensorTable, type AnyTensor, type Choice } from '../lib/safetensors/index.ts'
import { bytesIn, eventually, made, modelOf, writeModel, type Made } from './model.ts'
import { makeScratch, openDescriptors, pattern, rejected, same, testOnEachBackend } from './harness.ts'

const scratch = makeScratch()

const THREE = [
  made('a.weight', 'F32', [10], 40),
  made('a.bias', 'U8', [3], 3, 2),
  made('b.weight', 'BF16', [100, 50], 10_000, 3),
]

function fileOf(tensors: readonly Made[], options?: Parameters<typeof writeModel>[2]): string {
  const path = scratch.path('model.safetensors')
  writeModel(path, tensors, options)
  return path
}

function sameBytes(tensor: AnyTensor | undefined, expected: Uint8Array): boolean {
  return tensor !== undefined && same(tensor.bytes, expected) && same(bytesIn(tensor.data), expected)
}

test('a file is opened, and its tensors are listed in the order of their bytes', async (t) => {
  const path = fileOf(THREE, { metadata: { format: 'pt', note: 'ä' } })
  const model = await openSafetensors(path)
  t.deepEqual([model.size, model.bytes, model.largest, model.trailing], [3, 10_043, 10_000, 0])
  t.deepEqual(
    [...model.metadata],
    [
      ['format', 'pt'],
      ['note', 'ä'],
    ],
  )
  t.deepEqual([...model.names()], ['a.weight', 'a.bias', 'b.weight'])
  t.deepEqual(model.files, [path])
  t.deepEqual([model.unindexed, model.missing], [[], []])
  const info = model.info('b.weight')
  t.deepEqual([info.dtype, info.shape, info.byteLength, info.path], ['BF16', [100, 50], 10_000, path])
  t.is(info.position, modelOf(THREE, { metadata: { format: 'pt', note: 'ä' } }).length - 10_000)
  t.true(Object.isFrozen(info) && Object.isFrozen(info.shape))
  t.deepEqual([model.has('a.bias'), model.has('a.bia'), model.table().size], [true, false, 3])
  t.throws(() => model.info('a.bia'), { code: 'ERR_DEEPRING_NOT_FOUND' })
  await model.close()
})

test('names are any text: of objects, empty, of control characters, of other planes', async (t) => {
  const names = ['__proto__', 'constructor', '', 'a\0b', '../x', 'é', 'e\u0301', '😀', 'ﬀ', '\ufffd', 'x'.repeat(5000)]
  const tensors = names.map((name, seed) => made(name, 'U8', [7], 7, seed + 1))
  const model = await openSafetensors(fileOf(tensors))
  t.deepEqual([...model.names()], names)
  const loaded = await model.load()
  for (const { name, data } of tensors) {
    t.is(model.info(name).name, name)
    t.true(sameBytes(loaded.get(name), data), name)
  }
  // Half a surrogate pair is no name that a file can have.
  t.false(model.has('\ud83d'))
  t.is(loaded.get('\udc00'), undefined)
  await model.close()
})

test('every element type has its view, and unknown ones are bytes', async (t) => {
  const tensors = Object.entries(DTYPES).map(([dtype, { bits }], seed) =>
    made(dtype, dtype, [3, 8], bits * 3, seed + 1),
  )
  const model = await openSafetensors(fileOf([...tensors, made('strange', 'U3', [8], 5, 99)]))
  const loaded = await model.load()
  for (const { name, data } of tensors) {
    const tensor = loaded.get(name)
    const { View, bytes } = DTYPES[name as DType]
    t.true(sameBytes(tensor, data), name)
    t.true(tensor?.data instanceof View, name)
    t.is(tensor?.byteLength, 24 * bytes)
  }
  t.is(loaded.get('C64')?.data.length, 48)
  t.is(model.info('strange').dtype, 'U3')
  t.true(sameBytes(loaded.get('strange'), pattern(5, 99)))
  await rejected(t, () => model.tensor('strange', { slice: [[0, 1]] }), 'ERR_DEEPRING_SLICE')
  await model.close()
})

testOnEachBackend('data can begin anywhere, and only what breaks its alignment is moved', async (t, engine) => {
  const types = ['F64', 'I64', 'F32', 'BF16', 'U8'] as const
  for (let start = 400; start < 408; start += 1) {
    const tensors = types.flatMap((dtype, n) => {
      const large = 20_000 + n
      const { bytes } = DTYPES[dtype]
      return [
        made(`${dtype}.small`, dtype, [5], 5 * bytes, n + 1),
        made(`${dtype}.large`, dtype, [large], large * bytes, n + 9),
      ]
    })
    const header =
      modelOf(tensors, { start: start + 400 }).length - tensors.reduce((sum, { data }) => sum + data.length, 0)
    let position = header
    let misplaced = 0
    for (const { dtype, data } of tensors) {
      misplaced += position % DTYPES[dtype as DType].bytes === 0 ? 0 : 1
      position += data.length
    }
    const model = await openSafetensors(fileOf(tensors, { start: start + 400 }), { engine })
    const loaded = await model.load()
    for (const { name, data } of tensors) t.true(sameBytes(loaded.get(name), data), `${name} at ${start}`)
    t.is(loaded.receipt.realigned, misplaced)
    t.is(loaded.receipt.bytes, model.bytes)
    loaded[Symbol.dispose]()
    await model.close()
  }
})

test('a selection is made by pattern, function or names, without reading', async (t) => {
  const engine = new Engine()
  const model = await openSafetensors(fileOf(THREE), { engine })
  const { submitted } = engine.stats()
  const names = (choice: Choice): [number, number] => {
    const { count, bytes } = model.select(choice)
    return [count, bytes]
  }
  for (const matching of [/weight/g, /weight/, /^[ab]\.weight/y]) {
    matching.lastIndex = 5
    t.deepEqual(names(matching), [2, 10_040])
    t.deepEqual(names(matching), [2, 10_040])
    t.is(matching.lastIndex, 5)
  }
  t.deepEqual(
    names(({ dtype }) => dtype === 'U8'),
    [1, 3],
  )
  t.deepEqual(names(['b.weight', 'a.bias', 'b.weight']), [2, 10_003])
  t.deepEqual(names(new Set<string>()), [0, 0])
  const unknown = t.throws<DeepringError>(() => model.select(['a.bias', 'none']), { code: 'ERR_DEEPRING_NOT_FOUND' })
  t.is(unknown?.tensor, 'none')
  t.throws(() => model.select('a.bias' as never), { code: 'ERR_DEEPRING_INVALID_ARG_TYPE' })
  t.is(engine.stats().submitted, submitted)
  const other = await openSafetensors(fileOf(THREE), { engine })
  await rejected(t, () => other.load(model.select(/./)), 'ERR_DEEPRING_INVALID_ARG_VALUE')
  await other.close()
  await model.close()
  await engine.close()
})

test('a load of nothing reads nothing', async (t) => {
  const engine = new Engine()
  const model = await openSafetensors(fileOf([...THREE, made('empty', 'F64', [0, 5], 0)]), { engine })
  const { submitted, buffers } = engine.stats()
  const nothing = await model.load([])
  t.deepEqual([nothing.size, [...nothing]], [0, []])
  const empty = await model.load(['empty'])
  t.deepEqual([empty.get('empty')?.shape, empty.get('empty')?.data], [[0, 5], new Float64Array(0)])
  t.deepEqual([engine.stats().submitted, engine.stats().buffers], [submitted, buffers])
  await model.close()
  await engine.close()
})

test('a load gives a map that makes its tensors when they are asked for', async (t) => {
  const model = await openSafetensors(fileOf(THREE))
  const loaded = await model.load(['b.weight', 'a.bias'])
  // The map outlives the files.
  await model.close()
  t.is(loaded.size, 2)
  t.deepEqual([...loaded.keys()], ['a.bias', 'b.weight'])
  t.deepEqual([loaded.has('a.bias'), loaded.has('a.weight'), loaded.has('none')], [true, false, false])
  t.is(loaded.get('a.weight'), undefined)
  const bias = loaded.get('a.bias')
  t.is(loaded.get('a.bias'), bias)
  t.deepEqual([...loaded.values()][0], bias)
  t.deepEqual([...loaded.entries()], [...loaded])
  const seen: unknown[] = []
  loaded.forEach((tensor, name, map) => seen.push([name, tensor, map]))
  t.deepEqual(
    seen,
    [...loaded].map(([name, tensor]) => [name, tensor, loaded]),
  )
  t.true(sameBytes(bias, pattern(3, 2)))
  const copy = new Map(loaded)
  t.is(copy.get('a.bias'), bias)
})

test('a group goes back with its last tensor, and access to a released tensor throws', async (t) => {
  const engine = new Engine()
  const tensors = Array.from({ length: 6 }, (_, n) => made(`t${n}`, 'U8', [40_000], 40_000, n + 1))
  const model = await openSafetensors(fileOf(tensors), { engine })
  const loaded = await model.load(undefined, { groupBytes: 130_000 })
  t.is(engine.stats().buffers, 2)
  const first = [...loaded.values()].slice(0, 3)
  const views = first.map(({ data }) => data)
  for (const [n, tensor] of first.entries()) {
    tensor[Symbol.dispose]()
    tensor[Symbol.dispose]()
    const error = t.throws(() => tensor.data, { code: 'ERR_DEEPRING_RELEASED' })
    t.is((error as { tensor?: string }).tensor, `t${n}`)
    t.throws(() => tensor.bytes, { code: 'ERR_DEEPRING_RELEASED' })
    t.true(tensor.released)
    // The memory of the others is there.
    t.is(engine.stats().buffers, n < 2 ? 2 : 1)
    t.is(views[2]?.length, n < 2 ? 40_000 : 0)
  }
  const fourth = loaded.get('t3')
  t.true(sameBytes(fourth, pattern(40_000, 4)))
  loaded[Symbol.dispose]()
  t.is(engine.stats().buffers, 0)
  t.throws(() => fourth?.data, { code: 'ERR_DEEPRING_RELEASED' })
  t.throws(() => loaded.get('t4')?.data, { code: 'ERR_DEEPRING_RELEASED' })
  await model.close()
  await engine.close()
})

testOnEachBackend('tensors are read into memory of the caller', async (t, engine) => {
  const model = await openSafetensors(fileOf(THREE), { engine })
  const own = new Uint16Array(5000)
  const engines = engine.allocate(40)
  const loaded = await model.load(undefined, {
    into: new Map<string, Uint8Array | Uint16Array>([
      ['b.weight', own],
      ['a.weight', engines],
    ]),
  })
  t.deepEqual([...loaded.keys()], ['a.weight', 'a.bias', 'b.weight'])
  for (const { name, data } of THREE) t.true(sameBytes(loaded.get(name), data), name)
  t.true(same(bytesIn(own), pattern(10_000, 3)))
  t.is(loaded.get('b.weight')?.data.buffer, own.buffer)
  loaded[Symbol.dispose]()
  t.is(own.length, 5000)
  const tensor = await model.tensor('a.bias', { into: new Uint8Array(5).subarray(1, 4) })
  t.true(sameBytes(tensor, pattern(3, 2)))
  tensor[Symbol.dispose]()
  t.throws(() => tensor.data, { code: 'ERR_DEEPRING_RELEASED' })
  const rows = new Uint8Array(400)
  await model.tensor('b.weight', { into: rows, slice: [[10, 14]] })
  t.true(same(rows, pattern(10_000, 3).subarray(1000, 1400)))
  await model.close()
})

test('memory that does not fit is refused before anything is read', async (t) => {
  const engine = new Engine()
  const model = await openSafetensors(fileOf(THREE), { engine })
  const { submitted } = engine.stats()
  const into = (name: string, view: unknown): Promise<unknown> =>
    model.load(undefined, { into: new Map([[name, view as Uint8Array]]) })
  await rejected(t, () => into('a.bias', new Uint8Array(4)), 'ERR_DEEPRING_INVALID_ARG_VALUE')
  await rejected(t, () => into('a.weight', new Uint8Array(41).subarray(1)), 'ERR_DEEPRING_INVALID_ARG_VALUE')
  await rejected(t, () => into('a.bias', [1, 2, 3]), 'ERR_DEEPRING_INVALID_ARG_TYPE')
  await rejected(t, () => into('none', new Uint8Array(4)), 'ERR_DEEPRING_NOT_FOUND')
  await rejected(
    t,
    () => model.load(/bias/, { into: new Map([['a.weight', new Uint8Array(40)]]) }),
    'ERR_DEEPRING_NOT_FOUND',
  )
  const gone = new Uint8Array(3)
  structuredClone(gone.buffer, { transfer: [gone.buffer] })
  await rejected(t, () => into('a.bias', gone), 'ERR_DEEPRING_DETACHED')
  const Resizable = ArrayBuffer as unknown as new (bytes: number, options: { maxByteLength: number }) => ArrayBuffer
  await rejected(
    t,
    () => into('a.bias', new Uint8Array(new Resizable(3, { maxByteLength: 5 }))),
    'ERR_DEEPRING_INVALID_ARG_VALUE',
  )
  const shared = new Uint8Array(42)
  const overlapping = new Map([
    ['a.weight', shared.subarray(0, 40)],
    ['a.bias', shared.subarray(39)],
  ])
  await rejected(t, () => model.load(undefined, { into: overlapping }), 'ERR_DEEPRING_OVERLAP')
  await rejected(
    t,
    () => model.load(undefined, { into: { 'a.bias': new Uint8Array(3) } as never }),
    'ERR_DEEPRING_INVALID_ARG_TYPE',
  )
  await rejected(t, () => model.tensor('a.bias', { into: new Uint8Array(2) }), 'ERR_DEEPRING_INVALID_ARG_VALUE')
  t.is(engine.stats().submitted, submitted)
  await model.close()
  await engine.close()
})

testOnEachBackend('slices are rows, columns, nothing or all', async (t, engine) => {
  const side = 300
  const data = new Float32Array(side * side).map((_, n) => n)
  const tensors = [
    made('odd', 'U8', [3], 3),
    { name: 'square', dtype: 'F32', shape: [side, side], data: bytesIn(data) },
    made('scalar', 'F32', [], 4),
    made('packed', 'F4', [4, 8], 16),
  ]
  const model = await openSafetensors(fileOf(tensors), { engine })
  const square = async (...slice: ([number, number] | null)[]): Promise<[readonly number[], number[]]> => {
    const tensor = await model.tensor('square', { slice })
    return [tensor.shape, Array.from(tensor.data as Float32Array)]
  }
  t.deepEqual(await square([7, 9]), [[2, side], Array.from(data.subarray(7 * side, 9 * side))])
  const column = Array.from({ length: side }, (_, row) => [row * side + 3, row * side + 4]).flat()
  t.deepEqual(await square(null, [3, 5]), [[side, 2], column])
  t.deepEqual(await square([1, 2], [3, 4]), [[1, 1], [side + 3]])
  t.deepEqual(await square([5, 5]), [[0, side], []])
  t.deepEqual((await square())[1].length, side * side)
  t.deepEqual((await model.tensor('scalar', { slice: [] })).shape, [])
  t.deepEqual((await model.tensor('packed', { slice: [null, [2, 6]] })).bytes.length, 8)
  const wrong: [string, unknown][] = [
    ['square', [[0, side + 1]]],
    ['square', [[5, 4]]],
    ['square', [[-1, 4]]],
    ['square', [null, null, null]],
    ['scalar', [[0, 1]]],
    ['packed', [null, [1, 3]]],
  ]
  for (const [name, slice] of wrong) {
    const error = await rejected(t, () => model.tensor(name, { slice: slice as never }), 'ERR_DEEPRING_SLICE')
    t.is(error.tensor, name)
  }
  await rejected(t, () => model.tensor('square', { slice: 'all' as never }), 'ERR_DEEPRING_INVALID_ARG_TYPE')
  const loaded = await model.load(undefined, { slices: new Map([['square', [[10, 12]]]]) })
  t.deepEqual(loaded.get('square')?.shape, [2, side])
  t.true(same((loaded.get('square') as AnyTensor).bytes, bytesIn(data.subarray(10 * side, 12 * side))))
  t.true(sameBytes(loaded.get('odd'), pattern(3)))
  t.is(loaded.receipt.bytes, 3 + 2 * side * 4 + 4 + 16)
  await rejected(t, () => model.load(['odd'], { slices: new Map([['square', []]]) }), 'ERR_DEEPRING_NOT_FOUND')
  await model.close()
})

test('a file that was cut is an error that names the tensor; one that was replaced or grew has its old bytes', async (t) => {
  const cut = fileOf(THREE)
  const model = await openSafetensors(cut)
  truncateSync(cut, model.info('b.weight').position + 100)
  const error = await rejected(t, () => model.load(), 'ERR_DEEPRING_EOF')
  t.is(error.tensor, 'b.weight')
  t.true(error.message.includes('tensor "b.weight"'), error.message)
  const one = await model.tensor('a.bias')
  t.true(sameBytes(one, pattern(3, 2)))
  await model.close()

  const path = fileOf(THREE)
  const other = await openSafetensors(path)
  renameSync(fileOf([made('a.weight', 'F32', [10], 40, 77)]), path)
  const grown = await other.load()
  for (const { name, data } of THREE) t.true(sameBytes(grown.get(name), data), name)
  await other.close()
})

test('what is no file of tensors is refused for what it is', async (t) => {
  await rejected(t, () => openSafetensors(scratch.folder + '/none'), 'ENOENT')
  await rejected(t, () => openSafetensors('/dev/zero'), 'ERR_DEEPRING_UNSUPPORTED')
  const error = await rejected(t, () => openSafetensors(scratch.file('short')), 'ERR_DEEPRING_FORMAT')
  t.is(error.reason, 'too-short')
  t.true(error.path?.startsWith(scratch.folder))
  await rejected(t, () => openSafetensors([]), 'ERR_DEEPRING_INVALID_ARG_VALUE')
  await rejected(t, () => openSafetensors(7 as never), 'ERR_DEEPRING_INVALID_ARG_TYPE')
  await rejected(t, () => openSafetensors('x', { strikt: true } as never), 'ERR_DEEPRING_INVALID_ARG_VALUE')
  await rejected(t, () => openSafetensors('x', { maxHeaderBytes: 2 ** 32 }), 'ERR_DEEPRING_OUT_OF_RANGE')
  await rejected(t, () => openSafetensors('x', { engine: {} as never }), 'ERR_DEEPRING_INVALID_ARG_TYPE')
  const path = fileOf(THREE)
  const tooLong = await rejected(t, () => openSafetensors(path, { maxHeaderBytes: 10 }), 'ERR_DEEPRING_FORMAT')
  t.is(tooLong.reason, 'header-too-large')
})

test('without strict, bytes behind the last tensor are reported', async (t) => {
  const path = scratch.file(Buffer.concat([modelOf(THREE), new Uint8Array(17)]))
  t.is((await rejected(t, () => openSafetensors(path), 'ERR_DEEPRING_FORMAT')).reason, 'trailing')
  const model = await openSafetensors(path, { strict: false })
  t.is(model.trailing, 17)
  t.true(sameBytes(await model.tensor('b.weight'), pattern(10_000, 3)))
  await model.close()
})

test('progress is reported rarely, and once at the end; a function that throws rejects', async (t) => {
  const engine = new Engine()
  const tensors = Array.from({ length: 64 }, (_, n) => made(`t${n}`, 'U8', [1 << 20], 1 << 20, n + 1))
  const model = await openSafetensors(fileOf(tensors), { engine })
  const seen: { bytes: number; total: number }[] = []
  const started = performance.now()
  const loaded = await model.load(undefined, {
    groupBytes: 1 << 20,
    onProgress: (progress) => void seen.push(progress),
  })
  const allowed = (performance.now() - started) / 50 + 1
  t.true(seen.length <= allowed, `${seen.length} reports`)
  t.is(seen.filter(({ bytes, total }) => bytes === total).length, 1)
  t.deepEqual(seen.at(-1), { bytes: 64 << 20, total: 64 << 20 })
  loaded[Symbol.dispose]()
  const why = new Error('enough')
  const fail = (): never => {
    throw why
  }
  t.is(await t.throwsAsync(() => model.load(undefined, { onProgress: fail })), why)
  t.is(await t.throwsAsync(() => model.verify({ onProgress: fail })), why)
  t.is(engine.stats().buffers, 0)
  await rejected(t, () => model.load(undefined, { onProgress: 1 as never }), 'ERR_DEEPRING_INVALID_ARG_TYPE')
  await model.close()
  await engine.close()
})

testOnEachBackend('an aborted load gives everything back', async (t, engine) => {
  const path = fileOf(Array.from({ length: 40 }, (_, n) => made(`t${n}`, 'U8', [1 << 20], 1 << 20, n + 1)))
  const model = await openSafetensors(path, { engine })
  for (let round = 0; round < 10; round += 1) {
    const controller = new AbortController()
    const reason = new Error('no longer needed')
    const loading = model.load(undefined, { groupBytes: 4 << 20, signal: controller.signal })
    setTimeout(() => controller.abort(reason), round)
    const error = await loading.then(
      (loaded) => void loaded[Symbol.dispose](),
      (thrown: Error) => thrown,
    )
    if (error !== undefined) t.deepEqual([error.name, error.cause], ['AbortError', reason])
    t.true(await eventually(() => engine.stats().buffers === 0 && engine.stats().inFlight === 0))
  }
  const own = new Uint8Array(1 << 20)
  const controller = new AbortController()
  const loading = model.tensor('t7', { into: own, signal: controller.signal })
  controller.abort()
  await loading.catch((error: Error) => t.is(error.name, 'AbortError'))
  await t.throwsAsync(() => model.load(undefined, { signal: controller.signal }), { name: 'AbortError' })
  await t.throwsAsync(() => openSafetensors(path, { signal: controller.signal }), { name: 'AbortError' })
  await model.close()
  // An aborted open rejects at once. What it opens after all is closed again, a moment later.
  t.true(await eventually(() => openDescriptors(path) === 0))
})

test('a close waits for loads, and everything else is refused from then on', async (t) => {
  const path = fileOf(THREE)
  const model = await openSafetensors(path)
  const loading = model.load()
  const closing = model.close()
  t.is(model.close(), closing)
  await closing
  t.true(sameBytes((await loading).get('b.weight'), pattern(10_000, 3)))
  t.is(openDescriptors(path), 0)
  await rejected(t, () => model.load(), 'ERR_DEEPRING_CLOSED')
  await rejected(t, () => model.tensor('a.bias'), 'ERR_DEEPRING_CLOSED')
  await rejected(t, () => model.verify(), 'ERR_DEEPRING_CLOSED')
  t.throws(() => model.stream(), { code: 'ERR_DEEPRING_CLOSED' })
  t.is(model.info('a.bias').byteLength, 3)
  t.deepEqual([...model.names()].length, 3)
})

test('an engine closes its models', async (t) => {
  const engine = new Engine()
  const path = fileOf(THREE)
  const model = await openSafetensors(path, { engine })
  await engine.close()
  t.is(openDescriptors(path), 0)
  await rejected(t, () => model.load(), 'ERR_DEEPRING_CLOSED')
  await model.close()
})

test('several files are one model', async (t) => {
  const [one, two] = [fileOf(THREE.slice(0, 1)), fileOf(THREE.slice(1))]
  const model = await openSafetensors([one, Buffer.from(two)])
  t.deepEqual(model.files, [one, two])
  const loaded = await model.load()
  for (const { name, data } of THREE) t.true(sameBytes(loaded.get(name), data), name)
  await model.close()
  t.is((await rejected(t, () => openSafetensors([one, one]), 'ERR_DEEPRING_FORMAT')).reason, 'duplicate')
})

test('a tensor larger than 4 GiB is loaded', async (t) => {
  const length = 2 ** 32 + 8
  const path = scratch.path('huge.safetensors')
  const json = JSON.stringify({ huge: { dtype: 'U8', shape: [length], data_offsets: [0, length] } })
  const header = Buffer.alloc(8 + json.length)
  header.writeBigUInt64LE(BigInt(json.length))
  header.write(json, 8)
  const fd = openSync(path, 'w')
  writeSync(fd, header)
  ftruncateSync(fd, header.length + length)
  writeSync(fd, new Uint8Array([1, 2, 3]), 0, 3, header.length + length - 3)
  closeSync(fd)
  const model = await openSafetensors(path)
  const { data } = (await model.load()).get('huge') as AnyTensor
  t.deepEqual([data.length, data[0], data[length - 3], data[length - 1]], [length, 0, 1, 3])
  await model.close()
})

test('a checksum of a tensor is reported where it is asked for', async (t) => {
  const model = await openSafetensors(
    fileOf([made('t', 'U8', [9], 9), { name: 'digits', dtype: 'U8', shape: [9], data: Buffer.from('123456789') }]),
  )
  t.is((await model.tensor('digits', { checksum: 'crc32c' })).checksum, 0xe3069283)
  t.is((await model.tensor('digits')).checksum, undefined)
  await rejected(t, () => model.tensor('digits', { checksum: 'md5' as never }), 'ERR_DEEPRING_INVALID_ARG_VALUE')
  await model.close()
})

test('a loaded tensor can be written like any buffer, and cannot be once it is released', async (t) => {
  const model = await openSafetensors(fileOf(THREE))
  const tensor = await model.tensor('b.weight')
  const file = await open(scratch.path(), 'w+')
  t.is((await file.write(tensor, { position: 0 })).bytesWritten, 10_000)
  tensor[Symbol.dispose]()
  await t.throwsAsync(() => file.write(tensor, { position: 0 }), { code: 'ERR_DEEPRING_RELEASED' })
  await file.close()
  await model.close()
})

test('a table of rows loads what another parser has found', async (t) => {
  const path = scratch.file(pattern(100_000))
  const other = scratch.file(pattern(50_000, 2))
  const rows = [
    { name: 'late', dtype: 'U8', shape: [1000], path, position: 99_000, length: 1000 },
    { name: 'shared', dtype: 'U8', shape: [1100], path, position: 98_900n, length: 1100n },
    { name: 'floats', dtype: 'F32', shape: [10, 10], path: other, position: 401, length: 400 },
    { name: 'Q4_K', dtype: 'Q4_K', shape: [256], path: other, position: 1000, length: 144 },
  ]
  const table = await tensorTable(rows)
  t.is(table.size, 4)
  const loaded = await table.load()
  t.true(sameBytes(loaded.get('late'), pattern(100_000).subarray(99_000, 100000)))
  t.true(sameBytes(loaded.get('shared'), pattern(100_000).subarray(98_900, 100000)))
  t.true(sameBytes(loaded.get('floats'), pattern(50_000, 2).subarray(401, 801)))
  t.true(sameBytes(loaded.get('Q4_K'), pattern(50_000, 2).subarray(1000, 1144)))
  t.is(loaded.receipt.realigned, 1)
  t.is((await table.verify()).unverifiable, 4)
  for await (const tensor of table.stream(['floats'])) t.deepEqual(tensor.shape, [10, 10])
  await table.close()
  const refused = async (change: object, reason: string): Promise<void> => {
    const error = await rejected(t, () => tensorTable([{ ...rows[0], ...change } as never]), 'ERR_DEEPRING_FORMAT')
    t.deepEqual([error.reason, error.tensor], [reason, 'late'])
  }
  await refused({ position: 99_001 }, 'truncated')
  await refused({ length: 999 }, 'size')
  t.is((await rejected(t, () => tensorTable([rows[0], rows[0]] as never), 'ERR_DEEPRING_FORMAT')).reason, 'duplicate')
  await rejected(t, () => tensorTable([{ ...rows[0], path: `${path}-none` } as never]), 'ENOENT')
  await rejected(t, () => tensorTable([{ ...rows[0], position: -1 } as never]), 'ERR_DEEPRING_OUT_OF_RANGE')
  await rejected(t, () => tensorTable([{ ...rows[0], name: 7 } as never]), 'ERR_DEEPRING_INVALID_ARG_TYPE')
  await rejected(t, () => tensorTable([{ ...rows[0], shape: [0.5] } as never]), 'ERR_DEEPRING_INVALID_ARG_VALUE')
  await rejected(t, () => tensorTable('rows' as never), 'ERR_DEEPRING_INVALID_ARG_TYPE')
  writeFileSync(path, '')
})
