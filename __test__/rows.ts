/** Rows of a table that several writers of a checkpoint have. Not in the harness, which programs cannot import. */

/** Those of one writer: bytes that depend on it and on their place. */
export function rowsOf(writer: number, rows: number, columns: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length: rows * columns }, (_, place) => (place * 31 + writer * 89 + 1) % 251)
}
