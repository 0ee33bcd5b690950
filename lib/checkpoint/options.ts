/** What stores and writers are asked for. */

import { Buffer } from 'node:buffer'
import type { BeginRequest } from '../core/checkpoints.ts'
import { invalidType, invalidValue } from '../core/errors.ts'
import { bytesOf, checkKeys, integerOf, type SignalOptions } from '../core/options.ts'
import type { ProgressOptions } from '../core/progress.ts'
import type { Engine } from '../engine/engine.ts'
import { directOf } from '../engine/engine.ts'

/** Which generations a store keeps: what is said here, and those that are pinned or open. */
export interface KeepOptions {
  /** How many of the newest that are whole, at least one. Default 3. */
  last?: number | undefined
  /** Those whose step is a multiple of this. Default: none for their step. */
  every?: number | undefined
}

/** Options of {@link openCheckpoints}. */
export interface OpenCheckpointsOptions extends SignalOptions {
  /** True: a missing directory is created, with those above it. Default false. */
  create?: boolean | undefined
  /** What is kept after a commit; `'all'`: everything. Default `{ last: 3 }`. */
  keep?: 'all' | KeepOptions | undefined
  /** The engine that reads and writes. Default: that of the process. */
  engine?: Engine | undefined
}

/** Options of `join`, and those that `begin` shares with it. */
export interface JoinOptions extends SignalOptions {
  /**
   * Bytes of memory for copies of tensors. While it lasts, a tensor is copied there and written later, so that its own memory
   * is free at once. Small tensors are always copied. The store keeps this memory for its next save, until it is closed.
   * Default 0.
   */
  staging?: number | bigint | undefined
  /** Whether to bypass the page cache, as for `open`. Default `'prefer'`. */
  direct?: 'require' | 'prefer' | 'never' | 'auto' | undefined
}

/** Options of `begin`. */
export interface BeginOptions extends JoinOptions {
  /** The step of the program, such as that of a training. See `keep.every`. Default: none. */
  step?: number | undefined
  /** How many writers there are, with this one, at most 65 536. Default 1. */
  writers?: number | undefined
  /** The generation that `reference` takes over from. `'latest'`: the newest that is whole, if there is one. Default: none. */
  reference?: number | 'latest' | undefined
  /** How long the commit waits for a writer that has not joined. Default 60 000. */
  patienceMs?: number | undefined
}

/** Options of `putAll`. */
export interface PutAllOptions extends SignalOptions {
  /**
   * Tensors of a group have files of their own, which a later generation can take over: 1 to 64 of `a` to `z`, `0` to `9`, `_`
   * and `-`. Default `'main'`.
   */
  group?: string | undefined
}

/** Options of `put`. */
export interface PutOptions extends PutAllOptions {
  /** The tensor is a piece of one with these extents. The pieces of all writers cover it, each element once. */
  shape?: readonly number[] | undefined
  /** Where the piece begins in that, in each dimension. */
  start?: readonly number[] | undefined
}

/** Options of `save`. */
export interface SaveCheckpointOptions extends JoinOptions, ProgressOptions {
  /** As for `begin`. */
  step?: number | undefined
  /** What the program keeps with it: any JSON, of at most 16 MiB. Default `null`. */
  meta?: unknown
  /** As for `putAll`. */
  group?: string | undefined
}

export const OPEN_KEYS: ReadonlySet<string> = new Set(['create', 'keep', 'engine', 'signal'])
export const JOIN_KEYS: ReadonlySet<string> = new Set(['staging', 'direct', 'signal'])
export const BEGIN_KEYS: ReadonlySet<string> = new Set([...JOIN_KEYS, 'step', 'writers', 'reference', 'patienceMs'])
export const PUT_ALL_KEYS: ReadonlySet<string> = new Set(['group', 'signal'])
export const PUT_KEYS: ReadonlySet<string> = new Set([...PUT_ALL_KEYS, 'shape', 'start'])
export const SAVE_KEYS: ReadonlySet<string> = new Set([...JOIN_KEYS, 'step', 'meta', 'group', 'onProgress'])

const KEEP_KEYS: ReadonlySet<string> = new Set(['last', 'every'])

const LAST = 3
const WRITERS_MAX = 65_536
const META_BYTES_MAX = 16 << 20

/** The group of a tensor, if nothing else is said. */
export const GROUP = 'main'

/** What is kept, as two numbers for the binding. */
export function keepOf(value: unknown): { readonly last: number; readonly every: number } {
  if (value === 'all') return { last: 0, every: 0 }
  if (value === undefined) return { last: LAST, every: 0 }
  if (typeof value !== 'object' || value === null) throw invalidType('options.keep', "'all' or an object", value)
  checkKeys(value, KEEP_KEYS, 'options.keep')
  const { last, every } = value as KeepOptions
  return {
    last: last === undefined ? LAST : integerOf(last, 'options.keep.last', 1, 2 ** 32 - 1),
    every: every === undefined ? 0 : integerOf(every, 'options.keep.every', 1, Number.MAX_SAFE_INTEGER),
  }
}

/** How a writer writes. */
export function writingOf({ staging, direct }: Readonly<JoinOptions>): { staging: number; direct: number } {
  return { staging: staging === undefined ? 0 : bytesOf(staging, 'options.staging'), direct: directOf(direct) }
}

/** The request of a generation. */
export function beginRequestOf(options: Readonly<BeginOptions>): BeginRequest {
  const { step, writers, reference, patienceMs } = options
  return {
    ...writingOf(options),
    writers: writers === undefined ? 1 : integerOf(writers, 'options.writers', 1, WRITERS_MAX),
    ...(step === undefined ? {} : { step: integerOf(step, 'options.step', 0, Number.MAX_SAFE_INTEGER) }),
    ...(reference === undefined ? {} : { reference: referenceOf(reference) }),
    ...(patienceMs === undefined ? {} : { patienceMs: integerOf(patienceMs, 'options.patienceMs', 0, 2 ** 31 - 1) }),
  }
}

function referenceOf(value: unknown): number {
  if (value === 'latest') return 0
  if (typeof value === 'string') throw invalidValue('options.reference', "It must be a number or 'latest'.", value)
  return generationOf(value, 'options.reference')
}

/** The number of a generation. */
export function generationOf(value: unknown, name = 'generation'): number {
  return integerOf(value, name, 1, Number.MAX_SAFE_INTEGER)
}

/** The name of a group. */
export function groupOf(value: unknown, name = 'options.group'): string {
  if (typeof value !== 'string') throw invalidType(name, 'of type string', value)
  if (!/^[a-z0-9_-]{1,64}$/.test(value)) throw invalidValue(name, 'It must be 1 to 64 of a-z, 0-9, _ and -.', value)
  return value
}

/** Where a piece is in its tensor: the extents of all of it, then where it begins. `null`: it is whole. */
export function withinOf({ shape, start }: Readonly<PutOptions>, rank: number): Float64Array | null {
  if (shape === undefined && start === undefined) return null
  return Float64Array.from([...extentsOf(shape, 'options.shape', rank), ...extentsOf(start, 'options.start', rank)])
}

function extentsOf(value: unknown, name: string, rank: number): readonly number[] {
  if (!Array.isArray(value)) throw invalidType(name, 'an array, as shape and start are given together', value)
  if (value.length !== rank) throw invalidValue(name, `It must have ${rank} numbers, as many as the tensor.`, value)
  return value.map((extent: unknown, nth) => integerOf(extent, `${name}[${nth}]`, 0, Number.MAX_SAFE_INTEGER))
}

/** What a program keeps with a generation, as JSON. */
export function metaOf(value: unknown, name: string): string {
  let text: string | undefined
  try {
    text = JSON.stringify(value)
  } catch (error) {
    throw invalidValue(name, 'It is not JSON.', value, error)
  }
  if (text === undefined) throw invalidValue(name, 'It is not JSON.', value)
  const bytes = Buffer.byteLength(text)
  if (bytes > META_BYTES_MAX)
    throw invalidValue(name, `As JSON it has ${bytes} bytes, and ${META_BYTES_MAX} are allowed.`, value)
  return text
}
