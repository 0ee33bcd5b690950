/**
 * Replaces a file safely while others read it: they see the old content or the new one, whole, and never anything between.
 *
 *   node examples/replace.ts
 *
 * Run it in a checkout after `npm run build:native`, with Node 24 or newer. In your own project the import is
 * `from 'deepring'`.
 *
 * `replace: true` writes a new file beside the old one, flushes it, and renames it. If the program is stopped, or the drive is
 * full, the old file is as it was, and nothing else is left.
 */

import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { readFile, writeFile } from '../index.ts'

const VERSIONS = 20
const BYTES = 4 << 20

/** The number in all bytes of the file; undefined if they are not one. */
async function versionOf(path: string): Promise<number | undefined> {
  const bytes = await readFile(path)
  const [first] = bytes
  const whole = bytes.byteLength === BYTES && bytes.every((byte) => byte === first)
  bytes[Symbol.dispose]()
  return whole ? first : undefined
}

// Not in the system's temporary directory, which is often memory. Direct I/O needs a drive.
const directory = await mkdtemp(join(process.cwd(), 'replace-'))
try {
  const path = join(directory, 'state.bin')
  await writeFile(path, new Uint8Array(BYTES), { replace: true })

  const written = new AbortController()
  let [reads, torn] = [0, 0]
  const reading = (async () => {
    while (!written.signal.aborted) {
      if ((await versionOf(path)) === undefined) torn += 1
      reads += 1
    }
  })()
  for (let version = 1; version <= VERSIONS; version += 1)
    await writeFile(path, new Uint8Array(BYTES).fill(version), { replace: true })

  // A write that is given up leaves what was there.
  const controller = new AbortController()
  const given = async function* (): AsyncGenerator<Uint8Array> {
    yield new Uint8Array(BYTES / 2)
    controller.abort(new Error('this state is no longer needed'))
    yield new Uint8Array(BYTES / 2)
  }
  const outcome = await writeFile(path, given(), { replace: true, signal: controller.signal }).catch((error) => error)
  written.abort()
  await reading

  const [last, left] = [await versionOf(path), await readdir(directory)]
  console.log(
    `${VERSIONS} versions, one given up (${(outcome as Error).name}), ${reads > 0 ? 'read meanwhile' : 'NOT READ'}`,
  )
  const right = torn === 0 && last === VERSIONS && left.length === 1
  console.log(
    right ? 'every reader saw a whole version' : `WRONG: ${torn} torn, the last is ${last}, left: ${left.join()}`,
  )
  if (!right) process.exitCode = 1
} finally {
  await rm(directory, { recursive: true })
}
