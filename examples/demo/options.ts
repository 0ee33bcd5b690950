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
  --train          instead: train a network whose optimizer has more state than memory, kill it again and again, and compare
                   every loss and every bit with the same training in memory; --size is that of the state (default 256M)
  --kills N        with --train: kills in each of computing, writing behind, a snapshot and a commit (default 10)
  --plant-error    damage one byte of a swapped-out tensor, with --train one bit of the state, to show that the comparison
                   finds it (exit code 1)
  --help           this text
`

/** The default size of the model: large enough that start-up costs vanish in the rate. */
const SIZE_BYTES_DEFAULT = 2 ** 30
/** The default size of the state of a training: four times the most that it has in memory. */
const STATE_BYTES_DEFAULT = 256 * 2 ** 20
const KILLS_DEFAULT = 10

export interface DemoOptions {
  sizeBytes: number
  directory: string | undefined
  jsonFile: string | undefined
  train: boolean
  /** In each phase of a training. */
  kills: number
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
      train: { type: 'boolean' },
      kills: { type: 'string' },
      'plant-error': { type: 'boolean' },
      help: { type: 'boolean' },
    },
  })
  const train = values.train ?? false
  if (values.kills !== undefined && !train) throw new RangeError('--kills is an option of --train')
  const sizeDefault = train ? STATE_BYTES_DEFAULT : SIZE_BYTES_DEFAULT
  return {
    sizeBytes: values.size === undefined ? sizeDefault : parseSize(values.size),
    directory: values.dir,
    jsonFile: values.json,
    train,
    kills: values.kills === undefined ? KILLS_DEFAULT : parseCount(values.kills, '--kills'),
    plantError: values['plant-error'] ?? false,
    help: values.help ?? false,
  }
}

function parseCount(text: string, option: string): number {
  if (!/^\d{1,6}$/.test(text)) throw new RangeError(`'${text}' is not a count for ${option}`)
  return Number(text)
}
