/**
 * Receipts: what became of a request on its way, told with its result.
 *
 * A receipt is how "direct" or "copied" is known instead of believed: it counts the blocks that moved, the bytes that
 * went through bounce blocks because their address or position was unaligned, and the transfers that had to be resumed
 * or retried.
 */

/** What the engine did for one request. */
export interface Receipt {
  /** Who moved the bytes: `'uring'` or `'threads'`. */
  readonly backend: 'uring' | 'threads'
  /** True if every block went past the page cache. */
  readonly direct: boolean
  /** Transfers between memory and device. */
  readonly blocks: number
  /**
   * Bytes that were copied through a bounce block, for want of alignment. 0 means that the device wrote into your
   * memory itself.
   */
  readonly bounced: number
  /** Short transfers that were continued. */
  readonly resumed: number
  /** Transfers that were submitted again after `EINTR` or `EAGAIN`. */
  readonly retried: number
  /** Milliseconds from the call until the first block was submitted. */
  readonly queueMs: number
  /** Milliseconds from the first submission to the last completion. */
  readonly deviceMs: number
}

/** Bits of a record's `flags`. */
const DIRECT = 1
const THREADS = 2

/** Reads the receipt out of the completion record that begins at `at`: see `RECORD` in record.ts for its layout. */
export function receiptOf(records: Float64Array, at: number): Receipt {
  const flags = records[at + 9] as number
  return {
    backend: (flags & THREADS) === 0 ? 'uring' : 'threads',
    direct: (flags & DIRECT) !== 0,
    blocks: records[at + 3] as number,
    bounced: records[at + 4] as number,
    resumed: records[at + 5] as number,
    retried: records[at + 6] as number,
    queueMs: records[at + 7] as number,
    deviceMs: records[at + 8] as number,
  }
}
