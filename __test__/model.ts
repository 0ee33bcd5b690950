/** Safetensors files that are made without deepring, byte by byte. */

import { writeFileSync } from 'node:fs'
import { DTYPES, type TensorLike } from '../index.ts'
import { pattern, pause } from './harness.ts'

/** A tensor of a file that is made. */
export interface Made {
  readonly name: string
  readonly dtype: string
  readonly shape: readonly number[]
  readonly data: Uint8Array
}

/** A tensor with this many bytes, which depend on the seed. */
export function made(name: string, dtype: string, shape: readonly number[], bytes: number, seed = 1): Made {
  return { name, dtype, shape, data: pattern(bytes, seed) }
}

/** Bytes as a tensor, which depend on the seed. */
export function u8(length: number, seed = 1): { dtype: 'U8'; shape: [number]; data: Uint8Array<ArrayBuffer> } {
  return { dtype: 'U8', shape: [length], data: pattern(length, seed) }
}

/** A tensor of every element type, and three that are odd: by name, by size, and without bytes. */
export function ofEveryType(): Map<string, TensorLike & { data: Uint8Array }> {
  const tensors = new Map<string, TensorLike & { data: Uint8Array }>()
  for (const [n, [name, { bits }]] of Object.entries(DTYPES).entries())
    tensors.set(name, made(name, name, [n + 1, 8, 3], bits * 3 * (n + 1), n + 1))
  tensors.set('__proto__', u8(5))
  tensors.set('large', u8(3_000_001, 7))
  tensors.set('empty', { dtype: 'F64', shape: [0], data: new Uint8Array(0) })
  return tensors
}

/** What the header of a file says besides its tensors. */
export interface HeaderOptions {
  readonly metadata?: Readonly<Record<string, string>>
  /** The data begins at this position, if the header is not longer. */
  readonly start?: number
}

/** The bytes of a safetensors file with these tensors, in their order. */
export function modelOf(tensors: readonly Made[], { metadata, start = 0 }: HeaderOptions = {}): Uint8Array {
  // By hand: as an object, it could not have the key `__proto__`.
  const entries: string[] = metadata === undefined ? [] : [`"__metadata__":${JSON.stringify(metadata)}`]
  let at = 0
  for (const { name, dtype, shape, data } of tensors) {
    const end = at + data.length
    entries.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [at, end] })}`)
    at = end
  }
  const json = Buffer.from(`{${entries.join(',')}}`)
  const header = Buffer.alloc(Math.max(8 + json.length, start), ' ')
  header.writeBigUInt64LE(BigInt(header.length - 8), 0)
  json.copy(header, 8)
  return Buffer.concat([header, ...tensors.map(({ data }) => data)])
}

/** Writes a file with these tensors. */
export function writeModel(path: string, tensors: readonly Made[], options?: HeaderOptions): void {
  writeFileSync(path, modelOf(tensors, options))
}

/** The bytes of a view. */
export function bytesIn(view: ArrayBufferView): Uint8Array<ArrayBuffer> {
  return new Uint8Array(view.buffer as ArrayBuffer, view.byteOffset, view.byteLength)
}

/** Waits until something holds, at most five seconds. */
export async function eventually(holds: () => boolean): Promise<boolean> {
  for (let i = 0; i < 500 && !holds(); i += 1) await pause(10)
  return holds()
}
