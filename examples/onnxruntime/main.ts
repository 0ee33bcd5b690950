/**
 * Gives weights from a safetensors file to onnxruntime-node, and checks what it infers with them.
 *
 *   node examples/onnxruntime/main.ts                64 MiB of weights
 *   node examples/onnxruntime/main.ts --size 2.5G    more than one Buffer of node:fs can be read into
 *
 * Run it in a checkout after `npm run build:native`, with Node 24 or newer (`await using`). In your own project the imports
 * are `from 'deepring/safetensors'` and `from 'onnxruntime-node'`.
 *
 * A model with external data says of each weight: so many bytes, from this position on, of that file. A session takes
 * the content of these files from memory, as `externalData`. So the model here says of each weight that it is a file of its
 * own, by its name, and every tensor of the safetensors file is one. The sample is made by sample.ts and experts.ts.
 */

import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { parseArgs } from 'node:util'
import type { InferenceSession, Tensor } from 'onnxruntime-common'
import { openSafetensors } from '../../lib/safetensors/index.ts'
import { parseSize } from '../demo/size.ts'
import { EXPERT_INPUT, withExperts } from './experts.ts'
import { onnxruntime, type OnnxRuntime } from './runtime.ts'
import { makeSample, weightsOfExpert, type Sample } from './sample.ts'

/** Two sessions with the same weights compute the same, but can add in another order. */
const TOLERANCE = 1e-5

/** A session with the weights of a safetensors file. */
async function createSession(ort: OnnxRuntime, modelPath: string, weightsPath: string): Promise<InferenceSession> {
  const started = performance.now()
  await using model = await openSafetensors(weightsPath)
  // Engine memory. The session copies it, and it goes back at the end of this function: so the last line must `await`.
  using tensors = await model.load()
  const seconds = (performance.now() - started) / 1000
  console.log(
    `loaded ${model.bytes} bytes in ${seconds.toFixed(2)} s: ${(model.bytes / 1e9 / seconds).toFixed(2)} GB/s`,
  )
  const externalData = Array.from(tensors.values(), ({ name, bytes }) => ({ path: name, data: bytes }))
  return await ort.InferenceSession.create(modelPath, { externalData })
}

/** The output for one picture, by one expert if there are several. */
async function infer(ort: OnnxRuntime, session: InferenceSession, expert?: number): Promise<Tensor> {
  const [channels, height, width] = [3, 48, 320]
  const pixels = Float32Array.from({ length: channels * height * width }, (_, index) => Math.sin(index))
  const feeds: Record<string, Tensor> = { x: new ort.Tensor('float32', pixels, [1, channels, height, width]) }
  if (expert !== undefined) feeds[EXPERT_INPUT] = new ort.Tensor('int64', [BigInt(expert)], [])
  const outputs = await session.run(feeds)
  return outputs[session.outputNames[0]!] as Tensor
}

/** The weights of one expert, without a file and without deepring: what the others are compared with. */
function createReference(ort: OnnxRuntime, { original, weights }: Sample, expert: number): Promise<InferenceSession> {
  const model = withExperts(original, 1, (name) => ({ location: name, offset: 0 }))
  const externalData = weights.map((weight) => {
    return { path: weight.name, data: new Uint8Array(weightsOfExpert(weight, expert).buffer) }
  })
  return ort.InferenceSession.create(model, { externalData })
}

/** The largest difference of two outputs; infinite if they are not numbers, or not of one shape. */
function differenceOf(a: Tensor, b: Tensor): number {
  if (a.dims.join() !== b.dims.join()) return Infinity
  const [those, these] = [a.data as Float32Array, b.data as Float32Array]
  const difference = those.reduce((most, value, index) => Math.max(most, Math.abs(value - these[index]!)), 0)
  return Number.isNaN(difference) ? Infinity : difference
}

const { values } = parseArgs({ options: { size: { type: 'string', default: '64M' } } })
const ort = onnxruntime()
const directory = await mkdtemp(join(process.cwd(), 'onnxruntime-'))
try {
  const sample = await makeSample(directory, parseSize(values.size))
  console.log(`a model of ${sample.experts} experts, with ${sample.weights.length} weights each`)
  const session = await createSession(ort, sample.modelPath, sample.weightsPath)
  const last = sample.experts - 1
  const checks: [title: string, a: Tensor, b: Tensor, same: boolean][] = []
  const first = await infer(ort, session, 0)
  const original = await infer(ort, await ort.InferenceSession.create(sample.original))
  checks.push(['expert 0 infers what the original model does', first, original, true])
  const other = await infer(ort, session, last)
  const expected = await infer(ort, await createReference(ort, sample, last), 0)
  checks.push([`expert ${last} infers what its weights alone do`, other, expected, true])
  checks.push([`expert 0 and expert ${last} infer different things`, first, other, false])
  for (const [title, a, b, same] of checks) {
    const difference = differenceOf(a, b)
    const right = difference <= TOLERANCE === same
    console.log(`${title}: ${right ? 'yes' : 'NO'} (the largest difference is ${difference.toExponential(1)})`)
    if (!right) process.exitCode = 1
  }
} finally {
  await rm(directory, { recursive: true })
}
