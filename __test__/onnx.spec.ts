/** The demo's reader of ONNX models: what it reads, and that no file makes it do anything but read or refuse. */

import assert from 'node:assert/strict'
import { BinaryWriter } from '@bufbuild/protobuf/wire'
import test from 'ava'
import * as fc from 'fast-check'
import { DTYPES, type DType } from '../index.ts'
import { OnnxError, readWeights, type Weight } from '../examples/demo/onnx.ts'
import { same } from './harness.ts'
import { bytes, bytesOf, integer, text, type Message } from './protobuf.ts'

/** `TensorProto.DataType` of the types that the models below have. */
const NUMBERS: Partial<Record<DType, number>> = { F32: 1, U8: 2, I64: 7, F16: 10, BF16: 16 }

interface Sketch {
  readonly name: string
  readonly dtype: DType
  readonly shape: readonly number[]
  /** Dimensions packed into one field, or one by one. */
  readonly packed: boolean
  /** The weight is the value of a `Constant` node, not an initializer. */
  readonly constant: boolean
  /** It lies in a graph of an attribute, so deep. */
  readonly depth: number
}

function dataOf({ dtype, shape, name }: Sketch): Uint8Array {
  const length = shape.reduce((product, dim) => product * dim, DTYPES[dtype].bytes)
  return Uint8Array.from({ length }, (_, index) => index * 7 + name.length)
}

function tensorOf(sketch: Sketch): Uint8Array {
  const { name, dtype, shape, packed } = sketch
  const dims = packed
    ? [bytes(1, shape.reduce((w, dim) => w.int64(dim), new BinaryWriter()).finish())]
    : shape.map((dim) => integer(1, dim))
  return bytesOf(...dims, integer(2, NUMBERS[dtype] ?? 0), text(8, name), bytes(9, dataOf(sketch)))
}

function modelOf(sketches: readonly Sketch[]): Uint8Array {
  const parts = sketches.map((sketch): Message => {
    const tensor = tensorOf(sketch)
    let graph = sketch.constant
      ? bytes(1, bytesOf(text(2, 'output'), text(4, 'Constant'), bytes(5, bytesOf(text(1, 'value'), bytes(5, tensor)))))
      : bytes(5, tensor)
    for (let depth = 0; depth < sketch.depth; depth += 1)
      graph = bytes(1, bytesOf(text(4, 'If'), bytes(5, bytesOf(text(1, 'then_branch'), bytes(6, bytesOf(graph))))))
    return graph
  })
  return bytesOf(integer(1, 8), text(2, 'exporter'), bytes(7, bytesOf(text(2, 'graph'), ...parts)))
}

const sketch: fc.Arbitrary<Sketch> = fc.record({
  name: fc.string({ minLength: 1, maxLength: 8 }),
  dtype: fc.constantFrom(...(Object.keys(NUMBERS) as DType[])),
  shape: fc.array(fc.nat({ max: 5 }), { maxLength: 4 }),
  packed: fc.boolean(),
  constant: fc.boolean(),
  depth: fc.nat({ max: 3 }),
})
const sketches = fc.array(sketch, { maxLength: 6 })

/** Reads a file of any content and checks the result. */
function readHostile(model: Uint8Array): Weight[] | undefined {
  const started = performance.now()
  let weights: Weight[] | undefined
  try {
    weights = readWeights(model)
  } catch (error) {
    assert.ok(error instanceof OnnxError, `${error}`)
  }
  let covered = 0
  for (const { dtype, shape, data } of weights ?? []) {
    // A weight without bytes need not be a view of the file.
    assert.ok(data.length === 0 || data.buffer === model.buffer)
    assert.equal(
      data.length,
      shape.reduce((product, dim) => product * dim, DTYPES[dtype].bytes),
    )
    assert.ok(shape.every((dim) => Number.isSafeInteger(dim) && dim >= 0))
    covered += data.length
  }
  assert.ok(covered <= model.length, 'the weights are more than the file')
  assert.ok(performance.now() - started < 5000, 'it took too long')
  return weights
}

test('every weight of a model is read, at any place in the file', (t) => {
  fc.assert(
    fc.property(sketches, (all) => {
      const weights = readWeights(modelOf(all))
      assert.equal(weights.length, all.length)
      for (const [index, expected] of all.entries()) {
        const found = weights[index]!
        assert.deepEqual([found.name, found.dtype, found.shape], [expected.name, expected.dtype, [...expected.shape]])
        assert.ok(same(found.data, dataOf(expected)))
      }
    }),
  )
  t.pass()
})

test('a truncated model yields its complete weights or an OnnxError', (t) => {
  fc.assert(
    fc.property(sketches, fc.nat(), (all, cut) => {
      const model = modelOf(all)
      readHostile(model.slice(0, cut % (model.length + 1)))
    }),
    { numRuns: 1000 },
  )
  t.pass()
})

test('a model with flipped bits yields weights of that file or an OnnxError', (t) => {
  const flips = fc.array(fc.tuple(fc.nat(), fc.nat({ max: 7 })), { minLength: 1, maxLength: 8 })
  fc.assert(
    fc.property(sketches, flips, (all, bits) => {
      const model = modelOf(all)
      for (const [at, bit] of bits) model[at % model.length]! ^= 1 << bit
      readHostile(model)
    }),
    { numRuns: 5000 },
  )
  t.pass()
})

test('arbitrary bytes yield an OnnxError or nothing', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (noise) => void readHostile(noise)),
    { numRuns: 5000 },
  )
  t.pass()
})

const small: Sketch = { name: 'w', dtype: 'U8', shape: [2, 3], packed: true, constant: false, depth: 0 }
const tensor = (...fields: Message[]): Uint8Array => bytesOf(bytes(7, bytesOf(bytes(5, bytesOf(...fields)))))
const nested = (levels: number): Uint8Array => modelOf([{ ...small, depth: levels }])

const hostile: readonly (readonly [title: string, model: Uint8Array])[] = [
  [
    'dimensions whose signs cancel out',
    tensor(integer(1, -2), integer(1, -3), integer(2, 2), bytes(9, new Uint8Array(6))),
  ],
  ['a dimension that is no exact number', tensor(integer(1, 2n ** 60n), integer(1, 0), integer(2, 2))],
  ['dimensions of more elements than there are', tensor(integer(1, 2 ** 40), integer(1, 2 ** 40), integer(2, 2))],
  ['a length beyond the end of the file', Uint8Array.of(0x3a, 0xff, 0xff, 0xff, 0xff, 0x07)],
  ['a graph that is a number', Uint8Array.of(0x38, 0x01, 0x00)],
  ['graphs in one another without end', nested(5000)],
  ['groups in one another without end', new Uint8Array(100_000).fill(0x0b)],
]
for (const [title, model] of hostile) {
  test(`${title}: refused`, (t) => {
    t.is(readHostile(model), undefined)
  })
}

test('nested graphs, as in real models, are read', (t) => {
  t.is(readWeights(nested(60)).length, 1)
})
