/**
 * A mixture of experts that does not fit in memory: forward passes with a quarter of the model in it.
 *
 *   node examples/infer.ts                              16 MiB of weights
 *   node examples/infer.ts --width 1024 --passes 20     256 MiB
 *
 * Run it in a checkout after `npm run build:native`, with Node 24 or newer (`await using`). In your own project the
 * imports are `from 'deepring/safetensors'` and `from 'deepring/swap'`.
 *
 * Each layer has a dense matrix, a router, and experts of which the router chooses one for each input. The dense
 * matrices are used in the same order in every pass, so a plan that repeats reads them ahead. Which expert comes next
 * is known only when the router has computed: it is asked for then, and the dense matrix of the next layer is read
 * meanwhile. The routers are small, so they are pinned.
 *
 * The same passes run with all weights in memory. The outputs must be equal, bit for bit.
 */

import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { parseArgs } from 'node:util'
import { openSafetensors, saveSafetensors } from '../lib/safetensors/index.ts'
import { SwapStore } from '../lib/swap/index.ts'

const { width: widthText, passes: passesText } = parseArgs({
  options: { width: { type: 'string', default: '256' }, passes: { type: 'string', default: '6' } },
}).values
const WIDTH = Number(widthText)
const PASSES = Number(passesText)
const LAYERS = 8
const EXPERTS = 7
/** Of the model, what is in memory at once. */
const SHARE = 4

type Weights = Float32Array<ArrayBuffer>

/** Gives the weights of a name to a computation. */
type Use = <T>(name: string, compute: (weights: Weights) => T) => Promise<T>

/** Weights between -1 and 1, always the same for a seed. */
function weightsOf(length: number, seed: number): Weights {
  const weights = new Float32Array(length)
  let state = seed
  for (let index = 0; index < length; index++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    weights[index] = state / 2 ** 31 - 1
  }
  return weights
}

/** A matrix times a vector, without what is negative, and scaled so that nothing vanishes or explodes. */
function apply(matrix: Weights, input: Weights): Weights {
  const output = new Float32Array(matrix.length / WIDTH)
  let largest = 1e-6
  for (let row = 0; row < output.length; row++) {
    let sum = 0
    for (let column = 0; column < WIDTH; column++) sum += matrix[row * WIDTH + column]! * input[column]!
    output[row] = Math.max(sum, 0)
    largest = Math.max(largest, sum)
  }
  return output.map((value) => value / largest)
}

/** The row of a router that suits an input best. */
function choose(router: Weights, input: Weights): number {
  const scores = Array.from({ length: EXPERTS }, (_, expert) => {
    let score = 0
    for (let column = 0; column < WIDTH; column++) score += router[expert * WIDTH + column]! * input[column]!
    return score
  })
  return scores.indexOf(Math.max(...scores))
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`
}

/** One pass. Returns its output, and which experts it went through. */
async function forward(pass: number, use: Use): Promise<{ output: Weights; route: number[] }> {
  let vector = weightsOf(WIDTH, pass + 1)
  const route: number[] = []
  for (let layer = 0; layer < LAYERS; layer++) {
    const input = vector
    const hidden = await use(`layer.${layer}.dense`, (matrix) => apply(matrix, input))
    const expert = await use(`layer.${layer}.router`, (router) => choose(router, hidden))
    vector = await use(`layer.${layer}.expert.${expert}`, (matrix) => apply(matrix, hidden))
    route.push(expert)
  }
  return { output: vector, route }
}

const directory = await mkdtemp(join(process.cwd(), 'infer-'))
try {
  const all = new Map<string, Weights>()
  for (let layer = 0; layer < LAYERS; layer++) {
    const name = (part: string): string => `layer.${layer}.${part}`
    all.set(name('dense'), weightsOf(WIDTH * WIDTH, layer * 100 + 1))
    all.set(name('router'), weightsOf(EXPERTS * WIDTH, layer * 100 + 2))
    for (let expert = 0; expert < EXPERTS; expert++)
      all.set(name(`expert.${expert}`), weightsOf(WIDTH * WIDTH, layer * 100 + 3 + expert))
  }
  const path = join(directory, 'model.safetensors')
  const tensorOf = (data: Weights) => ({ dtype: 'F32', shape: [data.length / WIDTH, WIDTH], data })
  await saveSafetensors(
    path,
    Array.from(all, ([name, data]) => [name, tensorOf(data)] as const),
  )

  await using model = await openSafetensors(path)
  await using store = SwapStore.over(model, { memory: Math.ceil(model.bytes / SHARE) })
  const dense = Array.from({ length: LAYERS }, (_, layer) => `layer.${layer}.dense`)
  store.plan(dense, { repeat: true })
  for (let layer = 0; layer < LAYERS; layer++) await store.pin(`layer.${layer}.router`)

  const leased: Use = async (name, compute) => {
    using lease = await store.get(name)
    return compute(lease.data as Weights)
  }
  const inMemory: Use = async (name, compute) => compute(all.get(name)!)
  const chosen = new Set<string>()
  let wrong = 0
  let seconds = 0
  for (let pass = 0; pass < PASSES; pass++) {
    const started = performance.now()
    const { output, route } = await forward(pass, leased)
    seconds += (performance.now() - started) / 1000
    const expected = await forward(pass, inMemory)
    const isEqual = Buffer.compare(new Uint8Array(output.buffer), new Uint8Array(expected.output.buffer)) === 0
    if (!isEqual || route.join() !== expected.route.join()) wrong++
    for (const [layer, expert] of route.entries()) chosen.add(`${layer}.${expert}`)
  }

  const { usedMax, memory, hits, misses, prefetchHits } = store.stats()
  console.log(
    `${PASSES} passes over ${mebibytes(model.bytes)} in ${seconds.toFixed(2)} s, through ${chosen.size} experts`,
  )
  console.log(`at most ${mebibytes(usedMax)} of ${mebibytes(memory)} in memory`)
  console.log(`${hits} tensors were there, ${prefetchHits} of them read ahead, ${misses} came from the drive`)
  console.log(wrong === 0 ? 'every output is what it is in memory' : `${wrong} outputs are WRONG`)
  process.exitCode = wrong === 0 && usedMax <= memory ? 0 : 1
} finally {
  await rm(directory, { recursive: true })
}
