// Bytes that name their place: every word of 8 bytes contains its file, the generation of the write that put it there,
// and its position in the file. A stray block is recognized anywhere, in memory or on disk.
//
// A word is two numbers of 32 bits, little-endian: its position divided by 8, and a tag. Positions and lengths are
// multiples of 8; most of them are not multiples of 512, so that transfers have edges.

/** The upper half of every tag, which random bytes hardly match. */
const MARK = 0xc0de0000

const WORD_BYTES = 8

/** `length` bytes of file number `file` (0 to 255) from `position` on, as write number `generation` (0 to 255) makes them. */
export function coded(file, generation, position, length) {
  const bytes = new Uint8Array(length)
  code(bytes, file, generation, position)
  return bytes
}

/** Fills memory with the bytes of {@link coded}. */
export function code(bytes, file, generation, position) {
  const words = wordsOf(bytes)
  const tag = (MARK | (file << 8) | generation) >>> 0
  for (let i = 0, place = position / WORD_BYTES; i < words.length; i += 2, place += 1) {
    words[i] = place
    words[i + 1] = tag
  }
}

/**
 * A description of the first word of `bytes` that file number `file` does not have at this place in any of these
 * generations; `undefined` if there is none.
 */
export function misplaced(bytes, file, generations, position) {
  const words = wordsOf(bytes)
  const tags = new Set(generations.map((generation) => (MARK | (file << 8) | generation) >>> 0))
  for (let i = 0, place = position / WORD_BYTES; i < words.length; i += 2, place += 1) {
    if (words[i] !== place || !tags.has(words[i + 1]))
      return `at position ${place * WORD_BYTES} of file ${file} lies ${described(words[i], words[i + 1])}`
  }
  return undefined
}

/** The first word of any file, file and generation in these bytes; `undefined` if there is none. */
export function strayIn(bytes) {
  const words = wordsOf(bytes)
  for (let i = 0; i + 1 < words.length; i += 2) {
    if ((words[i + 1] & 0xffff0000) >>> 0 === MARK) return { at: i * 4, word: described(words[i], words[i + 1]) }
  }
  return undefined
}

function described(place, tag) {
  if ((tag & 0xffff0000) >>> 0 === MARK)
    return `position ${place * WORD_BYTES} of file ${(tag >>> 8) & 0xff}, generation ${tag & 0xff}`
  return `0x${tag.toString(16).padStart(8, '0')}${place.toString(16).padStart(8, '0')}`
}

function wordsOf(bytes) {
  if (bytes.byteLength % WORD_BYTES !== 0) throw new RangeError(`${bytes.byteLength} bytes are no whole words`)
  // A Buffer from the pool can begin at any address; a typed array of numbers cannot.
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice()
  return new Uint32Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / 4)
}
