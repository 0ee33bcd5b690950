/** The element types of safetensors, in the order of the reference, by which it sorts tensors. */

/** Bits of an element. */
export const BITS: Readonly<Record<string, number>> = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
}

/** Their names. */
export const NAMES: readonly string[] = Object.keys(BITS)

/** Bits of an element, if the type is known. */
export function bitsOf(dtype: string): number | undefined {
  return Object.hasOwn(BITS, dtype) ? BITS[dtype] : undefined
}

/** What positions of elements in memory are multiples of, in bytes. */
export function alignOf(dtype: string): number {
  // A complex number is two floats.
  return dtype === 'C64' ? 4 : Math.max(1, (bitsOf(dtype) ?? 8) >> 3)
}
