/**
 * deepring compared with node:fs, on the file that the demo has just swapped out.
 *
 * Every contender runs in its own child process, so that its memory and CPU are its own. A round
 * runs all of them. The next round runs in reverse order, so that none always follows the same
 * neighbor. Before each, another process warms the machine's memory. The figure is the median. As many rounds run as fit into the time, but at least one.
 * This is a demonstration, not a measurement: `npm run bench` is fair by construction.
 */

import { execFile } from 'node:child_process'
import { rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import type { Cost } from './meter.ts'
import type { ContenderFailure, ContenderName, ContenderReport } from './contender.ts'
import { dropPageCache } from './page-cache.ts'
import type { Workspace } from './workspace.ts'

const ROUNDS_MAX = 3

/** What a contender uses beside its bytes. */
const BESIDE_BYTES = 256 * 2 ** 20

export const CONTENDERS: readonly { name: ContenderName; kind: 'read' | 'write'; title: string }[] = [
  { name: 'deepring-read', kind: 'read', title: 'deepring' },
  { name: 'deepring-read-reused', kind: 'read', title: 'deepring, memory reused' },
  { name: 'readFile', kind: 'read', title: 'fs.readFile' },
  { name: 'fileHandles', kind: 'read', title: '4 × FileHandle.read' },
  { name: 'fileHandles-reused', kind: 'read', title: '4 × FileHandle.read, memory reused' },
  { name: 'deepring-write', kind: 'write', title: 'deepring' },
  { name: 'writeFile', kind: 'write', title: 'fs.writeFile' },
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

/**
 * @param file path of the written file that readers read and writers copy
 * @param crc32 the checksum that the readers' bytes must have
 * @param deadlineMs on `performance.now()`: no round but the first begins if it would end later
 * @param progress receives the completed part, between 0 and 1
 */
export async function compareContenders(
  workspace: Workspace,
  file: string,
  bytes: number,
  crc32: number,
  deadlineMs: number,
  progress: (part: number) => void,
): Promise<Comparison> {
  const started = performance.now()
  const results = CONTENDERS.map(({ name }): ContenderResult => {
    return { name, rounds: [], median: undefined, failure: undefined }
  })
  let warmBecause: string | undefined
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const order = round % 2 === 0 ? CONTENDERS : CONTENDERS.toReversed()
    for (const [index, { name, kind }] of order.entries()) {
      const result = results.find((candidate) => candidate.name === name)!
      if (result.failure === undefined) {
        if (kind === 'read') warmBecause = await dropPageCache()
        await warmMemory(workspace, bytes)
        await runOnce(workspace, result, kind, file, bytes, crc32)
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
  kind: 'read' | 'write',
  file: string,
  bytes: number,
  crc32: number,
): Promise<void> {
  const target = kind === 'read' ? file : workspace.path(`${result.name}.bin`)
  try {
    const report = await runContender(workspace, [result.name, target, String(bytes), file])
    if (kind === 'read' && report.crc32 !== crc32) throw new Error('the bytes read are not those of the file')
    if (kind === 'write' && (await stat(target)).size !== bytes) throw new Error('the written file has another length')
    result.rounds.push(report.cost)
  } catch (error) {
    result.failure = (error as Error).message
  } finally {
    if (kind === 'write') await rm(target, { force: true })
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
function runContender(workspace: Workspace, parameters: string[]): Promise<ContenderReport> {
  const program = join(import.meta.dirname, 'contender.ts')
  return new Promise((resolve, reject) => {
    const child = execFile(process.execPath, [program, ...parameters], (error, stdout) => {
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
