/**
 * Copies a file and shows its progress: a clone where the file system can make one, else at the speed of the drive.
 *
 *   node examples/copy.ts                      a 256 MiB sample that it creates, copies and removes
 *   node examples/copy.ts FROM TO              any file
 *
 * Run it in a checkout after `npm run build:native`, with Node 24 or newer. In your own project the import is
 * `from 'deepring'`.
 *
 * Ctrl-C stops it. The copy takes the place of what was there when it is complete and safe, and not before.
 */

import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { copyFile, hashFile, writeFile, type Progress } from '../index.ts'

const SAMPLE_BYTES = 256 << 20

function show({ bytes, total }: Progress): void {
  if (process.stdout.isTTY) process.stdout.write(`\r${Math.floor((100 * bytes) / total)} % of ${total} bytes`)
}

async function copy(from: string, to: string, clone: 'prefer' | 'never'): Promise<void> {
  const controller = new AbortController()
  const stop = (): void => controller.abort()
  process.once('SIGINT', stop)
  const start = performance.now()
  try {
    const options = { replace: true, clone, onProgress: show, signal: controller.signal }
    const { bytes, copied, cloned } = await copyFile(from, to, options)
    const seconds = (performance.now() - start) / 1e3
    const rate = cloned ? 'cloned' : `${(copied / seconds / 1e9).toFixed(2)} GB/s to the drive`
    console.log(`copied ${bytes} bytes in ${(seconds * 1e3).toFixed(0)} ms: ${rate}`)
  } finally {
    process.off('SIGINT', stop)
  }
}

const [from, to] = process.argv.slice(2)
if (from !== undefined && to !== undefined) {
  await copy(from, to, 'prefer')
} else {
  // Not in the system's temporary directory, which is often memory. Direct I/O needs a drive.
  const directory = await mkdtemp(join(process.cwd(), 'copy-'))
  try {
    const [sample, other] = [join(directory, 'sample.bin'), join(directory, 'copy.bin')]
    await writeFile(
      sample,
      new Uint32Array(SAMPLE_BYTES / 4).map((_, index) => Math.imul(index, 2_654_435_761)),
    )
    await copy(sample, other, 'never')
    const same = (await hashFile(sample, 'crc32c')) === (await hashFile(other, 'crc32c'))
    console.log(same ? 'the copy is the same' : 'THE COPY IS ANOTHER')
    if (!same) process.exitCode = 1
  } finally {
    await rm(directory, { recursive: true })
  }
}
