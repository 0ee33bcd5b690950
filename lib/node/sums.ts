/** Checksums in the metadata of a file: `crates/deepring-tensors/src/checksums.rs` has the form. */

import { Buffer } from 'node:buffer'
import { crc32c } from './crc32c.ts'
import type { Header } from './header.ts'
import type { Stated } from './table.ts'

/** The key in the metadata. */
export const KEY = 'deepring.crc32c'

const VERSION = '1;'

/** Digits of the checksum of a header. */
const DIGITS = 8

const NO_DIGITS = '0'.repeat(DIGITS)

/** The value for these checksums of tensors, in the order of their bytes, without that of the header. */
export function textOf(sums: Uint32Array): string {
  const bytes = Buffer.alloc(sums.length * 4)
  sums.forEach((sum, nth) => bytes.writeUInt32LE(sum, nth * 4))
  return `${VERSION}${bytes.toString('base64')};${NO_DIGITS}`
}

/** The place of the digits in a header, from the first byte of the file on. */
function placeOf(header: Buffer): number | undefined {
  const key = `"${KEY}":"${VERSION}`
  const start = header.indexOf(key)
  if (start < 0) return undefined
  const separator = header.indexOf(';', start + key.length)
  const quote = header.indexOf('"', start + key.length)
  const place = separator + 1
  return separator >= 0 && quote === place + DIGITS ? place : undefined
}

/** The checksum of a header whose digits are at `place`; they are replaced. */
export function sumOfHeader(header: Buffer, place: number): number {
  header.write(NO_DIGITS, place, 'latin1')
  return crc32c(header)
}

/** Writes the checksum of a header into it. */
export function seal(header: Buffer): void {
  const place = placeOf(header)
  if (place !== undefined) header.write(digitsOf(sumOfHeader(header, place)), place, 'latin1')
}

/** What a header states, if it is of just these tensors. `text` is the header from the first byte of the file on. */
export function statedIn(
  { metadata, rows }: Header,
  text: Buffer,
): { readonly sums: Uint32Array; readonly header: Stated } | undefined {
  const value = metadata.get(KEY)
  const [, encoded = '', own = ''] = /^1;([^;]*);([\da-f]{8})$/.exec(value ?? '') ?? []
  const place = placeOf(text)
  const bytes = Buffer.from(encoded, 'base64')
  // One form only, so that no change of a digit stays unseen.
  if (own === '' || place === undefined || bytes.toString('base64') !== encoded) return undefined
  if (bytes.length !== rows.length * 4) return undefined
  const sums = Uint32Array.from(rows, (_, nth) => bytes.readUInt32LE(nth * 4))
  return { sums, header: { place, expected: Number.parseInt(own, 16), bytes: text.length } }
}

function digitsOf(sum: number): string {
  return sum.toString(16).padStart(DIGITS, '0')
}
