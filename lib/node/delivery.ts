/**
 * The records that wait for `drain`: one list, and one wake for all that come in one turn of the event loop.
 */

import { FIELD, RECORD, STATUS, type Failure } from '../core/record.ts'

/** The numbers of a record that are not 0. */
export type RecordFields = Partial<Record<Exclude<keyof typeof FIELD, 'id' | 'status'>, number>>

interface Due {
  readonly id: number
  readonly status: number
  readonly fields: RecordFields
  readonly detail: unknown
}

/** Looked up once: records are the hot path. */
const FIELDS = Object.entries(FIELD)

export class Delivery {
  #wake: () => void = () => {}
  #due: Due[] = []
  /** Those before it are drained. */
  #head = 0
  readonly #details = new Map<number, unknown>()
  #isWaking = false

  /** See `Native.attach`. */
  attach(wake: () => void): void {
    this.#wake = wake
  }

  /** A request has succeeded. */
  succeed(id: number, fields: RecordFields = {}, detail: unknown = null): void {
    this.#push({ id, status: detail === null ? STATUS.success : STATUS.successWithDetail, fields, detail })
  }

  /** A request has failed. */
  fail(id: number, detail: Failure): void {
    this.#push({ id, status: STATUS.failure, fields: { transferred: detail.transferred }, detail })
  }

  /** A request was canceled before its end. */
  cancel(id: number): void {
    this.#push({ id, status: STATUS.canceled, fields: {}, detail: null })
  }

  /** See `Native.drain`. */
  drain(records: Float64Array): number {
    const count = Math.min(Math.floor(records.length / RECORD), this.#due.length - this.#head)
    records.fill(0, 0, count * RECORD)
    for (let nth = 0; nth < count; nth += 1) {
      const { id, status, fields, detail } = this.#due[this.#head + nth] as Due
      const at = nth * RECORD
      for (const [name, field] of FIELDS) records[at + field] = fields[name as keyof RecordFields] ?? 0
      records[at + FIELD.id] = id
      records[at + FIELD.status] = status
      if (detail !== null) this.#details.set(id, detail)
    }
    this.#head += count
    if (this.#head === this.#due.length) {
      this.#due = []
      this.#head = 0
    }
    return count
  }

  /** See `Native.detail`. */
  detail(id: number): unknown {
    const detail = this.#details.get(id)
    this.#details.delete(id)
    return detail
  }

  #push(due: Due): void {
    this.#due.push(due)
    if (this.#isWaking) return
    this.#isWaking = true
    // After the callbacks of this turn, so that one wake covers all that they report.
    setImmediate(() => {
      this.#isWaking = false
      if (this.#head < this.#due.length) this.#wake()
    })
  }
}
