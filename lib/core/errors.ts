/**
 * What deepring throws, and how its messages are made.
 *
 * There is one class, {@link DeepringError}. Its `code` distinguishes the kinds: `ERR_DEEPRING_*` for deepring's own
 * errors, the name of the errno (`ENOSPC`, `EIO`) for the system's. Everything a program can branch on is a field. The
 * message is for people and follows Node's wording, so that it reads like the other errors in a log.
 *
 * docs/errors.md lists all codes, when each occurs and what to do.
 */

import { constants } from 'node:os'
import { getSystemErrorMap, inspect } from 'node:util'
import type { Failure } from './record.ts'
import { VERSION } from './version.ts'

/** The fields of a {@link DeepringError}. Fields that do not apply are absent. */
export interface DeepringErrorFields {
  /** `ERR_DEEPRING_*`, or the name of the errno. */
  code: string
  /** The system's error number, negative as in Node: `-28` for `ENOSPC`. */
  errno?: number | undefined
  /** The operation that failed: `read`, `write`, `open`, `fsync`, ... */
  syscall?: string | undefined
  /** The file, as the caller named it. */
  path?: string | undefined
  /** Where in the file, in bytes. */
  position?: number | undefined
  /** Bytes requested. */
  requested?: number | undefined
  /** Bytes moved from `position` on without a gap. */
  transferred?: number | undefined
  /** Of a call with many ranges: the index of the one that the other fields are about. */
  index?: number | undefined
  /** The CRC-32C that was expected of the bytes. */
  expected?: number | undefined
  /** The CRC-32C that the bytes have. */
  actual?: number | undefined
  /** The name of the tensor that it is about. */
  tensor?: string | undefined
  /** What is wrong with a file: see docs/safetensors.md. */
  reason?: string | undefined
  /** Bytes of memory that are needed at once. */
  needed?: number | undefined
  /** Bytes of memory that are allowed at once. */
  budget?: number | undefined
  /** The number of the generation that it is about. */
  generation?: number | undefined
  /** The numbers of writers that ended without their part. */
  writers?: readonly number[] | undefined
  /** All failures, where one error stands for several: see `AioHandle.wait` and `readMany`. */
  errors?: readonly unknown[] | undefined
  /** The underlying error. */
  cause?: unknown
}

/**
 * The error of every failed deepring operation, and of every call with bad arguments.
 *
 * The one exception is an aborted operation, which rejects with an `AbortError`: see {@link SignalOptions}.
 *
 * @example
 * ```ts
 * import { DeepringError, open } from 'deepring'
 *
 * try {
 *   await open('no-such-directory/weights.bin')
 * } catch (error) {
 *   if (!(error instanceof DeepringError)) throw error
 *   console.log(error.code, error.syscall, error.path) // ENOENT open no-such-directory/weights.bin
 * }
 * ```
 */
export class DeepringError extends Error {
  /** `ERR_DEEPRING_*`, or the name of the errno, such as `ENOSPC`. Stable between versions; the message is not. */
  declare readonly code: string
  /** The system's error number, negative as in Node; absent if the system did not fail. */
  declare readonly errno?: number | undefined
  /** The operation that failed, such as `read`, `write`, `open` or `fsync`. */
  declare readonly syscall?: string | undefined
  /** The file, as the caller named it. */
  declare readonly path?: string | undefined
  /** Where in the file the request began, in bytes. For `ERR_DEEPRING_MISMATCH`: the first byte that differs. */
  declare readonly position?: number | undefined
  /** Bytes requested. */
  declare readonly requested?: number | undefined
  /** Bytes moved from `position` on without a gap. */
  declare readonly transferred?: number | undefined
  /** Of a call with many ranges: the index of the one that the other fields are about. */
  declare readonly index?: number | undefined
  /** Of `ERR_DEEPRING_CHECKSUM`: the CRC-32C that was expected of the bytes. */
  declare readonly expected?: number | undefined
  /** Of `ERR_DEEPRING_CHECKSUM`: the CRC-32C that the bytes have. */
  declare readonly actual?: number | undefined
  /** The name of the tensor that it is about. */
  declare readonly tensor?: string | undefined
  /** Of `ERR_DEEPRING_FORMAT`: what is wrong with the file, such as `header-length` or `hole`. */
  declare readonly reason?: string | undefined
  /** Of `ERR_DEEPRING_BUDGET`: bytes of memory that are needed at once. */
  declare readonly needed?: number | undefined
  /** Of `ERR_DEEPRING_BUDGET`: bytes of memory that are allowed at once. */
  declare readonly budget?: number | undefined
  /** Of checkpoints: the number of the generation that it is about. */
  declare readonly generation?: number | undefined
  /** Of `ERR_DEEPRING_INCOMPLETE`: the numbers of the writers that ended without their part. */
  declare readonly writers?: readonly number[] | undefined
  /**
   * All failures in the order of their requests, where this error stands for several (`AioHandle.wait`); of `readMany` and
   * `writeMany`, at most 16.
   */
  declare readonly errors?: readonly unknown[] | undefined

  /**
   * @param message - A sentence for people.
   * @param fields - The fields; those that are `undefined` are left out.
   */
  constructor(message: string, fields: DeepringErrorFields) {
    super(message, 'cause' in fields ? { cause: fields.cause } : undefined)
    for (const [name, value] of Object.entries(fields)) {
      if (name !== 'cause' && value !== undefined)
        Object.defineProperty(this, name, { value, enumerable: true, configurable: true, writable: true })
    }
  }
}

/** The mark by which errors of other copies of the package are recognized. */
const ERROR = Symbol.for('deepring.DeepringError')

Object.defineProperty(DeepringError.prototype, ERROR, { value: VERSION })
// `instanceof` holds for them, too: programs branch on it, and cannot know which copy has thrown. Derived classes are
// compared as always.
Object.defineProperty(DeepringError, Symbol.hasInstance, {
  value(this: unknown, value: unknown): boolean {
    if (this !== DeepringError) return Function.prototype[Symbol.hasInstance].call(this, value)
    return typeof value === 'object' && value !== null && ERROR in value
  },
})

// On the prototype, as in Error itself, so that it is not listed among the fields of every error.
Object.defineProperty(DeepringError.prototype, 'name', { value: 'DeepringError', configurable: true, writable: true })

/** An argument or option of the wrong type. `name` is as the caller writes it: `path`, `options.position`. */
export function invalidType(name: string, expected: string, value: unknown): DeepringError {
  return new DeepringError(`The ${quoted(name)} must be ${expected}. Received ${described(value)}`, {
    code: 'ERR_DEEPRING_INVALID_ARG_TYPE',
  })
}

/**
 * An argument or option of the right type whose value is not valid, or contradicts another. `why` is a sentence.
 */
export function invalidValue(name: string, why: string, value: unknown, cause?: unknown): DeepringError {
  const fields = cause === undefined ? {} : { cause }
  return new DeepringError(`The ${quoted(name)} is invalid. ${why} Received ${described(value)}`, {
    code: 'ERR_DEEPRING_INVALID_ARG_VALUE',
    ...fields,
  })
}

/** A number outside its range. `range` completes "It must be". */
export function outOfRange(name: string, range: string, value: unknown): DeepringError {
  return new DeepringError(`The value of "${name}" is out of range. It must be ${range}. Received ${inspect(value)}`, {
    code: 'ERR_DEEPRING_OUT_OF_RANGE',
  })
}

/** Memory that was detached. */
export function detached(message: string, fields?: Omit<DeepringErrorFields, 'code'>): DeepringError {
  return new DeepringError(message, { code: 'ERR_DEEPRING_DETACHED', ...fields })
}

/** Memory that was given back, or that a stream has passed. */
export function released(what: string, fields?: Omit<DeepringErrorFields, 'code'>): DeepringError {
  return new DeepringError(`The memory of ${what} was given back: it was disposed, or its stream has passed it`, {
    code: 'ERR_DEEPRING_RELEASED',
    ...fields,
  })
}

/** Names can have a megabyte. */
const NAME_CHARACTERS = 120

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
}

/** A name in a message: in quotes, short, with control characters escaped. */
export function quotedName(name: string): string {
  const short = name.length > NAME_CHARACTERS ? `${name.slice(0, NAME_CHARACTERS)}…` : name
  return JSON.stringify(short).replace(/[\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g, escaped)
}

/** A file or engine that is closed or closing. */
export function closed(what: string, syscall: string, path?: string): DeepringError {
  const of = path === undefined ? '' : ` '${path}'`
  return new DeepringError(`The ${what} is closed, ${syscall}${of}`, { code: 'ERR_DEEPRING_CLOSED', syscall, path })
}

/** An errno that the facade reports itself, because asking the system would only cost a round trip. */
export function systemError(
  name: keyof typeof constants.errno,
  syscall: string,
  path: string,
  hint: string,
): DeepringError {
  const errno = -(constants.errno[name] ?? 0)
  return new DeepringError(`${errnoSentence(errno).sentence}, ${syscall} '${path}' (${hint})`, {
    code: name,
    errno,
    syscall,
    path,
  })
}

/**
 * The error for a failure that the engine reported.
 *
 * @param path - The file as the caller named it; the engine can have another name for it (an absolute path).
 * @param errors - All failures, where this one stands for several.
 */
export function fromFailure(failure: Failure, path?: string, errors?: readonly DeepringError[]): DeepringError {
  const { errno, syscall, position, requested, transferred, index, expected, actual, message } = failure
  const { tensor, reason, needed, budget, generation, writers } = failure
  const file = path ?? failure.path
  const moved = requested > 0
  // An open moves nothing, whatever it was for.
  const said = moved && syscall !== 'open'
  // Node's words replace the engine's for an errno, but not the advice in parentheses that can follow them.
  const { code, sentence } =
    failure.code === '' ? errnoSentence(errno, message) : { code: failure.code, sentence: message }
  const advice = failure.code === '' ? (/ \((.*)\)$/s.exec(message)?.[1] ?? '') : ''
  const extent = code === 'ERR_DEEPRING_MISMATCH' ? `first at position ${position}` : extentOf(failure)
  const range = index < 0 ? '' : `range ${index}`
  const remarks = [range, said ? extent : '', advice].filter((part) => part !== '').join('; ')
  const place = [syscall, file === undefined ? '' : `'${file}'`].filter((part) => part !== '').join(' ')
  const named = tensor === undefined ? '' : `tensor ${quotedName(tensor)}`
  const numbered = generation === undefined ? '' : `generation ${generation}`
  const where = [place, named, numbered].map((part) => (part === '' ? '' : `, ${part}`)).join('')
  return new DeepringError(`${sentence}${where}${remarks === '' ? '' : ` (${remarks})`}`, {
    code,
    errno: errno === 0 ? undefined : errno,
    syscall: syscall === '' ? undefined : syscall,
    path: file,
    position: position < 0 ? undefined : position,
    requested: moved ? requested : undefined,
    transferred: moved ? transferred : undefined,
    index: index < 0 ? undefined : index,
    errors,
    expected,
    actual,
    tensor,
    reason,
    needed,
    budget,
    generation,
    writers,
  })
}

function extentOf({ transferred, requested, position }: Failure): string {
  return `${transferred} of ${requested} bytes from position ${Math.max(position, 0)}`
}

/** What the binding threw: as a {@link DeepringError} if it carries a failure, else unchanged. */
export function fromThrown(thrown: unknown, path?: string): unknown {
  const failure = (thrown as { failure?: Failure } | null | undefined)?.failure
  return failure === undefined ? thrown : fromFailure(failure, path)
}

// Errors without words in libuv, and so in Node's table.
const SENTENCES: Readonly<Record<string, string>> = {
  EDQUOT: 'disk quota exceeded',
  ESTALE: 'stale file handle',
}

function errnoSentence(errno: number, otherwise?: string): { code: string; sentence: string } {
  const known = getSystemErrorMap().get(errno)
  if (known !== undefined) return { code: known[0], sentence: `${known[0]}: ${known[1]}` }
  const name = Object.entries(constants.errno).find(([, number]) => number === -errno)?.[0]
  if (name !== undefined) return { code: name, sentence: `${name}: ${SENTENCES[name] ?? otherwise ?? 'system error'}` }
  return { code: 'UNKNOWN', sentence: `Unknown system error ${errno}: ${otherwise ?? 'no description'}` }
}

function quoted(name: string): string {
  return name.includes('.') ? `"${name}" property` : `"${name}" argument`
}

/** A value as Node's own errors describe it. */
function described(value: unknown): string {
  if (value === null || value === undefined) return String(value)
  // A class can have a static member of that name, with any value.
  if (typeof value === 'function') return `function ${typeof value.name === 'string' ? value.name : ''}`
  if (typeof value === 'object') {
    const name: unknown = value.constructor?.name
    return typeof name === 'string' && name !== '' ? `an instance of ${name}` : inspect(value, { depth: -1 })
  }
  const text = inspect(value)
  return `type ${typeof value} (${text.length > 60 ? `${text.slice(0, 57)}...` : text})`
}
