/**
 * A network that reads digits, and its training by Adam: {@link Training}.
 *
 * It has one hidden layer, very wide. All weights that go into a hidden neuron or come out of it are one row, and a group of the
 * optimizer is a slice of the neurons. So a step needs one group at a time, and the weights are nowhere else:
 *
 * ```text
 *   for each group:  gradient of its rows, for this batch ──► Adam ──► its part of the outputs, for the next batch
 * ```
 *
 * What stays in memory between two groups is what the neurons have computed for the batch, and the sums of the outputs.
 * All of it is computed in one order, so that the results depend on nothing but the bits of the state.
 */

import { batchOf, DIGITS, PIXELS, type Picture } from './digits.ts'
import { random } from './random.ts'

/** Of a hidden neuron: a weight for each pixel, a bias, and a weight for each output. */
export const ROW: number = PIXELS + 1 + DIGITS
/** Slices of the hidden layer. */
export const GROUPS = 32
/** Pictures of a batch: each digit once. */
const BATCH = DIGITS

/** About so many pixels of a picture are not empty. */
const LIT = 135

const BETA1 = 0.9
const BETA2 = 0.999
const EPSILON = 1e-8
/** The outputs are sums over all neurons, so the rate is this for each of them. */
const RATE = 1

type Floats = Float32Array<ArrayBufferLike>

/** Parameters and states of a group. */
export interface Parts {
  readonly param: Floats
  readonly exp_avg: Floats
  readonly exp_avg_sq: Floats
}

/** The names of the parts, in their order in a group. */
export const PARTS = ['param', 'exp_avg', 'exp_avg_sq'] as const

/** Where the groups are between their uses. */
export interface Home {
  /** Lends one group after the other, until the body of the loop ends. With `keeps`, what was changed in it is kept. */
  groups(keeps: boolean): AsyncIterable<Parts>
}

/** What is trained. */
export interface Shape {
  /** Hidden neurons: a multiple of {@link GROUPS}. */
  readonly width: number
  readonly seed: number
}

/** Elements of each part of a group. */
export function elementsOf({ width }: Shape): number {
  return (width / GROUPS) * ROW
}

/** Bytes of all parts of all groups. */
export function stateBytesOf(shape: Shape): number {
  return GROUPS * PARTS.length * elementsOf(shape) * Float32Array.BYTES_PER_ELEMENT
}

/** The hidden width whose state has about so many bytes, and not fewer. */
export function widthOf(stateBytes: number): number {
  const smallest = stateBytesOf({ width: GROUPS, seed: 0 })
  return GROUPS * Math.ceil(stateBytes / smallest)
}

/** The parameters of a group in the beginning. */
export function initialParam(shape: Shape, group: number): Float32Array<ArrayBuffer> {
  const next = random(shape.seed + group * 7919)
  const param = new Float32Array(elementsOf(shape))
  const inward = Math.sqrt(6 / LIT)
  const outward = Math.sqrt(1 / shape.width)
  for (let index = 0; index < param.length; index++) {
    const place = index % ROW
    param[index] = place === PIXELS ? 0 : (2 * next() - 1) * (place < PIXELS ? inward : outward)
  }
  return param
}

/** See the module. */
export class Training {
  readonly #shape: Shape
  readonly #home: Home
  /** How many steps were done. */
  #steps = 0
  /** For each neuron, what it computes for each picture of the next batch. */
  readonly #hidden: Float32Array
  /** For each picture of the next batch, its outputs. */
  #outputs = new Float64Array(BATCH * DIGITS)

  constructor(shape: Shape, home: Home) {
    this.#shape = shape
    this.#home = home
    this.#hidden = new Float32Array(shape.width * BATCH)
  }

  /** How many steps were done. */
  get steps(): number {
    return this.#steps
  }

  /** Begins with what is in the home: the state after so many steps. Reads all of it once. */
  async begin(steps: number): Promise<void> {
    this.#steps = steps
    this.#outputs = new Float64Array(BATCH * DIGITS)
    const pictures = batchOf(steps + 1, this.#shape.seed)
    let neuron = 0
    for await (const { param } of this.#home.groups(false))
      for (let start = 0; start < param.length; start += ROW, neuron++) this.#forward(param, start, neuron, pictures)
  }

  /**
   * One step. Returns the loss of its batch.
   *
   * @param watch - Called before each neuron.
   */
  async step(watch: (neuron: number) => void = () => {}): Promise<number> {
    this.#steps += 1
    const { seed } = this.#shape
    const { loss, slopes } = lossOf(this.#outputs)
    this.#outputs = new Float64Array(BATCH * DIGITS)
    const pictures = batchOf(this.#steps, seed)
    const nextPictures = batchOf(this.#steps + 1, seed)
    const rate = RATE / this.#shape.width / (1 - power(BETA1, this.#steps))
    const unbias = 1 / (1 - power(BETA2, this.#steps))
    const gradient = new Float64Array(ROW)
    let neuron = 0
    for await (const { param, exp_avg: m, exp_avg_sq: v } of this.#home.groups(true))
      for (let start = 0; start < param.length; start += ROW, neuron++) {
        watch(neuron)
        this.#backward(param, start, neuron, pictures, slopes, gradient)
        for (let place = 0; place < ROW; place++) {
          const at = start + place
          const slope = gradient[place]!
          const first = BETA1 * m[at]! + (1 - BETA1) * slope
          const second = BETA2 * v[at]! + (1 - BETA2) * slope * slope
          m[at] = first
          v[at] = second
          param[at] = param[at]! - (rate * first) / (Math.sqrt(second * unbias) + EPSILON)
        }
        this.#forward(param, start, neuron, nextPictures)
      }
    return loss
  }

  /** What a neuron adds to the outputs. */
  #forward(param: Floats, start: number, neuron: number, pictures: readonly Picture[]): void {
    for (let nth = 0; nth < BATCH; nth++) {
      let sum = param[start + PIXELS]!
      const { places, values } = pictures[nth]!
      for (let lit = 0; lit < places.length; lit++) sum += param[start + places[lit]!]! * values[lit]!
      const value = Math.fround(Math.max(sum, 0))
      this.#hidden[neuron * BATCH + nth] = value
      for (let digit = 0; digit < DIGITS; digit++)
        this.#outputs[nth * DIGITS + digit]! += param[start + PIXELS + 1 + digit]! * value
    }
  }

  /** The gradient of the row of a neuron. */
  #backward(
    param: Floats,
    start: number,
    neuron: number,
    pictures: readonly Picture[],
    slopes: Float64Array,
    gradient: Float64Array,
  ): void {
    gradient.fill(0)
    for (let nth = 0; nth < BATCH; nth++) {
      const value = this.#hidden[neuron * BATCH + nth]!
      if (value === 0) continue
      let behind = 0
      for (let digit = 0; digit < DIGITS; digit++) {
        const slope = slopes[nth * DIGITS + digit]!
        gradient[PIXELS + 1 + digit]! += slope * value
        behind += slope * param[start + PIXELS + 1 + digit]!
      }
      const { places, values } = pictures[nth]!
      for (let lit = 0; lit < places.length; lit++) gradient[places[lit]!]! += behind * values[lit]!
      gradient[PIXELS]! += behind
    }
  }
}

/** The mean cross-entropy of a batch, and its slope for each output. */
function lossOf(outputs: Float64Array): { loss: number; slopes: Float64Array } {
  const slopes = new Float64Array(BATCH * DIGITS)
  let loss = 0
  for (let nth = 0; nth < BATCH; nth++) {
    const own = outputs.subarray(nth * DIGITS, (nth + 1) * DIGITS)
    const largest = Math.max(...own)
    const shares = own.map((output) => Math.exp(output - largest))
    const sum = shares.reduce((total, share) => total + share, 0)
    for (const [digit, share] of shares.entries())
      slopes[nth * DIGITS + digit] = (share / sum - (digit === nth ? 1 : 0)) / BATCH
    loss -= Math.log(shares[nth]! / sum) / BATCH
  }
  return { loss, slopes }
}

/** By products, in one order. */
function power(base: number, exponent: number): number {
  let product = 1
  for (let count = 0; count < exponent; count++) product *= base
  return product
}
