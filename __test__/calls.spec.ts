/** The calls that people type: the shapes of node:fs/promises, its flags, its modes and its metadata. */

import { closeSync, constants, openSync, readSync, statSync } from 'node:fs'
import { inspect } from 'node:util'
import test from 'ava'
import { allocate, allocateTensor, DTYPES, open, writeFile, type DType, type OpenFlags } from '../index.ts'
import { onnxruntimeOrWhy } from '../examples/onnxruntime/runtime.ts'
import { openSafetensors, saveSafetensors } from '../lib/safetensors/index.ts'
import { contents, makeScratch, pattern, rejected, same, testOnEachBackend } from './harness.ts'
import { bytes, bytesOf, integer, text } from './protobuf.ts'

const scratch = makeScratch()

testOnEachBackend('read and write take the calls of node:fs/promises', async (t, engine) => {
  const content = pattern(10_000)
  const path = scratch.file(content)
  const file = await engine.open(path, 'r+')
  const part = await file.read(new Uint8Array(100), 10, 50, 333)
  t.is(part.bytesRead, 50)
  t.deepEqual(part.buffer.subarray(10, 60), content.subarray(333, 383))
  t.true(part.buffer.subarray(60).every((byte) => byte === 0))
  const rest = await file.read(new Uint8Array(100), null, undefined, 9950n)
  t.is(rest.bytesRead, 50, 'the file ends')
  t.is(typeof rest.receipt.direct, 'boolean')
  const buffer = allocate(4096)
  const named = await file.read({ buffer, offset: 5, length: null as never, position: 4096 })
  t.is(named.buffer, buffer)
  t.true(same(buffer.subarray(5), content.subarray(4096, 8187)))

  t.is((await file.write(Buffer.from('abcdef'), 1, 3, 0)).bytesWritten, 3)
  t.is((await file.write({ buffer: Buffer.from('XY'), position: 3, offset: 1 })).bytesWritten, 1)
  const written = await file.write('größer', 5000)
  t.is(written.bytesWritten, 8)
  t.is(written.buffer.toString(), 'größer')
  t.is((await file.write('6869', 6000, 'hex')).bytesWritten, 2)
  await file.close()
  const expected = Buffer.from(content)
  expected.write('bcdY')
  expected.write('größer', 5000)
  expected.write('hi', 6000)
  t.true(same(contents(path), expected))
})

test('a call in a shape of node:fs/promises without a position is refused: there is no cursor', async (t) => {
  const file = await open(scratch.file('abc'), 'r+')
  const call = file as unknown as Record<'read' | 'write', (...call: unknown[]) => Promise<unknown>>
  for (const name of ['read', 'write'] as const) {
    for (const parameters of [
      [new Uint8Array(1), 0, 1, null],
      [new Uint8Array(1), 0, 1],
      [new Uint8Array(1), 0],
      [{ buffer: new Uint8Array(1) }],
      [{ buffer: new Uint8Array(1), position: null }],
      [new Uint8Array(1)],
      [],
      [new Uint8Array(1), 'r'],
    ]) {
      const error = await rejected(t, () => call[name](...parameters), 'ERR_DEEPRING_INVALID_ARG_TYPE')
      t.regex(error.message, /position/, inspect(parameters))
    }
    await rejected(
      t,
      () => call[name]({ buffer: new Uint8Array(1), position: 0, seek: 1 }),
      'ERR_DEEPRING_INVALID_ARG_VALUE',
    )
    await rejected(t, () => call[name](new Uint8Array(4), 2, 3, 0), 'ERR_DEEPRING_OUT_OF_RANGE')
  }
  await rejected(t, () => call.write('text'), 'ERR_DEEPRING_INVALID_ARG_TYPE')
  const plain = await rejected(t, () => call.read(new ArrayBuffer(4), { position: 0 }), 'ERR_DEEPRING_INVALID_ARG_TYPE')
  t.regex(plain.message, /new Uint8Array\(it\)/)
  t.is((await file.stat()).size, 3)
  await file.close()
})

testOnEachBackend('readv and writev move buffers of all kinds, one behind the other', async (t, engine) => {
  const content = pattern(100_000)
  const path = scratch.path()
  const file = await engine.open(path, 'w+')
  const cuts = [0, 1, 4097, 4097, 50_000, 100_000]
  const pieces = cuts.slice(1).map((end, index) => content.subarray(cuts[index], end))
  t.is((await file.writev(pieces, 33)).bytesWritten, 100_000)
  const buffers = [new DataView(new ArrayBuffer(4096)), engine.allocate(60_000), new Float32Array(20_000)] as const
  const read = await file.readv(buffers, 33n)
  t.is(read.bytesRead, 100_000, 'the file ends in the last')
  t.is(read.buffers, buffers)
  const all = Buffer.concat(
    buffers.map(({ buffer, byteOffset, byteLength }) => Buffer.from(buffer, byteOffset, byteLength)),
  )
  t.true(same(all.subarray(0, 100_000), content))
  t.is((await file.readv([new Uint8Array(5), new Uint8Array(5)], 100_033)).bytesRead, 0)
  t.deepEqual(await file.readv([], 0), { bytesRead: 0, buffers: [] })
  await file.close()
  t.true(same(contents(path).subarray(33), content))
})

test('readv and writev refuse what is not a list of memory, and end their requests if one fails', async (t) => {
  const path = scratch.file(pattern(5000))
  const file = await open(path)
  await rejected(t, () => file.readv(new Uint8Array(1) as never, 0), 'ERR_DEEPRING_INVALID_ARG_TYPE')
  await rejected(t, () => file.readv([1] as never, 0), 'ERR_DEEPRING_INVALID_ARG_TYPE')
  await rejected(t, () => file.readv([new Uint8Array(1)], null as never), 'ERR_DEEPRING_INVALID_ARG_TYPE')
  await rejected(t, () => file.readv([new Uint8Array(9)], Number.MAX_SAFE_INTEGER - 8), 'ERR_DEEPRING_OUT_OF_RANGE')
  await rejected(t, () => file.writev([new Uint8Array(1)], 0), 'EBADF')
  await t.throwsAsync(file.readv([allocate(4096)], 0, { signal: AbortSignal.abort() }), { code: 'ABORT_ERR' })
  await file.close()
  await rejected(t, () => file.readv([new Uint8Array(1)], 0), 'ERR_DEEPRING_CLOSED')
})

const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_TRUNC, O_APPEND } = constants

test('the constants of node:fs do what the letters do', async (t) => {
  const pairs: readonly (readonly [number, OpenFlags])[] = [
    [O_RDONLY, 'r'],
    [O_RDWR, 'r+'],
    [O_WRONLY | O_CREAT | O_TRUNC, 'w'],
    [O_RDWR | O_CREAT | O_TRUNC, 'w+'],
    [O_WRONLY | O_CREAT | O_EXCL, 'wx'],
    [O_RDWR | O_CREAT | O_APPEND, 'a+'],
  ]
  for (const [number, letters] of pairs) {
    const outcomes = await Promise.all(
      [number, letters].map(async (flags) => {
        const path = letters === 'wx' ? scratch.path() : scratch.file('before')
        const file = await open(path, flags)
        const { size } = await file.stat()
        const tries = [
          file.read(new Uint8Array(1), { position: 0 }),
          file.write(Buffer.from('A'), { position: 0 }),
          file.append(Buffer.from('B')),
        ]
        const codes = (await Promise.allSettled(tries)).map((each) =>
          each.status === 'rejected' ? (each.reason as { code: string }).code : 'done',
        )
        await file.close()
        return { size, codes, left: Buffer.from(contents(path)).toString() }
      }),
    )
    t.deepEqual(outcomes[0], outcomes[1], letters)
  }
})

test('O_CREAT without O_TRUNC opens or creates, and keeps what is there', async (t) => {
  const path = scratch.path()
  for (const letters of ['ab', 'c']) {
    const file = await open(path, O_RDWR | O_CREAT, { mode: '0600' })
    await file.write(letters, 0)
    await file.close()
  }
  t.is(Buffer.from(contents(path)).toString(), 'cb')
  t.is(statSync(path).mode & 0o777, 0o600)
})

test('constants that deepring does not know, or that contradict each other, are refused', async (t) => {
  const path = scratch.file('abc')
  for (const flags of [
    constants.O_SYNC | O_RDWR,
    constants.O_DIRECT | O_RDWR,
    O_WRONLY | O_RDWR,
    O_EXCL | O_RDWR,
    O_TRUNC,
    O_CREAT,
    -1,
    0.5,
    NaN,
  ])
    await rejected(t, () => open(path, flags), 'ERR_DEEPRING_INVALID_ARG_VALUE')
  t.is(contents(path).length, 3)
})

test('a mode can be octal digits', async (t) => {
  const [opened, written] = [scratch.path(), scratch.path()]
  await (await open(opened, 'w', { mode: '0640' })).close()
  await writeFile(written, 'abc', { mode: '600' })
  t.is(statSync(opened).mode & 0o777, 0o640)
  t.is(statSync(written).mode & 0o777, 0o600)
  for (const mode of ['', '8', '0o644', '-1', '644 ', '17777'])
    await rejected(t, () => open(opened, 'w', { mode }), 'ERR_DEEPRING_INVALID_ARG_VALUE')
  await rejected(t, () => open(opened, 'w', { mode: null as never }), 'ERR_DEEPRING_INVALID_ARG_TYPE')
})

test('stat has the dates and the questions of node:fs', async (t) => {
  const path = scratch.file('abc')
  const file = await open(path)
  const theirs = [statSync(path), statSync(path, { bigint: true })]
  for (const [index, ours] of [await file.stat(), await file.stat({ bigint: true })].entries()) {
    for (const key of ['mtime', 'ctime', 'birthtime'] as const) t.deepEqual(ours[key], theirs[index]![key], key)
    t.true(ours.atime instanceof Date)
    const questions = [
      'isFile',
      'isDirectory',
      'isSymbolicLink',
      'isBlockDevice',
      'isCharacterDevice',
      'isFIFO',
      'isSocket',
    ] as const
    for (const question of questions) t.is(ours[question](), theirs[index]![question](), question)
  }
  await file.close()
})

test('fd is the descriptor of the file, until it is closed', async (t) => {
  const path = scratch.file('abc')
  const file = await open(path, 'r', { direct: 'never' })
  const again = openSync(`/proc/self/fd/${file.fd}`, 'r')
  const read = Buffer.alloc(3)
  readSync(again, read)
  closeSync(again)
  t.is(read.toString(), 'abc')
  t.regex(inspect(file), new RegExp(`fd: ${file.fd}\\b`))
  t.false(file.closed)
  await file.close()
  t.is(file.fd, -1)
  t.true(file.closed)
})

test('console.log shows what a tensor is, and its first elements', async (t) => {
  const tensor = allocateTensor('F32', [2, 50])
  tensor.data.fill(1.5)
  t.regex(
    inspect(tensor),
    /^Tensor \{\s+dtype: 'F32',\s+shape: \[ 2, 50 \],\s+byteLength: 400,\s+data: Float32Array\(100\) \[\s+(1\.5,\s+){6}\.\.\. 94 more items/,
  )
  tensor[Symbol.dispose]()
  t.regex(inspect(tensor), /data: Float32Array\(0\) \[\]/)
  const path = scratch.path('model')
  await saveSafetensors(path, { weight: allocateTensor('I8', [3]) })
  const model = await openSafetensors(path)
  const read = await model.tensor('weight')
  t.is(
    inspect(read, { breakLength: Infinity }),
    "FileTensor { name: 'weight', dtype: 'I8', shape: [ 3 ], byteLength: 3, released: false }",
  )
  t.deepEqual([read.type, read.dims, read.location], ['int8', [3], 'cpu'])
  read[Symbol.dispose]()
  t.regex(inspect(read), /released: true/)
  await model.close()
})

test('tensors have the names of onnxruntime and transformers.js', (t) => {
  const names: readonly (readonly [DType, string])[] = [
    ['F64', 'float64'],
    ['F32', 'float32'],
    ['F16', 'float16'],
    ['I64', 'int64'],
    ['U8', 'uint8'],
    ['BOOL', 'bool'],
    ['F8_E5M2', 'F8_E5M2'],
  ]
  for (const [dtype, type] of names) {
    const tensor = allocateTensor(dtype, [2, 3])
    t.is(tensor.type, type)
    t.is(tensor.dims, tensor.shape)
    t.is(tensor.location, 'cpu')
    t.is(tensor.byteLength, 6 * DTYPES[dtype].bytes)
  }
})

/** An ONNX model that returns its input: `x`, of float32 and 2 x 3, as `y`. */
function identityModel(): Uint8Array {
  const dims = [2, 3].map((extent) => bytes(1, bytesOf(integer(1, extent))))
  const type = bytes(2, bytesOf(bytes(1, bytesOf(integer(1, 1), bytes(2, bytesOf(...dims))))))
  const node = bytes(1, bytesOf(text(1, 'x'), text(2, 'y'), text(4, 'Identity')))
  const [input, output] = [bytes(11, bytesOf(text(1, 'x'), type)), bytes(12, bytesOf(text(1, 'y'), type))]
  const graph = bytes(7, bytesOf(node, text(2, 'identity'), input, output))
  return bytesOf(integer(1, 8), graph, bytes(8, bytesOf(integer(2, 13))))
}

const ort = onnxruntimeOrWhy()
if (typeof ort === 'string') test.skip(`onnxruntime takes tensors as they are (${ort})`, () => {})
else
  test('onnxruntime takes tensors as they are', async (t) => {
    const path = scratch.path('model')
    const tensor = allocateTensor('F32', [2, 3])
    tensor.data.set([1, 2, 3, 4, 5, 6])
    await saveSafetensors(path, { x: tensor })
    const model = await openSafetensors(path)
    const session = await ort.InferenceSession.create(identityModel())
    for (const x of [tensor, await model.tensor('x')]) {
      const { y } = await session.run({ x: x as never })
      t.deepEqual(y?.data, Float32Array.of(1, 2, 3, 4, 5, 6))
    }
    await model.close()
  })
