/**
 * The command line of the bench.
 */

import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { parseSize } from '../lib/command/text.ts'
import { ROOT } from './native.ts'

/** Printed by `--help` and after a usage error. */
export const USAGE = `npm run bench -- [options]

  --check         exit with 1 if a figure does not reach its bar
  --json FILE     write figures, raw rounds and the machine's description to FILE, charts beside it
  --only NAME     run one benchmark (stream-read) or one family (stream); may be repeated
  --size BYTES    size of the large file, with K, M or G; default 1G; a multiple of 8M
  --rounds N      rounds per figure; default 8; below 7 the figures are only an indication
  --dir DIR       working folder; default target/, on the disk of the checkout`

/**
 * The largest block of a sweep. At other sizes the rivals would end with a short block at another
 * speed.
 */
const SIZE_STEP_BYTES = 8 * 2 ** 20

/** The parsed options. */
export interface Options {
  readonly check: boolean
  readonly help: boolean
  readonly json: string | null
  readonly charts: string
  readonly only: readonly string[]
  readonly bytes: number
  readonly rounds: number
  readonly folder: string
}

/** Parses the arguments. Throws an Error that names the wrong one. */
export function parseOptions(words: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...words],
    options: {
      check: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
      json: { type: 'string' },
      only: { type: 'string', multiple: true, default: [] },
      size: { type: 'string', default: '1G' },
      rounds: { type: 'string', default: '8' },
      dir: { type: 'string' },
    },
  })
  const bytes = parseSize(values.size)
  if (bytes === undefined) throw new Error(`--size ${values.size} is not a size like 1073741824, 64M or 1G`)
  if (bytes % SIZE_STEP_BYTES !== 0 || bytes === 0) throw new Error(`--size ${values.size} is not a multiple of 8M`)
  const rounds = Number(values.rounds)
  if (!Number.isSafeInteger(rounds) || rounds < 1)
    throw new Error(`--rounds ${values.rounds} is not a positive whole number`)
  const json = values.json === undefined ? null : resolve(values.json)
  return {
    check: values.check,
    help: values.help,
    json,
    charts: json === null ? join(ROOT, 'benches/results') : `${json.replace(/\.json$/, '')}-charts`,
    only: values.only,
    bytes,
    rounds,
    folder: values.dir === undefined ? join(ROOT, 'target') : resolve(values.dir),
  }
}
