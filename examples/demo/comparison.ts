/**
 * deepring compared with node:fs and with the reference implementation, on the model that the demo has just saved.
 *
 * Every contender runs in its own child process, so that its memory and CPU are its own. A round
 * runs all of them. The next round runs in reverse order, so that none always follows the same
 * neighbor. Before each, another process warms the machine's memory. The figure is the median. As many rounds run as fit
 * into the time, but at least one. This is a demonstration, not a measurement: `npm run bench` is fair by construction.
 */

import { execFile } from 'node:child_process'
import { rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import type { Cost } from './meter.ts'
import type { ContenderFailure, ContenderName, ContenderReport } from './contender.ts'
import { dropPageCache } from './page-cache.ts'
import { buildReference } from './reference.ts'
import type { Workspace } from './workspace.ts'

const ROUNDS_MAX = 3

/** What a contender uses beside its bytes. */
const BESIDE_BYTES = 256 * 2 ** 20

interface Contender {
  name: ContenderName
  kind: 'load' | 'save'
  title: string
  /** It is a command of the reference program, which has no event loop. */
  reference?: boolean
}

export const CONTENDERS: readonly Contender[] = [
  { name: 'deepring-load', kind: 'load', title: 'deepring' },
  { name: 'deepring-load-reused', kind: 'load', title: 'deepring, memory reused' },
  { name: 'deepring-stream', kind: 'load', title: 'deepring, as a stream' },
  { name: 'readFile', kind: 'load', title: 'fs.readFile and parse' },
  { name: 'mapped-touched', kind: 'load', title: 'reference, mapped', reference: true },
  { name: 'mapped-copied', kind: 'load', title: 'reference, mapped and copied', reference: true },
  { name: 'deepring-save', kind: 'save', title: 'deepring' },
  { name: 'writeFile', kind: 'save', title: 'fs.writeFile' },
]

export interface ContenderResult {
  name: ContenderName
  rounds: Cost[]
  /** The median of each figure by itself; undefined if the contender failed. */
  median: Cost | undefined
  /** Why it failed, from its own error (`fs.readFile` refuses files of 2 GiB and more). */
  failure: string | undefined
}

export interface Comparison {
  results: ContenderResult[]
  /** Undefined if the page cache was dropped before each read, otherwise the reason. */
  warmBecause: string | undefined
}

/** The model that is loaded, and saved once more. */
export interface ComparedModel {
  path: string
  /** Bytes of its tensors. */
  bytes: number
  /** CRC-32 of its tensors, in the order of the file. */
  crc32: number
}

/**
 * @param deadlineMs on `performance.now()`: no round but the first begins if it would end later
 * @param progress receives the completed part, between 0 and 1
 */
export async function compareContenders(
  workspace: Workspace,
  model: ComparedModel,
  deadlineMs: number,
  progress: (part: number) => void,
): Promise<Comparison> {
  const reference = await buildReference().catch((error: Error) => error)
  const started = performance.now()
  const results = CONTENDERS.map(({ name, reference: needed }): ContenderResult => {
    const failure = needed && reference instanceof Error ? reference.message : undefined
    return { name, rounds: [], median: undefined, failure }
  })
  let warmBecause: string | undefined
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const order = round % 2 === 0 ? CONTENDERS : CONTENDERS.toReversed()
    for (const [index, contender] of order.entries()) {
      const result = results.find(({ name }) => name === contender.name)!
      if (result.failure === undefined) {
        if (contender.kind === 'load') warmBecause = await dropPageCache()
        await warmMemory(workspace, model.bytes)
        await runOnce(workspace, result, contender, model, reference)
      }
      progress((round + (index + 1) / order.length) / ROUNDS_MAX)
    }
    const now = performance.now()
    if (now + (now - started) / (round + 1) > deadlineMs) break
  }
  for (const result of results) {
    if (result.failure === undefined) result.median = medianCost(result.rounds)
  }
  return { results, warmBecause }
}

async function runOnce(
  workspace: Workspace,
  result: ContenderResult,
  contender: Contender,
  model: ComparedModel,
  reference: string | Error,
): Promise<void> {
  const { name, kind } = contender
  const target = kind === 'load' ? model.path : workspace.path(`${name}.safetensors`)
  const [program, ...words] = contender.reference
    ? [String(reference), name, target]
    : [process.execPath, join(import.meta.dirname, 'contender.ts'), name, target, model.path]
  try {
    const report = await runContender(workspace, program!, words)
    if (kind === 'load' && report.crc32 !== model.crc32) throw new Error('the bytes loaded are not those of the model')
    if (kind === 'save' && (await stat(target)).size < model.bytes) throw new Error('the saved file is too short')
    result.rounds.push(report.cost)
  } catch (error) {
    result.failure = (error as Error).message
  } finally {
    if (kind === 'save') await rm(target, { force: true })
  }
}

/** Has as much memory touched as a contender needs for its bytes, once more in the page cache, and beside them. */
async function warmMemory(workspace: Workspace, bytes: number): Promise<void> {
  const program = join(import.meta.dirname, 'warm-memory.ts')
  // Without it the comparison is less fair, and goes on.
  await new Promise<void>((resolve) => {
    const child = execFile(process.execPath, [program, String(2 * bytes + BESIDE_BYTES)], () => resolve())
    workspace.endWithProcess(child)
  })
}

/** Rejects with the failure that the contender reported, or with the exit of its process. */
function runContender(workspace: Workspace, program: string, words: string[]): Promise<ContenderReport> {
  return new Promise((resolve, reject) => {
    const child = execFile(program, words, (error, stdout) => {
      if (error) return reject(error)
      const report = JSON.parse(stdout) as ContenderReport | ContenderFailure
      if ('failure' in report) reject(new Error(report.failure))
      else resolve(report)
    })
    workspace.endWithProcess(child)
  })
}

function medianCost(rounds: readonly Cost[]): Cost {
  const median = (figure: (cost: Cost) => number): number => {
    const sorted = rounds.map(figure).toSorted((a, b) => a - b)
    return (sorted[(sorted.length - 1) >> 1]! + sorted[sorted.length >> 1]!) / 2
  }
  return {
    seconds: median((cost) => cost.seconds),
    cpuSeconds: median((cost) => cost.cpuSeconds),
    peakBytes: median((cost) => cost.peakBytes),
    loopP99Ms: median((cost) => cost.loopP99Ms),
    loopMaxMs: median((cost) => cost.loopMaxMs),
  }
}
