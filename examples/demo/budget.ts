/**
 * The size of the large tensor that fits here.
 *
 * The demo needs three times its size on the drive (the swapped tensor, the copy that a contender
 * writes, and as much again so that the drive is never filled) and in memory (the source, the
 * returned tensor, and as much again for other processes). With less space it takes a smaller
 * tensor and reports that, instead of failing half way.
 */

import { formatSize } from './size.ts'

const DRIVE_COPIES = 3
const MEMORY_COPIES = 3

/** The smallest tensor worth moving, and the steps in which it shrinks. */
const STEP_BYTES = 2 ** 20

export interface FreeSpace {
  /** Where the files go, for the message. */
  directory: string
  driveBytes: number
  memoryBytes: number
}

export interface Budget {
  /** 0 if not even the smallest tensor fits. */
  sizeBytes: number
  /** Undefined if the wanted size fits, otherwise a sentence for the user. */
  shrunkBecause: string | undefined
}

/** @param weightBytes - What the small tensors need in addition. */
export function fitSize(wantedBytes: number, weightBytes: number, space: FreeSpace): Budget {
  const driveFits = Math.max(0, space.driveBytes - weightBytes) / DRIVE_COPIES
  const memoryFits = Math.max(0, space.memoryBytes - weightBytes) / MEMORY_COPIES
  if (wantedBytes <= Math.min(driveFits, memoryFits)) return { sizeBytes: wantedBytes, shrunkBecause: undefined }
  const sizeBytes = Math.floor(Math.min(driveFits, memoryFits) / STEP_BYTES) * STEP_BYTES
  const [free, copies] =
    driveFits < memoryFits
      ? [`${formatSize(space.driveBytes)} are free in ${space.directory}`, DRIVE_COPIES]
      : [`${formatSize(space.memoryBytes)} of memory are available`, MEMORY_COPIES]
  const why = `${free}, and the demo needs ${copies} times the tensor and ${formatSize(weightBytes)}`
  const shrunkBecause =
    sizeBytes === 0 ? why : `the large tensor is ${formatSize(sizeBytes)} instead of ${formatSize(wantedBytes)}: ${why}`
  return { sizeBytes, shrunkBecause }
}
