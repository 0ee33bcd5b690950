/**
 * One bar on a terminal, one line per finished step everywhere else (a log should not be full of
 * carriage returns).
 *
 * While a step runs, the bar samples a counter twenty times a second. For transfers that is
 * deepring's own `stats()`, so one request of a gigabyte moves the bar smoothly. This also shows
 * that the event loop is free.
 */

import { formatSize, gigabytesPerSecond } from './size.ts'

const SAMPLE_MS = 50
const BAR_COLUMNS = 28
const LABEL_COLUMNS = 12
const CLEAR_LINE = '\r\x1b[2K'

export interface Step<T> {
  value: T
  seconds: number
}

/** The part of standard output that is used. */
interface Output {
  readonly isTTY?: boolean | undefined
  write(text: string): unknown
}

export class Progress {
  readonly #out: Output

  constructor(out: Output) {
    this.#out = out
  }

  /** Writes a separate line. Never called while a bar is shown. */
  line(text = ''): void {
    this.#out.write(`${text}\n`)
  }

  /**
   * Shows a bar while `work` runs; `done` returns the completed part, between 0 and 1. Leaves no
   * line.
   */
  async bar<T>(label: string, done: () => number, work: () => Promise<T>): Promise<T> {
    if (!this.#out.isTTY) return work()
    const timer = setInterval(() => this.#draw(label, done()), SAMPLE_MS)
    try {
      return await work()
    } finally {
      clearInterval(timer)
      this.#out.write(CLEAR_LINE)
    }
  }

  /**
   * Runs `work` under a bar and leaves one line about it.
   *
   * @param totalBytes - What `doneBytes` reaches at the end.
   * @param summary - Describes the step in the line that stays.
   */
  async step<T>(
    label: string,
    totalBytes: number,
    doneBytes: () => number,
    work: () => Promise<T>,
    summary: (value: T) => string,
  ): Promise<Step<T>> {
    const started = performance.now()
    const value = await this.bar(label, () => doneBytes() / totalBytes, work)
    const seconds = (performance.now() - started) / 1000
    const rate = `${seconds.toFixed(2)} s, ${gigabytesPerSecond(totalBytes, seconds).toFixed(2)} GB/s`
    this.line(`${label.padEnd(LABEL_COLUMNS)}${summary(value)}: ${formatSize(totalBytes)} in ${rate}`)
    return { value, seconds }
  }

  #draw(label: string, part: number): void {
    const done = Math.max(0, Math.min(1, part))
    const full = Math.floor(done * BAR_COLUMNS)
    const bar = '█'.repeat(full) + '░'.repeat(BAR_COLUMNS - full)
    this.#out.write(`\r${label.padEnd(LABEL_COLUMNS)}${bar} ${Math.floor(done * 100)} %`)
  }
}
