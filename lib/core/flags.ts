/** How to open a file: the meaning of node:fs's flags here. */

import { constants } from 'node:fs'
import { invalidValue } from './errors.ts'
import { wordOf } from './options.ts'
import { OPEN } from './record.ts'

/**
 * How a file is opened: the flags of node:fs. `'w'` and `'w+'` empty the file. `'a'` and `'a+'` append to it. Those with `x`
 * refuse a file that exists.
 */
export type OpenFlags = 'r' | 'r+' | 'w' | 'w+' | 'wx' | 'wx+' | 'a' | 'a+' | 'ax' | 'ax+'

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
  /** Whether all it writes goes to the end of the file. */
  readonly appends: boolean
}

const { read: READ, write: WRITE, create: CREATE, truncate: TRUNCATE, exclusive: EXCLUSIVE } = OPEN

// Every file that is written is opened for reading too: the edges of an unaligned write are read, modified and written
// back.
const FLAGS: Readonly<Record<OpenFlags, FlagMeaning>> = {
  r: meaning(READ, true, false),
  'r+': meaning(READ | WRITE, true, true),
  w: meaning(READ | WRITE | CREATE | TRUNCATE, false, true),
  'w+': meaning(READ | WRITE | CREATE | TRUNCATE, true, true),
  wx: meaning(READ | WRITE | CREATE | EXCLUSIVE, false, true),
  'wx+': meaning(READ | WRITE | CREATE | EXCLUSIVE, true, true),
  a: meaning(READ | WRITE | CREATE, false, true, true),
  'a+': meaning(READ | WRITE | CREATE, true, true, true),
  ax: meaning(READ | WRITE | CREATE | EXCLUSIVE, false, true, true),
  'ax+': meaning(READ | WRITE | CREATE | EXCLUSIVE, true, true, true),
}

function meaning(bits: number, readable: boolean, writable: boolean, appends = false): FlagMeaning {
  return { bits, readable, writable, appends, creates: (bits & CREATE) !== 0 }
}

/** Checks the flags of an `open`. */
export function flagsOf(flags: unknown): FlagMeaning {
  if (typeof flags === 'number') return ofConstants(flags)
  return FLAGS[wordOf(flags, 'flags', Object.keys(FLAGS) as OpenFlags[])]
}

const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_TRUNC, O_APPEND } = constants

const ACCESS = O_RDONLY | O_WRONLY | O_RDWR
const KNOWN = ACCESS | O_CREAT | O_EXCL | O_TRUNC | O_APPEND

/** The constants of node:fs, combined. */
function ofConstants(flags: number): FlagMeaning {
  const refused = (why: string): Error => invalidValue('flags', why, flags)
  const access = flags & ACCESS
  // Other numbers would lose their high bits below.
  if (!Number.isInteger(flags) || flags < 0 || flags > KNOWN || access === ACCESS || (flags & ~KNOWN) !== 0)
    throw refused(
      'Of the constants of node:fs, it can combine O_RDONLY, O_WRONLY or O_RDWR with O_CREAT, O_EXCL, O_TRUNC and O_APPEND. ' +
        'For O_DIRECT there is options.direct.',
    )
  const [creates, isExclusive, truncates] = [O_CREAT, O_EXCL, O_TRUNC].map((flag) => (flags & flag) !== 0)
  if (isExclusive && !creates) throw refused('O_EXCL is for O_CREAT.')
  if (access === O_RDONLY && (creates || truncates)) throw refused('O_CREAT and O_TRUNC need O_WRONLY or O_RDWR.')
  if (access === O_RDONLY) return FLAGS.r
  const appends = (flags & O_APPEND) !== 0
  const bits = READ | WRITE | (creates ? CREATE : 0) | (isExclusive ? EXCLUSIVE : 0) | (truncates ? TRUNCATE : 0)
  return meaning(bits, access === O_RDWR, true, appends)
}
