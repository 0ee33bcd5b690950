/**
 * Merges two models into one whose weights lie between theirs: `(1 - share) * A + share * B`.
 *
 *   node examples/merge-models.ts                              two samples that it creates and removes
 *   node examples/merge-models.ts A B OUT [--share 0.5]        files, indices (*.index.json) or directories; OUT is a file
 *
 * Run it in a checkout after `npm run build:native`, with Node 24 or newer (`await using`). In your own project the imports
 * are `from 'deepring/safetensors'`.
 *
 * The models can be larger than memory: A is streamed, in the order of its bytes, and B is read by name. So the results
 * come in the order of A, and `SafetensorsWriter` writes them wherever they belong in OUT. Element types need not be the
 * same. Sums are made in F32, and the result has the type of A. What is not a float is copied from A. OUT appears, or is
 * replaced, as a whole at the end.
 */

import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { parseArgs } from 'node:util'
import {
  convertTensor,
  openSafetensors,
  saveSafetensors,
  SafetensorsWriter,
  type AnyTensor,
  type ConvertedDType,
} from '../lib/safetensors/index.ts'
import type { Tensor } from '../index.ts'

/** What is read ahead, and what a merge needs beside it is three tensors in F32. */
const STREAM_BYTES = 256 * 2 ** 20

async function merge(pathA: string, pathB: string, out: string, share: number): Promise<void> {
  await using a = await openSafetensors(pathA)
  await using b = await openSafetensors(pathB)
  const layout = Array.from(a.names(), (name) => a.info(name))
  for (const { name, shape } of layout) {
    if (b.info(name).shape.join() !== shape.join()) throw new Error(`${name} has another shape in ${pathB}`)
  }
  const started = performance.now()
  await using writer = await SafetensorsWriter.create(out, layout, { metadata: a.metadata, checksum: 'crc32c' })
  let merged = 0
  for await (const tensor of a.stream(undefined, { memory: Math.max(STREAM_BYTES, a.largest) })) {
    if (isFloat(tensor.dtype)) {
      using other = await b.tensor(tensor.name)
      using result = await between(tensor, other, share)
      await writer.write(tensor.name, result)
      merged += 1
    } else {
      await writer.write(tensor.name, tensor)
    }
  }
  const { bytes } = await writer.finish()
  const seconds = (performance.now() - started) / 1000
  console.log(`merged ${merged} of ${layout.length} tensors: ${bytes} bytes in ${seconds.toFixed(2)} s`)
}

/** Types that can be computed in F32 and written back. */
function isFloat(dtype: string): dtype is ConvertedDType {
  return dtype === 'F32' || dtype === 'F16' || dtype === 'BF16'
}

async function between(tensor: AnyTensor, other: AnyTensor, share: number): Promise<Tensor<ConvertedDType>> {
  const [sum, addend] = await Promise.all([convertTensor(tensor, 'F32'), convertTensor(other, 'F32')])
  using _ = addend
  for (const [index, value] of addend.data.entries()) sum.data[index]! += share * (value - sum.data[index]!)
  if (tensor.dtype === 'F32') return sum
  using wide = sum
  return await convertTensor(wide, tensor.dtype as ConvertedDType)
}

/** Two models of one tensor each kind, the second in another type. */
async function mergeSamples(directory: string): Promise<void> {
  const [pathA, pathB, out] = ['a', 'b', 'merged'].map((name) => join(directory, `${name}.safetensors`))
  const steps = { dtype: 'I64', shape: [1], data: new BigInt64Array([7n]) }
  const values = Float32Array.from({ length: 2 ** 20 }, (_, index) => index % 256)
  const weight = { dtype: 'F32', shape: [1024, 1024], data: values }
  const bias = { dtype: 'BF16', shape: [2], data: new Uint16Array([0x3f80, 0x4000]) } // 1 and 2
  await saveSafetensors(pathA!, { steps, weight, bias })
  // Whole numbers up to 256 are exact in BF16.
  using half = await convertTensor(weight, 'BF16')
  const other = { dtype: 'F16', shape: [2], data: new Uint16Array([0x4200, 0x4400]) } // 3 and 4
  await saveSafetensors(pathB!, { steps: { ...steps, data: new BigInt64Array([9n]) }, weight: half, bias: other })
  await merge(pathA!, pathB!, out!, 0.5)

  // Read with node:fs, which shares no code with the library that wrote it.
  const file = await readFile(out!)
  const header = JSON.parse(file.toString('utf8', 8, 8 + Number(file.readBigUInt64LE()))) as Record<
    string,
    { dtype: string; data_offsets: [number, number] }
  >
  const dataOf = (name: string): DataView => {
    const [start, end] = header[name]!.data_offsets
    const data = 8 + Number(file.readBigUInt64LE())
    return new DataView(file.buffer, file.byteOffset + data + start, end - start)
  }
  const [weights, biases] = [dataOf('weight'), dataOf('bias')]
  const right =
    weight.data.every((value, index) => weights.getFloat32(index * 4, true) === value) &&
    biases.getUint16(0, true) === 0x4000 && // 2, between 1 and 3
    biases.getUint16(2, true) === 0x4040 && // 3, between 2 and 4
    dataOf('steps').getBigInt64(0, true) === 7n
  console.log(right ? 'every weight is what it should be' : 'weights are WRONG')
  if (!right) process.exitCode = 1
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { share: { type: 'string', default: '0.5' } },
})
const [pathA, pathB, out] = positionals
if (pathA !== undefined && pathB !== undefined && out !== undefined) {
  await merge(pathA, pathB, out, Number(values.share))
} else {
  const directory = await mkdtemp(join(process.cwd(), 'merge-models-'))
  try {
    await mergeSamples(directory)
  } finally {
    await rm(directory, { recursive: true })
  }
}
