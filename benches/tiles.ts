/**
 * The data of every file: real weights, tiled, with a stamp on each page. `native/src/tiles.rs` is
 * the same definition in Rust.
 *
 * Byte x of a file is byte (origin + x) mod L of the source, except that the first eight bytes of
 * each 4096-byte page hold the page's number in its file and a seed, both as little-endian u32.
 */

import { readFileSync } from 'node:fs'
import { PAGE_BYTES } from '../lib/measure/positions.ts'

/** One page in this many is compared in full; of the others only the stamp. */
const FULL_EVERY = 64

/** Which part of the tiling a file holds. */
export interface Pattern {
  /** Where in the tiling the file begins, in bytes. */
  readonly origin: number
  /** Identifies one write of the file. */
  readonly seed: number
}

/** The source bytes. */
export class Tiles {
  readonly #source: Uint8Array

  constructor(path: string) {
    this.#source = readFileSync(path)
  }

  /**
   * Fills `bytes` with the content at `position` of a file. `position` is a multiple of a page;
   * `bytes` starts at a multiple of 4 in its buffer.
   */
  fill(bytes: Uint8Array, pattern: Pattern, position = 0): void {
    const source = this.#source
    let from = (pattern.origin + position) % source.length
    for (let at = 0; at < bytes.length; from = 0) {
      const length = Math.min(bytes.length - at, source.length - from)
      bytes.set(source.subarray(from, from + length), at)
      at += length
    }
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset, Math.floor(bytes.length / 4))
    for (let page = 0; page * 1024 < words.length; page += 1) {
      words[page * 1024] = position / PAGE_BYTES + page
      words[page * 1024 + 1] = pattern.seed
    }
  }

  /**
   * Throws if `bytes` is not the content at `position` of the file, and names the first wrong page.
   */
  check(bytes: Uint8Array, pattern: Pattern, position = 0): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const expected = new Uint8Array(PAGE_BYTES)
    for (let at = 0; at < bytes.length; at += PAGE_BYTES) {
      const page = (position + at) / PAGE_BYTES
      let same = view.getUint32(at, true) === page && view.getUint32(at + 4, true) === pattern.seed
      if (same && (at / PAGE_BYTES) % FULL_EVERY === 0) {
        const length = Math.min(PAGE_BYTES, bytes.length - at)
        this.fill(expected.subarray(0, length), pattern, position + at)
        same = Buffer.compare(expected.subarray(0, length), bytes.subarray(at, at + length)) === 0
      }
      if (!same) throw new Error(`the page at position ${position + at} does not hold what was written there`)
    }
  }

  /** The same for bytes that begin and end anywhere in a page: every byte of their first and last page is compared. */
  checkPart(bytes: Uint8Array, pattern: Pattern, position: number): void {
    const head = Math.min(bytes.length, (PAGE_BYTES - (position % PAGE_BYTES)) % PAGE_BYTES)
    const tail = Math.max(head, bytes.length - ((position + bytes.length) % PAGE_BYTES))
    this.#checkWithin(bytes.subarray(0, head), pattern, position)
    this.check(bytes.subarray(head, tail), pattern, position + head)
    this.#checkWithin(bytes.subarray(tail), pattern, position + tail)
  }

  /** Less than a page, of one page. */
  #checkWithin(bytes: Uint8Array, pattern: Pattern, position: number): void {
    if (bytes.length === 0) return
    const within = position % PAGE_BYTES
    const page = new Uint8Array(PAGE_BYTES)
    // oxlint-disable-next-line no-array-fill-with-reference-type -- not the method of arrays
    this.fill(page, pattern, position - within)
    if (Buffer.compare(page.subarray(within, within + bytes.length), bytes) !== 0)
      throw new Error(`the ${bytes.length} bytes at position ${position} are not what was written there`)
  }
}
