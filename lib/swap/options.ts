/** What swap stores are asked for. */

import { Buffer } from 'node:buffer'
import { invalidType, invalidValue, quotedName } from '../core/errors.ts'
import { booleanOf, bytesOf, wordOf, type SignalOptions } from '../core/options.ts'
import type { SwapPutRequest, SwapRequest } from '../core/swaps.ts'
import { directOf, type Engine } from '../engine/engine.ts'
import { checkTensorName, type Declaration } from '../safetensors/columns.ts'
import { CONVERTIBLE, type ConvertedDType } from '../safetensors/convert.ts'
import type { Slice } from '../safetensors/slices.ts'

/** Options of `SwapStore.over`. */
export interface SwapOverOptions {
  /** The budget, in bytes: what is in memory is never more. */
  memory: number | bigint
}

/** Options of `openSwap`. */
export interface OpenSwapOptions extends SwapOverOptions, SignalOptions {
  /**
   * Bytes of the file that get their space on the drive at once. It grows beyond them, and then a put can find the drive full.
   * Default 0.
   */
  capacity?: number | bigint | undefined
  /**
   * True: a crash leaves every tensor as of the last flush. What changes between two flushes takes its space once more. False:
   * tensors are written in place, and a store that was not flushed since is torn. Default false.
   */
  durable?: boolean | undefined
  /** `'crc32c'`: what is read must have the CRC-32C of what was written. Default: none. */
  checksum?: 'crc32c' | undefined
  /** True: a missing directory is created, and a store that is torn begins anew, empty. Default false. */
  create?: boolean | undefined
  /**
   * Whether to bypass the page cache, as for `open`. Default `'prefer'`. What goes through the cache takes memory that no budget
   * bounds.
   */
  direct?: 'require' | 'prefer' | 'never' | 'auto' | undefined
  /** The engine that reads and writes. Default: that of the process. */
  engine?: Engine | undefined
}

/** Options of `put` and `putMany`. */
export interface SwapPutOptions extends SignalOptions {
  /** True: the tensor is pinned from the moment on at which it is accepted, as by `pin`. Default false. */
  pin?: boolean | undefined
  /** The element type that it gets on its way into the store, by the rules of `convertTensor`. Default: the one that it has. */
  convert?: ConvertedDType | undefined
  /**
   * True: the store takes the memory over, without a copy, and detaches it at once, also if the call fails later. The tensor must
   * have all of what one call of `allocate`, `allocateUnsafe`, `allocateTensor` or `readFile` has returned. Requests that use it
   * end first, but a read into it is to be awaited. Memory that a request has not let go of by then is copied. Default false.
   */
  adopt?: boolean | undefined
}

/** Options of `get`. */
export interface SwapGetOptions extends SignalOptions {
  /** The part of the tensor that is read. Default: all of it. */
  slice?: Slice | undefined
}

/** Options of `prefetch`. */
export interface PrefetchOptions {
  /** A tensor whose read has not begun after this many milliseconds is forgotten. Default 10 000. */
  expiresMs?: number | undefined
}

/** Options of `plan`. */
export interface PlanOptions {
  /** True: the order is that of each pass, again and again. Default false. */
  repeat?: boolean | undefined
}

export const OVER_KEYS: ReadonlySet<string> = new Set(['memory'])
export const OPEN_KEYS: ReadonlySet<string> = new Set([
  ...OVER_KEYS,
  'capacity',
  'durable',
  'checksum',
  'create',
  'direct',
  'engine',
  'signal',
])
export const PUT_KEYS: ReadonlySet<string> = new Set(['pin', 'convert', 'adopt', 'signal'])
export const GET_KEYS: ReadonlySet<string> = new Set(['slice', 'signal'])
export const PREFETCH_KEYS: ReadonlySet<string> = new Set(['expiresMs'])
export const PLAN_KEYS: ReadonlySet<string> = new Set(['repeat'])

/** How long a guess lasts, if nothing else is said. */
export const EXPIRES_MS = 10_000

/** The request of a store. */
export function swapRequestOf(options: Readonly<Partial<OpenSwapOptions>>): SwapRequest {
  const { memory, capacity, durable, checksum, create, direct } = options
  return {
    memory: bytesOf(memory, 'options.memory'),
    capacity: capacity === undefined ? 0 : bytesOf(capacity, 'options.capacity'),
    durable: booleanOf(durable, 'options.durable', false),
    checksum: checksum !== undefined && wordOf(checksum, 'options.checksum', ['crc32c']) === 'crc32c',
    create: booleanOf(create, 'options.create', false),
    direct: directOf(direct),
  }
}

/** How tensors are put. */
export function putRequestOf(
  { pin, convert, adopt }: Readonly<Partial<SwapPutOptions>>,
  declarations: readonly Declaration[],
): SwapPutRequest {
  const request = {
    pin: booleanOf(pin, 'options.pin', false),
    adopt: booleanOf(adopt, 'options.adopt', false),
  }
  if (convert === undefined) return request
  const to = wordOf(convert, 'options.convert', ['F32', 'F16', 'BF16'])
  for (const { name, dtype } of declarations) {
    if (dtype === to) continue
    if (!CONVERTIBLE.has(dtype))
      throw invalidValue('options.convert', `There is no conversion from ${dtype}, tensor ${quotedName(name)}.`, to)
    if (request.adopt)
      throw invalidValue('options.adopt', `What is converted is copied, tensor ${quotedName(name)}.`, true)
  }
  return { ...request, convert: to }
}

/** Names, as they cross. */
export interface Names {
  readonly list: readonly string[]
  readonly text: string
  /** Bytes of each. */
  readonly bytes: Uint32Array
}

/** Any iterable of names. */
export function namesOf(names: unknown, argument = 'names'): Names {
  if (typeof names !== 'object' || names === null || !(Symbol.iterator in names))
    throw invalidType(argument, 'an iterable of names', names)
  const list = Array.from(names as Iterable<unknown>, (name) => checkTensorName(name, argument))
  return { list, text: list.join(''), bytes: Uint32Array.from(list, (name) => Buffer.byteLength(name)) }
}
