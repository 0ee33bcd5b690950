/** An open table as its operations see it. */

import { connect, nextId, track } from '../core/completions.ts'
import { Operation } from '../core/operation.ts'
import { checkOpen, running, type Closable, type EngineState } from '../core/engine-state.ts'
import { closed } from '../core/errors.ts'
import type { OpenedTable } from '../core/tensors.ts'
import { Rows } from './info.ts'

/** Lives until the last operation on the table has settled. */
export class TableState implements Closable {
  readonly engine: EngineState
  readonly opened: OpenedTable
  readonly rows: Rows
  /** Settles when the files are closed; absent while they are open. */
  closing: Promise<void> | undefined
  /** What uses the files. */
  readonly #running = new Set<Promise<unknown>>()

  constructor(engine: EngineState, opened: OpenedTable) {
    this.engine = engine
    this.opened = opened
    this.rows = new Rows(opened)
    engine.files.add(this)
  }

  /** Refuses work on a table that is closed or closing. */
  check(syscall: string): void {
    if (this.closing !== undefined) throw closed('table', syscall, this.opened.files[0])
    checkOpen(this.engine, syscall)
  }

  /** The close waits for this. */
  run<T>(operation: Promise<T>): Promise<T> {
    return running(this.#running, operation)
  }

  /** Closes the files once, however often it is called, after the operations on them. */
  close(): Promise<void> {
    this.closing ??= this.#close()
    return this.closing
  }

  async #close(): Promise<void> {
    await Promise.allSettled(this.#running)
    this.engine.files.delete(this)
    const operation = new Operation(nextId(), 'close', nothing, this, null, this.opened.files[0])
    connect().closeTable(operation.id, this.opened.table)
    await track(operation, null)
  }
}

/** The result of an operation without one. */
export function nothing(): void {}
