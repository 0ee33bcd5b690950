/** How to open a file: the meaning of node:fs's flags here, and why appending is refused. */

import { invalidValue } from './errors.ts'
import { wordOf } from './options.ts'
import { OPEN } from './record.ts'

/**
 * How a file is opened: the flags of node:fs, except those for appending. `'w'` and `'w+'` empty the file. `'wx'` and
 * `'wx+'` refuse a file that exists.
 */
export type OpenFlags = 'r' | 'r+' | 'w' | 'w+' | 'wx' | 'wx+'

/** The meaning of a flag. */
export interface FlagMeaning {
  /** The binding's flags. */
  readonly bits: number
  /** Whether it creates a file that does not exist. */
  readonly creates: boolean
  /** Whether the handle reads. */
  readonly readable: boolean
  /** Whether the handle writes. */
  readonly writable: boolean
}

const { read: READ, write: WRITE, create: CREATE, truncate: TRUNCATE, exclusive: EXCLUSIVE } = OPEN

// Every file that is written is opened for reading too: the edges of an unaligned write are read, modified and written
// back.
const FLAGS: Readonly<Record<OpenFlags, FlagMeaning>> = {
  r: { creates: false, bits: READ, readable: true, writable: false },
  'r+': { creates: false, bits: READ | WRITE, readable: true, writable: true },
  w: { creates: true, bits: READ | WRITE | CREATE | TRUNCATE, readable: false, writable: true },
  'w+': { creates: true, bits: READ | WRITE | CREATE | TRUNCATE, readable: true, writable: true },
  wx: { creates: true, bits: READ | WRITE | CREATE | EXCLUSIVE, readable: false, writable: true },
  'wx+': { creates: true, bits: READ | WRITE | CREATE | EXCLUSIVE, readable: true, writable: true },
}

/** Checks the flags of an `open`. */
export function flagsOf(flags: unknown): FlagMeaning {
  if (typeof flags === 'string' && flags.startsWith('a')) {
    throw invalidValue(
      'flags',
      "Appending is not supported, because the kernel then ignores the position of a write. Open with 'r+' and write at the end.",
      flags,
    )
  }
  return FLAGS[wordOf(flags, 'flags', Object.keys(FLAGS) as OpenFlags[])]
}
