/**
 * The parameters that a parent passes to its child processes, and how they read them.
 */

import type { Task } from '../task.ts'

/** The bytes a process writes or expects: see `tiles.ts`. */
export interface Content {
  readonly seed: number
  /** The file with the source bytes. */
  readonly source: string
}

/** One large file. */
export interface FileParameters extends Content {
  readonly file: string
  readonly bytes: number
}

/**
 * The memory that holds the bytes: deepring's, touched before; deepring's, allocated in the timed
 * region, or before it and never touched; an ordinary Buffer, touched; memory that no drive takes
 * as it is, so that every byte is copied.
 */
export type Memory = 'touched' | 'allocating' | 'fresh' | 'buffer' | 'copied'

/** One large file, moved by deepring. */
export interface StreamParameters extends FileParameters {
  readonly task: Task
  readonly memory: Memory
  /** With the CRC-32C of its bytes. */
  readonly summed: boolean
}

/** A number of random reads: how many, how many at a time, and the seed of their positions. */
export interface Reads {
  readonly operations: number
  readonly depth: number
  readonly order: number
}

/** Random reads of the large file. */
export interface RandomParameters extends FileParameters, Reads {
  /** Threads of an engine without a ring; absent for the default engine. */
  readonly threads?: number
}

/** A file, all or part of which may be in the page cache. */
export interface ResidentParameters extends FileParameters {
  readonly direct: 'auto' | 'prefer' | 'never'
  /** Bytes of each read. */
  readonly length: number
}

/** Random reads in calls of many ranges. */
export interface ManyParameters extends FileParameters {
  readonly operations: number
  readonly order: number
  /** Bytes of each range. */
  readonly length: number
  /** Ranges of a call; 1 for a promise each, 128 at a time. */
  readonly ranges: number
  /** Whether the delay of the event loop is measured, which costs the thread CPU a thousand times a second. */
  readonly delay: boolean
}

/** Small reads of one file beside a stream of another, and behind backlogs. */
export interface LatencyParameters extends FileParameters {
  /** The file of the small reads, and its length. */
  readonly other: string
  readonly otherBytes: number
  readonly window: 'auto' | 'fixed'
  readonly priority: 'latency' | 'throughput'
  /** How long the stream lasts. */
  readonly seconds: number
  /** The seed of the positions; 0 for a stream without small reads. */
  readonly order: number
  /** The name of each backlog, the length of its reads, and their number. */
  readonly backlogs: readonly (readonly [name: string, length: number, count: number])[]
  readonly repeats: number
}

/** The small files. */
export interface SmallParameters extends Content {
  readonly task: Task
  readonly folder: string
  readonly sizes: readonly number[]
}

/** A file of tensors. */
export interface ModelParameters extends FileParameters {
  /** Where the tiling of its bytes begins in the source. */
  readonly origin: number
  /** Where its tensors begin. */
  readonly start: number
  /** Bytes of its tensors. */
  readonly tensorBytes: number
}

/**
 * How tensors are loaded. `'raw'`: the same bytes, by one read. `'tensors'`: by `load`. `'subarray'`: by `fs.readFile` and
 * views.
 */
export type TensorsMethod = 'raw' | 'tensors' | 'subarray'

/** A load of all tensors of a file. */
export interface TensorsLoadParameters extends ModelParameters {
  readonly method: TensorsMethod
  /** Whether the memory was touched before, and is the caller's; else it is allocated in the region. */
  readonly touched: boolean
  /** The file that has the same tensors where the tiling says, if this one has them in another order. */
  readonly original: string | null
}

/** A part of every matrix of a file, or everything within a budget. */
export interface TensorsPartParameters extends ModelParameters {
  /** Whether every tensor is compared with what should be there. */
  readonly verifies: boolean
}

/** The tensors of one file, saved in another. */
export interface TensorsSaveParameters extends ModelParameters {
  readonly to: string
  /** `'raw'`: as many bytes, by one write. */
  readonly method: 'raw' | 'tensors'
  /** Whether each tensor begins on a page of memory; else they are where a load has put them. */
  readonly aligned: boolean
  readonly verifies: boolean
}

/** How a file is moved. */
export type WholeMethod =
  | 'chunks'
  | 'readStream'
  | 'fsReadStream'
  | 'pipeTo'
  | 'fsPipe'
  | 'memoryToSocket'
  | 'readInto'
  | 'readFresh'
  | 'readRaw'
  | 'fsReadFile'
  | 'copy'
  | 'fsCopy'
  | 'crc32c'
  | 'sha256'
  | 'hashMemory'
  | 'hashFresh'

/** A whole file, or a stream of it. */
export interface WholeParameters extends FileParameters {
  readonly method: WholeMethod
  /** Where a copy goes. */
  readonly to: string
}

/** The tensors of a file, saved as a checkpoint. */
export interface CheckpointParameters extends ModelParameters {
  /** The folder of the store. */
  readonly folder: string
  /**
   * Until it is durable, by one writer or with another one in a worker; or until it is captured, in a process that did it
   * before. `'raw'`: as many bytes, by one write.
   */
  readonly method: 'raw' | 'one' | 'two' | 'capture'
  readonly verifies: boolean
}

/** The parameters the parent passed to this process. */
export function parameters<T>(): T {
  return JSON.parse(process.argv[2] ?? '{}') as T
}
