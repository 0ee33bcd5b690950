/** Ways to open a file: what each of node:fs's words means here, and why the appending ones mean nothing. */

import { invalidValue } from './errors.ts'
import { wordOf } from './options.ts'
import { OPEN } from './record.ts'

/**
 * How a file is opened: as in node:fs, without the appending ones. `'w'` and `'w+'` empty the file, `'wx'` and `'wx+'`
 * refuse one that exists.
 */
export type OpenFlags = 'r' | 'r+' | 'w' | 'w+' | 'wx' | 'wx+'

/** What a word stands for. */
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

// Whoever writes reads as well underneath: the edges of an unaligned write are read, modified and written back.
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
      "Appending is not supported: under it, the kernel ignores the position of a write. Open with 'r+' and write at the size.",
      flags,
    )
  }
  return FLAGS[wordOf(flags, 'flags', Object.keys(FLAGS) as OpenFlags[])]
}
