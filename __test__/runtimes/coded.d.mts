export function coded(file: number, generation: number, position: number, length: number): Uint8Array<ArrayBuffer>
export function code(bytes: Uint8Array, file: number, generation: number, position: number): void
export function misplaced(
  bytes: Uint8Array,
  file: number,
  generations: readonly number[],
  position: number,
): string | undefined
export function strayIn(bytes: Uint8Array): { at: number; word: string } | undefined
