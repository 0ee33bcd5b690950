/** What a verification has found, in words. */

import type { Damage, Verification } from '../safetensors/index.ts'
import type { Paint } from './screen.ts'
import { countText, crcText, printable, quotedOf } from './text.ts'

/** A line for each tensor that is damaged, and for the others of a kind. */
export function verificationLines({ verified, unverifiable, damaged }: Verification, paint: Paint): string[] {
  const lines = damaged.map((damage) => damageLine(damage, paint))
  if (unverifiable > 0)
    lines.push(
      `${countText(unverifiable, 'tensor')} without a checksum: compare the file with --sha256 or --list, or write it anew with ` +
        '`deepring convert --checksum`',
    )
  if (verified > 0) lines.push(`${countText(verified, 'tensor')} as expected`)
  return lines
}

function damageLine({ tensor, path, position, length, expected, actual }: Damage, paint: Paint): string {
  const what = tensor === undefined ? 'the header' : `tensor ${quotedOf(tensor)}`
  return (
    `${paint('red', 'damaged')} ${what} of '${printable(path)}', ${length} bytes from position ${position}: ` +
    `its CRC-32C is ${crcText(actual)}, and not ${crcText(expected)}`
  )
}
