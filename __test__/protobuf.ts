/** Messages of protobuf, for tests that write ONNX models. */

import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'

/** A message as the list of its fields. */
export type Message = (writer: BinaryWriter) => BinaryWriter

export const bytesOf = (...fields: Message[]): Uint8Array =>
  fields.reduce((w, field) => field(w), new BinaryWriter()).finish()
export const bytes = (field: number, value: Uint8Array): Message => {
  return (writer) => writer.tag(field, WireType.LengthDelimited).bytes(value)
}
export const text = (field: number, value: string): Message => {
  return (writer) => writer.tag(field, WireType.LengthDelimited).string(value)
}
export const integer = (field: number, value: number | bigint): Message => {
  return (writer) => writer.tag(field, WireType.Varint).int64(value.toString())
}
