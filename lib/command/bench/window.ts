/** The search for the window, watched while a bench runs. */

import type { Engine } from '../../../index.ts'

/** What the engine keeps in flight at the device at a time, in bytes. */
export interface WindowSample {
  /** Since the first round began. */
  readonly seconds: number
  readonly readBytes: number
  readonly readSharedBytes: number
  readonly writeBytes: number
  readonly writeSharedBytes: number
}

/** The search takes at most a step a second. */
const PERIOD_MS = 100

/** See the module. */
export class WindowWatch {
  readonly #engine: Engine
  readonly #device: string
  readonly #samples: WindowSample[] = []
  readonly #started = performance.now()
  readonly #timer = setInterval(() => this.#look(), PERIOD_MS)

  constructor(engine: Engine, device: string) {
    this.#engine = engine
    this.#device = device
  }

  /** Ends. Returns the first sample, each that differs from the one before, and the last; none where no window is searched for. */
  stop(): readonly WindowSample[] {
    clearInterval(this.#timer)
    const last = this.#samples.at(-1)
    if (last !== undefined) this.#samples.push({ ...last, seconds: this.#seconds() })
    return this.#samples
  }

  #seconds(): number {
    return (performance.now() - this.#started) / 1e3
  }

  #look(): void {
    const found = this.#engine.stats().windows.find(({ device }) => device === this.#device)
    if (found === undefined) return
    const { read, write } = found
    const last = this.#samples.at(-1)
    const isSame =
      last?.readBytes === read.bytes &&
      last.readSharedBytes === read.sharedBytes &&
      last.writeBytes === write.bytes &&
      last.writeSharedBytes === write.sharedBytes
    if (isSame) return
    this.#samples.push({
      seconds: this.#seconds(),
      readBytes: read.bytes,
      readSharedBytes: read.sharedBytes,
      writeBytes: write.bytes,
      writeSharedBytes: write.sharedBytes,
    })
  }
}
