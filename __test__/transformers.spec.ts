/**
 * Tensors of deepring in transformers.js, and its tensors in deepring.
 *
 * The class and its functions are the published ones. What the package needs beside them to run models is more than 100 MB
 * packed, and is not installed: `overrides` in package.json puts `onnxruntime-common`, which defines the tensors of all builds of
 * onnxruntime, in the place of those builds and of sharp. So only the module of the tensors is loaded.
 */

import { registerHooks } from 'node:module'
import { pathToFileURL } from 'node:url'
import { join } from 'node:path'
import test from 'ava'
import { allocateTensor, open, type Tensor } from '../index.ts'
import { openSafetensors, saveSafetensors, type AnyTensor } from '../lib/safetensors/index.ts'
import { contents, makeScratch } from './harness.ts'
import { root } from './packed.ts'

const scratch = makeScratch()

// One class for all, as where onnxruntime-node is installed.
registerHooks({
  resolve: (specifier, context, next) =>
    next(/^onnxruntime-(node|web)\b/.test(specifier) ? 'onnxruntime-common' : specifier, {
      ...context,
      conditions: ['node', 'import'],
    }),
})
const module = join(root, 'node_modules/@huggingface/transformers/src/utils/tensor.js')
const transformers = (await import(pathToFileURL(module).href)) as typeof import('@huggingface/transformers')

const values = [1, 2, 3, 4, 5, 6]

/** A tensor that the program has filled, and the same one from a file, in memory between others. */
async function tensors(): Promise<{ made: Tensor<'F32'>; loaded: AnyTensor; close: () => Promise<void> }> {
  const made = allocateTensor('F32', [2, 3])
  made.data.set(values)
  const path = scratch.path('model')
  await saveSafetensors(path, { before: allocateTensor('U8', [5]), made, behind: allocateTensor('U8', [7]) })
  const model = await openSafetensors(path)
  const loaded = (await model.load()).get('made') as AnyTensor
  return { made, loaded, close: () => model.close() }
}

test('a tensor becomes one of transformers.js without a copy', async (t) => {
  const { made, loaded, close } = await tensors()
  for (const ours of [made, loaded]) {
    const theirs = new transformers.Tensor(ours.type as 'float32', ours.data as Float32Array, [...ours.dims])
    t.is(theirs.data, ours.data)
    t.deepEqual([theirs.dims, theirs.type, theirs.location], [[2, 3], 'float32', ours.location])
    t.deepEqual(theirs.transpose(1, 0).tolist(), [
      [1, 4],
      [2, 5],
      [3, 6],
    ])
  }
  await close()
})

test('every element type that transformers.js has, it takes from deepring', (t) => {
  for (const dtype of ['F32', 'F16', 'I8', 'U8', 'I16', 'U16', 'I32', 'U32', 'I64', 'U64', 'F64', 'BOOL'] as const) {
    const { type, data, dims } = allocateTensor(dtype, [3])
    t.is(new transformers.Tensor(type as never, data as never, [...dims]).data, data, dtype)
  }
})

test('functions of transformers.js take tensors as they are', async (t) => {
  const { made, loaded, close } = await tensors()
  for (const tensor of [made, loaded]) {
    const ours = tensor as never
    t.deepEqual(transformers.mean(ours, 1).tolist(), [2, 5])
    t.deepEqual(transformers.cat([ours, ours], 1).tolist(), [
      [1, 2, 3, 1, 2, 3],
      [4, 5, 6, 4, 5, 6],
    ])
    t.deepEqual(transformers.permute(ours, [1, 0]).tolist(), [
      [1, 4],
      [2, 5],
      [3, 6],
    ])
    t.deepEqual(
      transformers.std_mean(ours, 1).map((each) => each.tolist()),
      [
        [1, 1],
        [2, 5],
      ],
    )
  }
  await close()
})

test('a tensor of transformers.js is written and read as it is', async (t) => {
  const theirs = new transformers.Tensor('float32', Float32Array.from(values), [2, 3])
  const path = scratch.path()
  const file = await open(path, 'w+')
  t.is((await file.write(theirs, { position: 0 })).bytesWritten, 24)
  ;(theirs.data as Float32Array).fill(0)
  await file.read(theirs, { position: 0 })
  t.deepEqual(theirs.tolist(), [
    [1, 2, 3],
    [4, 5, 6],
  ])
  await file.close()
  t.is(contents(path).length, 24)
  const model = scratch.path('model')
  await saveSafetensors(model, { theirs, part: theirs.slice([1, 2]) as never })
  const opened = await openSafetensors(model)
  const { dtype, shape, data } = await opened.tensor('theirs')
  t.deepEqual([dtype, [...shape], [...(data as Float32Array)]], ['F32', [2, 3], values])
  t.deepEqual([...((await opened.tensor('part')).data as Float32Array)], [4, 5, 6])
  await opened.close()
})
