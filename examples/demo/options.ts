/**
 * The arguments after `npm run demo --`. Unknown options are errors, so a typo never selects a
 * default.
 */

import { parseArgs } from 'node:util'
import { parseSize } from './size.ts'

export const USAGE = `npm run demo -- [options]

Swaps the weights of three real models and one large tensor out to the drive and back through deepring,
compares every byte, and shows what the same bytes cost with node:fs.

  --size SIZE      bytes of the large tensor, for example 64M or 2G (default 1G)
  --dir DIRECTORY  where the swap files go; a fresh directory is made inside and removed at the end
                   (default: inside the checkout)
  --json FILE      also write every figure, with the raw rounds, to FILE
  --plant-error    damage one byte of the swapped-out tensor, to show that the comparison finds it (exit code 1)
  --help           this text
`

/** The default size of the large tensor: large enough that start-up costs vanish in the rate. */
const SIZE_BYTES_DEFAULT = 2 ** 30

/** Below this the rates mean nothing and the tensor has hardly more than one tile. */
const SIZE_BYTES_MIN = 2 ** 20

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
  // The large tensor holds 32-bit floats, so its size is rounded down to whole ones.
  const sizeBytes = values.size === undefined ? SIZE_BYTES_DEFAULT : Math.floor(parseSize(values.size) / 4) * 4
  if (sizeBytes < SIZE_BYTES_MIN) throw new RangeError('--size must be at least 1M')
  return {
    sizeBytes,
    directory: values.dir,
    jsonFile: values.json,
    plantError: values['plant-error'] ?? false,
    help: values.help ?? false,
  }
}
