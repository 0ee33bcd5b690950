/**
 * What crosses to the binding and back for swapping. `crates/deepring-node/src/swap*.rs` is the other side.
 * `__test__/record.spec.ts` compares both.
 */

/** How to open a swap store. */
export interface SwapRequest {
  memory: number
  capacity: number
  durable: boolean
  checksum: boolean
  create: boolean
  /** See `DIRECT` of record.ts. */
  direct: number
}

/** How tensors are put. */
export interface SwapPutRequest {
  pin: boolean
  /** Absent: nothing is converted. */
  convert?: string
  adopt: boolean
}

/** A lease that was given. */
export interface SwapLeased {
  lease: number
  /** Absent: a type that only the table of the store knows. */
  dtype?: string
  shape: number[]
  bytes: number
}

/** What a store says of a tensor. */
export interface SwapTensor {
  /** As above. */
  dtype?: string
  shape: number[]
  bytes: number
  state: 'stored' | 'reading' | 'resident' | 'dirty' | 'writing' | 'leased'
}

/** What a store has done, and what it has in memory. */
export interface SwapStatistics {
  memory: number
  used: number
  resident: number
  reading: number
  dirty: number
  leased: number
  usedMax: number
  capacity: number
  stored: number
  adopted: number
  read: number
  written: number
  joined: number
  hits: number
  misses: number
  prefetched: number
  prefetchHits: number
  expired: number
  evicted: number
}

/** One group of a swapper. */
export interface GroupRequest {
  name: string
  numel: number
  states: string[]
  dtype: string
  /** Absent: the swapper keeps no gradient. */
  gradient?: string
  resident: boolean
}

/** How to open a swapper. */
export interface SwapperRequest {
  groups: GroupRequest[]
  /** 0: what the memory allows. */
  depth: number
  /** Absent: the default. */
  memory?: number
  durable: boolean
  create: boolean
}

/** A lease of a group that was given. */
export interface GroupLeased {
  lease: number
  group: string
}

/** What a swapper has done. */
export interface SwapperStatistics {
  memory: number
  used: number
  usedMax: number
  depth: number
  read: number
  written: number
  leases: number
  readMs: number
  writeMs: number
  ioMs: number
  computeMs: number
  stallMs: number
  overlap: number
}
