/** Whether the tensors of a load are those of the file. */

import { openSafetensors, type SafetensorsFile } from '../../lib/safetensors/index.ts'
import { Tiles } from '../tiles.ts'
import type { ModelParameters } from './parameters.ts'

/** A tensor by name, and its bytes. */
interface Bytes {
  readonly name: string
  readonly bytes: Uint8Array
}

/**
 * Throws if a tensor has other bytes than the tiling says for its place.
 *
 * @param original - The file that has the tensors where the tiling says.
 */
export async function checkTensors(
  { source, origin, seed }: ModelParameters,
  original: string,
  tensors: Iterable<Bytes>,
): Promise<void> {
  await using model = await openSafetensors(original)
  const check = checkOf(model, new Tiles(source), { origin, seed })
  let count = 0
  for (const tensor of tensors) {
    check(tensor)
    count += 1
  }
  if (count !== model.size) throw new Error(`there are ${count} tensors, not ${model.size}`)
}

/** The check of one tensor. */
export function checkOf(
  model: SafetensorsFile,
  tiles: Tiles,
  pattern: { readonly origin: number; readonly seed: number },
): (tensor: Bytes) => void {
  return ({ name, bytes }) => {
    const { position, byteLength } = model.info(name)
    if (bytes.length !== byteLength) throw new Error(`${name} has ${bytes.length} bytes, not ${byteLength}`)
    tiles.checkPart(bytes, pattern, position)
  }
}
