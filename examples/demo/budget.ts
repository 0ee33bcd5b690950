/**
 * The size of the model that fits here.
 *
 * The demo needs three times its size on the drive (the model, its swapped tensors or the copy that a contender saves, and
 * as much again so that the drive is never filled) and in memory (the source, the loaded tensors, and as much again for
 * other processes). With less space it takes a smaller model and reports that, instead of failing half way.
 */

import { formatSize } from './size.ts'

const DRIVE_COPIES = 3
const MEMORY_COPIES = 3

export interface FreeSpace {
  /** Where the files go, for the message. */
  directory: string
  driveBytes: number
  memoryBytes: number
}

export interface Budget {
  /** How often the model has each weight; 0 if not even one copy fits. */
  copies: number
  /** Undefined if the wanted size fits, otherwise a sentence for the user. */
  shrunkBecause: string | undefined
}

/** @param weightBytes - One copy of all weights: the model has a whole number of them. */
export function fitSize(wantedBytes: number, weightBytes: number, space: FreeSpace): Budget {
  const wanted = Math.max(1, Math.round(wantedBytes / weightBytes))
  const driveFits = Math.floor(space.driveBytes / DRIVE_COPIES / weightBytes)
  const memoryFits = Math.floor(space.memoryBytes / MEMORY_COPIES / weightBytes)
  const copies = Math.min(wanted, driveFits, memoryFits)
  if (copies === wanted) return { copies, shrunkBecause: undefined }
  const [free, times] =
    driveFits < memoryFits
      ? [`${formatSize(space.driveBytes)} are free in ${space.directory}`, DRIVE_COPIES]
      : [`${formatSize(space.memoryBytes)} of memory are available`, MEMORY_COPIES]
  const why = `${free}, and the demo needs ${times} times the model`
  const sizes = `${formatSize(copies * weightBytes)} instead of ${formatSize(wanted * weightBytes)}`
  return { copies, shrunkBecause: copies === 0 ? why : `the model is ${sizes}: ${why}` }
}
