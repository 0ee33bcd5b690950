/**
 * Prints the CRC-32C of files, at the speed of the drive.
 *
 *   node examples/checksum.ts                a 64 MiB sample that it creates and removes
 *   node examples/checksum.ts FILE...        any files
 *
 * Run it in a checkout after `npm run build:native`, with Node 24 or newer (`await using`). In your
 * own project the import is `from 'deepring'`.
 *
 * No byte of the files reaches JavaScript: the engine reads them into 64 MiB of its own memory and
 * sums on its threads. A file that cannot be read is reported, and the others are still summed.
 */

import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { crc32cCombine, DeepringError, open } from '../index.ts'

const SAMPLE_BYTES = 64 << 20
const CHUNK_BYTES = 1 << 20

function hex(checksum: number): string {
  return checksum.toString(16).padStart(8, '0')
}

async function printChecksum(path: string): Promise<void> {
  await using file = await open(path)
  console.log(`${hex(await file.checksum())}  ${path}`)
}

/** Writes a sample and compares three ways to its checksum. */
async function compareWays(path: string): Promise<void> {
  await using file = await open(path, 'w+')
  const sample = new Uint32Array(SAMPLE_BYTES / 4).map((_, index) => Math.imul(index, 2_654_435_761))
  const written = await file.write(sample, { position: 0, checksum: 'crc32c' })
  const read = await file.checksum()
  // What is kept per chunk names the chunk that is damaged.
  const chunks = await file.checksum({ chunk: CHUNK_BYTES })
  const combined = chunks.reduce((sum, chunk) => crc32cCombine(sum, chunk, CHUNK_BYTES))
  console.log(`written ${hex(written.receipt.checksum ?? 0)}, read ${hex(read)}, combined ${hex(combined)}`)
}

const paths = process.argv.slice(2)
if (paths.length === 0) {
  // Not in the system's temporary directory, which is often memory. Direct I/O needs a drive.
  const directory = await mkdtemp(join(process.cwd(), 'checksum-'))
  try {
    await compareWays(join(directory, 'sample.bin'))
  } finally {
    await rm(directory, { recursive: true })
  }
}
for (const path of paths) {
  try {
    await printChecksum(path)
  } catch (error) {
    if (!(error instanceof DeepringError)) throw error
    console.error(`checksum: ${error.message}`)
    process.exitCode = 1
  }
}
