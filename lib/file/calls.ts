/**
 * Calls in the shapes of node:fs/promises, as ours: a buffer and its options.
 *
 * ```text
 *   read(buffer, offset, length, position)      read({ buffer, offset, length, position })      write(text, position, encoding)
 * ```
 *
 * Where Node goes on from a cursor, a position is required here, too.
 */

import { Buffer } from 'node:buffer'
import { invalidType } from '../core/errors.ts'
import type { Bytes } from '../memory/view.ts'
import type { ReadOptions } from './options.ts'

/** A number of bytes, or nothing, as Node takes it in the place of a parameter. */
export type Place = number | bigint | null | undefined

/** A call in one object: {@link FileHandle.read} and {@link FileHandle.write}. */
export type WithBuffer<B extends Bytes, Options> = Options & {
  /** The memory. */
  buffer: B
}

/** The buffer and the options of a call in a shape of Node. */
export function callOf(
  first: unknown,
  second: unknown,
  length: unknown,
  position: unknown,
): readonly [buffer: Bytes, options: ReadOptions] {
  if (second === undefined && length === undefined && position === undefined && isWithBuffer(first)) {
    const { buffer, ...options } = first
    return [buffer, placed(options)]
  }
  const isText = typeof first === 'string'
  if (isText && (typeof second === 'number' || typeof second === 'bigint'))
    return [Buffer.from(first, length as BufferEncoding | undefined), { position: second }]
  const isPlace = second === null || typeof second === 'number' || typeof second === 'bigint'
  if (isText || !(isPlace || (second === undefined && position !== undefined)))
    throw invalidType('options', 'an object with a position', second)
  return [first as Bytes, placed({ offset: second, length, position } as ReadOptions)]
}

function isWithBuffer(value: unknown): value is WithBuffer<Bytes, ReadOptions> {
  // A view has a property of that name, too.
  return typeof value === 'object' && value !== null && !ArrayBuffer.isView(value) && 'buffer' in value
}

/** In Node, a null stands for the default. */
function placed<Options extends { offset?: unknown; length?: unknown }>(options: Options): Options {
  return { ...options, offset: options.offset ?? undefined, length: options.length ?? undefined }
}
