/**
 * Names of files: a string, a `file:` URL, or the raw bytes of a name that is not UTF-8.
 *
 * A relative name stays relative. The engine takes a descriptor of the working directory when a request is made, and
 * starts from that when it opens the file, perhaps later. So the name of the directory does not matter: it can be
 * renamed, replaced, removed or unreadable, and `process.chdir` does not change the meaning of what is queued.
 */

import { Buffer } from 'node:buffer'
import { fileURLToPath } from 'node:url'
import { isUint8Array } from 'node:util/types'
import { invalidType, invalidValue } from './errors.ts'

/** How a file can be named: a path, a `file:` URL, or a path as raw bytes (a `Buffer`). It must not contain a NUL. */
export type FilePath = string | URL | Uint8Array

/** A checked name, as the caller wrote it: its bytes for the system, and its text for messages. */
export interface CheckedPath {
  readonly bytes: Buffer
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
  return { bytes: Buffer.from(text), text }
}

function fromBytes(given: Uint8Array, name: string): CheckedPath {
  if (given.includes(0)) throw invalidValue(name, 'A path cannot contain null bytes.', given)
  // A copy: the caller can reuse its bytes before the engine opens the file.
  const bytes = Buffer.from(given)
  return { bytes, text: bytes.toString() }
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
