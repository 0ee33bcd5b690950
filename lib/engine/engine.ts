/**
 * Engines: they open files, own memory, and keep the limits of a device.
 *
 * A process needs one engine and has one by default: `open`, `allocate`, `info` and the other functions of deepring use
 * it. All workers of the process share it, so it is never closed. A separate `Engine` has its own limits, can be forced
 * onto a backend, and is closed by the program that made it.
 *
 * Importing this module loads nothing. The native binding is loaded at the first use, which throws if that fails.
 */

import { allocateBuffer, type EngineBuffer } from '../memory/buffer.ts'
import { signalOf } from '../core/abort.ts'
import { brand, otherCopy, Uncloneable } from '../core/brand.ts'
import { connect, nextId, runInBackground, track } from '../core/completions.ts'
import { Operation } from '../core/operation.ts'
import type { DType } from '../memory/dtype.ts'
import { DeepringError, fromThrown, invalidType, invalidValue } from '../core/errors.ts'
// The one circle of this package: an engine opens files, and a file names its engine.
// oxlint-disable-next-line import/no-cycle -- each class hands out the other; their states and all else import downward
import { findEnginesBy, makeHandle, type FileHandle } from '../file/file.ts'
import { closeUnseen, FileState, finishNothing } from '../file/file-state.ts'
import { flagsOf, type OpenFlags } from '../core/flags.ts'
import { checkOpen, type EngineState } from '../core/engine-state.ts'
import { adviceOn } from './doctor.ts'
import type { Info, Stats } from './info.ts'
import { configOf, type EngineOptions } from './limits.ts'
import { libcOf } from '../core/libc.ts'
import { bindingFile } from '../core/load.ts'
import { DIRECT, type Opened, type RecordView } from '../core/record.ts'
import {
  booleanOf,
  MODE,
  modeOf,
  optionsOf,
  priorityOf,
  SIGNAL_KEYS,
  wordOf,
  type Priority,
  type SignalOptions,
} from '../core/options.ts'
import { pathOf, type FilePath } from '../core/path.ts'
import { allocateTensorIn, type Tensor } from '../memory/tensor.ts'

/** Options of `open`. */
export interface OpenOptions extends SignalOptions {
  /**
   * Whether transfers bypass the page cache. `'prefer'`: if they can; `file.direct` reports it. `'require'`: if they
   * cannot, the open fails with `ERR_DEEPRING_DIRECT`, or the write that shows it. `'never'`: they do not. `'auto'`:
   * as `'prefer'`, but what a read asks for comes from the page cache where that has it, for files that other programs
   * read, too, or that are read again and fit into memory. Default `'prefer'`.
   */
  direct?: 'require' | 'prefer' | 'never' | 'auto' | undefined
  /** Permissions of a file that is created, before the umask: a number, or octal digits. Default `0o666`. Only with flags that create. */
  mode?: number | string | undefined
  /**
   * True: the directory in which the file is created, or found, is synced too, so that its name survives a power cut.
   * Default false. Only with flags that create.
   */
  syncDirectory?: boolean | undefined
  /** The class of requests on the file that name none themselves. Default `'throughput'`. */
  priority?: Priority | undefined
}

const OPEN_KEYS: ReadonlySet<string> = new Set(['direct', 'mode', 'syncDirectory', 'priority', 'signal'])

const leaked = new FinalizationRegistry<EngineState>((state) => {
  if (state.closed) return
  // What another thread has made, that thread closes; here it was only in use.
  if (!state.borrowed)
    process.emitWarning('Closing an engine on garbage collection. Close it with close() or `await using`.', {
      type: 'DeepringWarning',
      code: 'DEEPRING_ENGINE_LEAKED',
    })
  state.closed = true
  engines.delete(state.number)
  runInBackground((id) => connect().closeEngine(id, state.number))
})

let defaultEngine: Engine | undefined

// Set by the class, which alone can read its private fields.
let stateIn: (engine: Engine) => EngineState
let isMade: (value: object) => value is Engine

/** Marks the construction of the default engine; never leaves this module. */
const DEFAULT = {} as EngineOptions

/** Marks the construction of an object for an engine that another thread has made; never leaves this module. */
class Borrowed {
  readonly number: number

  constructor(number: number) {
    this.number = number
  }
}

/** The engines of this thread, by their numbers. */
const engines = new Map<number, WeakRef<Engine>>()

/** The engine that has this number in the binding: 0 stands for the default engine. */
function engineNumbered(number: number): Engine {
  if (number === 0) return Engine.default
  return engines.get(number)?.deref() ?? new Engine(new Borrowed(number) as EngineOptions)
}

/**
 * An engine with its own limits.
 *
 * @example
 * ```ts
 * import { Engine } from 'deepring'
 *
 * const engine = new Engine({ queueDepth: 32, blockSize: 1 << 20 })
 * try {
 *   const { backend, reason } = await engine.info()
 *   console.log(backend, reason)
 * } finally {
 *   await engine.close()
 * }
 * ```
 */
export class Engine extends Uncloneable {
  readonly #state: EngineState

  /** The engine of the whole process, used by the functions of deepring. It cannot be closed. */
  static get default(): Engine {
    defaultEngine ??= new Engine(DEFAULT)
    return defaultEngine
  }

  /**
   * Starts an engine.
   *
   * @param options - Its limits.
   * @throws `ERR_DEEPRING_LOAD` if the native binding cannot be loaded; the system's error if the backend in the options
   * does not work here.
   */
  constructor(options?: EngineOptions) {
    super()
    const number = numberOf(options)
    const borrowed = options instanceof Borrowed
    this.#state = { number, borrowed, closed: false, files: new Set(), opening: new Set(), closing: undefined }
    if (options === DEFAULT) return
    engines.set(number, new WeakRef(this))
    leaked.register(this, this.#state, this.#state)
  }

  static {
    stateIn = (engine) => engine.#state
    isMade = (value): value is Engine => #state in value
  }

  /**
   * Opens a file.
   *
   * Regular files and block devices can be opened. A relative path starts from the directory that is the working
   * directory at the call, whatever it is called when the file is opened.
   *
   * @param path - A string, a `file:` URL, or a `Buffer`.
   * @param flags - `'r'` (default), `'r+'`, `'w'`, `'w+'`, `'wx'`, `'wx+'`; `'a'`, `'a+'`, `'ax'`, `'ax+'` for {@link
   * FileHandle.append}, through the page cache. Or constants of node:fs: `O_RDWR | O_CREAT` opens or creates, and keeps what is
   * there.
   * @param options - `direct`, `mode`, `syncDirectory`, `priority`, `signal`.
   * @throws `ENOENT`, `EACCES`, `EISDIR`, `EEXIST`, ...; `ERR_DEEPRING_DIRECT` if direct I/O is required and refused;
   * `ERR_DEEPRING_UNSUPPORTED` for pipes, sockets and character devices.
   *
   * @example
   * ```ts
   * import { open } from 'deepring'
   *
   * const file = await open('weights.bin', 'w+', { direct: 'prefer' })
   * console.log(file.direct, file.directReason, file.backend, file.alignment)
   * await file.close()
   * ```
   */
  open(path: FilePath, flags: OpenFlags | number = 'r', options?: OpenOptions): Promise<FileHandle> {
    try {
      const name = pathOf(path)
      const known = flagsOf(flags)
      const given = optionsOf(options, OPEN_KEYS)
      const wanted = directOf(given.direct)
      if (known.appends && wanted === DIRECT.require)
        throw invalidValue(
          'options.direct',
          `With the flags '${flags}', bytes go through the page cache.`,
          given.direct,
        )
      const direct = known.appends ? DIRECT.never : wanted
      const mode = modeOf(given.mode) ?? MODE
      const syncDirectory = booleanOf(given.syncDirectory, 'options.syncDirectory', false)
      if (!known.creates && given.mode !== undefined) throw contradicts('mode', flags, given.mode)
      if (!known.creates && syncDirectory) throw contradicts('syncDirectory', flags, syncDirectory)
      const priority = priorityOf(given.priority)
      const signal = signalOf(given.signal)
      const state = this.#state
      checkOpen(state, 'open')
      const finish = (_operation: Operation, { detail }: RecordView): FileHandle =>
        makeHandle(new FileState(state, name.text, flags, known, detail as Opened), this)
      const operation = new Operation(nextId(), 'open', finish, null, null, name.text)
      operation.extra.discard = ({ detail }) => closeUnseen(detail as Opened)
      connect().open(operation.id, state.number, name.bytes, known.bits, direct, mode, syncDirectory, priority)
      const opening = track<FileHandle>(operation, signal)
      state.opening.add(opening)
      // Not by a reaction to the promise: of a promise with two, V8 does not find the caller's `await` for the stack.
      const { resolve } = operation
      operation.resolve = (outcome) => {
        state.opening.delete(opening)
        resolve(outcome)
      }
      return opening
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /**
   * Allocates zeroed memory that starts on a page, for transfers without a copy.
   *
   * @param bytes - The size, 0 or more.
   * @throws `ENOMEM`; `ERR_DEEPRING_OUT_OF_RANGE`.
   *
   * @example
   * ```ts
   * import { allocate } from 'deepring'
   *
   * const memory = allocate(4096)
   * const floats = new Float32Array(memory.buffer, memory.byteOffset, 1024)
   * console.log(floats[0]) // 0
   * memory[Symbol.dispose]()
   * console.log(floats.length) // 0
   * ```
   */
  allocate(bytes: number | bigint): EngineBuffer {
    checkOpen(this.#state, 'allocate')
    return allocateBuffer(this.#state, bytes, true)
  }

  /**
   * As {@link Engine.allocate}, but the memory can hold old bytes of this process. Cheaper, for memory that will be read
   * into.
   */
  allocateUnsafe(bytes: number | bigint): EngineBuffer {
    checkOpen(this.#state, 'allocate')
    return allocateBuffer(this.#state, bytes, false)
  }

  /**
   * Allocates a zeroed tensor.
   *
   * @param dtype - The element type, by its name in safetensors.
   * @param shape - The extents, outermost first; `[]` for a scalar.
   * @throws `ENOMEM`; `ERR_DEEPRING_INVALID_ARG_VALUE`.
   *
   * @example
   * ```ts
   * import { allocateTensor } from 'deepring'
   *
   * const tensor = allocateTensor('F32', [2, 3])
   * tensor.data.set([1, 2, 3, 4, 5, 6])
   * console.log(tensor.byteLength) // 24
   * ```
   */
  allocateTensor<D extends DType>(dtype: D, shape: readonly number[]): Tensor<D> {
    checkOpen(this.#state, 'allocate')
    return allocateTensorIn(this.#state, dtype, shape)
  }

  /**
   * Describes the engine's configuration and why it was chosen; with a path, also direct I/O there. It finds out by real
   * operations, so it returns a promise.
   *
   * @example
   * ```ts
   * import { info } from 'deepring'
   *
   * const { backend, reason, path } = await info('.')
   * console.log(backend, reason, path?.fileSystem, path?.direct)
   * ```
   */
  info(path?: FilePath, options?: SignalOptions): Promise<Info> {
    try {
      const name = path === undefined ? null : pathOf(path)
      const signal = signalOf(optionsOf(options, SIGNAL_KEYS).signal)
      checkOpen(this.#state, 'info')
      const operation = new Operation(nextId(), 'info', finishInfo, null, null, name?.text)
      connect().engineInfo(operation.id, this.#state.number, name === null ? null : name.bytes)
      operation.owner = this
      return track(operation, signal)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /**
   * Advice in words: what is slower or less safe here than it could be, and what to do about it. The facts are those of {@link
   * Engine.info} and {@link Engine.stats}.
   *
   * @param path - A file or directory to look at, too.
   * @param options - `signal`.
   * @returns A sentence or two for each, the most important first; none if all is well.
   *
   * @example
   * ```ts
   * import { doctor } from 'deepring'
   *
   * for (const advice of await doctor('.')) console.log(advice)
   * ```
   */
  async doctor(path?: FilePath, options?: SignalOptions): Promise<string[]> {
    const info = await this.info(path, options)
    return adviceOn(info, this.stats())
  }

  /**
   * The counters of this engine since its start.
   *
   * @example
   * ```ts
   * import { stats } from 'deepring'
   *
   * const { completed, failed, readBytes, latency } = stats()
   * console.log(completed, failed, readBytes, latency.p99Us)
   * ```
   */
  stats(): Stats {
    checkOpen(this.#state, 'stats')
    return connect().engineStats(this.#state.number) as Stats
  }

  /**
   * Gives the memory that is kept for reuse back to the system: `stats().pooledBytes`. For a program that has passed its
   * peak; what is allocated next costs page faults again. Memory in use is not affected. Blocks for a few milliseconds.
   *
   * @example
   * ```ts
   * import { allocate, stats, trim } from 'deepring'
   *
   * allocate(64 << 20).fill(1)[Symbol.dispose]()
   * console.log(stats().pooledBytes) // 67108864
   * trim()
   * console.log(stats().pooledBytes) // 0
   * ```
   */
  trim(): void {
    checkOpen(this.#state, 'trim')
    connect().engineTrim(this.#state.number)
  }

  /**
   * Closes the engine: first its files, after the requests on them, then itself. Memory from `allocate` stays usable.
   * Calling it again returns the same promise.
   *
   * @throws `ERR_DEEPRING_INVALID` for the default engine, which belongs to the whole process.
   */
  close(): Promise<void> {
    if (this === defaultEngine) {
      const message =
        'The default engine is shared by the whole process and cannot be closed. Create a separate Engine to close one'
      return Promise.reject(new DeepringError(message, { code: 'ERR_DEEPRING_INVALID', syscall: 'close' }))
    }
    leaked.unregister(this.#state)
    this.#state.closing ??= closeEngine(this.#state)
    return this.#state.closing
  }

  /** Closes the engine: for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

/** Whether a value is an engine of this copy of the package. */
export function isEngine(value: unknown): value is Engine {
  return typeof value === 'object' && value !== null && isMade(value)
}

/** An option that names an engine. */
export function engineOf(value: unknown): Engine {
  if (value === undefined) return Engine.default
  if (!isEngine(value))
    throw otherCopy('options.engine', 'Engine', value) ?? invalidType('options.engine', 'an instance of Engine', value)
  return value
}

/** The state of an engine. */
export function engineStateOf(engine: Engine): EngineState {
  return stateIn(engine)
}

function numberOf(options: EngineOptions | undefined): number {
  if (options === DEFAULT) return startDefault()
  return options instanceof Borrowed ? options.number : start(options)
}

function start(options: EngineOptions | undefined): number {
  const config = configOf(options)
  try {
    return connect().createEngine(config)
  } catch (thrown) {
    throw fromThrown(thrown)
  }
}

function startDefault(): number {
  try {
    return connect().defaultEngine()
  } catch (thrown) {
    throw fromThrown(thrown)
  }
}

/** The option `direct`, as its number. */
export function directOf(value: unknown): number {
  if (value === undefined) return DIRECT.prefer
  return DIRECT[wordOf(value, 'options.direct', ['require', 'prefer', 'never', 'auto'])]
}

function contradicts(option: string, flags: OpenFlags | number, value: unknown): Error {
  return invalidValue(`options.${option}`, `It contradicts the flags '${flags}', which create no file.`, value)
}

async function closeEngine(state: EngineState): Promise<void> {
  state.closed = true
  engines.delete(state.number)
  await Promise.allSettled(state.opening)
  const files = await Promise.allSettled(Array.from(state.files, (file) => file.close()))
  const operation = new Operation(nextId(), 'close', finishNothing, null, null, undefined)
  connect().closeEngine(operation.id, state.number)
  await track(operation, null)
  // A file that fails to close does not keep the engine open, and its error is not lost.
  for (const file of files) if (file.status === 'rejected') throw file.reason
}

/** The result of `info`. */
function finishInfo(_operation: Operation, { detail }: RecordView): Info {
  const file = bindingFile()
  return { ...(detail as Info), libc: file === undefined ? null : libcOf(file) }
}

brand('Engine', Engine.prototype, (engine) => {
  const { closed, files } = stateIn(engine)
  return { default: engine === defaultEngine, closed, files: files.size }
})

findEnginesBy((number) => {
  const owner = engineNumbered(number)
  return { owner, state: stateIn(owner) }
})
