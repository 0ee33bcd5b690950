/**
 * Receipts: how a request was carried out, returned with its result.
 *
 * A receipt shows what really ran: the blocks of the request, the bytes that went through bounce blocks because their
 * address or position was unaligned, and the transfers that were resumed or retried.
 */

import { backendOf, FLAG, type Backend, type RecordView } from '../core/record.ts'

/** What the engine did for one request. */
export interface Receipt {
  /** What moved the bytes. */
  readonly backend: Backend
  /** True if every block bypassed the page cache. */
  readonly direct: boolean
  /** Blocks that the request was cut into. A block that is resumed or retried counts once. */
  readonly blocks: number
  /**
   * Bytes that were copied through a bounce block, because they were not aligned. 0 means that the device used your
   * memory itself.
   */
  readonly bounced: number
  /** Short transfers that were continued. */
  readonly resumed: number
  /** Transfers that were submitted again after `EINTR` or `EAGAIN`. */
  readonly retried: number
  /** Milliseconds from the call until the first block was submitted. */
  readonly queueMs: number
  /** Milliseconds from the first submission to the last completion, and sum if there is a checksum. */
  readonly deviceMs: number
  /** The CRC-32C of the bytes that were moved: a whole number from 0 to 2^32 - 1. Absent unless it was asked for. */
  readonly checksum?: number
}

/** The receipt of a transfer, from its record. */
export function receiptOf(record: RecordView): Receipt {
  const { flags } = record
  const receipt: Receipt = {
    backend: backendOf(flags),
    direct: (flags & FLAG.direct) !== 0,
    blocks: record.blocks,
    bounced: record.bounced,
    resumed: record.resumed,
    retried: record.retried,
    queueMs: record.queueMs,
    deviceMs: record.deviceMs,
  }
  return (flags & FLAG.checksum) === 0 ? receipt : { ...receipt, checksum: record.checksum }
}
