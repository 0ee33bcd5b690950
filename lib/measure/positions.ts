/**
 * The seeded sequences of the random and the small benchmarks, the same in every run. The positions
 * are also the same in Rust (`benches/native/src/random.rs`).
 */

/** The unit of random requests, in bytes. */
export const PAGE_BYTES = 4096

/** A 32-bit linear congruential generator; only its upper bits are used. */
function generator(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state
  }
}

/** `count` positions of whole pages in a file of `bytes` bytes. */
export function positions(count: number, bytes: number, seed: number): Float64Array {
  const next = generator(seed)
  const pages = Math.floor(bytes / PAGE_BYTES)
  return Float64Array.from({ length: count }, () => Math.floor((next() * pages) / 2 ** 32) * PAGE_BYTES)
}

/**
 * `count` tensor sizes, evenly spread between `smallest` and `largest` bytes. They are multiples of
 * a page, because the predecessor could move no others.
 */
export function sizes(count: number, smallest: number, largest: number, seed: number): number[] {
  const next = generator(seed)
  const steps = (largest - smallest) / PAGE_BYTES + 1
  return Array.from({ length: count }, () => smallest + Math.floor((next() * steps) / 2 ** 32) * PAGE_BYTES)
}
