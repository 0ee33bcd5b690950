/**
 * What comes back from the binding for tensors: details of records, and answers. `crates/deepring-node/src/tensors*.rs` is
 * the other side. `__test__/record.spec.ts` compares both.
 */

/** Texts in one string. */
export interface Texts {
  text: string
  /** Of each, in UTF-16 code units. */
  lengths: Uint32Array
}

/** A table that was opened. */
export interface OpenedTable {
  table: number
  count: number
  bytes: number
  largest: number
  files: string[]
  direct: boolean
  /** Names of element types, by their numbers. */
  dtypes: string[]
  trailing: number
}

/** One row of a table. */
export interface TableRow {
  name: string
  dtype: number
  shape: number[]
  file: number
  position: number
  length: number
}

/** Many of them, without their names. */
export interface TableRows {
  dtypes: Uint32Array
  ranks: Uint32Array
  extents: Float64Array
  files: Uint32Array
  positions: Float64Array
  lengths: Float64Array
}

/** Some rows, each once. */
export interface Selected {
  indices: Uint32Array
  bytes: number
}

/** How tensors were loaded. */
export interface TensorReceipt {
  bytes: number
  overread: number
  bounced: number
  realigned: number
  direct: boolean
}

/** Tensors that were loaded, in the order of their bytes. */
export interface LoadedTensors {
  /** Numbers of memory; 0 for a group without bytes. */
  memories: Uint32Array
  /** Bytes of the largest group. */
  largest: number
  indices: Uint32Array
  groupOf: Uint32Array
  offsets: Float64Array
  receipt: TensorReceipt
}

/** A group of a stream. */
export interface StreamGroup {
  memory: number
  indices: Uint32Array
  offsets: Float64Array
}

/** What a save has written, before it is visible. */
export interface WrittenSave {
  /** Its number, for `commitSave` or `abandonSave`. */
  written: number
  bytes: number
}

/** What a save did. */
export interface Saved {
  bytes: number
  bounced: number
  direct: boolean
  files: number
}

/** Bytes that do not have their checksum. */
export interface Damaged {
  /** Absent: the header. */
  tensor?: string
  path: string
  position: number
  length: number
  expected: number
  actual: number
}

/** What was verified. */
export interface Verified {
  ok: boolean
  matching: number
  unverifiable: number
  damaged: Damaged[]
  /** Bytes that were read for it. */
  bytes: number
}

/** Tensors, column by column. */
export interface TensorColumns {
  names: string
  /** Of each name, in UTF-8. */
  nameBytes: Uint32Array
  /** Element types, each once. */
  dtypes: string[]
  dtypeOf: Uint32Array
  ranks: Uint32Array
  extents: Float64Array
}

/** What is to be written. */
export interface SaveRequest {
  columns: TensorColumns
  /** Keys and values in turn. */
  metadata: string[]
  align: number
  order: 'blocks' | 'reference' | 'given'
  durable: boolean
  /** Absent: the default. */
  mode?: number
  checksums: boolean
  /** Of one file: 0. */
  shardBytes: number
}
