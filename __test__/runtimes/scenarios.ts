/**
 * The scenarios: programs that end, or drop their memory, in the middle of requests, and the checks afterwards.
 *
 * The programs are beside this file as plain JavaScript, because they run on every runtime that deepring supports.
 * Each runs in a separate process. It fails by throwing, and ends its output with one line of JSON. The files that it
 * leaves on disk are checked here.
 */

import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { coded, misplaced } from './coded.mjs'
import { electronLike } from '../electron.ts'
import type { Host, Runtime } from './host.ts'

/** How much a scenario does: little in `npm test`, much in `npm run runtimes`. */
export interface Extent {
  readonly terminations: number
  readonly workers: number
  readonly rounds: number
  /** How often a process ends, of each kind. */
  readonly ends: number
  readonly loopMs: number
  readonly appends: number
  readonly seed: number
}

/** One run of a program. */
export interface Run {
  readonly parameters: Record<string, unknown>
  /** How the process must end; by default with status 0. */
  readonly status?: number
  /** Sent this long after the program has printed its result. */
  readonly signal?: { readonly name: NodeJS.Signals; readonly afterMs: number }
  /** What its error output must contain; without it, the error output must be empty. */
  readonly complaint?: RegExp
  /** Lines of its error output to ignore. */
  readonly noise?: RegExp
  /** Checks the files that it left: returns what is wrong with them, if anything. */
  verify?(): string | undefined
}

/** A program, and its runs. */
export interface Scenario {
  readonly name: string
  readonly program: string
  /** Why it cannot run on a runtime; by default it runs on all. */
  skip?(host: Host): string | undefined
  /** More flags of the runtime. */
  flags?(runtime: Runtime): string[]
  /** More variables of its environment; or why it cannot run on this machine. Files that they name are made in the folder. */
  environment?(folder: string): NodeJS.ProcessEnv | string
  /** The runs, one after the other, in a separate directory that supports direct I/O. */
  runs(folder: string, extent: Extent): Run[]
}

/** The file that programs overwrite while they end: 24 requests of 500008 bytes. */
const OVERWRITTEN_BYTES = 24 * 500_008

/** The file system blocks at which direct writes are cut. */
const BLOCK_BYTES = 4096

/** One in this many terminated workers blocks in a call. */
const BLOCKING_SHARE = 10

/** Milliseconds of traffic before the end: at once, in the first requests, and later. */
const MOMENTS_MS = [0, 1, 3, 10, 40]

/** The file that gc.mjs and transfer.mjs read: larger than all bytes in flight. */
const SOURCE_BYTES = 16 << 20

/** How late 99 of 100 turns of the event loop can be; the timer that measures it adds 1. */
const P99_MS_MAX = 20

/** Deno prints what a worker throws, even with a listener. */
const THROWN_IN_WORKER = /on purpose|^\s*\^$|at .*passing-worker\.mjs/

export const scenarios: readonly Scenario[] = [
  { name: 'every public function', program: 'smoke.mjs', runs: (folder) => [{ parameters: { folder } }] },
  {
    name: 'every public function in a worker',
    program: 'smoke-worker.mjs',
    runs: (folder) => [{ parameters: { folder } }],
  },
  {
    name: 'every public function with permissions',
    program: 'smoke.mjs',
    skip: onlyOnNode('only Node has these permissions; those of Deno are asked for in all scenarios'),
    flags: ({ version }) => [
      Number.parseInt(version, 10) < 24 ? '--experimental-permission' : '--permission',
      '--allow-addons',
      '--allow-worker',
      '--allow-fs-read=*',
      '--allow-fs-write=*',
    ],
    runs: (folder) => [
      { parameters: { folder }, noise: /ExperimentalWarning: Permission|SecurityWarning: The flag --allow/ },
    ],
  },
  {
    // As in Electron. The file that stands in for the binary is of the checkout.
    name: 'every public function where external memory is refused',
    program: 'smoke.mjs',
    skip: onlyOnNode('Electron is Node'),
    environment: electronLike,
    runs: (folder) => [{ parameters: { folder, refused: true } }],
  },
  {
    name: 'the look at memory can fail',
    program: 'planted.mjs',
    runs: (folder) => [{ parameters: { path: codedFile(folder, 'source', 1, 1 << 20) } }],
  },
  {
    name: 'garbage collection',
    program: 'gc.mjs',
    runs: (folder, { rounds }) => {
      const written = rounds * 12 * 400_008
      const out = codedFile(folder, 'out', 2, written)
      const path = codedFile(folder, 'source', 1, SOURCE_BYTES)
      return [{ parameters: { path, bytes: SOURCE_BYTES, out, rounds }, verify: () => look(out, 2, [1], written) }]
    },
  },
  {
    name: 'memory taken away',
    program: 'transfer.mjs',
    runs: (folder, { rounds }) => {
      const writes = rounds * 8
      const out = codedFile(folder, 'out', 2, writes << 20)
      const path = codedFile(folder, 'source', 1, SOURCE_BYTES)
      return [{ parameters: { path, out, rounds }, verify: () => lookAtWrites(out, writes) }]
    },
  },
  {
    name: 'workers terminated',
    program: 'terminate.mjs',
    runs: (folder, { terminations, seed }) => [
      terminated(folder, { terminations, seed, ways: ['default', 'own', 'opening', 'handle'] }),
    ],
  },
  {
    name: 'workers terminated in a call',
    program: 'terminate.mjs',
    skip: (host) =>
      host === 'deno'
        ? 'Deno 2.9 reports such a worker as ended, but loses a termination during a native call: the worker never ends'
        : undefined,
    runs: (folder, { terminations, seed }) => [
      terminated(folder, { terminations: Math.ceil(terminations / BLOCKING_SHARE), seed, ways: ['blocking'] }),
    ],
  },
  {
    name: 'workers coming and going',
    program: 'workers.mjs',
    runs: (folder, { workers }) => [
      { parameters: { folder, workers }, noise: THROWN_IN_WORKER, verify: () => lookAtWorkers(folder, workers) },
    ],
  },
  {
    name: 'process.exit',
    program: 'exit.mjs',
    runs: (folder, { ends }) => moments(ends).map((afterMs) => overwritten(folder, { afterMs }, { status: 7 })),
  },
  {
    name: 'uncaught throw',
    program: 'throw.mjs',
    runs: (folder, { ends }) =>
      moments(ends).flatMap((afterMs) => [
        overwritten(folder, { afterMs, reject: false }, { status: 1, complaint: /thrown on purpose/ }),
        overwritten(folder, { afterMs, reject: true }, { status: 1, complaint: /rejected on purpose/ }),
      ]),
  },
  ...(['SIGTERM', 'SIGKILL', 'SIGINT'] as const).map((name): Scenario => ({
    name,
    program: 'signal.mjs',
    runs: (folder, { ends }) => moments(ends).map((afterMs) => overwritten(folder, {}, { signal: { name, afterMs } })),
  })),
  {
    name: 'an idle second',
    program: 'idle.mjs',
    runs: (folder) => [{ parameters: { folder, idleMs: 1000 } }],
  },
  {
    name: 'the event loop under load',
    program: 'loop.mjs',
    runs: (folder, { loopMs }) => {
      const bytes = 32 << 20
      const paths = [0, 1, 2, 3].map((number) => codedFile(folder, `load-${number}`, number, bytes))
      return [{ parameters: { paths, bytes, ms: loopMs, p99MsMax: P99_MS_MAX } }]
    },
  },
  {
    name: 'an append storm',
    program: 'storm.mjs',
    runs: (folder, { appends }) => {
      const verify = (): string | undefined =>
        Array.from({ length: 8 }, (_, i) => look(join(folder, `storm-${i}`), 8 + i, [0], appends * 1784)).find(
          (fault) => fault !== undefined,
        )
      return [{ parameters: { folder, appends }, verify }]
    },
  },
]

/** Skips the other runtimes, for this reason. */
function onlyOnNode(reason: string): (host: Host) => string | undefined {
  return (host) => (host === 'node' ? undefined : reason)
}

function moments(count: number): number[] {
  return Array.from({ length: count }, (_, i) => MOMENTS_MS[i % MOMENTS_MS.length] ?? 0)
}

/** A file of coded bytes, all of generation 0. */
function codedFile(folder: string, name: string, number: number, bytes: number): string {
  const path = join(folder, name)
  writeFileSync(path, coded(number, 0, 0, bytes))
  return path
}

/** What is wrong with a file of this length that must have, at each place, the bytes of one of these generations. */
export function look(path: string, number: number, generations: readonly number[], bytes: number): string | undefined {
  const found = readFileSync(path)
  if (found.length !== bytes) return `${path} has ${found.length} bytes, not ${bytes}`
  const fault = misplaced(found, number, generations, 0)
  return fault === undefined ? undefined : `${path}: ${fault}`
}

/**
 * What is wrong with a file that was being written when its process ended. A direct write at the end of a file covers a
 * whole block, and the excess is cut off afterwards. In between, zeros follow the end (docs/durability.md).
 */
export function lookAfterDeath(
  path: string,
  number: number,
  generations: readonly number[],
  bytes: number,
): string | undefined {
  const found = readFileSync(path)
  const padding = found.subarray(bytes)
  if (found.length < bytes || found.length > Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES)
    return `${path} has ${found.length} bytes, not ${bytes}`
  if (padding.some((byte) => byte !== 0)) return `${path} has more than zeros behind its end`
  const fault = misplaced(found.subarray(0, bytes), number, generations, 0)
  return fault === undefined ? undefined : `${path}: ${fault}`
}

/** A run of a program that terminates workers, each of which overwrites one of two files. */
function terminated(folder: string, parameters: Record<string, unknown>): Run {
  // A tail that ends within a sector: the file must keep its length if a writer dies.
  const bytes = (4 << 20) + 1000
  const paths = [0, 1].map((number) => codedFile(folder, `busy-${number}`, 3, bytes))
  const verify = (): string | undefined =>
    paths.map((path) => look(path, 3, [0, 1], bytes)).find((fault) => fault !== undefined)
  return { parameters: { paths, bytes, ...parameters }, verify }
}

/** A run of a program that ends while it overwrites a file: each place has old or new bytes, and synced bytes stay. */
function overwritten(folder: string, parameters: Record<string, unknown>, end: Partial<Run>): Run {
  const path = codedFile(folder, 'overwritten', 4, OVERWRITTEN_BYTES)
  const kept = join(folder, 'kept')
  return {
    ...end,
    parameters: { path, kept, bytes: OVERWRITTEN_BYTES, ...parameters },
    verify: () => lookAfterDeath(path, 4, [0, 1], OVERWRITTEN_BYTES) ?? look(kept, 5, [0], 500_008),
  }
}

/** transfer.mjs writes at every MiB, with two lengths in turn; the old bytes follow the shorter ones. */
function lookAtWrites(path: string, writes: number): string | undefined {
  const found = readFileSync(path)
  for (let i = 0; i < writes; i += 1) {
    const length = i % 8 < 4 ? 1 << 20 : 700_008
    const start = i << 20
    const fault =
      misplaced(found.subarray(start, start + length), 2, [1], start) ??
      misplaced(found.subarray(start + length, start + (1 << 20)), 2, [0], start + length)
    if (fault !== undefined) return `${path}: ${fault}`
  }
  return statSync(path).size === writes << 20 ? undefined : `${path} has another length than before`
}

/** Each worker leaves its file and a copy of it, and the program leaves one file. */
function lookAtWorkers(folder: string, workers: number): string | undefined {
  for (let number = 0; number < workers; number += 1) {
    for (const name of [`worker-${number}`, `worker-${number}-copy`]) {
      const fault = look(join(folder, name), number, [0], 8 * 60_008)
      if (fault !== undefined) return fault
    }
  }
  const count = readdirSync(folder).length
  return count === 2 * workers + 1 ? undefined : `${folder} has ${count} files`
}
