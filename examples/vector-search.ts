/**
 * Nearest neighbors in a file of vectors that does not fit into memory: `readMany`.
 *
 *   node examples/vector-search.ts                       # 200 000 vectors, 26 MB
 *   node examples/vector-search.ts --vectors 10000000    # 10 million, 1.3 GB
 *
 * Run it in a checkout after `npm run build:native`, with Node 24 or newer (`await using`). In your own project the import
 * is `from 'deepring'`.
 *
 * As in an inverted file (IVF), each vector belongs to the nearest of some centroids, and a query looks only at the vectors
 * of the centroids nearest to it. Those lie all over the file: some thousand records of 128 bytes. One call reads them all,
 * with one promise; neighbors in the file come with one operation.
 */

import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { parseArgs } from 'node:util'
import { allocate, open } from '../index.ts'

const DIMENSIONS = 32
const VECTOR_BYTES = DIMENSIONS * 4
const CENTROIDS = 256
const PROBES = 4
const NEAREST = 10
const QUERIES = 50
/** Vectors that are written at once. */
const CHUNK = 65_536

const { values } = parseArgs({ options: { vectors: { type: 'string', default: '200000' } } })
const count = Number(values.vectors)
if (!Number.isSafeInteger(count) || count < CENTROIDS)
  throw new Error(`--vectors ${values.vectors} is not a number >= ${CENTROIDS}`)

/** A number between -1 and 1 that looks random, the same every time. */
function noise(vector: number, dimension: number): number {
  let bits = Math.imul(vector + 1, 0x9e3779b1) ^ Math.imul(dimension + 1, 0x85ebca6b)
  bits = Math.imul(bits ^ (bits >>> 15), 0x2c1b3c6d)
  return ((bits ^ (bits >>> 12)) | 0) / 2 ** 31
}

const centroidOf = (vector: number): number => Math.imul(vector, 0x2545f491) >>> 24
const element = (vector: number, dimension: number): number =>
  4 * noise(-1 - centroidOf(vector), dimension) + noise(vector, dimension)

function squaredDistance(a: Float32Array, b: Float32Array, at: number): number {
  let sum = 0
  for (let dimension = 0; dimension < DIMENSIONS; dimension++) {
    const difference = (a[dimension] as number) - (b[at + dimension] as number)
    sum += difference * difference
  }
  return sum
}

const directory = await mkdtemp(join(process.cwd(), 'vector-search-'))
try {
  await using file = await open(join(directory, 'vectors.bin'), 'w+')

  // The vectors go to the file; memory keeps which of them belong to each centroid.
  const members: number[][] = Array.from({ length: CENTROIDS }, () => [])
  using chunk = allocate(CHUNK * VECTOR_BYTES)
  const elements = new Float32Array(chunk.buffer, chunk.byteOffset, CHUNK * DIMENSIONS)
  for (let first = 0; first < count; first += CHUNK) {
    const vectors = Math.min(CHUNK, count - first)
    for (let vector = 0; vector < vectors; vector++) {
      ;(members[centroidOf(first + vector)] as number[]).push(first + vector)
      for (let dimension = 0; dimension < DIMENSIONS; dimension++)
        elements[vector * DIMENSIONS + dimension] = element(first + vector, dimension)
    }
    // oxlint-disable-next-line no-await-in-loop -- the memory is used again
    await file.write(chunk, { position: first * VECTOR_BYTES, length: vectors * VECTOR_BYTES })
  }
  const centroids = new Float32Array(CENTROIDS * DIMENSIONS).map(
    (_, at) => 4 * noise(-1 - Math.floor(at / DIMENSIONS), at % DIMENSIONS),
  )

  let read = 0
  let operations = 0
  let wrong = 0
  const started = performance.now()
  for (let query = 0; query < QUERIES; query++) {
    // A vector of the file, so the answer is known: itself comes first.
    const asked = Math.floor(((noise(query, 99) + 1) / 2) * count)
    const wanted = Float32Array.from({ length: DIMENSIONS }, (_, dimension) => element(asked, dimension))
    const probes = Array.from({ length: CENTROIDS }, (_, centroid) => centroid)
      .map((centroid) => [squaredDistance(wanted, centroids, centroid * DIMENSIONS), centroid] as const)
      .toSorted(([a], [b]) => a - b)
      .slice(0, PROBES)
    const candidates = probes.flatMap(([, centroid]) => members[centroid] as number[]).toSorted((a, b) => a - b)

    using memory = allocate(candidates.length * VECTOR_BYTES)
    const positions = Float64Array.from(candidates, (vector) => vector * VECTOR_BYTES)
    // oxlint-disable-next-line no-await-in-loop -- one query after the other
    const { receipt } = await file.readMany(memory, { positions, lengths: VECTOR_BYTES }, { gap: 16_384 })

    const found = new Float32Array(memory.buffer, memory.byteOffset, candidates.length * DIMENSIONS)
    const nearest = candidates
      .map((vector, place) => [squaredDistance(wanted, found, place * DIMENSIONS), vector] as const)
      .toSorted(([a], [b]) => a - b)
      .slice(0, NEAREST)
    if (nearest[0]?.[1] !== asked || nearest[0][0] !== 0) wrong++
    read += candidates.length
    operations += receipt.blocks
  }
  const seconds = (performance.now() - started) / 1000
  console.log(`${QUERIES} queries over ${count} vectors in ${seconds.toFixed(2)} s`)
  console.log(`${read} vectors read with ${operations} operations: ${Math.round(read / seconds)} vectors a second`)
  console.log(wrong === 0 ? 'every nearest vector is the right one' : `${wrong} nearest vectors are WRONG`)
  process.exitCode = wrong === 0 ? 0 : 1
} finally {
  await rm(directory, { recursive: true })
}
