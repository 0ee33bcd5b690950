/** What a save and a writer are asked for. */

import { invalidType, invalidValue, outOfRange } from '../core/errors.ts'
import { booleanOf, integerOf, modeOf, wordOf, type SignalOptions } from '../core/options.ts'
import type { SaveRequest, TensorColumns } from '../core/tensors.ts'
import type { Engine } from '../engine/engine.ts'
import { bytesOfElements, DTYPES, type DType } from '../memory/dtype.ts'
import { elementsOf } from '../memory/view.ts'
import { checkTensorName, columnsOf, type Declaration } from './columns.ts'

/** Options of `SafetensorsWriter.create`, and those that `saveSafetensors` shares with it. */
export interface WriterOptions extends SignalOptions {
  /**
   * What the header says under `__metadata__`. `format` is `'pt'` unless it is given: programs on PyTorch refuse files without.
   */
  metadata?: ReadonlyMap<string, string> | Readonly<Record<string, string>> | undefined
  /** The data begins on a multiple of this many bytes: a power of two from 8, as in the reference, to 2^20. Default 4096. */
  align?: number | undefined
  /**
   * The order of the tensors in the file. `'blocks'`: wide element types first, of one width those that fill whole blocks
   * first, then by size, with small ones where they fill up a block; so nearly all bytes lie in tensors that begin on one. `'reference'`: as the reference
   * implementation. `'given'`: as given. Any order can be read by any reader. Default `'blocks'`.
   */
  order?: 'blocks' | 'reference' | 'given' | undefined
  /** False: nothing is flushed, so that a crash can leave an empty or partial file under the name. Default true. */
  durable?: boolean | undefined
  /** Permissions of a new file, before the umask. A file that replaces another has that one's. Default `0o666`. */
  mode?: number | string | undefined
  /** `'crc32c'`: the header states the CRC-32C of each tensor and of itself, for `verify`. Default: none. */
  checksum?: 'crc32c' | undefined
  /** The engine that writes. Default: that of the process. */
  engine?: Engine | undefined
}

/** What a save did. */
export interface SaveReceipt {
  /** Bytes written: of all files, with their headers. */
  readonly bytes: number
  /** Bytes of them that were copied, because position or address did not suit the device. */
  readonly bounced: number
  /** Whether everything was written past the page cache. */
  readonly direct: boolean
  /** How many files there are, without an index. */
  readonly files: number
}

export const WRITER_KEYS: ReadonlySet<string> = new Set([
  'metadata',
  'align',
  'order',
  'durable',
  'mode',
  'checksum',
  'engine',
  'signal',
])

/** The key in a header that is no tensor. */
const METADATA = '__metadata__'

const ALIGN = 4096
const ALIGN_MIN = 8
const ALIGN_MAX = 2 ** 20

/** The request for these tensors. Checks everything that can be checked without the file. */
export function requestOf(
  list: readonly Declaration[],
  argument: string,
  options: Readonly<WriterOptions>,
  shardBytes: number,
): SaveRequest {
  const columns = columnsToWrite(list, argument)
  const { align = ALIGN, order, durable, checksum, metadata } = options
  const mode = modeOf(options.mode)
  integerOf(align, 'options.align', ALIGN_MIN, ALIGN_MAX)
  if (!Number.isInteger(Math.log2(align))) throw outOfRange('options.align', 'a power of two', align)
  return {
    columns,
    metadata: metadataOf(metadata),
    align,
    order: order === undefined ? 'blocks' : wordOf(order, 'options.order', ['blocks', 'reference', 'given']),
    durable: booleanOf(durable, 'options.durable', true),
    ...(mode === undefined ? {} : { mode }),
    checksums: checksum !== undefined && wordOf(checksum, 'options.checksum', ['crc32c']) === 'crc32c',
    shardBytes,
  }
}

/** The columns of tensors that are to be written: names that are there once, and known element types. */
export function columnsToWrite(list: readonly Declaration[], argument: string): TensorColumns {
  const seen = new Set<string>()
  const columns = columnsOf(list, argument)
  for (const [nth, declaration] of list.entries()) {
    const { name } = declaration
    if (seen.has(name)) throw invalidValue(`${argument}[${nth}].name`, 'Another tensor has the same name.', name)
    seen.add(name)
    checkToWrite(declaration, `${argument}[${nth}]`)
  }
  return columns
}

/** Checks that a tensor can be written. */
export function checkToWrite({ name, dtype, shape }: Declaration, argument: string): void {
  if (name === METADATA) throw invalidValue(`${argument}.name`, 'The format has this key for metadata.', name)
  bytesOf(dtype, shape, argument)
}

/** Bytes of a tensor that is to be written. */
export function bytesOf(dtype: string, shape: readonly number[], argument: string): number {
  if (!Object.hasOwn(DTYPES, dtype))
    throw invalidValue(`${argument}.dtype`, `It must be one of ${Object.keys(DTYPES).join(', ')}.`, dtype)
  const bytes = bytesOfElements(dtype as DType, elementsOf(shape, `${argument}.shape`))
  if (!Number.isInteger(bytes))
    throw invalidValue(
      `${argument}.shape`,
      `Elements of ${dtype} are packed, and these do not fill whole bytes.`,
      shape,
    )
  return bytes
}

function metadataOf(value: unknown): string[] {
  if (value === undefined) return []
  if (typeof value !== 'object' || value === null) throw invalidType('options.metadata', 'an object or a Map', value)
  const { entries } = value as Partial<ReadonlyMap<unknown, unknown>>
  const pairs: Iterable<[unknown, unknown]> =
    typeof entries === 'function' ? (value as ReadonlyMap<unknown, unknown>).entries() : Object.entries(value)
  const texts: string[] = []
  for (const [key, text] of pairs) {
    texts.push(checkTensorName(key, 'options.metadata'), checkTensorName(text, `options.metadata.${String(key)}`))
  }
  return texts
}
