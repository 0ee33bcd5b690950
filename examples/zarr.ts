/**
 * Writes an array in the Zarr format and reads a part of it, by zarrita over deepring.
 *
 *   npm install zarrita
 *   node examples/zarr.ts
 *
 * Run it in a checkout after `npm run build:native`, with Node 24 or newer (`await using`). In your own project the import is
 * `from 'deepring'`.
 *
 * zarrita wants a store: `get` for a whole file, `getRange` for a part of one, `set` to write one. Each file of an array is
 * replaced as a whole, so that a crash leaves no half of a chunk.
 */

import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import process from 'node:process'
import * as zarr from 'zarrita'
import { open, readFile, writeFile } from '../index.ts'

const SIDE = 1000

/** What zarrita takes for a file that is not there. */
function absent(error: { code?: string }): undefined {
  if (error.code !== 'ENOENT') throw error
}

class FileStore implements zarr.AsyncMutable, zarr.AsyncReadable {
  readonly #root: string

  constructor(root: string) {
    this.#root = root
  }

  get(key: zarr.AbsolutePath): Promise<Uint8Array | undefined> {
    return readFile(join(this.#root, key)).catch(absent)
  }

  async getRange(key: zarr.AbsolutePath, range: zarr.RangeQuery): Promise<Uint8Array | undefined> {
    const file = await open(join(this.#root, key)).catch(absent)
    if (file === undefined) return undefined
    try {
      const buffer = await file.asyncBuffer()
      const part =
        'suffixLength' in range
          ? buffer.slice(-range.suffixLength)
          : buffer.slice(range.offset, range.offset + range.length)
      return new Uint8Array(await part)
    } finally {
      await file.close()
    }
  }

  async set(key: zarr.AbsolutePath, bytes: Uint8Array): Promise<void> {
    const path = join(this.#root, key)
    await mkdir(dirname(path), { recursive: true })
    await writeFile(path, bytes, { replace: true, durable: false })
  }
}

// Not in the system's temporary directory, which is often memory. Direct I/O needs a drive.
const directory = await mkdtemp(join(process.cwd(), 'zarr-'))
try {
  const root = zarr.root(new FileStore(directory))
  const array = await zarr.create(root.resolve('plane'), {
    shape: [SIDE, SIDE],
    chunkShape: [100, 100],
    dtype: 'float32',
  })
  const data = new Float32Array(SIDE * SIDE).map((_, index) => index)
  await zarr.set(array, null, { data, shape: [SIDE, SIDE], stride: [SIDE, 1] })

  const opened = await zarr.open(root.resolve('plane'), { kind: 'array' })
  const part = await zarr.get(opened, [zarr.slice(10, 510), zarr.slice(900, 1000)])
  const values = part.data as Float32Array
  const right = values.every((value, nth) => value === (10 + Math.floor(nth / 100)) * SIDE + 900 + (nth % 100))
  console.log(`${values.length} of ${SIDE * SIDE} values read: ${right ? 'every value is right' : 'WRONG'}`)
  if (!right || values.length !== 50_000) process.exitCode = 1
} finally {
  await rm(directory, { recursive: true })
}
