/**
 * Reads rows of a Parquet file by hyparquet, which asks for the parts that it needs.
 *
 *   npm install hyparquet hyparquet-writer
 *   node examples/parquet.ts
 *
 * Run it in a checkout after `npm run build:native`, with Node 24 or newer (`await using`). In your own project the import is
 * `from 'deepring'`.
 *
 * `asyncBuffer` is what hyparquet takes: a length, and `slice`, which reads. Only the end of the file and the row groups with
 * the rows are read.
 */

import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { parquetReadObjects } from 'hyparquet'
import { parquetWriteBuffer } from 'hyparquet-writer'
import { open, stats, writeFile } from '../index.ts'

const ROWS = 200_000

// Not in the system's temporary directory, which is often memory. Direct I/O needs a drive.
const directory = await mkdtemp(join(process.cwd(), 'parquet-'))
try {
  const path = join(directory, 'rows.parquet')
  const columnData = [
    { name: 'id', data: Array.from({ length: ROWS }, (_, row) => row), type: 'INT32' as const },
    { name: 'third', data: Array.from({ length: ROWS }, (_, row) => row / 3), type: 'DOUBLE' as const },
  ]
  await writeFile(path, new Uint8Array(parquetWriteBuffer({ columnData, rowGroupSize: 20_000 })))

  await using file = await open(path)
  const buffer = await file.asyncBuffer()
  const before = stats().readBytes
  const rows = await parquetReadObjects({ file: buffer, rowStart: 150_000, rowEnd: 150_010 })
  const read = stats().readBytes - before
  const right = rows.every(({ id, third }, nth) => id === 150_000 + nth && third === (150_000 + nth) / 3)
  console.log(
    `${rows.length} of ${ROWS} rows, ${read} of ${buffer.byteLength} bytes read: ${right ? 'every value is right' : 'WRONG'}`,
  )
  if (!right || rows.length !== 10) process.exitCode = 1
} finally {
  await rm(directory, { recursive: true })
}
