/**
 * A large ONNX model out of a small one: a mixture of experts, whose weights are outside of the model file.
 *
 * Each weight of 1 KiB or more is one row of a stack, and a new input chooses the row:
 *
 * ```text
 *   before   Constant ─────────────────────────────► Conv, MatMul, ...
 *   after    initializer [experts, ...shape], external ─► Gather ─► the same
 *            input "expert" ──────────────────────────────┘
 * ```
 *
 * So a model of 10 MB becomes one of any size, which still computes what the small one does. Field numbers are those of
 * onnx/onnx.proto3.
 */

import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { readWeights, type Weight } from '../demo/onnx.ts'

/** Where the bytes of a stack are, as the model file says it: a location beside it, and a range there. */
export interface Place {
  location: string
  offset: number
}

/** The input that chooses the expert, a scalar of type int64. */
export const EXPERT_INPUT = 'expert'

/** Smaller weights are the parameters of operators, which some of them want as constants. */
const STACKED_BYTES_MIN = 1024

const MODEL_GRAPH = 7
const GRAPH_NODE = 1
const GRAPH_INITIALIZER = 5
const GRAPH_INPUT = 11
const [NODE_INPUT, NODE_OUTPUT, NODE_TYPE] = [1, 2, 4]
const [TENSOR_DIMS, TENSOR_DATA_TYPE, TENSOR_NAME, TENSOR_EXTERNAL, TENSOR_LOCATION] = [1, 2, 8, 13, 14]
const [FLOAT, INT64, EXTERNAL] = [1, 7, 1]

/** The weights of a model that become stacks. */
export function stackedWeights(model: Uint8Array): Weight[] {
  return readWeights(model).filter(({ dtype, data }) => dtype === 'F32' && data.length >= STACKED_BYTES_MIN)
}

/** The model with a stack of this many experts in place of each weight; `placeOf` says where its bytes are. */
export function withExperts(model: Uint8Array, experts: number, placeOf: (name: string) => Place): Uint8Array {
  const weights = new Map(stackedWeights(model).map((weight) => [weight.name, weight]))
  return mapFields(model, MODEL_GRAPH, (graph) => {
    const nodes = mapFields(graph, GRAPH_NODE, (node) => gatherOf(node, weights) ?? node)
    const added = new BinaryWriter()
    for (const { name, shape } of weights.values()) {
      const tensor = new BinaryWriter()
      for (const extent of [experts, ...shape]) tensor.tag(TENSOR_DIMS, WireType.Varint).int64(extent)
      tensor.tag(TENSOR_DATA_TYPE, WireType.Varint).int32(FLOAT)
      tensor.tag(TENSOR_NAME, WireType.LengthDelimited).string(stackOf(name))
      const place = { ...placeOf(name), length: experts * bytesOf(shape) }
      for (const [key, value] of Object.entries(place)) {
        const entry = new BinaryWriter().tag(1, WireType.LengthDelimited).string(key)
        entry.tag(2, WireType.LengthDelimited).string(String(value))
        tensor.tag(TENSOR_EXTERNAL, WireType.LengthDelimited).bytes(entry.finish())
      }
      tensor.tag(TENSOR_LOCATION, WireType.Varint).int32(EXTERNAL)
      added.tag(GRAPH_INITIALIZER, WireType.LengthDelimited).bytes(tensor.finish())
    }
    added.tag(GRAPH_INPUT, WireType.LengthDelimited).bytes(expertInput())
    return Buffer.concat([nodes, added.finish()])
  })
}

function stackOf(name: string): string {
  return `${name}.experts`
}

function bytesOf(shape: readonly number[]): number {
  return shape.reduce((product, extent) => product * extent, Float32Array.BYTES_PER_ELEMENT)
}

/** The node that takes the place of a `Constant` with one of the weights. */
function gatherOf(node: Uint8Array, weights: ReadonlyMap<string, Weight>): Uint8Array | undefined {
  const output = textOf(node, NODE_OUTPUT)
  if (textOf(node, NODE_TYPE) !== 'Constant' || !weights.has(output)) return undefined
  const gather = new BinaryWriter()
  gather.tag(NODE_INPUT, WireType.LengthDelimited).string(stackOf(output))
  gather.tag(NODE_INPUT, WireType.LengthDelimited).string(EXPERT_INPUT)
  gather.tag(NODE_OUTPUT, WireType.LengthDelimited).string(output)
  gather.tag(NODE_TYPE, WireType.LengthDelimited).string('Gather')
  return gather.finish()
}

/** `ValueInfoProto` of a scalar of type int64. */
function expertInput(): Uint8Array {
  const tensor = new BinaryWriter().tag(1, WireType.Varint).int32(INT64)
  tensor.tag(2, WireType.LengthDelimited).bytes(new Uint8Array(0))
  const type = new BinaryWriter().tag(1, WireType.LengthDelimited).bytes(tensor.finish())
  const value = new BinaryWriter().tag(1, WireType.LengthDelimited).string(EXPERT_INPUT)
  return value.tag(2, WireType.LengthDelimited).bytes(type.finish()).finish()
}

/** A message with one of its fields replaced, everywhere it is, and the rest as it was. */
function mapFields(message: Uint8Array, wanted: number, replace: (value: Uint8Array) => Uint8Array): Uint8Array {
  const reader = new BinaryReader(message)
  const parts: Uint8Array[] = []
  while (reader.pos < reader.len) {
    const start = reader.pos
    const [field, type] = reader.tag()
    if (field === wanted && type === WireType.LengthDelimited) {
      parts.push(new BinaryWriter().tag(field, type).bytes(replace(reader.bytes())).finish())
    } else {
      reader.skip(type, field)
      parts.push(message.subarray(start, reader.pos))
    }
  }
  return Buffer.concat(parts)
}

/** The first text of a field; empty if there is none. */
function textOf(message: Uint8Array, wanted: number): string {
  const reader = new BinaryReader(message)
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag()
    if (field === wanted && type === WireType.LengthDelimited) return reader.string()
    reader.skip(type, field)
  }
  return ''
}
