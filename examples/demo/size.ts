/**
 * Byte counts as people write and read them.
 *
 * Sizes of memory and files are binary (64M is 64 MiB), as fio and dd take them; rates are decimal
 * (1 GB/s is 10^9 bytes a second), as drives are sold.
 */

const UNIT_BYTES: Record<string, number> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 }

/**
 * Reads `4096`, `64M`, `1G`, `64MiB`; the result is in bytes. Throws a RangeError for anything
 * else.
 */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?$/i.exec(text.trim())
  const unit = UNIT_BYTES[match?.[2]?.toUpperCase() ?? '']
  const bytes = Math.floor(Number(match?.[1]) * (unit ?? NaN))
  if (!Number.isSafeInteger(bytes)) throw new RangeError(`'${text}' is not a size; write for example 64M, 1G or 4096`)
  return bytes
}

/**
 * `1.00 GiB`, `15.2 MiB`, `512 B`: three digits, the largest unit that leaves something before the
 * point.
 */
export function formatSize(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  const power = bytes < 1024 ? 0 : Math.min(Math.floor(Math.log2(bytes) / 10), units.length - 1)
  const value = bytes / 2 ** (10 * power)
  const digits = power === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2
  return `${value.toFixed(digits)} ${units[power]}`
}

/** Decimal gigabytes a second. */
export function gigabytesPerSecond(bytes: number, seconds: number): number {
  return bytes / 1e9 / seconds
}
