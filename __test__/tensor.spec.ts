/** Tensors: the table of element types, our own tensors, and those of other libraries. */

import test from 'ava'
import { allocateTensor, DTYPES, open, type DType } from '../index.ts'
import { makeScratch, pattern } from './harness.ts'

const scratch = makeScratch()

test('every element type has the size of its typed array, and all types of safetensors exist', (t) => {
  const wide = 'F64 F32 F16 BF16 C64 I64 I32 I16 I8 U64 U32 U16 U8 BOOL'.split(' ')
  const narrow = 'F8_E4M3 F8_E5M2 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ F6_E2M3 F6_E3M2 F4'.split(' ')
  t.deepEqual(Object.keys(DTYPES).toSorted(), [...wide, ...narrow].toSorted())
  for (const [name, { bits, bytes, View }] of Object.entries(DTYPES)) {
    t.is(bytes, bits / 8)
    // Complex numbers are two elements of their view; packed ones share its elements.
    const views = name === 'C64' ? 2 : bits < 8 ? bits / 8 : 1
    t.is(bytes, views * View.BYTES_PER_ELEMENT, name)
  }
})

test('half floats are Float16Array where there is one', (t) => {
  const native = (globalThis as { Float16Array?: unknown }).Float16Array
  t.is(DTYPES.F16.View as unknown, native ?? Uint16Array)
  t.is(DTYPES.BF16.View as unknown, Uint16Array)
})

test('allocateTensor returns a zeroed tensor of the requested shape', (t) => {
  for (const dtype of Object.keys(DTYPES) as DType[]) {
    const tensor = allocateTensor(dtype, [3, 5, 8])
    t.is(tensor.dtype, dtype)
    t.deepEqual(tensor.shape, [3, 5, 8])
    t.is(tensor.byteLength, 120 * DTYPES[dtype].bytes)
    t.is(tensor.data.length, tensor.byteLength / DTYPES[dtype].View.BYTES_PER_ELEMENT)
    t.is(tensor.data.byteLength, tensor.byteLength)
    t.true([...tensor.data].every((element) => Number(element) === 0))
  }
})

test('packed elements must fill whole bytes', (t) => {
  t.is(allocateTensor('F4', [3, 2]).data.length, 3)
  t.is(allocateTensor('F6_E2M3', [4]).data.length, 3)
  t.throws(() => allocateTensor('F4', [3]), { code: 'ERR_DEEPRING_INVALID_ARG_VALUE' })
  t.throws(() => allocateTensor('F6_E3M2', [2]), { code: 'ERR_DEEPRING_INVALID_ARG_VALUE' })
})

test('a scalar has one element, and an extent of 0 makes an empty tensor', (t) => {
  t.is(allocateTensor('F32', []).data.length, 1)
  t.is(allocateTensor('F32', [4, 0, 4]).byteLength, 0)
})

test('changing the shape afterwards does not change the tensor', (t) => {
  const shape = [2, 2]
  const tensor = allocateTensor('U8', shape)
  shape[0] = 9
  t.deepEqual(tensor.shape, [2, 2])
  t.throws(() => (tensor.shape as number[]).push(1))
})

test('disposing a tensor detaches its data', (t) => {
  const tensor = allocateTensor('F32', [100])
  tensor[Symbol.dispose]()
  t.is(tensor.data.length, 0)
  t.notThrows(() => tensor[Symbol.dispose]())
})

test('tensors of many dimensions are written and read back', async (t) => {
  const file = await open(scratch.path(), 'w+')
  const out = allocateTensor('F32', [4, 3, 2])
  out.data.set(Array.from({ length: 24 }, (_, i) => i / 7))
  const written = await file.write(out, { position: 100 })
  t.is(written.bytesWritten, 96)
  t.is(written.buffer, out)
  const back = allocateTensor('F32', [24])
  t.is((await file.read(back, { position: 100 })).bytesRead, 96)
  t.deepEqual([...back.data], [...out.data])
  await file.close()
})

test('tensors of onnxruntime’s form are accepted', async (t) => {
  const file = await open(scratch.path(), 'w+')
  for (const [type, data] of [
    ['float32', new Float32Array([1, 2, 3, 4])],
    ['float64', new Float64Array([1, 2, 3, 4])],
    ['int64', new BigInt64Array([1n, -2n, 3n, -4n])],
    ['uint8', new Uint8Array([1, 2, 3, 4])],
    ['bool', new Uint8Array([1, 0, 0, 1])],
    ['float16', new Uint16Array([1, 2, 3, 4])],
  ] as const) {
    await file.write({ type, dims: [2, 2], data }, { position: 0 })
    const copy = { type, dims: [4], data: new (data.constructor as new (length: number) => ArrayBufferView)(4) }
    t.is((await file.read(copy, { position: 0 })).buffer, copy)
    t.deepEqual(copy.data as unknown, data)
  }
  await file.close()
})

test('a tensor can have its data in a getter, as a class of another library does', async (t) => {
  class Foreign {
    readonly #data = new Float32Array(6)
    get type(): string {
      return 'float32'
    }
    get dims(): number[] {
      return [2, 3]
    }
    get data(): Float32Array {
      return this.#data
    }
  }
  const file = await open(scratch.file(pattern(24)))
  const foreign = new Foreign()
  await file.read(foreign, { position: 0 })
  t.deepEqual(new Uint8Array(foreign.data.buffer), pattern(24))
  await file.close()
})

test('a getter that throws makes the promise reject with its error', async (t) => {
  const gone = new Error('the data is on the GPU')
  const tensor = {
    type: 'float32',
    dims: [1],
    get data(): Float32Array {
      throw gone
    },
  }
  const file = await open(scratch.file('abcd'))
  t.is(await t.throwsAsync(file.read(tensor, { position: 0 })), gone)
  await file.close()
})

test('a tensor of an unknown element type is moved as bytes', async (t) => {
  const file = await open(scratch.path(), 'w+')
  const { bytesWritten } = await file.write({ type: 'int4', dims: [3], data: new Uint8Array(2) }, { position: 0 })
  t.is(bytesWritten, 2)
  await file.close()
})

test('offset and length of a tensor are in bytes', async (t) => {
  const file = await open(scratch.path(), 'w+')
  const tensor = allocateTensor('I32', [4])
  tensor.data.set([1, 2, 3, 4])
  await file.write(tensor, { position: 0, offset: 4, length: 8 })
  const back = new Int32Array(2)
  await file.read(back, { position: 0 })
  t.deepEqual([...back], [2, 3])
  await file.close()
})
