/**
 * Names of files: a string, a `file:` URL, or the raw bytes of a name that is not UTF-8.
 *
 * A relative name is resolved against the working directory at the time of the call. The engine opens queued files
 * later, so that a queued path keeps its meaning if `process.chdir` changes the directory.
 */

import { Buffer } from 'node:buffer'
import { isAbsolute, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { isUint8Array } from 'node:util/types'
import { invalidType, invalidValue } from './errors.ts'

/** How a file can be named: a path, a `file:` URL, or a path as raw bytes (a `Buffer`). It must not contain a NUL. */
export type FilePath = string | URL | Uint8Array

/** A checked name: its bytes for the system, and its text for messages. */
export interface CheckedPath {
  readonly bytes: Buffer
  /** As the caller wrote it: relative stays relative. */
  readonly text: string
}

/** Checks a path. `name` is what the argument is called in messages. */
export function pathOf(value: unknown, name = 'path'): CheckedPath {
  if (typeof value === 'string') return fromText(value, name)
  if (isUrl(value)) return fromText(fromUrl(value, name), name)
  // Not by `instanceof`: in a test runner's sandbox, Uint8Array is another class.
  if (isUint8Array(value)) return fromBytes(value, name)
  throw invalidType(name, 'of type string or an instance of Buffer or URL', value)
}

function fromText(text: string, name: string): CheckedPath {
  if (text.includes('\0')) throw invalidValue(name, 'A path cannot contain null bytes.', text)
  // The empty name stays empty, so that the system reports ENOENT. Resolved, it would name the directory.
  const whole = text === '' || isAbsolute(text) ? text : `${process.cwd()}${sep}${text}`
  return { bytes: Buffer.from(whole), text }
}

function fromBytes(given: Uint8Array, name: string): CheckedPath {
  if (given.includes(0)) throw invalidValue(name, 'A path cannot contain null bytes.', given)
  // A copy: the caller can reuse its bytes before the engine opens the file.
  const bytes = Buffer.from(given)
  const text = bytes.toString()
  if (text === '' || isAbsolute(text)) return { bytes, text }
  return { bytes: Buffer.concat([Buffer.from(`${process.cwd()}${sep}`), bytes]), text }
}

/** By its shape, as in Node: the URLs of jsdom or of another context are of another class. */
function isUrl(value: unknown): value is URL {
  const { href, protocol } = (value ?? {}) as Partial<URL>
  return typeof href === 'string' && typeof protocol === 'string' && typeof value === 'object'
}

function fromUrl(url: URL, name: string): string {
  try {
    return fileURLToPath(url.href)
  } catch (cause) {
    throw invalidValue(name, 'A URL must be of scheme file: and name a local path.', url.href, cause)
  }
}
