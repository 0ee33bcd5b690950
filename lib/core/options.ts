/**
 * Options and numbers from the caller: what they must be, and the error for everything else.
 *
 * All checks follow three rules. An option that is `undefined` counts as absent. An unknown key is an error, because a
 * misspelled option that is ignored is a silent failure. Nothing is converted: `'4096'` is not a position, 1.5 is not
 * rounded, `null` is not zero.
 *
 * Numbers are compared as JavaScript numbers, which are exact up to 2^53 - 1. No product of a depth and a block size can
 * overflow here, as it did in DeepNVMe at 128 x 16 MiB.
 */

import { inspect } from 'node:util'
import { invalidType, invalidValue, outOfRange } from './errors.ts'
import { PRIORITY } from './record.ts'

/** The one option that every asynchronous operation takes. */
export interface SignalOptions {
  /**
   * Aborting it makes the promise reject with an `AbortError`, whose `code` is `'ABORT_ERR'` and whose `cause` is
   * `signal.reason`, as in node:fs: a transfer as soon as the kernel no longer uses the memory, everything else (`open`,
   * `info`, `stat`, `sync`, `truncate`) at once. Queued work is dropped. Work at the device goes on; how much of a write
   * arrived, and whether a sync or truncation took place, is then unknown.
   */
  signal?: AbortSignal | undefined
}

export const SIGNAL_KEYS: ReadonlySet<string> = new Set(['signal'])

/** No options. Shared, so that a call without options allocates nothing. */
const NONE: Readonly<Record<string, never>> = Object.freeze({})

/** `value` as an options object whose keys are all `known`. */
export function optionsOf<T extends object>(
  value: T | undefined,
  known: ReadonlySet<string>,
  name = 'options',
): Readonly<Partial<T>> {
  if (value === undefined) return NONE as Readonly<Partial<T>>
  if (value === null || typeof value !== 'object') throw invalidType(name, 'of type object', value)
  checkKeys(value, known, name)
  return value
}

/** Refuses keys that are not `known`; those whose value is `undefined` count as absent. */
export function checkKeys(options: object, known: ReadonlySet<string>, name = 'options'): void {
  for (const key in options) {
    if (!known.has(key) && (options as Record<string, unknown>)[key] !== undefined) {
      const hint = `It is not an option; the options are ${[...known].join(', ')}.`
      throw invalidValue(`${name}.${key}`, hint, (options as Record<string, unknown>)[key])
    }
  }
}

/** A boolean, or `otherwise` if absent. */
export function booleanOf(value: unknown, name: string, otherwise: boolean): boolean {
  if (value === undefined) return otherwise
  if (typeof value !== 'boolean') throw invalidType(name, 'of type boolean', value)
  return value
}

/**
 * The class of requests. Where several wait for a device, `'latency'` goes first, for up to 90 % of its time, and the
 * others have less in flight while such requests come; `'throughput'` goes next and keeps at least 10 %; `'background'`
 * goes when nothing else waits, and keeps at least 2 %. A program that marks everything is served as if it had marked
 * nothing.
 */
export type Priority = 'latency' | 'throughput' | 'background'

/** The number of a class; of none if it is absent. */
export function priorityOf(value: unknown, name = 'options.priority'): number {
  return value === undefined ? PRIORITY.none : PRIORITY[wordOf(value, name, ['latency', 'throughput', 'background'])]
}

/** What a transfer does about its checksum: nothing, or sum; any other number is the checksum that it expects. */
export const SUM = { no: -2, yes: -1 } as const

/** What two options say about the checksum of a transfer: see {@link SUM}. */
export function checksumOf(checksum: unknown, expect: unknown): number {
  if (checksum !== undefined) wordOf(checksum, 'options.checksum', ['crc32c'])
  if (expect !== undefined) return uint32Of(expect, 'options.expect')
  return checksum === undefined ? SUM.no : SUM.yes
}

/** A checksum. */
export function uint32Of(value: unknown, name: string): number {
  return integerOf(value, name, 0, 0xffff_ffff)
}

/** A whole number from `min` to `max`. */
export function integerOf(value: unknown, name: string, min: number, max: number): number {
  if (typeof value !== 'number') throw invalidType(name, 'of type number', value)
  if (!Number.isInteger(value)) throw outOfRange(name, 'an integer', value)
  if (value < min || value > max) throw outOfRange(name, `>= ${min} && <= ${max}`, value)
  return value
}

/** A whole number from `min` to `max`; if absent, 0, which the binding reads as "the engine's default". */
export function integerOrDefault(value: unknown, name: string, min: number, max: number): number {
  return value === undefined ? 0 : integerOf(value, name, min, max)
}

/** Permissions: a number, or octal digits as in node:fs, such as `'0644'`; if absent, `undefined`. */
export function modeOf(value: unknown): number | undefined {
  if (value === undefined) return undefined
  if (typeof value !== 'string') return integerOf(value, 'options.mode', 0, MODE_MAX)
  if (!/^[0-7]{1,5}$/.test(value) || Number.parseInt(value, 8) > MODE_MAX)
    throw invalidValue('options.mode', `It must be a number or octal digits, from '0' to '7777'.`, value)
  return Number.parseInt(value, 8)
}

/** Permissions of a new file, before the umask. */
export const MODE = 0o666

/** The bits of permissions, with those for the user, the group, and deletion. */
const MODE_MAX = 0o7777

/** A position or length in bytes: a number or bigint that a JavaScript number holds exactly. */
export function bytesOf(value: unknown, name: string): number {
  if (typeof value === 'bigint') {
    if (value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER))
      throw outOfRange(name, `>= 0 && <= ${Number.MAX_SAFE_INTEGER}`, value)
    return Number(value)
  }
  if (typeof value !== 'number') throw invalidType(name, 'of type number or bigint', value)
  if (!Number.isInteger(value)) throw outOfRange(name, 'an integer', value)
  if (value < 0 || value > Number.MAX_SAFE_INTEGER)
    throw outOfRange(name, `>= 0 && <= ${Number.MAX_SAFE_INTEGER}`, value)
  return value
}

/** A position. `position + length` is an exact number too. */
export function positionOf(value: unknown, name: string, length: number): number {
  if (value === null || value === undefined)
    throw invalidType(name, 'of type number or bigint: there is no cursor to continue from', value)
  const position = bytesOf(value, name)
  const max = Number.MAX_SAFE_INTEGER - length
  if (position > max) throw outOfRange(name, `>= 0 && <= ${max}, so that its end is a safe integer too`, value)
  return position
}

/** One of the given words. */
export function wordOf<T extends string>(value: unknown, name: string, words: readonly T[]): T {
  if (typeof value !== 'string')
    throw invalidType(name, `one of ${words.map((word) => inspect(word)).join(', ')}`, value)
  if (!(words as readonly string[]).includes(value))
    throw invalidValue(name, `It must be one of ${words.map((word) => inspect(word)).join(', ')}.`, value)
  return value as T
}
