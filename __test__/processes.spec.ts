/** Several processes, and several copies of the binding in one process, write one file. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'

import test from 'ava'

import { info, open } from '../index.ts'
import { makeScratch, pattern } from './harness.ts'

const scratch = makeScratch()

const RECORD_BYTES = 1000
const RECORDS = 800
const WRITERS = 4

/** Writes every fourth record, all at once. */
const WRITER = `
const { open } = await import(process.argv[1])
const [path, first] = [process.argv[2], Number(process.argv[3])]
const file = await open(path, 'r+')
const writes = []
for (let i = first; i < ${RECORDS}; i += ${WRITERS}) {
  writes.push(file.write(Buffer.alloc(${RECORD_BYTES}, String(i) + ' '), { position: i * ${RECORD_BYTES} }))
}
await Promise.all(writes)
await file.close()
`

const INDEX = new URL('../index.ts', import.meta.url).href

for (const shape of ['whole', 'growing'] as const) {
  test(`processes that write disjoint records of a ${shape} file lose none`, async (t) => {
    const path = scratch.path()
    writeFileSync(path, Buffer.alloc(shape === 'whole' ? RECORDS * RECORD_BYTES : 0))
    const writers = Array.from({ length: WRITERS }, (_, first) =>
      spawn(process.execPath, [...process.execArgv, '--input-type=module', '-e', WRITER, INDEX, path, String(first)], {
        stdio: 'inherit',
      }),
    )
    const codes = await Promise.all(writers.map((writer) => once(writer, 'exit')))
    t.deepEqual(
      codes.map(([code]) => code as number),
      writers.map(() => 0),
    )
    const expected = Array.from({ length: RECORDS }, (_, i) => Buffer.alloc(RECORD_BYTES, `${i} `))
    t.true(readFileSync(path).equals(Buffer.concat(expected)))
  })
}

test('a file and info say whether writes keep other processes out', async (t) => {
  const path = scratch.file(pattern(10_000))
  const file = await open(path, 'r+')
  t.true(file.locks, file.locksReason)
  const reader = await open(path, 'r')
  t.false(reader.locks)
  t.regex(reader.locksReason, /reading only/)
  const { path: found } = await info(path)
  t.true(found?.locks, found?.locksReason)
  await Promise.all([file.close(), reader.close()])
  t.true(file.locks, 'what was true last')
})
