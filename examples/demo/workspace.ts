/**
 * The directory of one run, which is always removed afterwards.
 *
 * It is removed in the `exit` handler, because that runs on every exit that can be caught: the end,
 * a thrown error, and the signals below, which are turned into an exit. (SIGKILL cannot be caught;
 * what it leaves is named `deepring-demo-*`.) The handler must be synchronous. It also kills the
 * child that runs at that moment, which could otherwise still create files.
 */

import type { ChildProcess } from 'node:child_process'
import { mkdtempSync, mkdirSync, rmSync } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { constants } from 'node:os'
import { join, resolve } from 'node:path'

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** Together a few seconds, which is longer than all small files take to be created. */
const REMOVE_RETRIES = 20
const REMOVE_RETRY_MS = 20

export class Workspace {
  readonly directory: string
  readonly #children = new Set<ChildProcess>()

  /** Makes a fresh directory inside `parent`, which is created if it does not exist. */
  constructor(parent: string) {
    mkdirSync(parent, { recursive: true })
    this.directory = mkdtempSync(join(resolve(parent), 'deepring-demo-'))
    process.on('exit', () => this.#remove())
    // Shells expect 128 + the number of the signal.
    for (const signal of SIGNALS) process.on(signal, () => process.exit(128 + constants.signals[signal]))
  }

  path(name: string): string {
    return join(this.directory, name)
  }

  /** Bytes that this user can still write. */
  async freeBytes(): Promise<number> {
    const { bavail, bsize } = await statfs(this.directory)
    return bavail * bsize
  }

  /** Kills the child when this process exits. */
  endWithProcess(child: ChildProcess): void {
    this.#children.add(child)
    child.once('exit', () => this.#children.delete(child))
  }

  #remove(): void {
    for (const child of this.#children) child.kill('SIGKILL')
    // Files that are still queued for writing are created while this removes; then the directory is
    // not empty at the end.
    rmSync(this.directory, { recursive: true, force: true, maxRetries: REMOVE_RETRIES, retryDelay: REMOVE_RETRY_MS })
  }
}
