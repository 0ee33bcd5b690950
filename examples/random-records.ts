/**
 * Many small records from random positions: 20 000 reads of 4 KiB, 128 of them in flight at any
 * time.
 *
 *   node examples/random-records.ts
 *
 * Run it in a checkout after `npm run build:native`, with Node 24 or newer (`await using`). In your
 * own project the import is `from 'deepring'`.
 *
 * A drive serves small reads quickly only if many are in flight. With node:fs at most four are, one
 * per thread of libuv's pool. Here each of 128 lanes has its own slot of one buffer and reads the
 * next record when the last one has arrived.
 */

import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { allocate, open, stats } from '../index.ts'

const RECORD_BYTES = 4096
const RECORDS = 16_384
const READS = 20_000
const LANES = 128

const directory = await mkdtemp(join(process.cwd(), 'random-records-'))
try {
  await using file = await open(join(directory, 'records.bin'), 'w+')

  // Every record holds its own number, so that a wrong one is detected.
  using content = allocate(RECORDS * RECORD_BYTES)
  const numbers = new Uint32Array(content.buffer, content.byteOffset, content.byteLength / 4)
  for (let index = 0; index < numbers.length; index++) numbers[index] = Math.floor((index * 4) / RECORD_BYTES)
  await file.write(content, { position: 0 })

  using slots = allocate(LANES * RECORD_BYTES)
  const view = new DataView(slots.buffer, slots.byteOffset, slots.byteLength)
  let asked = 0
  let wrong = 0
  const lane = async (index: number): Promise<void> => {
    const offset = index * RECORD_BYTES
    while (asked++ < READS) {
      const record = Math.floor(Math.random() * RECORDS)
      await file.read(slots, { offset, length: RECORD_BYTES, position: record * RECORD_BYTES, exact: true })
      if (view.getUint32(offset, true) !== record || view.getUint32(offset + RECORD_BYTES - 4, true) !== record) wrong++
    }
  }
  const started = performance.now()
  await Promise.all(Array.from({ length: LANES }, (_, index) => lane(index)))
  const seconds = (performance.now() - started) / 1000

  console.log(
    `${READS} random reads of ${RECORD_BYTES} bytes in ${seconds.toFixed(2)} s: ${Math.round(READS / seconds)} a second`,
  )
  console.log(`at most ${stats().inFlightMax} were at the drive at the same time`)
  console.log(wrong === 0 ? 'every record is the right one' : `${wrong} records are WRONG`)
  process.exitCode = wrong === 0 ? 0 : 1
} finally {
  await rm(directory, { recursive: true })
}
