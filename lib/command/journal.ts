/**
 * The journal of a copy that can be resumed: beside the target, a line for each file, and one for each 64 MiB that were written,
 * with their CRC-32C. It is never believed: what it says of the target is compared with the bytes there.
 *
 * ```text
 *   {"format":"deepring-copy","version":1,"chunk":67108864}
 *   {"file":"data/a.bin","size":1000,"changed":"1700000000000000000","inode":"42"}
 *   [0,0,3808858755]                                                               file 0, chunk 0, CRC-32C
 * ```
 */

import { readFile, open, rm, type FileHandle } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { BigIntFileStat } from '../../index.ts'
import { Refusal } from './failure.ts'
import { quotedOf } from './text.ts'

/** Bytes of a chunk. */
export const CHUNK_BYTES: number = 64 << 20

const HEAD = { format: 'deepring-copy', version: 1, chunk: CHUNK_BYTES }

/** Where the journal of a target is. */
export function journalPath(target: string): string {
  return `${resolve(target)}.deepring-journal`
}

/** What a file was when it was read. */
interface Source {
  readonly file: string
  readonly size: number
  readonly changed: string
  readonly inode: string
}

/** Whether a line is of a file. Any other, in a journal that was damaged, says nothing. */
function isSource(line: unknown): line is Source {
  return typeof line === 'object' && line !== null && typeof (line as Partial<Source>).file === 'string'
}

/** A file of a journal. */
export interface Entry {
  readonly number: number
  /** The checksums of chunks that were written. */
  readonly chunks: Map<number, number>
}

/** See the module. */
export class Journal {
  readonly #path: string
  readonly #handle: FileHandle
  /** The last of each name counts. */
  readonly #entries: Map<string, Entry & { readonly source: Source }>
  #count: number
  /** Lines are written in their order. */
  #written: Promise<unknown> = Promise.resolve()

  private constructor(path: string, handle: FileHandle, lines: readonly unknown[]) {
    this.#path = path
    this.#handle = handle
    this.#entries = new Map()
    const list: Entry[] = []
    for (const line of lines) {
      if (Array.isArray(line)) {
        const [file, chunk, crc] = line as [number, number, number]
        list[file]?.chunks.set(chunk, crc)
      } else if (isSource(line)) {
        const entry = { number: list.length, source: line, chunks: new Map<number, number>() }
        list.push(entry)
        this.#entries.set(line.file, entry)
      }
    }
    this.#count = list.length
  }

  /** Opens the journal of a target, or begins one. */
  static async open(target: string): Promise<Journal> {
    const path = journalPath(target)
    const [head, ...lines] = await linesOf(path)
    if (head !== undefined && JSON.stringify(head) !== JSON.stringify(HEAD))
      throw new Refusal(`${quotedOf(path)} is not a journal of this release: remove it to begin anew`)
    const handle = await open(path, 'a')
    // A line that was cut off ends here.
    await handle.write(head === undefined ? `${JSON.stringify(HEAD)}\n` : '\n')
    return new Journal(path, handle, lines)
  }

  /** What is known of a file: nothing if it has changed since. */
  async entryOf(name: string, stat: BigIntFileStat): Promise<Entry> {
    const source = { file: name, size: Number(stat.size), changed: String(stat.mtimeNs), inode: String(stat.ino) }
    const known = this.#entries.get(name)
    if (known !== undefined && JSON.stringify(known.source) === JSON.stringify(source)) return known
    const entry = { number: this.#count, source, chunks: new Map<number, number>() }
    this.#count += 1
    this.#entries.set(name, entry)
    await this.#write(source)
    return entry
  }

  /** A chunk was written. */
  async add({ number, chunks }: Entry, chunk: number, crc: number): Promise<void> {
    chunks.set(chunk, crc)
    await this.#write([number, chunk, crc])
  }

  /** Everything is copied. */
  async remove(): Promise<void> {
    await this.close()
    await rm(this.#path, { force: true })
  }

  /** Ends, and stays. */
  async close(): Promise<void> {
    await this.#written
    await this.#handle.close()
  }

  #write(line: object): Promise<unknown> {
    this.#written = this.#written.then(() => this.#handle.write(`${JSON.stringify(line)}\n`))
    return this.#written
  }
}

/** The lines of a journal, without one that was cut off. */
async function linesOf(path: string): Promise<unknown[]> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return []
    if (code === 'EISDIR') throw new Refusal(`${quotedOf(path)} is a directory, and not a journal`)
    throw error
  }
  return text.split('\n').flatMap((line): unknown[] => {
    try {
      return line === '' ? [] : [JSON.parse(line)]
    } catch {
      return []
    }
  })
}
