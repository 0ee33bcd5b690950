/**
 * Runs all examples, one after the other: `npm run examples`.
 *
 *   --full    with the sizes that they are made for, which takes minutes, 10 GB of memory and 3 GB on the drive
 *
 * The exit code is 0 only if every example found everything to be right.
 */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import process from 'node:process'
import { parseArgs } from 'node:util'

const { full } = parseArgs({ options: { full: { type: 'boolean', default: false } } }).values

/** Each program, and its parameters with `--full`. */
const EXAMPLES: readonly (readonly [program: string, ...full: string[]])[] = [
  ['load-weights.ts'],
  ['checksum.ts'],
  ['copy.ts'],
  ['http-ranges.ts'],
  ['workers.ts'],
  ['follow-log.ts'],
  ['replace.ts'],
  ['prometheus.ts'],
  ['parquet.ts'],
  ['zarr.ts'],
  ['random-records.ts'],
  ['vector-search.ts', '--vectors', '2000000'],
  ['swap.ts'],
  ['infer.ts', '--width', '1024', '--passes', '20'],
  ['merge-models.ts'],
  ['train.ts', '--mebibytes', '600', '--kills', '20'],
  ['training/main.ts', '--width', '21632', '--kills', '10'],
  ['onnxruntime/main.ts', '--size', '2.5G'],
]

const failed: string[] = []
for (const [program, ...parameters] of EXAMPLES) {
  const words = full ? parameters : []
  console.log(`\n${[program, ...words].join(' ')}`)
  const child = spawn(process.execPath, [join(import.meta.dirname, program), ...words], { stdio: 'inherit' })
  const [code] = (await once(child, 'close')) as [number | null]
  if (code !== 0) failed.push(program)
}
console.log(failed.length === 0 ? '\nall examples are right' : `\nFAILED: ${failed.join(', ')}`)
if (failed.length > 0) process.exitCode = 1
