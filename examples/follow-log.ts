/**
 * Follows a log, as `tail -f` does: prints every line that is appended, whole and once.
 *
 *   node examples/follow-log.ts                a sample that a writer appends to meanwhile
 *   node examples/follow-log.ts FILE           any file, from its end on, until Ctrl-C
 *
 * Run it in a checkout after `npm run build:native`, with Node 24 or newer (`await using`). In your own project the import is
 * `from 'deepring'`.
 *
 * A read at the end of the file gives 0 bytes, and one that meets the end gives those that are there. So the loop is: read on
 * from where the last read ended; if nothing came, wait until the file has changed.
 */

import { once } from 'node:events'
import { watch } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout } from 'node:timers/promises'
import { allocate, open } from '../index.ts'

const BLOCK_BYTES = 64 << 10

/** How often to look where changes are not announced, as on network file systems. */
const PAUSE_MS = 250

const LINES = 500

/** The lines of a file from a position on, those that are still to come included, until `signal` is aborted. */
async function* linesOf(path: string, position: number, signal: AbortSignal): AsyncGenerator<string> {
  // What was just appended is in the page cache; direct reads would go to the drive for it, and wait until it is there.
  await using file = await open(path, 'r', { direct: 'never' })
  const memory = allocate(BLOCK_BYTES)
  const watcher = watch(path)
  const decoder = new TextDecoder()
  let rest = ''
  try {
    while (!signal.aborted) {
      const { bytesRead } = await file.read(memory, { position })
      if (bytesRead === 0) {
        await once(watcher, 'change', { signal: AbortSignal.timeout(PAUSE_MS) }).catch(() => {})
        continue
      }
      position += bytesRead
      const lines = (rest + decoder.decode(memory.subarray(0, bytesRead), { stream: true })).split('\n')
      rest = lines.pop() ?? ''
      yield* lines
    }
  } finally {
    watcher.close()
    memory[Symbol.dispose]()
  }
}

/** Appends lines in pieces that do not end where lines do. */
async function appendLines(path: string): Promise<void> {
  await using log = await open(path, 'a')
  const text = Array.from({ length: LINES }, (_, index) => `line ${index}: größer\n`).join('')
  const bytes = Buffer.from(text)
  for (let at = 0; at < bytes.length; at += 777) {
    await log.append(bytes.subarray(at, at + 777))
    if (at % 3 === 0) await setTimeout(2)
  }
}

const [path] = process.argv.slice(2)
const controller = new AbortController()
if (path !== undefined) {
  process.once('SIGINT', () => controller.abort())
  await using file = await open(path)
  const { size } = await file.stat()
  for await (const line of linesOf(path, size, controller.signal)) console.log(line)
} else {
  const directory = await mkdtemp(join(process.cwd(), 'follow-log-'))
  try {
    const log = join(directory, 'events.log')
    await (await open(log, 'a')).close()
    const appending = appendLines(log)
    let [seen, wrong] = [0, 0]
    for await (const line of linesOf(log, 0, controller.signal)) {
      if (line !== `line ${seen}: größer`) wrong += 1
      seen += 1
      if (seen === LINES) controller.abort()
    }
    await appending
    console.log(`followed ${seen} lines: ${wrong === 0 ? 'every line is right' : `${wrong} ARE WRONG`}`)
    if (wrong > 0) process.exitCode = 1
  } finally {
    await rm(directory, { recursive: true })
  }
}
