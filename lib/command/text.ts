/** Numbers and names, as people read them. GB is 10^9 bytes, as vendors of drives and fio count. */

import { stripVTControlCharacters } from 'node:util'

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB', 'EB']

/** Three significant digits, without an exponent. */
export function digits(value: number): string {
  if (!Number.isFinite(value)) return '-'
  const size = Math.abs(value)
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : size >= 0.01 ? 3 : 4)
}

/** `1.50 GB`. */
export function bytesText(bytes: number): string {
  let unit = 0
  let value = bytes
  // 999.6 would be shown as 1000.
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000
    unit += 1
  }
  return `${unit === 0 ? value : digits(value)} ${UNITS[unit]}`
}

/** Of a power of two: `64 MiB`. */
export function binaryText(bytes: number): string {
  const power = Math.max(0, Math.min(4, Math.floor(Math.log2(bytes) / 10)))
  return `${Number((bytes / 1024 ** power).toPrecision(3))} ${['B', 'KiB', 'MiB', 'GiB', 'TiB'][power]}`
}

/** `0:07`, `1:02:03`. */
export function clockText(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds))
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60]
  const last = String(rest).padStart(2, '0')
  return hours > 0 ? `${hours}:${String(minutes).padStart(2, '0')}:${last}` : `${minutes}:${last}`
}

/** `1 file`, `2 files`. */
export function countText(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`
}

/** A CRC-32C, in 8 digits. */
export function crcText(crc: number): string {
  return crc.toString(16).padStart(8, '0')
}

/** Characters that would move the cursor, or turn the direction of writing. */
const UNPRINTABLE = /[\p{Cc}\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/gu

/** Names come from files: what a terminal would obey is escaped. */
export function printable(name: string): string {
  return name.replace(UNPRINTABLE, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/** A name in a sentence. */
export function quotedOf(name: string): string {
  return `'${printable(name)}'`
}

/** Aligned columns, two spaces apart. `sides`: one of `<` and `>` for each column; the last need not be filled up. */
export function grid(rows: readonly (readonly string[])[], sides: string): string[] {
  const widths: number[] = []
  for (const row of rows)
    for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, widthOf(cell))
  return rows.map((row) =>
    row
      .map((cell, column) => {
        const space = ' '.repeat(Math.max(0, (widths[column] ?? 0) - widthOf(cell)))
        return sides[column] === '>' ? space + cell : cell + space
      })
      .join('  ')
      .trimEnd(),
  )
}

function widthOf(cell: string): number {
  // A model has hundreds of thousands of cells, and few have a color.
  return cell.includes('\u001B') ? stripVTControlCharacters(cell).length : cell.length
}

const SIZE = /^(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?$/i

/** A number of bytes, with K, M, G or T for powers of 1024; `undefined` for other words. */
export function parseSize(words: string): number | undefined {
  const [, number, unit = ''] = SIZE.exec(words) ?? []
  const bytes = Number(number) * 1024 ** ['', 'K', 'M', 'G', 'T'].indexOf(unit.toUpperCase())
  return Number.isSafeInteger(bytes) ? bytes : undefined
}
