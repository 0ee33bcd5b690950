/**
 * The arguments after `npm run demo --`. Unknown options are errors, so a typo never selects a
 * default.
 */

import { parseArgs } from 'node:util'
import { parseSize } from './size.ts'

export const USAGE = `npm run demo -- [options]

Saves a model made of real weights as safetensors, loads it, swaps it out and in through deepring, compares every byte,
and shows what a load costs with node:fs and with the reference implementation.

  --size SIZE      about so many bytes of weights, for example 64M or 4G (default 1G); at least 15M, all weights once
  --dir DIRECTORY  where the swap files go; a fresh directory is made inside and removed at the end
                   (default: inside the checkout)
  --json FILE      also write every figure, with the raw rounds, to FILE
  --plant-error    damage one byte of a swapped-out tensor, to show that the comparison finds it (exit code 1)
  --help           this text
`

/** The default size of the model: large enough that start-up costs vanish in the rate. */
const SIZE_BYTES_DEFAULT = 2 ** 30

export interface DemoOptions {
  sizeBytes: number
  directory: string | undefined
  jsonFile: string | undefined
  plantError: boolean
  help: boolean
}

/** Throws (TypeError of `parseArgs`, or RangeError) for invalid arguments. */
export function parseOptions(args: string[]): DemoOptions {
  const { values } = parseArgs({
    args,
    options: {
      size: { type: 'string' },
      dir: { type: 'string' },
      json: { type: 'string' },
      'plant-error': { type: 'boolean' },
      help: { type: 'boolean' },
    },
  })
  const sizeBytes = values.size === undefined ? SIZE_BYTES_DEFAULT : parseSize(values.size)
  return {
    sizeBytes,
    directory: values.dir,
    jsonFile: values.json,
    plantError: values['plant-error'] ?? false,
    help: values.help ?? false,
  }
}
