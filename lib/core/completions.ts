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
 * - At most {@link RECORDS_PER_TICK} records are handled before the event loop continues.
 *
 * Each JavaScript environment (the main thread, every worker) has its own copy of this module and its own list in the
 * binding. Nothing is shut down here: the binding keeps the process alive while records are due, and drains what a
 * terminated worker leaves.
 */

import { performance } from 'node:perf_hooks'
import { AbortError } from './abort.ts'
import { native } from './backend.ts'
import { DeepringError, detached, fromFailure } from './errors.ts'
import type { Native } from './native.ts'
import { Operation, Watch, type Rare } from './operation.ts'
import { Pending } from './pending.ts'
import { RECORD, RecordView, STAGED, STAGED_FLAG, STAGED_NUMBERS, STATUS, type Failure } from './record.ts'
import { isTraced, traced } from './tracing.ts'

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

const UNKNOWN_MS = -1

/** Requests that one abort ends with an error each. A stack for each of a hundred thousand takes a second, and says nothing new. */
const ABORTED_APART = 1024

/** Memory that is to be released when the requests on it have settled. */
interface Retirement {
  uses: number
  readonly done: () => void
}

/** Of requests that this thread has canceled; most of them were aborted, and become something else. */
const CANCELED: Failure = {
  code: 'ERR_DEEPRING_CANCELED',
  errno: 0,
  syscall: '',
  position: -1,
  requested: 0,
  transferred: 0,
  index: -1,
  message: 'The request was canceled',
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
let lastCancellation = 0
let stagedViewCount = 0
let binding: Native | undefined
let flushDue = false
let bytesUntilFlush = EAGER_BYTES
let flushedEarly = false
/** Records that this turn of the event loop can still handle. */
let budget = RECORDS_PER_TICK
let refillDue = false
/** The time of this tick, asked for once. */
let tickMs = UNKNOWN_MS

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
  operation: Operation,
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
  const { id, view, requested } = operation
  operation.position = position
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
  staged[at + STAGED.cancellation] = 0
  stagedCount += 1
  if (path !== null) stagedViews[stagedViewCount++] = path
  stagedViews[stagedViewCount++] = view as Uint8Array
  // What a relative path means can change before the end of this tick.
  if (path !== null && path[0] !== SLASH) connect()
}

function submit(to: Native): void {
  tickMs = UNKNOWN_MS
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
  if (signal !== null) watch(signal, operation, lastReject)
  // Left there, they would keep the last result from being collected.
  lastResolve = ignore
  lastReject = ignore
  expectRecord(operation)
  flushSoon(operation.requested)
  return isTraced() ? traced(operation, promise) : promise
}

/** Adds a request whose record will come. Its number must be the last one from {@link nextId}. */
export function expectRecord(operation: Operation): void {
  if (tickMs === UNKNOWN_MS) tickMs = Math.floor(performance.now())
  operation.startedMs = tickMs
  pending.add(operation)
}

/** The requests in flight, the oldest first. */
export function operationsInFlight(): Operation[] {
  return [...pending.values()].toSorted((a, b) => a.id - b.id)
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
  if (retiring.has(memory) || isLost(memory)) return
  let uses = 0
  for (const operation of pending.values()) uses += usesOf(operation, memory)
  if (uses === 0) done()
  else retiring.set(memory, { uses, done })
}

/** Whether a lost ring can still write to memory. */
export function isLost(memory: ArrayBufferLike): boolean {
  return lost.some(({ buffer }) => buffer === memory)
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
  if (due.length > 0) connect().cancel(Float64Array.from(due), 0)
}

/** Blocks this thread until a request that has just been staged has settled. Returns its result or throws its error. */
export function blockOn<T>(operation: Operation): T {
  const settled: { value?: T; error?: unknown } = {}
  operation.resolve = (value) => void (settled.value = value as T)
  operation.extra.reject = (error) => void (settled.error = error)
  expectRecord(operation)
  connect().block(Float64Array.of(operation.id))
  while (pending.has(operation.id)) {
    if (drainBatch(RECORDS_PER_DRAIN) > 0) continue
    throw new DeepringError('The engine delivered no record for a request that it settled', {
      code: 'ERR_DEEPRING_LOST',
    })
  }
  if ('error' in settled) throw restacked(settled.error, blockOn)
  return settled.value as T
}

/** Starts a request whose outcome is ignored, such as closing a file that was collected while open. */
export function runInBackground(stage: (id: number) => void): void {
  const operation = new Operation(nextId(), 'close', ignore, null, null, undefined)
  stage(operation.id)
  expectRecord(operation)
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

/**
 * Called by the binding when records wait: often several times before the event loop goes on, if the drives are as fast as this
 * thread. So what one turn handles is counted over all calls.
 */
function drain(): void {
  for (let drained = 1; budget > 0 && drained > 0; budget -= drained) drained = drainBatch(budget)
  // Not after each record: a turn more costs as much as a small read.
  if (budget > RECORDS_PER_TICK / 2 || refillDue) return
  refillDue = true
  setImmediate(refill)
}

/** The event loop has gone on. */
function refill(): void {
  refillDue = false
  budget = RECORDS_PER_TICK
  drain()
}

/** Handles what waits, of `most` requests at most. Returns of how many. */
function drainBatch(most: number): number {
  const drained = connect().drain(most < RECORDS_PER_DRAIN ? records.subarray(0, most * RECORD) : records)
  let settled = 0
  for (let at = 0; at < drained * RECORD; at += RECORD) {
    record.moveTo(at)
    const { id, status } = record
    if (status !== STATUS.success && status !== STATUS.canceled) record.detail = connect().detail(id)
    const last = status === STATUS.canceled ? id + record.transferred : id
    for (let each = id; each <= last; each += 1) take(each, status)
    settled += last - id + 1
  }
  return settled
}

/** Takes a request of the current record out of those in flight, and settles it. */
function take(id: number, status: number): void {
  const operation = pending.take(id)
  if (operation === undefined) return
  settle(operation, status)
  if (retiring.size > 0) countDown(operation)
}

/** Settles a request of the current record. */
function settle(operation: Operation, status: number): void {
  const failure = failureOf(status)
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

/** The failure of the current record. */
function failureOf(status: number): Failure | null {
  if (status === STATUS.failure) return record.detail as Failure
  return status === STATUS.canceled ? CANCELED : null
}

/** Whether nothing waits for the outcome any more, because the request was aborted. */
function isOver(operation: Operation, { abandoned, watch: watching, rejectAtOnce }: Rare): boolean {
  if (abandoned || watching === null) return abandoned
  unwatch(watching, operation)
  if (!watching.isAborted) return false
  if (watching.reason === null) fail(operation, new AbortError(watching.signal))
  else rejectAtOnce(watching.reason)
  return true
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
function watch(signal: AbortSignal, operation: Operation, rejectAtOnce: (reason: unknown) => void): void {
  const watching = watched.get(signal) ?? begin(signal)
  const { extra } = operation
  extra.watch = watching
  extra.rejectAtOnce = rejectAtOnce
  watching.left += 1
  if (!cancelTogether(operation, watching.cancellation)) watching.apart.add(operation)
}

function begin(signal: AbortSignal): Watch {
  const watching = new Watch(signal, (lastCancellation += 1))
  watching.abort = () => abortAll(watching)
  watched.set(signal, watching)
  signal.addEventListener('abort', watching.abort)
  return watching
}

/** Stages a number with a transfer that cancels it with all others of that number. Returns whether it could. */
function cancelTogether({ id }: Operation, cancellation: number): boolean {
  const at = (stagedCount - 1) * STAGED_NUMBERS
  if (stagedCount === 0 || staged[at + STAGED.id] !== id || staged[at + STAGED.group] !== 0) return false
  staged[at + STAGED.cancellation] = cancellation
  return true
}

/** A request of a signal has settled, or is nobody's any more. */
function unwatch(watching: Watch, operation: Operation): void {
  watching.left -= 1
  if (watching.apart.size > 0) watching.apart.delete(operation)
  if (watching.left === 0) end(watching)
}

/**
 * No request of a signal is left. Apart from what is done for each of them: V8 knows little of signals, and would compile all of
 * that anew after each of these ends.
 */
function end({ signal, abort }: Watch): void {
  watched.delete(signal)
  signal.removeEventListener?.('abort', abort)
}

/** However many transfers there are, this takes no longer. */
function abortAll(watching: Watch): void {
  // What was staged in this tick must reach the driver before it can be canceled.
  flush()
  watching.isAborted = true
  if (watching.left > ABORTED_APART) watching.reason = new AbortError(watching.signal)
  const apart = [...watching.apart]
  for (const operation of apart) if (isLoose(operation)) abandon(watching, operation)
  connect().cancel(
    Float64Array.from(apart, ({ id }) => id),
    watching.cancellation,
  )
}

/** Whether a request has no memory of the caller. */
function isLoose({ view, rare }: Operation): boolean {
  return view === null && !rare?.holds
}

/** Rejects a request that holds no memory of the caller. Its record can be long in coming, if a file system hangs. */
function abandon(watching: Watch, operation: Operation): void {
  unwatch(watching, operation)
  const { extra } = operation
  extra.watch = null
  extra.abandoned = true
  if (watching.reason === null) fail(operation, new AbortError(watching.signal))
  else extra.rejectAtOnce(watching.reason)
  operation.resolve = ignore
}

// `new Promise` takes a function. All requests share this one, so that none makes a closure.
let lastResolve: (value: unknown) => void = ignore
let lastReject: (reason: unknown) => void = ignore

function takeResolve(resolve: (value: never) => void, reject: (reason: unknown) => void): void {
  lastResolve = resolve as (value: unknown) => void
  lastReject = reject
}

/** An error whose stack begins with the caller of a function. */
function restacked(error: unknown, below: (...args: never) => unknown): unknown {
  if (error instanceof DeepringError || error instanceof AbortError) Error.captureStackTrace(error, below)
  return error
}

function ignore(): void {}
