/**
 * In-flight requests, and how their results come back.
 *
 * ```text
 *   file.read()  --stage-->  numbers          (many calls of one tick)
 *        |                      |
 *   pending.add(id)        flush()            (one microtask per tick: one call submits all of them)
 *        |                      |
 *        |                   driver thread ... kernel
 *        |                      |
 *   settle(record)  <--drain--  wake()        (one wake for a whole batch of records)
 * ```
 *
 * Invariants:
 *
 * - A request is in `pending` from its staging until its record has been drained, and no longer. The entry holds the
 *   memory of the request strongly, so that it is not collected while the kernel can use it.
 * - The promise of a request with memory settles only after its record, even if its signal was aborted long before. Until
 *   then the memory belongs to the engine. A request without memory rejects when its signal is aborted; if it succeeds
 *   later, it is undone (`discard`).
 * - One wake handles at most {@link RECORDS_PER_TICK} records before the event loop continues.
 *
 * Each JavaScript environment (the main thread, every worker) has its own copy of this module and its own list in the
 * binding. Nothing is shut down here: the binding keeps the process alive while records are due, and drains what a
 * terminated worker leaves.
 */

import { AbortError } from './abort.ts'
import { DeepringError, detached, fromFailure } from './errors.ts'
import { native, type Native } from './native.ts'
import { Pending } from './pending.ts'
import { RECORD, RecordView, STAGED, STAGED_FLAG, STAGED_NUMBERS, STATUS, type Failure } from './record.ts'

/** Records fetched from the binding at once: 20 KiB, small enough to stay in the first-level cache. */
const RECORDS_PER_DRAIN = 256

/** Records handled before other callbacks of the event loop run: about 1 ms, with their promise reactions. */
const RECORDS_PER_TICK = 512

/**
 * When this many bytes are staged, they are flushed in the middle of the tick, so that they run while the caller
 * computes. Smaller amounts wait for the end of the tick, because the call into the binding is what they cost.
 */
const EAGER_BYTES = 65_536

const SLASH = 0x2f

/** After the first flush the device has work, so the rest of the tick follows in portions of this size. */
const PORTION_BYTES = 16 << 20

/** Microtasks until a promise that was resolved with another has subscribed to it. */
const TURNS_UNTIL_FOLLOWED = 2

/** Transfers that are staged at once. */
const STAGED_MAX = 1024

/** Makes the result of a request from its record. It can throw instead. */
export type Finish = (operation: Operation, record: RecordView) => unknown

/** One request in flight. All have one shape, so that the JavaScript engine sees one kind of object. */
export class Operation {
  /** Its number in the binding; in a group, its index there. */
  readonly id: number
  readonly finish: Finish
  /** What the caller passed in, to be returned with the result; or what else `finish` needs. */
  readonly source: unknown
  /** The memory that the kernel can use; held here for that reason. */
  readonly view: Uint8Array | null
  /** Bytes of `view` at the time of the call. A detached view has none. */
  readonly requested: number
  /** The file as the caller named it, for errors. */
  readonly path: string | undefined
  /**
   * The `FileHandle` or `Engine` that the request was made of. Held until the outcome has come: if it were collected
   * before, its close would cancel the request.
   */
  owner: object | null = null
  /** Takes the result, or a promise that rejects. */
  resolve: (value: unknown) => void = ignore
  /** What most requests do without. */
  rare: Rare | null = null

  constructor(id: number, finish: Finish, source: unknown, view: Uint8Array | null, path: string | undefined) {
    this.id = id
    this.finish = finish
    this.source = source
    this.view = view
    this.requested = view === null ? 0 : view.byteLength
    this.path = path
  }

  /** The rest of the request, to be set. */
  get extra(): Rare {
    return (this.rare ??= new Rare())
  }
}

/** What few requests have: apart, because a hundred thousand others can be in flight without it. */
class Rare {
  /** More memory of the caller, if a request uses several pieces: held here, too. */
  holds: readonly Uint8Array[] | null = null
  /** Undoes a success that is not delivered, because the request was aborted before. */
  discard: ((record: RecordView) => void) | null = null
  signal: AbortSignal | null = null
  /** Its promise was rejected before its record has come: nothing waits for the outcome. */
  abandoned = false
  /** The requests of a group, by index, if this stands for one; those that were refused are `undefined`. */
  members: readonly (Operation | undefined)[] | null = null
  /** Takes a failure, where no promise does. */
  reject: ((reason: unknown) => void) | null = null
}

/** The requests of one signal, and their listener. */
interface Watch {
  readonly operations: Set<Operation>
  readonly abort: () => void
}

/** Memory that is to be released when the requests on it have settled. */
interface Retirement {
  uses: number
  readonly done: () => void
}

/** See {@link keepForever}. */
const lost: Uint8Array[] = []

const pending = new Pending<Operation>()
const watched = new Map<AbortSignal, Watch>()
const retiring = new Map<ArrayBufferLike, Retirement>()
const records = new Float64Array(RECORD * RECORDS_PER_DRAIN)
const record = new RecordView(records)
const staged = new Float64Array(STAGED_NUMBERS * STAGED_MAX)
/** The memory of what is staged, and in front of it the path of one by path. */
const stagedViews: (Uint8Array | undefined)[] = []
let stagedCount = 0
let stagedViewCount = 0
let binding: Native | undefined
let flushDue = false
let bytesUntilFlush = EAGER_BYTES
let flushedEarly = false
let drainDue = false

/**
 * The binding, loaded and attached to this environment at the first call. What was staged before reaches it first, so
 * that no call passes another.
 */
export function connect(): Native {
  if (binding === undefined) {
    const loaded = native()
    loaded.attach(drain)
    binding = loaded
  }
  if (stagedCount > 0) submit(binding)
  return binding
}

/**
 * Stages a transfer. It is submitted with the next {@link flush}, or before any other call of the binding.
 *
 * @param path - By path, `target` is an engine.
 */
export function stageTransfer(
  { id, view, requested }: Operation,
  flags: number,
  target: number,
  handle: number,
  group: number,
  position: number,
  priority: number,
  path: Uint8Array | null = null,
  extra = 0,
): void {
  if (binding === undefined || stagedCount === STAGED_MAX) connect()
  const at = stagedCount * STAGED_NUMBERS
  staged[at + STAGED.flags] = path === null ? flags : flags | STAGED_FLAG.byPath
  staged[at + STAGED.id] = id
  staged[at + STAGED.target] = target
  staged[at + STAGED.handle] = handle
  staged[at + STAGED.group] = group
  staged[at + STAGED.position] = position
  staged[at + STAGED.length] = requested
  staged[at + STAGED.priority] = priority
  staged[at + STAGED.extra] = extra
  stagedCount += 1
  if (path !== null) stagedViews[stagedViewCount++] = path
  stagedViews[stagedViewCount++] = view as Uint8Array
  // What a relative path means can change before the end of this tick.
  if (path !== null && path[0] !== SLASH) connect()
}

function submit(to: Native): void {
  const count = stagedCount
  stagedCount = 0
  try {
    to.flush(staged, stagedViews, count)
  } finally {
    // Not longer than the binding needs it; the operations hold the memory.
    stagedViews.fill(undefined, 0, stagedViewCount)
    stagedViewCount = 0
  }
}

/** The number of a new request, never used before in this environment. */
export function nextId(): number {
  return pending.nextId()
}

/**
 * The promise of a request that has just been staged with `operation.id`.
 *
 * Staging comes first: if the binding refuses, nothing needs to be undone. No record can arrive in between, because
 * records are drained on this thread.
 */
export function track<T>(operation: Operation, signal: AbortSignal | null): Promise<T> {
  const promise = new Promise<T>(takeResolve)
  operation.resolve = lastResolve
  // Left there, it would keep the last result from being collected.
  lastResolve = ignore
  if (signal !== null) watch(signal, operation)
  expectRecord(operation)
  flushSoon(operation.requested)
  return promise
}

/** Adds a request whose record will come. Its number must be the last one from {@link nextId}. */
export function expectRecord(operation: Operation): void {
  pending.add(operation)
}

/** Flushes what has just been staged: at the end of the tick, or now if enough bytes are staged. */
export function flushSoon(bytes: number): void {
  if (!flushDue) {
    flushDue = true
    queueMicrotask(flush)
  }
  bytesUntilFlush -= bytes
  if (bytesUntilFlush <= 0) flushEarly()
}

/** Keeps memory that a lost ring can still write to: leaked rather than used by another request. */
export function keepForever(view: Uint8Array): void {
  lost.push(view)
}

/**
 * Calls `done` once no request uses this memory: now, or when the last one has settled. Until then it is retiring, and no
 * new request can use it. Never, if a lost ring can still write to it.
 */
export function whenUnused(memory: ArrayBufferLike, done: () => void): void {
  if (retiring.has(memory) || lost.some(({ buffer }) => buffer === memory)) return
  let uses = 0
  for (const operation of pending.values()) uses += usesOf(operation, memory)
  if (uses === 0) done()
  else retiring.set(memory, { uses, done })
}

/** Whether memory waits to be released. */
export function isRetiring(memory: ArrayBufferLike): boolean {
  return retiring.size > 0 && retiring.has(memory)
}

/** Requests an early end of those requests that are still in flight. */
export function cancel(ids: readonly number[]): void {
  // What was staged in this tick must reach the driver before it can be canceled.
  flush()
  const due = ids.filter((id) => pending.has(id))
  if (due.length > 0) connect().cancel(Float64Array.from(due))
}

/** Blocks this thread until a request that has just been staged has settled. Returns its result or throws its error. */
export function blockOn<T>(operation: Operation): T {
  const settled: { value?: T; error?: unknown } = {}
  operation.resolve = (value) => void (settled.value = value as T)
  operation.extra.reject = (error) => void (settled.error = error)
  pending.add(operation)
  connect().block(Float64Array.of(operation.id))
  while (pending.has(operation.id)) {
    if (drainBatch() > 0) continue
    throw new DeepringError('The engine delivered no record for a request that it settled', {
      code: 'ERR_DEEPRING_LOST',
    })
  }
  if ('error' in settled) throw restacked(settled.error, blockOn)
  return settled.value as T
}

/** Starts a request whose outcome is ignored, such as closing a file that was collected while open. */
export function runInBackground(stage: (id: number) => void): void {
  const operation = new Operation(nextId(), ignore, null, null, undefined)
  stage(operation.id)
  pending.add(operation)
  wake()
}

/** The error of a request that failed. */
export function errorOf(operation: Operation, failure: Failure): DeepringError {
  const { view, requested, path } = operation
  const isGone = view !== null && view.byteLength !== requested
  if (isGone && failure.code === 'ERR_DEEPRING_INVALID') return detachedInFlight(operation, failure.syscall)
  return fromFailure(failure, path)
}

/** The error for memory that was taken away while its request ran. */
export function detachedInFlight(operation: Operation, syscall: string): DeepringError {
  return detached(
    `The buffer was detached during the ${syscall}; its memory must not be transferred or disposed before the promise settles`,
    {
      syscall,
      path: operation.path,
      requested: operation.requested,
    },
  )
}

/** Flushes at once, unless this tick has already flushed, so transfers overlap with the caller's next computation. */
export function flushOncePerTick(): void {
  if (!flushedEarly) flushEarly()
}

function flushEarly(): void {
  flushedEarly = true
  bytesUntilFlush = PORTION_BYTES
  wake()
}

/** Submits everything staged to the driver. */
export function flush(): void {
  if (!flushDue) return
  flushDue = false
  bytesUntilFlush = EAGER_BYTES
  flushedEarly = false
  wake()
}

/** Submits what is staged, and wakes the drivers for that and for what was submitted before. */
function wake(): void {
  if (binding !== undefined) submit(binding)
}

/** Called by the binding when records wait, and by itself after a full tick. */
function drain(): void {
  drainDue = false
  let left = RECORDS_PER_TICK
  for (;;) {
    const drained = drainBatch()
    if (drained === 0) return
    left -= drained
    if (left <= 0) break
  }
  if (!drainDue) {
    drainDue = true
    setImmediate(drain)
  }
}

function drainBatch(): number {
  const drained = connect().drain(records)
  for (let at = 0; at < drained * RECORD; at += RECORD) {
    record.moveTo(at)
    const { id, status } = record
    if (status !== STATUS.success) record.detail = connect().detail(id)
    const operation = pending.take(id)
    if (operation === undefined) continue
    settle(operation, status)
    if (retiring.size > 0) countDown(operation)
  }
  return drained
}

/** Settles the request of the current record. */
function settle(operation: Operation, status: number): void {
  const failure = status === STATUS.failure ? (record.detail as Failure) : null
  if (failure?.code === 'ERR_DEEPRING_LOST') {
    if (operation.view !== null) keepForever(operation.view)
    operation.rare?.holds?.forEach(keepForever)
  }
  if (operation.rare !== null && isOver(operation, operation.rare)) {
    if (failure === null) operation.rare.discard?.(record)
    return
  }
  if (failure !== null) {
    fail(operation, errorOf(operation, failure))
    return
  }
  let result
  try {
    result = operation.finish(operation, record)
  } catch (error) {
    fail(operation, error)
    return
  }
  operation.resolve(result)
}

/** Whether nothing waits for the outcome any more, because the request was aborted. */
function isOver(operation: Operation, { abandoned, signal }: Rare): boolean {
  if (abandoned || signal === null) return abandoned
  unwatch(signal, operation)
  if (signal.aborted) fail(operation, new AbortError(signal))
  return signal.aborted
}

/**
 * Rejects the promise of a request. It was made without a function that rejects it, which would be one more object of
 * each request in flight; so it takes over what becomes of another promise.
 */
function fail({ resolve, rare }: Operation, error: unknown): void {
  if (rare?.reject) rare.reject(error)
  else resolve(rejectSoon(error))
}

/**
 * Rejects, once the promise of the request waits for it. The error is made where no frame of the caller is on the stack;
 * then its stack leads to the caller's `await`.
 */
async function rejectSoon(error: unknown): Promise<never> {
  for (let turn = 0; turn < TURNS_UNTIL_FOLLOWED; turn += 1) await undefined
  throw restacked(error, rejectSoon)
}

/** How many requests of an operation use this memory: of a group, each member counts. */
function usesOf({ view, rare }: Operation, memory: ArrayBufferLike): number {
  if (rare?.holds?.some(({ buffer }) => buffer === memory)) return 1
  if (!rare?.members) return view?.buffer === memory ? 1 : 0
  return rare.members.filter((member) => member?.view?.buffer === memory).length
}

/** An operation has settled: what waits for its memory can be closer to its release. */
function countDown(operation: Operation): void {
  for (const [memory, retirement] of retiring) {
    retirement.uses -= usesOf(operation, memory)
    if (retirement.uses > 0) continue
    retiring.delete(memory)
    if (!lost.some(({ buffer }) => buffer === memory)) retirement.done()
  }
}

/**
 * One listener per signal for all requests that share it: one per request would make removal quadratic. It does not use
 * the event, which is of many kinds where signals are not the runtime's own.
 */
function watch(signal: AbortSignal, operation: Operation): void {
  operation.extra.signal = signal
  const watching = watched.get(signal)
  if (watching !== undefined) {
    watching.operations.add(operation)
    return
  }
  const operations = new Set([operation])
  const abort = (): void => abortAll(signal, operations)
  watched.set(signal, { operations, abort })
  signal.addEventListener('abort', abort)
}

function unwatch(signal: AbortSignal, operation: Operation): void {
  const watching = watched.get(signal)
  if (watching === undefined) return
  watching.operations.delete(operation)
  if (watching.operations.size > 0) return
  watched.delete(signal)
  signal.removeEventListener?.('abort', watching.abort)
}

function abortAll(signal: AbortSignal, operations: ReadonlySet<Operation>): void {
  const all = [...operations]
  for (const operation of all) if (operation.view === null && !operation.rare?.holds) abandon(operation, signal)
  cancel(all.map(({ id }) => id))
}

/** Rejects a request that holds no memory of the caller. Its record can be long in coming, if a file system hangs. */
function abandon(operation: Operation, signal: AbortSignal): void {
  unwatch(signal, operation)
  operation.extra.signal = null
  operation.extra.abandoned = true
  fail(operation, new AbortError(signal))
  operation.resolve = ignore
}

// `new Promise` takes a function. All requests share this one, so that none makes a closure.
let lastResolve: (value: unknown) => void = ignore

function takeResolve(resolve: (value: never) => void): void {
  lastResolve = resolve as (value: unknown) => void
}

/** An error whose stack begins with the caller of a function. */
function restacked(error: unknown, below: (...args: never) => unknown): unknown {
  if (error instanceof DeepringError || error instanceof AbortError) Error.captureStackTrace(error, below)
  return error
}

function ignore(): void {}
