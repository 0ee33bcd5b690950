/** What a tuning writes: the text of a profile, which engines read (`crates/deepring/src/profile`), and DeepSpeed's `aio`. */

import type { Direction } from './stream.ts'

/** What was found of a direction. */
export interface Tuned {
  /** Bytes in flight while one file has the device alone, and while several share it. */
  readonly windowBytes: number
  readonly sharedBytes: number
  /** Bytes of a block. */
  readonly blockBytes: number
  /** Small requests at once. */
  readonly blocks: number
  /** The bytes that one operation costs: what lies between two ranges is worth reading if it is less. */
  readonly gapBytes: number
}

/** What a profile says. */
export interface Profile {
  readonly device: string
  readonly kernel: string
  readonly version: string
  readonly aim: string
  readonly date: Date
  readonly confidence: number
  readonly tuned: Readonly<Record<Direction, Tuned>>
}

/** The first two numbers of a release: what comes behind them changes with every fix. */
export function kernelOf(release: string): string {
  return /^\d+(?:\.\d+)?/.exec(release)?.[0] ?? release
}

/** The text. Version 1 of the format. */
export function profileText({ device, kernel, version, aim, date, confidence, tuned }: Profile): string {
  const lines = [
    '# Where the search for windows begins on this device: see docs/tuning.md of deepring.',
    'version = 1',
    `device = ${device}`,
    `kernel = ${kernelOf(kernel)}`,
    `by = deepring ${version}`,
    `tuned = ${date.toISOString()}`,
    `for = ${aim}`,
    `confidence = ${confidence.toFixed(3)}`,
  ]
  for (const direction of ['read', 'write'] as const) {
    const { windowBytes, sharedBytes, blockBytes, blocks, gapBytes } = tuned[direction]
    lines.push(
      '',
      `${direction}.window = ${windowBytes}`,
      `${direction}.shared = ${sharedBytes}`,
      `${direction}.block = ${blockBytes}`,
      `${direction}.blocks = ${blocks}`,
      `${direction}.gap = ${gapBytes}`,
    )
  }
  return `${lines.join('\n')}\n`
}

/** The section `aio` of DeepSpeed's configuration: the keys that it reads, with the types that it takes. */
export interface DeepSpeedAio {
  readonly block_size: number
  readonly queue_depth: number
  readonly intra_op_parallelism: number
  readonly single_submit: boolean
  readonly overlap_events: boolean
}

/** It has one section for both directions: blocks that suit both, and as many as the larger window takes. */
export function deepSpeedAio({ read, write }: Readonly<Record<Direction, Tuned>>): DeepSpeedAio {
  const block = Math.min(read.blockBytes, write.blockBytes)
  const window = Math.max(read.windowBytes, write.windowBytes)
  return {
    block_size: block,
    queue_depth: Math.max(1, Math.round(window / block)),
    intra_op_parallelism: 1,
    single_submit: false,
    overlap_events: true,
  }
}
