/**
 * CRC-32C (Castagnoli) by tables, eight bytes at a time ("slicing by 8": Kounavis and Berry, 2005), and the checksum of two
 * ranges from those of each (zlib's `crc32_combine`).
 */

/** The polynomial, its bits reversed. */
const POLYNOMIAL = 0x82f6_3b78

/** `TABLES[n * 256 + b]`: what byte `b` adds, `n` bytes before the last of eight. */
const TABLES = makeTables()

function makeTables(): Uint32Array {
  const tables = new Uint32Array(8 * 256)
  for (let byte = 0; byte < 256; byte += 1) {
    let crc = byte
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ ((crc & 1) === 0 ? 0 : POLYNOMIAL)
    tables[byte] = crc
  }
  for (let at = 256; at < tables.length; at += 1) {
    const before = tables[at - 256] as number
    tables[at] = (before >>> 8) ^ (tables[before & 0xff] as number)
  }
  return tables
}

/** The checksum of bytes that follow those of `seed`. */
export function crc32c(bytes: Uint8Array, seed = 0): number {
  const tables = TABLES
  const { length } = bytes
  let crc = ~seed
  let at = 0
  for (; at + 8 <= length; at += 8) {
    // No byte is beyond the end, so that all are numbers.
    const one = crc ^ (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24))
    crc =
      tables[0x700 | (one & 0xff)]! ^
      tables[0x600 | ((one >>> 8) & 0xff)]! ^
      tables[0x500 | ((one >>> 16) & 0xff)]! ^
      tables[0x400 | (one >>> 24)]! ^
      tables[0x300 | bytes[at + 4]!]! ^
      tables[0x200 | bytes[at + 5]!]! ^
      tables[0x100 | bytes[at + 6]!]! ^
      tables[bytes[at + 7]!]!
  }
  for (; at < length; at += 1) crc = (crc >>> 8) ^ tables[(crc ^ bytes[at]!) & 0xff]!
  return ~crc >>> 0
}

/** The checksum of `a`'s bytes and then `b`'s, which are `lengthOfB`. */
export function combine(a: number, b: number, lengthOfB: number): number {
  // Each matrix advances a checksum over twice as many zero bits as the one before; the first is for one bit.
  let matrix = Uint32Array.from({ length: 32 }, (_, bit) => (bit === 0 ? POLYNOMIAL : 1 << (bit - 1)))
  // One bit, two bits, four bits; then one byte.
  for (let nth = 0; nth < 3; nth += 1) matrix = squared(matrix)
  let crc = a
  for (let left = lengthOfB; left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) crc = times(matrix, crc)
    matrix = squared(matrix)
  }
  return (crc ^ b) >>> 0
}

/** A matrix of bits times a vector of bits. */
function times(matrix: Uint32Array, vector: number): number {
  let sum = 0
  for (let bit = 0, rest = vector >>> 0; rest !== 0; bit += 1, rest >>>= 1)
    if ((rest & 1) === 1) sum ^= matrix[bit] as number
  return sum
}

function squared(matrix: Uint32Array): Uint32Array<ArrayBuffer> {
  return matrix.map((column) => times(matrix, column))
}
