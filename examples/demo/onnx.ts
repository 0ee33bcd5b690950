/**
 * The weights of an ONNX model, without a runtime.
 *
 * An ONNX file is one protobuf message, `ModelProto`; its graph keeps weights in one of two places:
 * as `initializer`s, or as the `value` attribute of `Constant` nodes (what PaddlePaddle's exporter
 * writes). Both are collected, also from the bodies of `If` and `Loop`. The bytes are not copied.
 * Each weight is a view into the model's own buffer, at any offset, which is exactly the unaligned
 * memory that a real program would pass to deepring.
 *
 * The wire format is read by `BinaryReader` of `@bufbuild/protobuf`: maintained,
 * conformance-tested, typed, no dependencies, no install script, and `bytes()` gives a view.
 * `onnx-proto` is not used because it is 23 MB of generated code over protobufjs 6, which is
 * superseded and has an install script. `protobufjs` 8 would compile an untyped decoder at run time
 * for five messages. `pbf` would do as well, with two more dependencies.
 *
 * Field numbers are those of onnx/onnx.proto3 in github.com/onnx/onnx; a protobuf field never
 * changes its number.
 */

import { BinaryReader, WireType } from '@bufbuild/protobuf/wire'
import { DTYPES, type DType } from '../../index.ts'

export interface Weight {
  name: string
  dtype: DType
  shape: number[]
  /** A view into the model's buffer: little-endian elements, row by row. */
  data: Uint8Array
}

const MODEL_GRAPH = 7
const GRAPH_NODE = 1
const GRAPH_INITIALIZER = 5
const NODE_OUTPUT = 2
const NODE_ATTRIBUTE = 5
const ATTRIBUTE_TENSOR = 5
const ATTRIBUTE_GRAPH = 6
const TENSOR_DIMS = 1
const TENSOR_DATA_TYPE = 2
const TENSOR_NAME = 8
const TENSOR_RAW_DATA = 9

/**
 * `TensorProto.DataType` by its number. Strings, complex numbers and elements smaller than a byte
 * are left out.
 */
const DATA_TYPES: Readonly<Record<number, DType>> = {
  1: 'F32',
  2: 'U8',
  3: 'I8',
  4: 'U16',
  5: 'I16',
  6: 'I32',
  7: 'I64',
  9: 'BOOL',
  10: 'F16',
  11: 'F64',
  12: 'U32',
  13: 'U64',
  16: 'BF16',
  17: 'F8_E4M3',
  19: 'F8_E5M2',
}

/**
 * The deepest nesting of `If` and `Loop` bodies. Real models have a few levels; a file made to
 * exhaust the stack has thousands.
 */
const GRAPHS_MAX = 64

/** The file is not an ONNX model, or its weights are not stored as raw bytes. */
export class OnnxError extends Error {
  override readonly name = 'OnnxError'
}

/**
 * All weights of a model in the order of the file. Throws an {@link OnnxError} if it cannot read
 * the model.
 */
export function readWeights(model: Uint8Array): Weight[] {
  const weights: Weight[] = []
  try {
    eachField(model, (field, reader, type) => {
      if (field !== MODEL_GRAPH) return false
      readGraph(payload(reader, type, 'graph'), weights, 0)
      return true
    })
  } catch (cause) {
    if (cause instanceof OnnxError) throw cause
    throw new OnnxError(`not an ONNX model: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
  }
  return weights
}

/** Calls `take` for each field of one message. A field that it does not take (false) is skipped. */
function eachField(message: Uint8Array, take: (field: number, reader: BinaryReader, type: WireType) => boolean): void {
  const reader = new BinaryReader(message)
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag()
    if (!take(field, reader, type)) reader.skip(type, field)
  }
}

/**
 * The bytes of a field that must be a message, a string or bytes. Another wire type has no length.
 */
function payload(reader: BinaryReader, type: WireType, what: string): Uint8Array<ArrayBuffer> {
  if (type !== WireType.LengthDelimited) throw new OnnxError(`not an ONNX model: ${what} is of wire type ${type}`)
  return reader.bytes() as Uint8Array<ArrayBuffer>
}

function readGraph(graph: Uint8Array, weights: Weight[], depth: number): void {
  if (depth > GRAPHS_MAX) throw new OnnxError(`not an ONNX model: more than ${GRAPHS_MAX} nested graphs`)
  eachField(graph, (field, reader, type) => {
    if (field === GRAPH_NODE) readNode(payload(reader, type, 'node'), weights, depth)
    else if (field === GRAPH_INITIALIZER) weights.push(readTensor(payload(reader, type, 'initializer'), 'initializer'))
    else return false
    return true
  })
}

function readNode(node: Uint8Array, weights: Weight[], depth: number): void {
  let output = ''
  const attributes: Uint8Array[] = []
  eachField(node, (field, reader, type) => {
    if (field === NODE_OUTPUT) output = text(payload(reader, type, 'output'))
    else if (field === NODE_ATTRIBUTE) attributes.push(payload(reader, type, 'attribute'))
    else return false
    return true
  })
  for (const attribute of attributes) {
    eachField(attribute, (field, reader, type) => {
      if (field === ATTRIBUTE_TENSOR) weights.push(readTensor(payload(reader, type, 'tensor'), output))
      else if (field === ATTRIBUTE_GRAPH) readGraph(payload(reader, type, 'graph'), weights, depth + 1)
      else return false
      return true
    })
  }
}

function readTensor(tensor: Uint8Array, nameFallback: string): Weight {
  let name = nameFallback
  let dataType = 0
  let data = new Uint8Array(0)
  const shape: number[] = []
  eachField(tensor, (field, reader, type) => {
    if (field === TENSOR_DIMS) readDims(reader, type, shape)
    else if (field === TENSOR_DATA_TYPE && type === WireType.Varint) dataType = reader.int32()
    else if (field === TENSOR_NAME) name = text(payload(reader, type, 'name')) || nameFallback
    else if (field === TENSOR_RAW_DATA) data = payload(reader, type, 'raw_data')
    else return false
    return true
  })
  const dtype = DATA_TYPES[dataType]
  if (dtype === undefined) throw new OnnxError(`${name}: deepring has no name for ONNX data type ${dataType}`)
  if (!shape.every((dim) => Number.isSafeInteger(dim) && dim >= 0))
    throw new OnnxError(`${name}: [${shape.join(', ')}] is not a valid shape`)
  const expectedBytes = shape.reduce((product, dim) => product * dim, DTYPES[dtype].bytes)
  if (data.length !== expectedBytes) {
    // Typed fields (float_data and so on) and external files are legal ONNX, but no model of the
    // demo uses them.
    throw new OnnxError(
      `${name}: raw_data holds ${data.length} bytes, ${dtype} [${shape.join(', ')}] needs ${expectedBytes}`,
    )
  }
  return { name, dtype, shape, data }
}

const decoder = new TextDecoder()

function text(bytes: Uint8Array): string {
  return decoder.decode(bytes)
}

/**
 * Repeated integers come one by one or packed into one length-delimited field. A reader must accept
 * both.
 */
function readDims(reader: BinaryReader, type: WireType, shape: number[]): void {
  if (type === WireType.Varint) {
    shape.push(Number(reader.int64()))
    return
  }
  const packed = new BinaryReader(payload(reader, type, 'dims'))
  while (packed.pos < packed.len) shape.push(Number(packed.int64()))
}
