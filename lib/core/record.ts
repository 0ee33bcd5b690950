/**
 * What comes back from the binding for one request: a record of ten numbers, and for some requests a detail.
 *
 * Every bare number that crosses the boundary is named here once. `crates/deepring-node/src/record.rs` is the other
 * side; `__test__/record.spec.ts` compares both.
 */

/** Where in a record each number lies. */
export const FIELD = {
  id: 0,
  status: 1,
  transferred: 2,
  blocks: 3,
  bounced: 4,
  resumed: 5,
  retried: 6,
  queueMs: 7,
  deviceMs: 8,
  flags: 9,
} as const

/** Numbers per record. */
export const RECORD = 10

/**
 * How a request ended; the detail of a failure is a {@link Failure}. `canceled`: transfers that this environment has canceled,
 * without a detail. What would have been the bytes is how many more follow whose ids follow, too.
 */
export const STATUS = { success: 0, failure: 1, successWithDetail: 2, canceled: 3 } as const

/**
 * Flags of a record: every block bypassed the page cache; the backend was `'threads'`, else `'uring'`. `checksum`: the
 * number has the checksum, times {@link SCALE}, beside the flags.
 */
export const FLAG = { direct: 1, threads: 2, locks: 4, checksum: 8 } as const

/** The flag of records of lib/node. The binding has none of them. */
export const NODE_FLAG = 16

/**
 * What moves the bytes: io_uring, threads of the engine that make one call each, or node:fs, where the native binding cannot
 * run.
 */
export type Backend = 'uring' | 'threads' | 'node'

/** The backend that flags name. */
export function backendOf(flags: number): Backend {
  if ((flags & NODE_FLAG) !== 0) return 'node'
  return (flags & FLAG.threads) === 0 ? 'uring' : 'threads'
}

/** More than all flags, and small enough that a number is exact. */
export const SCALE = { checksum: 65_536 } as const

/** A transfer on its way to the binding: where each number lies. */
export const STAGED = {
  flags: 0,
  id: 1,
  /** The file; by path, the engine. */
  target: 2,
  handle: 3,
  /** The id of a group, in which `id` is the index of a member; 0 for a single transfer. */
  group: 4,
  position: 5,
  length: 6,
  /** Of {@link PRIORITY}. */
  priority: 7,
  /** Of a write by path, permissions of a file that it creates. Of a read with `expect`, the checksum. */
  extra: 8,
  /** What cancels it together with others; 0 if nothing does. */
  cancellation: 9,
} as const

/** Numbers per staged transfer. */
export const STAGED_NUMBERS = 10

/**
 * Flags of a staged transfer. `exact`: fewer bytes are an error. `whole`, by path: a read requires equal sizes, a write
 * ends the file where the memory ends. `sum`: the record has a checksum; `expect`: any other than `extra` is an error.
 */
export const STAGED_FLAG = { write: 1, exact: 2, byPath: 4, whole: 8, sum: 16, expect: 32 } as const

/** A call with many ranges on its way to the binding: where each number lies. */
export const MANY = {
  id: 0,
  file: 1,
  flags: 2,
  /** Of {@link PRIORITY}. */
  priority: 3,
  count: 4,
  /** Bytes between ranges that are read together. */
  gap: 5,
  /** Of every range, if they have no list of lengths. */
  length: 6,
  /** The kinds of the lists, of {@link NUMBERS}. */
  positions: 7,
  lengths: 8,
  offsets: 9,
} as const

/** Numbers of a call with many ranges. */
export const MANY_NUMBERS = 10

/**
 * Flags of such a call. `partial`: go on after a failure. `counts`: the detail has the bytes of each range; `sums`: their
 * checksums; `expect`: any others than the expected ones are errors.
 */
export const MANY_FLAG = { write: 1, exact: 2, partial: 4, counts: 8, sums: 16, expect: 32 } as const

/** How the numbers of a list lie in memory. */
export const NUMBERS = { none: 0, float64: 1, uint64: 2, uint32: 3 } as const

/** Flags of `open`. */
export const OPEN = { read: 1, write: 2, create: 4, truncate: 8, exclusive: 16 } as const

/** The `direct` of `open`. */
export const DIRECT = { never: 0, prefer: 1, require: 2, auto: 3 } as const

/** The class of a request, a handle or a file: of nothing, that of the next of these. */
export const PRIORITY = { none: 0, latency: 1, throughput: 2, background: 3 } as const

/** What went wrong, as the engine reports it. */
export interface Failure {
  /** `ERR_DEEPRING_*`, or `''` if the system failed; then `errno` says how. */
  code: string
  /** Negative; 0 if the system did not fail. */
  errno: number
  syscall: string
  path?: string
  /** In bytes; -1 if there is none. */
  position: number
  requested: number
  transferred: number
  /** Of a call with many ranges: which one; -1 if there is none. */
  index: number
  /** Checksums, if the expected one is not that of the bytes. */
  expected?: number
  actual?: number
  /** The name of the tensor that it is about. */
  tensor?: string
  /** What is wrong with a file. */
  reason?: string
  /** Of a budget. */
  needed?: number
  budget?: number
  /** Of a checkpoint. */
  generation?: number
  writers?: number[]
  /** What happened, and what to do about it where that is known. */
  message: string
}

/** A member of a group that failed. */
export interface MemberFailure {
  index: number
  failure: Failure
}

/** A range that is not one: as it was given, or as it follows from those before it. */
export interface Refused {
  index: number
  position: number | bigint
  length: number | bigint
  offset: number | bigint
}

/** What became of the ranges of a call. */
export interface Many {
  /** Of a call that failed. */
  failure?: Failure
  /** In the order of the indices. */
  failures: Failure[]
  /** The range for which the call was refused. */
  refused?: Refused
  /** Bytes of each range, if they were asked for. */
  counts?: Float64Array
  /** The same of their checksums. */
  checksums?: Uint32Array
  /** Bytes that were read beside those of the ranges. */
  overread: number
}

/** A file that was opened. */
export interface Opened {
  file: number
  /** As it was when the file was opened: `fileFlags` of native.ts says what runs now. */
  direct: boolean
  directReason: string
  offsetAlignment: number
  memoryAlignment: number
  locksReason: string
}

/** A file that another thread has opened. */
export interface OpenedShared {
  opened: Opened
  /** The number of its engine here; 0 stands for the default engine. */
  engine: number
}

/** How a file is replaced. */
export interface ReplaceRequest {
  /** Bytes that are reserved; 0 if that is not known. */
  size: number
  durable: boolean
  /** Permissions, if there is no old file. */
  mode: number
  /** Of {@link DIRECT}. */
  direct: number
}

/** A file that will take the place of another one. */
export interface Replacing {
  opened: Opened
  replacement: number
}

/** The answer of `statx`; times in nanoseconds since 1970. */
export interface Stat {
  size: bigint
  blocks: bigint
  blockSize: number
  dev: bigint
  ino: bigint
  mode: number
  nlink: number
  uid: number
  gid: number
  atimeNs: bigint
  mtimeNs: bigint
  ctimeNs: bigint
  birthtimeNs: bigint
}

/**
 * One record of a batch, by names. The same view is moved from record to record: it is valid only during the call that
 * it is passed to.
 */
export class RecordView {
  readonly #numbers: Float64Array
  #at = 0
  /** What the record comes with: a {@link Failure}, or what the request asks for. */
  detail: unknown = null

  constructor(numbers: Float64Array) {
    this.#numbers = numbers
  }

  /** Shows the record that begins at this index of the numbers. */
  moveTo(at: number): void {
    this.#at = at
    this.detail = null
  }

  get id(): number {
    return this.#number(FIELD.id)
  }

  get status(): number {
    return this.#number(FIELD.status)
  }

  /** Bytes moved between file and memory. */
  get transferred(): number {
    return this.#number(FIELD.transferred)
  }

  get blocks(): number {
    return this.#number(FIELD.blocks)
  }

  get bounced(): number {
    return this.#number(FIELD.bounced)
  }

  get resumed(): number {
    return this.#number(FIELD.resumed)
  }

  get retried(): number {
    return this.#number(FIELD.retried)
  }

  get queueMs(): number {
    return this.#number(FIELD.queueMs)
  }

  get deviceMs(): number {
    return this.#number(FIELD.deviceMs)
  }

  /** With the checksum above them. The operators `&` and `|` see the flags alone. */
  get flags(): number {
    return this.#number(FIELD.flags)
  }

  /** The checksum, if `flags` has {@link FLAG.checksum}. */
  get checksum(): number {
    return Math.floor(this.#number(FIELD.flags) / SCALE.checksum)
  }

  #number(field: number): number {
    return this.#numbers[this.#at + field] as number
  }
}
