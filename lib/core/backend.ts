/**
 * The one module that touches the binding, and where it cannot run, what stands in for it.
 *
 * The binding is loaded at the first use, by load.ts, so that importing deepring never throws. Where there is none for the
 * platform, and where the runtime forbids native code, lib/node does the same over node:fs, and a warning says so. A binary
 * that is there and does not load stays an error: it must not be hidden.
 *
 * What the binding generates as its types must fit {@link Native}: nothing is cast.
 */

import module from 'node:module'
import * as threads from 'node:worker_threads'
import type * as node from '../node/index.ts'
import { adviceOf, firstLine, reasonForNode } from './advice.ts'
import { DeepringError } from './errors.ts'
import { environmentVariable, isBundled, load, LoadFailure } from './load.ts'
import type { EngineConfig, Native } from './native.ts'
import type { Failure } from './record.ts'
import { log } from './tracing.ts'
import { VERSION } from './version.ts'

let session: Native | undefined

/**
 * The session of this environment.
 *
 * @throws `ERR_DEEPRING_LOAD` with everything that was tried, and what to do.
 */
export function native(): Native {
  return (session ??= connect())
}

function connect(): Native {
  const wanted = environmentVariable('DEEPRING_BACKEND')
  if (wanted === 'node' && !isBundled()) return overNode('asked for by DEEPRING_BACKEND')
  let binding
  try {
    binding = load()
  } catch (error) {
    const reason = error instanceof LoadFailure && !wanted && !isBundled() ? reasonForNode(error) : undefined
    if (reason === undefined) throw unloadable(error)
    warnOnce(reason)
    return overNode(reason)
  }
  const raw = new binding.Session()
  log('binding of version %s loaded', VERSION)
  // These three return a Failure if they fail; here it is thrown. The others are called as they are.
  const { defaultEngine, createEngine, allocate } = raw
  const throwing = {
    defaultEngine: () => orThrow(defaultEngine.call(raw)),
    createEngine: (config: EngineConfig) => orThrow(createEngine.call(raw, config)),
    allocate: (engine: number, bytes: number, zeroed: boolean) => orThrow(allocate.call(raw, engine, bytes, zeroed)),
  }
  return Object.assign(raw, throwing)
}

/** Loads lib/node only where it is needed, because that takes a third as long as everything else. A bundle does not have it. */
function overNode(reason: string): Native {
  log('node:fs in place of the binding: %s', reason)
  const require = module.createRequire(import.meta.url)
  const isSource = import.meta.url.endsWith('.ts')
  const { nodeNative } = (isSource ? require('../node/index.ts') : require('../node/index.js')) as typeof node
  return nodeNative(reason)
}

/** Says, once for a thread and those that it starts, that deepring is slower than it could be. */
function warnOnce(reason: string): void {
  const key = 'deepring.node'
  if (threads.getEnvironmentData(key) === true) return
  threads.setEnvironmentData(key, true)
  process.emitWarning(
    `deepring runs over node:fs: ${reason}. It is slower, and without direct I/O, checkpoints and swap stores.`,
    { type: 'DeepringWarning', code: 'DEEPRING_NODE_BACKEND' },
  )
}

function orThrow<T>(answer: T | Failure): T {
  if (isFailure(answer)) throw Object.assign(new Error('failed'), { failure: answer })
  return answer
}

function isFailure(answer: unknown): answer is Failure {
  return typeof answer === 'object' && answer !== null && 'syscall' in answer
}

/** The error for a binding that could not be loaded. Nothing is assumed of `error`: the surroundings are unknown. */
function unloadable(error: unknown): DeepringError {
  const failure =
    error instanceof LoadFailure
      ? error
      : new LoadFailure('this platform', [{ candidate: 'the loader', kind: 'package', file: undefined, cause: error }])
  const lines = [
    `The native binding for ${failure.triple} could not be loaded. Tried:`,
    ...failure.attempts.map(({ candidate, cause }) => `  ${candidate}: ${firstLine(cause)}`),
    'What to do:',
    `  - ${adviceOf(failure)}`,
  ]
  return new DeepringError(lines.join('\n'), { code: 'ERR_DEEPRING_LOAD', cause: error })
}
