/** What a verb shows: colors on standard output, and a bar of progress on standard error. Each only on a terminal. */

import { performance } from 'node:perf_hooks'
import { styleText } from 'node:util'
import type { WriteStream } from 'node:tty'
import { bytesText, clockText } from './text.ts'

/** A style of `util.styleText`. */
export type Style = Parameters<typeof styleText>[0]

/** Colors of a stream: none in a pipe, none with `NO_COLOR`. */
export type Paint = (style: Style, text: string) => string

function paintOf(stream: NodeJS.WriteStream): Paint {
  // Knows NO_COLOR, FORCE_COLOR and TERM.
  const colored = stream.isTTY && (stream as WriteStream).hasColors()
  return (style, text) => (colored && text !== '' ? styleText(style, text) : text)
}

/** Erases the line that the cursor is in. */
const ERASE = '\r\u001B[K'

/** Between two pictures of a bar. */
const PAUSE_MS = 100

/** Cells of a bar. */
const CELLS = 20

/** The rate is that of the last seconds. */
const RATE_MS = 3000

/** See the module. */
export class Screen {
  /** For standard output. */
  readonly paint: Paint
  readonly #err: NodeJS.WriteStream
  readonly #paintErr: Paint
  #shown = false

  constructor(out: NodeJS.WriteStream = process.stdout, err: NodeJS.WriteStream = process.stderr) {
    this.paint = paintOf(out)
    this.#paintErr = paintOf(err)
    this.#err = err
  }

  /** Shows a bar for work on bytes. It is erased by {@link Screen.clear}. */
  bar(label: string): Bar {
    return new Bar(label, (line) => this.status(line), this.#paintErr)
  }

  /** Shows a line until the next one. Nothing in a pipe. */
  status(line: string): void {
    if (!this.#err.isTTY) return
    this.#shown = true
    this.#err.write(ERASE + line)
  }

  /** Columns of the line of {@link Screen.status}. */
  get columns(): number {
    return this.#err.columns ?? 80
  }

  /** Erases the bar or the status. */
  clear(): void {
    if (!this.#shown) return
    this.#shown = false
    this.#err.write(ERASE)
  }

  /** Writes a line to standard error. */
  complain(line: string): void {
    this.clear()
    this.#err.write(`${this.#paintErr('red', line)}\n`)
  }
}

/** Progress of work on bytes, with its rate and the time that is left. */
export class Bar {
  readonly #label: string
  readonly #show: (line: string) => void
  readonly #paint: Paint
  /** Times and bytes, of the last seconds. */
  #samples: (readonly [ms: number, bytes: number])[] = []
  #shownMs = -Infinity
  #done = 0
  #total = 0

  constructor(label: string, show: (line: string) => void, paint: Paint) {
    this.#label = label
    this.#show = show
    this.#paint = paint
  }

  /** Sets how far the work is. Can be passed as `onProgress`. */
  readonly set = ({ bytes, total }: { readonly bytes: number; readonly total: number }): void => {
    this.#done = bytes
    this.#total = total
    const now = performance.now()
    if (now - this.#shownMs < PAUSE_MS) return
    this.#shownMs = now
    this.#samples.push([now, bytes])
    while (this.#samples.length > 2 && (this.#samples[0]?.[0] ?? 0) < now - RATE_MS) this.#samples.shift()
    this.#show(this.line())
  }

  /** More bytes are done, of this many. */
  add(bytes: number, total: number): void {
    this.set({ bytes: this.#done + bytes, total })
  }

  /** The bar, as it is now. */
  line(): string {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)]
    const rate = first && last && last[0] > first[0] ? ((last[1] - first[1]) / (last[0] - first[0])) * 1e3 : 0
    const speed = rate > 0 ? `  ${bytesText(Math.round(rate))}/s` : ''
    if (!Number.isFinite(this.#total)) return `${this.#label}  ${bytesText(this.#done)}${speed}`
    const share = this.#total === 0 ? 1 : Math.min(1, this.#done / this.#total)
    const full = Math.round(share * CELLS)
    const cells = this.#paint('green', '█'.repeat(full)) + '░'.repeat(CELLS - full)
    const left = rate > 0 ? `  ${clockText((this.#total - this.#done) / rate)} left` : ''
    const percent = `${Math.floor(share * 100)} %`.padStart(5)
    return `${this.#label}  ${cells}  ${percent}  ${bytesText(this.#done)} of ${bytesText(this.#total)}${speed}${left}`
  }
}
