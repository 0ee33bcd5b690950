/** Conversion of elements, off the JavaScript thread. The tables of all codes are tests of the crate. */

import { monitorEventLoopDelay } from 'node:perf_hooks'
import test from 'ava'
import { allocateTensor, stats, type TensorLike } from '../index.ts'
import { convertTensor, type ConvertedDType } from '../lib/safetensors/index.ts'
import { rejected } from './harness.ts'
import { bytesIn } from './model.ts'

/** The bits of the result for these bits. */
async function bits(dtype: string, data: ArrayBufferView & { length: number }, to: ConvertedDType): Promise<number[]> {
  const result = await convertTensor({ dtype, shape: [data.length], data }, to)
  const { buffer, byteOffset, byteLength } = bytesIn(result.data)
  const Bits = to === 'F32' ? Uint32Array : Uint16Array
  const found = Array.from(new Bits(buffer, byteOffset, byteLength / Bits.BYTES_PER_ELEMENT))
  result[Symbol.dispose]()
  return found
}

test.serial('special values become what the other type has for them', async (t) => {
  const floats = new Float32Array([0, -0, 1, -2.5, 65519.99, 65520, 1e38, Infinity, -Infinity, 6e-8, NaN])
  t.deepEqual(
    (await bits('F32', floats, 'F16')).slice(0, 10),
    [0, 0x8000, 0x3c00, 0xc100, 0x7bff, 0x7c00, 0x7c00, 0x7c00, 0xfc00, 1],
  )
  t.is(((await bits('F32', floats, 'F16'))[10] as number) & 0x7e00, 0x7e00)
  t.deepEqual(
    await bits('BF16', new Uint16Array([0x3f80, 0x8000, 0x7f80, 1]), 'F32'),
    [0x3f80_0000, 0x8000_0000, 0x7f80_0000, 0x1_0000],
  )
  t.deepEqual(await bits('F16', new Uint16Array([1, 0x7c00, 0x3c00]), 'F32'), [0x3380_0000, 0x7f80_0000, 0x3f80_0000])
  t.deepEqual(await bits('F8_E5M2', new Uint8Array([0x3c, 0x7c]), 'F32'), [0x3f80_0000, 0x7f80_0000])
  t.deepEqual(await bits('F8_E4M3', new Uint8Array([0x38, 0x7e]), 'BF16'), [0x3f80, 0x43e0])
  t.deepEqual(await bits('F8_E8M0', new Uint8Array([127, 128]), 'F32'), [0x3f80_0000, 0x4000_0000])
  t.deepEqual(await bits('float64', new Float64Array([1.5]), 'BF16'), [0x3fc0])
})

test.serial('a large tensor is converted in pieces, without holding up the loop', async (t) => {
  const source = allocateTensor('F32', [5_000_001])
  for (let n = 0; n < source.data.length; n += 1) source.data[n] = n % 1000
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  const result = await convertTensor(source, 'BF16')
  delay.disable()
  t.true(delay.max < 50e6, `${delay.max / 1e6} ms`)
  t.deepEqual([result.dtype, result.shape, result.byteLength], ['BF16', [5_000_001], 10_000_002])
  const back = await convertTensor(result, 'F32')
  let wrong = 0
  for (let n = 0; n < back.data.length; n += 1) {
    const value = n % 1000
    // Eight bits of mantissa.
    if (Math.abs((back.data[n] as number) - value) > value / 256) wrong += 1
  }
  t.is(wrong, 0)
  for (const tensor of [source, result, back]) tensor[Symbol.dispose]()
})

test.serial('a result goes to memory of the caller', async (t) => {
  const into = new Float32Array(3)
  const source = { dtype: 'F16', shape: [3], data: new Uint16Array([0x3c00, 0x4000, 0x4200]) }
  const result = await convertTensor(source, 'F32', { into })
  t.deepEqual([...into], [1, 2, 3])
  t.is(result.data.buffer, into.buffer)
  result[Symbol.dispose]()
  t.is(into.length, 3)
  const wrong = (options: { into: ArrayBufferView }): Promise<unknown> => convertTensor(source, 'F32', options)
  await rejected(t, () => wrong({ into: new Float32Array(4) }), 'ERR_DEEPRING_INVALID_ARG_VALUE')
  await rejected(t, () => wrong({ into: new Uint8Array(13).subarray(1) }), 'ERR_DEEPRING_INVALID_ARG_VALUE')
  const shared = new ArrayBuffer(16)
  const overlapping = { dtype: 'F16', shape: [2], data: new Uint16Array(shared, 6, 2) }
  await rejected(
    t,
    () => convertTensor(overlapping, 'F32', { into: new Float32Array(shared, 0, 2) }),
    'ERR_DEEPRING_OVERLAP',
  )
})

test.serial('what is not converted is refused', async (t) => {
  const invalid = 'ERR_DEEPRING_INVALID_ARG_VALUE'
  const ints: TensorLike = { dtype: 'I32', shape: [1], data: new Int32Array(1) }
  await rejected(t, () => convertTensor(ints, 'F32'), invalid)
  await rejected(
    t,
    () => convertTensor({ dtype: 'F32', shape: [1], data: new Float32Array(1) }, 'F8_E4M3' as never),
    invalid,
  )
  await rejected(t, () => convertTensor({ dtype: 'F32', shape: [2], data: new Float32Array(1) }, 'F16'), invalid)
  const { buffers } = stats()
  const large = { dtype: 'F32', shape: [20_000_000], data: new Float32Array(20_000_000) }
  const controller = new AbortController()
  const converting = convertTensor(large, 'F16', { signal: controller.signal })
  controller.abort()
  await t.throwsAsync(converting, { name: 'AbortError' })
  t.is(stats().buffers, buffers)
  const empty = await convertTensor({ dtype: 'F32', shape: [0], data: new Float32Array(0) }, 'F16')
  t.is(empty.data.length, 0)
})
